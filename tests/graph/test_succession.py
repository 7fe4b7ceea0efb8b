# SPDX-License-Identifier: Apache-2.0
"""Which words of an old graph's counters are which of a new one's."""

import gc
import weakref
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graph.kernels import SINK, Heap, Next, Passed, same
from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.node import INFO, Labels, Node
from vforward.graph.succession import COUNTED, Exchange, _joined, counters, moves, runs
from vforward.testing import heap_pool


class More(Labels):
    OTHER = 0, "of the second declaration", INFO
    PACKETS = 1, "of both", INFO


class Ways(Labels):
    LEFT = 0, "a way that the first has not"
    NEXT = 1, "all"


ONE = Node("one", same, Next, Passed)
TWO = Node("one", same, Ways, More)


def lay(graph, nodes):
    for name, node in nodes.items():
        graph.add(node, name)
        for edge in node.edge_labels:
            graph.wire(name, edge, "sink")
    graph.add(SINK, "sink", seen=np.zeros(1, np.uint64))
    graph.build()
    return graph


def filled(graph):
    for name, array in counters(graph, 0).items():
        array[:] = np.arange(1, array.size + 1) * (1 + COUNTED.index(name))
    return graph


def carried(old, new):
    wanted = runs(old, new)
    for name in COUNTED:
        to, from_ = counters(new, 0)[name], counters(old, 0)[name]
        for a, b, n in wanted[name]:
            to[a : a + n] = from_[b : b + n]
    return new


def of(graph, name):
    member, found = graph.members[name], counters(graph, 0)
    taken = found["taken"].reshape(-1, 256)[member.number]
    labels = {label: edge for edge, (label, _) in graph.ways(member).items()}
    return (
        found["stats"].reshape(-1, c.STATS)[member.number].tolist(),
        {label: int(taken[edge]) for label, edge in labels.items()} | {"held": int(taken[255])},
        dict(zip(member.node.counter_labels, map(int, member.shares[0]), strict=True)),
    )


@given(
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.lists(st.sampled_from("abcdef"), unique=True),
)
def test_what_both_have_is_carried_and_nothing_else(before, after):
    old = filled(lay(Graph(Heap(), heap_pool(64)), dict.fromkeys(before, ONE)))
    new = carried(old, lay(old.successor(), dict.fromkeys(after, ONE)))
    for name in [*after, "sink"]:
        if name in old.members:
            assert of(new, name) == of(old, name)
        else:
            assert of(new, name) == ([0] * c.STATS, {"next": 0, "held": 0}, {"packets": 0})


def test_edges_and_counters_go_by_their_labels():
    old = filled(lay(Graph(Heap(), heap_pool(64)), {"a": ONE}))
    new = carried(old, lay(old.successor(), {"a": TWO}))
    stats, taken, counts = of(old, "a")
    assert of(new, "a") == (
        stats,
        {"left": 0, "next": taken["next"], "held": taken["held"]},
        {"other": 0, "packets": counts["packets"]},
    )


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), unique_by=lambda p: p[0]))
def test_runs_are_joined(pairs):
    joined = _joined((to, from_, 1) for to, from_ in pairs)
    assert sorted((a + k, b + k) for a, b, n in joined for k in range(n)) == sorted(pairs)
    assert all((a + n, b + n) != (to, from_) for (a, b, n), (to, from_, _) in pairwise(joined))


def test_an_exchange_has_addresses():
    old = lay(Graph(Heap(), heap_pool(64)), {"a": ONE})
    new = lay(old.successor(), {"a": ONE})
    there, here = np.zeros(3, np.uint64), np.arange(3, dtype=np.uint64)
    assert moves([(1, 2, 1)], there, here) == [(there.ctypes.data + 8, here.ctypes.data + 16, 1)]
    made = Exchange(old, new, 0, new.plan, [])
    assert not made.done
    assert made.stood == 0


def test_what_is_done_keeps_no_old_graph():
    """A worker keeps its last exchange until the next: for a day, perhaps."""
    pool = heap_pool(64)
    old, new = (lay(Graph(Heap(), pool), {"a": ONE}) for _ in range(2))
    left = weakref.ref(old)
    made = Exchange(old, new, 0, new.plan, [])
    del old
    gc.collect()
    assert left() is not None
    made.settle()
    gc.collect()
    assert left() is None
