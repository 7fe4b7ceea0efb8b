# SPDX-License-Identifier: Apache-2.0
"""The compiled scheduler: no packet lost or doubled, the same result at every vector size."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.kernels import IDLE, SAME, Rig
from vforward.graph import control as c
from vforward.graph import scheduler
from vforward.jit.kernel import kernel
from vforward.layout import EDGE_HELD

SIZES = [1, 2, 3, 64, 255, 256]


@st.composite
def graphs(draw):
    """Nodes 0..n-1, each with edges to later ones or the sink (n), and how packets choose."""
    n = draw(st.integers(1, 12))
    nodes = []
    for k in range(n):
        to = draw(st.lists(st.integers(k + 1, n), min_size=1, max_size=5))
        held = [EDGE_HELD] if draw(st.booleans()) else []
        ways = draw(st.lists(st.sampled_from([*range(len(to)), *held]), min_size=1, max_size=20))
        nodes.append((to, ways))
    inputs = draw(
        st.lists(
            st.tuples(st.integers(0, n), st.integers(0, 700), st.sampled_from([0, 1, 7, 255])),
            min_size=1,
            max_size=3,
        )
    )
    return nodes, inputs


def walk(nodes, start, number):
    """What packet ``number`` leaves in ``seen``, None when it was held; and the edges taken."""
    at, scratch, taken = start, 0, []
    while at < len(nodes):
        to, ways = nodes[at]
        edge = ways[number % len(ways)]
        scratch = (scratch * 31 + at + 1) % 2**64
        taken.append((at, edge))
        if edge == EDGE_HELD:
            return None, taken
        at = to[edge]
    return (scratch + 1) % 2**64, taken


@settings(max_examples=40)
@given(graph=graphs(), vector=st.sampled_from(SIZES), tracing=st.booleans())
def test_packets_go_where_they_should_at_every_vector_size(graph, vector, tracing):
    nodes, inputs = graph
    packets = sum(n for _, n, _ in inputs)
    rig = Rig(buffers=4096, packets=max(1, packets))
    names = [*(f"n{k}" for k in range(len(nodes))), "sink"]
    first = 0
    wanted, edges, held = np.zeros(max(1, packets), np.uint64), {}, 0
    for k, (start, n, per_call) in enumerate(inputs):
        rig.source(n, [names[start]], name=f"in{k}", first=first, per_call=per_call)
        for number in range(first, first + n):
            end, taken = walk(nodes, start, number)
            held += end is None
            wanted[number] = end or 0
            for step in taken:
                edges[step] = edges.get(step, 0) + 1
        first += n
    for k, (to, ways) in enumerate(nodes):
        rig.branch(names[k], [names[t] for t in to], ways)
    rig.sink()
    rig.build(vector)
    rig.control[c.TRACING] = tracing
    rig.run()
    assert (rig.seen == wanted).all()
    assert {
        (k, edge): n for k in range(len(nodes)) for edge, n in rig.taken(names[k]).items()
    } == edges
    assert rig.count("sink") == packets - held
    assert rig.pool.free == 4096 - held


@pytest.mark.parametrize("n", [62, 63, 64, 65, 128, 200])
def test_more_nodes_than_bits_in_a_word(n):
    rig = Rig(packets=300)
    names = [f"n{k}" for k in range(n)]
    rig.source(300, [names[0]])
    for k, name in enumerate(names):  # half of the packets skip the next node
        after = [*names[k + 1 : k + 3], "sink", "sink"][:2]
        rig.branch(name, after, [0, 1, 0, 0, 1])
    rig.sink()
    rig.build().run().check()
    assert rig.count("sink") == 300


def test_inputs_feed_one_node_together():
    rig = Rig(packets=768)
    for k in range(3):
        rig.source(256, ["a"], name=f"in{k}", first=256 * k)
    rig.add(SAME, "a", ["sink"])
    rig.sink()
    rig.build().run().check()
    assert (rig.stats("a")[c.PACKETS], rig.stats("a")[c.CALLS]) == (768, 3)


def test_stats_say_calls_packets_and_clocks():
    rig = Rig()
    rig.source(1000, ["a"])
    rig.branch("a", ["b", "sink"], [0, 0, 0, 1])
    rig.branch("b", ["sink"])
    rig.sink()
    rig.build(256).run()
    found = {name: rig.stats(name)[: c.FULL + 1].tolist() for name in ("source", "a", "b", "sink")}
    calls = {name: (row[c.CALLS], row[c.PACKETS]) for name, row in found.items()}
    assert calls["source"] == calls["a"] == (4, 1000)
    assert calls["b"] == (4, 750)
    assert calls["sink"][1] == 1000
    assert all(0 < row[c.CLOCKS] < 10**10 for row in found.values())
    assert found["source"][c.EMPTY_CALLS] == 1
    assert found["source"][c.EMPTY_CLOCKS] > 0
    assert not any(row[c.FULL] for row in found.values())
    assert rig.taken("a") == {0: 750, 1: 250}
    assert rig.control[c.BUSY_ROUNDS] == 4
    assert rig.control[c.NOW] > rig.control[c.STARTED]
    assert rig.control[c.STATE] == c.STOPPED


def test_the_clocks_of_all_nodes_are_those_of_the_run():
    """Nothing is left out of the sum: within what the interpreter adds around it."""
    rig = Rig(buffers=4096)
    rig.source(256 * 2000, ["a"])
    for name, to in (("a", "b"), ("b", "sink")):
        rig.branch(name, [to])
    rig.sink()
    rig.build().run()
    total = sum(
        int(rig.stats(m.name)[c.CLOCKS] + rig.stats(m.name)[c.EMPTY_CLOCKS])
        for m in rig.graph.order
    )
    lasted = int(rig.control[c.NOW] - rig.control[c.STARTED])
    assert 0.8 * lasted < total <= lasted


@pytest.mark.parametrize("result", [0, -1, -11, -(2**40)])
def test_an_input_that_fails_brings_nothing(result):
    """A result below 0 is a system call's error: no packets, no frame, no wrong sums."""
    rig = Rig(buffers=512)
    rig.add(IDLE, "idle", ["sink"], result=np.array([result]).view(np.uint64))
    rig.source(10, ["sink"])
    rig.sink()
    rig.build().run().check()
    assert rig.stats("idle")[: c.CLOCKS].tolist() == [0, 0]
    assert rig.stats("idle")[c.EMPTY_CALLS] == 2


