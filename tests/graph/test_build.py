# SPDX-License-Identifier: Apache-2.0
"""Wiring: every mistake is named with node and edge before anything is compiled."""

import numpy as np
import pytest

from graph.kernels import BRANCH, FEATURE, IDLE, QUEUE, SAME, SINK, SOURCE, START, Rig
from vforward.errors import WiringError
from vforward.graph import control as c
from vforward.layout import ARC_BITS, EDGE_ARC, EDGE_MAX

STEP, WAYS, SEEN = np.zeros(1, np.uint64), np.zeros(1, np.uint8), np.zeros(9, np.uint64)


@pytest.fixture
def rig():
    rig = Rig(buffers=512)
    rig.sink()
    return rig


def refused(rig, text):
    """build raises, and nothing was compiled for it."""
    compiled = []
    with pytest.raises(WiringError, match=text):
        rig.graph.build(progress=compiled.append)
    assert compiled == []


def test_an_unknown_edge(rig):
    rig.graph.add(SAME, "a")
    with pytest.raises(WiringError, match=r"node a: unknown edge 'nxt'; it has: next"):
        rig.graph.wire("a", "nxt", "sink")
    with pytest.raises(WiringError, match=r"node sink: unknown edge 'x'; it has: none"):
        rig.graph.wire("sink", "x", "a")


def test_an_unknown_node(rig):
    with pytest.raises(WiringError, match=r"no node 'b' in the graph; it has: sink"):
        rig.graph.wire("b", "next", "sink")


def test_an_edge_without_a_target(rig):
    rig.graph.add(SAME, "a")
    refused(rig, "node a: edge 'next' is not wired")


def test_an_unknown_target(rig):
    rig.add(SAME, "a", ["b"])
    refused(rig, "node a: edge 'next' leads to 'b', not in the graph")


def test_an_edge_wired_twice(rig):
    rig.add(SAME, "a", ["sink"])
    with pytest.raises(WiringError, match="node a: edge 'next' is wired already, to sink"):
        rig.graph.wire("a", "next", "sink")


def test_an_edge_into_an_input(rig):
    rig.add(IDLE, "in", ["sink"], result=STEP)
    rig.add(SAME, "a", ["in"])
    refused(rig, "node a: edge 'next' leads to 'in', an input")


def test_a_name_twice(rig):
    with pytest.raises(WiringError, match="node sink: already"):
        rig.sink()
    assert rig.graph.add(SAME) == "test-same"


def test_too_many_edges(rig):
    names = [f"e{k}" for k in range(EDGE_MAX + 1)]
    rig.graph.add(BRANCH, "a", edges=names[:-1], ways=WAYS, step=STEP)
    with pytest.raises(WiringError, match=f"node b: {EDGE_MAX + 1} edges"):
        rig.graph.add(BRANCH, "b", edges=names, ways=WAYS, step=STEP)


def test_a_missing_table(rig):
    rig.add(BRANCH, "a", ["sink"], ways=WAYS)
    refused(rig, "node a: table 'step' is not given")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(1, np.uint32),
        np.zeros(1, np.int64),
        np.zeros(1, ">u8"),
        np.zeros((2, 2), np.uint64),
        np.zeros((2, 2, 2), np.uint64),
        np.zeros((), np.uint64),
        np.zeros(4, np.uint64)[::2],
    ],
    ids=["dtype", "sign", "byte-order", "2d", "3d", "0d", "strided"],
)
def test_a_wrong_table(rig, array):
    rig.add(BRANCH, "a", ["sink"], ways=WAYS, step=array)
    with pytest.raises(WiringError, match=r"node a: table 'step' is .*its kernel takes uint64"):
        rig.graph.build()


def test_tables_of_the_graph_are_shared_and_a_nodes_own_come_first(rig):
    rig.graph.tables["step"] = shared = np.zeros(1, np.uint64)
    own = np.zeros(1, np.uint64)
    rig.source(0, ["a"])
    rig.add(BRANCH, "a", ["b"], ways=WAYS)
    rig.add(BRANCH, "b", ["sink"], ways=WAYS, step=own)
    rig.build()
    blocks = [rig.graph.members[name].blocks[0][-2:].tolist() for name in "ab"]
    assert blocks == [[shared.ctypes.data, 1], [own.ctypes.data, 1]]


