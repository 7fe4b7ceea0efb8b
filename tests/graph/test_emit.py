# SPDX-License-Identifier: Apache-2.0
"""Rows that a node makes besides those given: all arrive, in order, within a round's budget."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.kernels import LENGTH, Passed, Rig
from vforward.graph import control as c
from vforward.graph import emit
from vforward.graph.node import Node
from vforward.jit.kernel import kernel
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet
from vforward.memory.pool import take_one
from vforward.testing import run_node

MOST = 4096


@kernel
def copy_some(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    pool: U64, emitted: U64, copies: U64,
) -> None:  # fmt: skip
    """Of packet number k emit copies[k % size] more, by edge k % 3; count those not allowed."""
    for i in range(idx.size):
        row = np.int64(idx[i])
        number = np.int64(meta[row].hash)
        edge[i] = 0
        for _ in range(np.int64(copies[number % copies.size])):
            if emit.room(emitted) == 0:
                count[0] += np.uint64(1)
                continue
            more = take_one(pool)
            begin_packet(meta, more, LENGTH, 0)
            meta[more].hash = meta[row].hash
            meta[more].scratch = 7
            emit.emit(emitted, more, number % 3)


COPY = Node("test-copy", copy_some, None, Passed)


def rig_of(n, copies, vector=256, packets=256, sources=1):
    rig = Rig(buffers=32768, packets=packets)
    for k in range(sources):
        rig.source(n, ["copy"], name=f"source{k}", first=k * n)
    rig.add(COPY, "copy", ["sink", "branch", "branch"], copies=np.array(copies, np.uint64))
    rig.branch("branch", ["sink"])
    rig.sink()
    return rig.build(vector)


def check(rig, n, copies):
    """Every packet and every copy of it arrived once, unless it was counted."""
    refused = rig.count("copy")
    made = sum(copies[k % len(copies)] for k in range(n)) - refused
    assert int(rig.stats("copy")[c.EMITTED]) == made
    assert rig.count("sink") == n + made
    assert sum(rig.taken("copy").values()) == n + made
    assert int(rig.stats("sink")[c.FULL]) == 0
    rig.pool.check()
    return refused


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(0, 300),
    copies=st.lists(st.sampled_from([0, 1, 2, 9]), min_size=1, max_size=7),
    vector=st.sampled_from([1, 3, 256]),
)
def test_all_arrive_and_the_order_does_not_depend_on_the_vector(n, copies, vector):
    rig = rig_of(n, copies, vector).run()
    other = rig_of(n, copies, 256).run()
    assert check(rig, n, copies) == check(other, n, copies) == 0
    assert (rig.seen != 0).sum() == (other.seen != 0).sum() == min(n, 256)


def test_a_round_has_a_budget_and_what_is_beyond_is_the_nodes_to_count():
    rig = rig_of(256, [20]).run()
    assert check(rig, 256, [20]) == 256 * 20 - emit.EMIT_ROOM
    rig.given["source0"][0] = 256  # and the next round has one of its own
    rig.run()
    assert check(rig, 512, [20]) == 2 * (256 * 20 - emit.EMIT_ROOM)


def test_frames_have_room_for_all_inputs_and_the_budget():
    rig = rig_of(256, [16], sources=4).run()
    assert check(rig, 1024, [16]) == 1024 * 16 - emit.EMIT_ROOM


def test_run_node_tells_what_was_emitted():
    copies = np.array([2, 0, 1], np.uint64)
    numbered = {"meta": lambda record, i: record.__setitem__("hash", i)}
    for vector in (1, 256):
        result = run_node(
            COPY, [bytes(60)] * 3, tables={"copies": copies}, edges="abc", vector=vector, **numbered
        )
        assert [edge for edge, _ in result.emitted] == ["a", "a", "c"]
        assert all(len(frame) == LENGTH for _, frame in result.emitted)
        assert result.edges == ["a"] * 3
        assert result.pool.meta["hash"][result.emitted_rows].tolist() == [0, 0, 2]


def test_traced_copies_are_recorded():
    rig = rig_of(3, [1])
    rig.control[c.TRACING], rig.control[c.TRACE_WANTED] = 1, 3
    rig.run()
    records = rig.plan.trace[: int(rig.control[c.TRACED_ROWS])]
    at = rig.graph.members["copy"].number
    assert (records["node"] == at).sum() == 3, "copies are not marked by this kernel"
