# SPDX-License-Identifier: Apache-2.0
"""The words by which others watch a worker, and the trace it leaves."""

import numpy as np
import pytest

from graph.kernels import LENGTH, Rig, until, working
from vforward.graph import control as c
from vforward.layout import EDGE_HELD, TRACED


def rig_with_branch(n, vector=256, port=0):
    rig = Rig()
    rig.source(n, ["a"], port=port)
    rig.branch("a", ["b", "sink"], [0, 1, 1])
    rig.branch("b", ["sink"])
    rig.sink()
    return rig.build(vector)


def records(rig):
    return rig.plan.trace[: int(rig.control[c.TRACED_ROWS])]


def by_packet(rig):
    """For each packet: [(node, edge), ...] in the order of the records."""
    names = [member.name for member in rig.graph.order]
    found = {}
    for record in records(rig):
        step = names[record["node"]], int(record["edge"])
        found.setdefault(int(record["packet"]), []).append(step)
    return found


def test_words_have_no_number_twice():
    words = [c.COMMAND, c.VECTOR, c.TRACE_WANTED, c.TRACING, c.SPIN_ROUNDS, c.POLL, c.READ]
    words += [c.STATE, c.ROUNDS, c.BUSY_ROUNDS, c.SLEEPS, c.TRACED_ROWS, c.TRACE_NEXT]
    words += [c.STARTED, c.NOW]
    assert len(set(words)) == len(words)
    assert max(words) < c.CONTROL_WORDS
    assert c.STATE >= 8, "the worker's words have cache lines of their own"


@pytest.mark.parametrize("vector", [1, 2, 256])
def test_marked_packets_are_recorded_node_by_node(vector):
    rig = rig_with_branch(10, vector, port=5)
    rig.control[c.TRACING], rig.control[c.TRACE_WANTED] = 1, 4
    rig.run()
    sink = ("sink", EDGE_HELD)
    long, short = [("source", 0), ("a", 0), ("b", 0), sink], [("source", 0), ("a", 1), sink]
    assert by_packet(rig) == {0: long, 1: short, 2: short, 3: long}
    assert rig.control[c.TRACE_WANTED] == 0
    assert rig.control[c.TRACE_NEXT] == 4
    for record in records(rig):
        number = int(record["packet"])
        assert record["head"][:4].tolist() == [number, 0, 0, 0]
        assert record["length"] == min(c.TRACE_BYTES, LENGTH)
        assert (record["total"], record["rx_port"]) == (LENGTH, 5)
        assert record["flags"] & TRACED
    clocks = records(rig)["clock"].astype(np.int64)
    assert (np.diff(clocks) >= 0).all()


def test_the_bytes_are_those_of_the_packet():
    rig = rig_with_branch(1)
    rig.pool.data[:] = np.arange(rig.pool.data.shape[1]) % 251
    rig.control[c.TRACING], rig.control[c.TRACE_WANTED] = 1, 1
    rig.run()
    first = records(rig)[0]
    row = int(np.flatnonzero(rig.pool.meta["flags"] & TRACED)[0])
    off = int(rig.pool.meta[row]["off"])
    wanted = rig.pool.data[row, off : off + int(first["length"])]
    assert (first["head"][: int(first["length"])] == wanted).all()


def test_packets_of_several_inputs_are_marked_as_they_come():
    rig = Rig()
    for k in range(2):
        rig.source(3, ["sink"], name=f"in{k}", first=10 * k)
    rig.sink()
    rig.build()
    rig.control[c.TRACING], rig.control[c.TRACE_WANTED] = 1, 5
    rig.run()
    assert sorted(by_packet(rig)) == [0, 1, 2, 3, 4]


def test_when_there_is_no_more_room_nothing_is_said():
    rig = rig_with_branch(c.TRACE_ROOM)
    rig.control[c.TRACING], rig.control[c.TRACE_WANTED] = 1, c.TRACE_ROOM
    rig.run().check()
    assert rig.control[c.TRACED_ROWS] == c.TRACE_ROOM
    assert rig.count("sink") == c.TRACE_ROOM


@pytest.mark.parametrize(("tracing", "wanted"), [(0, 0), (0, 5), (1, 0)])
def test_nothing_is_recorded_when_not_asked(tracing, wanted):
    rig = rig_with_branch(10)
    rig.control[c.TRACING], rig.control[c.TRACE_WANTED] = tracing, wanted
    rig.run().check()
    assert rig.control[c.TRACED_ROWS] == 0
    assert not rig.pool.meta["flags"].any()
    assert rig.control[c.TRACE_WANTED] == wanted


def test_an_absurd_wish_marks_nothing():
    """A word that wrapped below 0: not two billion packets traced for ever."""
    rig = rig_with_branch(10)
    rig.control[c.TRACING], rig.control[c.TRACE_WANTED] = 1, 2**64 - 3
    rig.run().check()
    assert rig.control[c.TRACED_ROWS] == 0


def test_a_trace_is_taken_while_the_worker_runs():
    rig = rig_with_branch(2**60)
    with working(rig):
        for turn in range(1, 4):
            rig.control[c.TRACE_WANTED] = 2
            rig.control[c.TRACING] = 1
            until(lambda turn=turn: rig.control[c.TRACE_NEXT] == 2 * turn)
            at = int(rig.control[c.ROUNDS])
            until(lambda at=at: rig.control[c.ROUNDS] > at + 1)
            rig.control[c.TRACING] = 0
    found = by_packet(rig)
    assert sorted(found) == list(range(6))
    assert all(steps[0][0] == "source" and steps[-1][0] == "sink" for steps in found.values())
    rig.check()