def test_a_cycle_names_its_nodes_and_edges_in_their_direction(rig):
    rig.source(0, ["a"])
    rig.branch("a", ["sink", "b"])
    rig.branch("b", ["sink", "c"])
    rig.branch("c", ["a"])
    with pytest.raises(WiringError, match="cycle without a queue") as raised:
        rig.graph.build()
    text = str(raised.value)
    circle = "a -[e1]-> b -[e1]-> c -[e0]-> "
    turns = [circle[k:] + circle[:k] for k in range(len(circle))]
    assert any(turn in text for turn in turns), text
    assert "?" not in text


def test_a_node_that_leads_to_itself_is_a_cycle(rig):
    rig.branch("a", ["sink", "a"])
    refused(rig, r"a -\[e1\]-> a;")


def test_a_cycle_along_an_arc(rig):
    rig.add(START, "s")
    rig.add(FEATURE, "f", step=STEP)
    rig.branch("end", ["s"])
    rig.graph.arc("arc", starts=["s"], features=["f"], end="end")
    refused(rig, r"-\[arc:end\]-> end")


def test_a_queue_closes_a_cycle(rig):
    rig.source(0, ["a"])
    rig.branch("a", ["sink", "q"])
    rig.branch("q", ["a"], node=QUEUE)
    rig.build()
    names = [member.name for member in rig.graph.order]
    assert names == ["source", "q", "a", "sink"]


def test_a_queue_needs_somebody_to_drop_its_surplus():
    rig = Rig(buffers=512)
    rig.source(0, ["q"])
    rig.branch("q", ["q"], node=QUEUE)
    refused(rig, "a graph with a queue needs a node without edges")


def test_the_order_is_topological_inputs_first_sinks_last(rig):
    rig.branch("z", ["y", "sink"])
    rig.branch("y", ["x"])
    rig.branch("x", ["sink"])
    rig.source(0, ["z"], name="in1")
    rig.source(0, ["x"], name="in2")
    rig.build()
    assert [m.name for m in rig.graph.order][2:] == ["z", "y", "x", "sink"]
    assert {m.name for m in rig.graph.order[:2]} == {"in1", "in2"}
    assert [m.number for m in rig.graph.order] == list(range(6))
    assert rig.plan.n_inputs == 2


def test_counters_of_all_nodes_lie_in_one_segment(rig):
    rig.source(0, ["a"])
    rig.add(SAME, "a", ["sink"])
    rig.build()
    sizes = {m.name: m.shares[0].size for m in rig.graph.order}
    assert sizes == {"source": 1, "a": 0, "sink": 1}
    base = rig.graph.members["source"].shares[0].ctypes.data
    assert rig.graph.members["sink"].shares[0].ctypes.data == base + 8


def test_progress_names_every_node(rig):
    rig.source(0, ["sink"])
    names = []
    rig.graph.build(progress=names.append)
    assert names == ["source", "sink"]


def test_ways_are_edges_and_arcs(rig):
    rig.add(START, "s")
    for name in ("f", "g"):
        rig.add(FEATURE, name, step=STEP)
    rig.graph.arc("arc", starts=["s"], features=["f", "g"], end="sink")
    end = EDGE_ARC + ARC_BITS - 1
    ways = {name: rig.graph.ways(m) for name, m in rig.graph.members.items()}
    assert ways["s"] == {
        EDGE_ARC: ("arc:f", "f"),
        EDGE_ARC + 1: ("arc:g", "g"),
        end: ("arc:end", "sink"),
    }
    assert ways["f"] == {EDGE_ARC + 1: ("arc:g", "g"), end: ("arc:end", "sink")}
    assert ways["g"] == {end: ("arc:end", "sink")}
    assert ways["sink"] == {}


def test_the_vector_starts_at_the_most(rig):
    rig.source(0, ["sink"])
    assert rig.graph.build().control[c.VECTOR] == 256


def test_the_same_node_twice(rig):
    """Two members of one declaration have counters, tables and edges of their own."""
    rig.source(10, ["a", "b"], ways=[0, 1, 1])
    rig.branch("a", ["sink"])
    rig.branch("b", ["sink"])
    rig.build().run().check()
    assert (rig.count("a"), rig.count("b")) == (4, 6)


def test_a_graph_of_nothing_but_inputs_and_sinks():
    rig = Rig(buffers=512)
    rig.add(SOURCE, "in", ["out"], left=np.zeros(4, np.uint64), ways=WAYS)
    rig.add(SINK, "out", seen=SEEN)
    rig.build().run().check()