@pytest.mark.parametrize(("vector", "calls"), [(0, 300), (1, 300), (257, 2), (2**63, 300)])
def test_a_senseless_vector_size_does_no_harm(vector, calls):
    rig = Rig(packets=300)
    rig.source(300, ["a"])
    rig.branch("a", ["sink"])
    rig.sink()
    rig.build(vector).run().check()
    assert rig.stats("a")[c.CALLS] == calls


def test_run_until_idle_may_be_repeated():
    rig = Rig()
    left = rig.source(10, ["sink"])
    rig.sink()
    rig.build().run()
    left[0] = 5
    rig.run().check()
    assert rig.count("sink") == 15


class Timed(NamedTuple):
    """What of a plan _note_time uses."""

    control: np.ndarray


@kernel
def note(g, clocks):
    scheduler._note_time(g, np.uint64(clocks))


@given(st.lists(st.one_of(st.integers(0, 40).map(lambda n: (1 << n) - 1), st.integers(0, 1 << 40))))
def test_how_long_rounds_take_is_counted_by_powers_of_two(times):
    g = Timed(np.zeros(c.CONTROL_WORDS, np.uint64))
    wanted = [0] * c.ROUND_BUCKETS
    for clocks in times:
        note(g, clocks)
        fits = [k for k in range(c.ROUND_BUCKETS - 1) if clocks < c.round_clocks(k)]
        wanted[min(fits, default=c.ROUND_BUCKETS - 1)] += 1
    assert g.control[c.ROUND_TIMES :][: c.ROUND_BUCKETS].tolist() == wanted
    assert int(g.control[c.ROUND_CLOCKS]) == sum(times)
    assert c.ROUND_TIMES + c.ROUND_BUCKETS <= c.CONTROL_WORDS


def test_every_round_with_packets_is_timed():
    rig = Rig()
    rig.source(1000, ["sink"], per_call=10)
    rig.sink()
    rig.build().run()
    assert int(rig.control[c.ROUND_TIMES :][: c.ROUND_BUCKETS].sum()) == 100
    assert rig.control[c.BUSY_ROUNDS] == 100
    assert rig.control[c.ROUND_CLOCKS] > 0
