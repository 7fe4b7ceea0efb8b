# SPDX-License-Identifier: Apache-2.0
"""Rows that a node makes besides those given: all arrive, in order, within a round's budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.kernels import LENGTH, Next, Passed, Rig
from vforward.graph import control as c
from vforward.graph import emit
from vforward.graph.node import Node
from vforward.jit.kernel import kernel
from vforward.layout import EDGE_HELD, U32, U64, Counts, Data, Edges, Meta, Rows
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


@kernel
def cut(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    pool: U64, emitted: U64, copies: U64,
) -> None:  # fmt: skip
    """Emit packet number k and copies[k % size] more, numbered in data; put off what finds no room.

    Packets with no copy go by their own edge when nothing has been emitted before them.
    """
    for i in range(idx.size):
        row = np.int64(idx[i])
        n = np.int64(copies[np.int64(meta[row].hash) % copies.size])
        if n == 0 and emitted[emit.EMITTED] == np.uint64(0):
            edge[i] = 0
            continue
        if emit.room(emitted) <= n:
            emit.put_off(emitted, idx.size - i)
            return
        edge[i] = EDGE_HELD
        emit.emit(emitted, row, 0)
        for _ in range(n):
            more = take_one(pool)
            begin_packet(meta, more, LENGTH, 0)
            meta[more].hash = meta[row].hash
            emit.emit(emitted, more, 0)
        count[0] += np.uint64(1)


@kernel
def order(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, kept: U32) -> None:
    """Write packets' numbers down: kept[0] is how many."""
    for i in range(idx.size):
        kept[0] += np.uint32(1)
        kept[np.int64(kept[0])] = meta[np.int64(idx[i])].hash
        edge[i] = 0


ORDER = Node("test-order", order, Next)
CUT = Node("test-cut", cut, None, Passed)
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


def cuts(copies, n=256, *, storm=0, second=(0,), vector=256):
    """n packets through two nodes that put off, behind one that copies each packet storm times.

    Returns how often each number arrived, in the order of arrival, and the rig.
    """
    rig = Rig(buffers=32768, packets=n)
    rig.source(n, ["copy"])
    kept = np.zeros(1 << 17, np.uint32)
    rig.add(COPY, "copy", ["one", "one", "one"], copies=np.array([storm], np.uint64))
    rig.add(CUT, "one", ["two"], copies=np.array(copies, np.uint64))
    rig.add(CUT, "two", ["order"], copies=np.array(second, np.uint64))
    rig.add(ORDER, "order", ["sink"], kept=kept)
    rig.sink()
    rig.build(vector).run()
    numbers = kept[1 : 1 + int(kept[0])]
    return numbers, rig


@pytest.mark.parametrize("vector", [1, 7, 256])
@pytest.mark.parametrize(
    ("copies", "second"),
    [([44], [0]), ([44], [3]), ([0, 0, 100, 7], [0]), ([15], [15]), ([255], [0]), ([16], [0, 30])],
)
def test_what_is_put_off_goes_on_in_the_same_round_and_in_order(copies, second, vector):
    """More than there is room for, by far, and no buffer for all at once: none is lost."""
    numbers, rig = cuts(copies, second=second, vector=vector)
    wanted = []
    for k in range(256):
        wanted += [k] * ((copies[k % len(copies)] + 1) * (second[k % len(second)] + 1))
    assert numbers.tolist() == wanted
    for name in ("one", "two", "order"):
        assert int(rig.stats(name)[c.FULL]) == 0
        given = int(rig.stats(name)[c.PACKETS]) + int(rig.stats(name)[c.EMITTED])
        assert sum(rig.taken(name).values()) == given
    assert int(rig.stats("one")[c.PACKETS]) == 256
    assert rig.count("sink") == len(wanted)
    rig.pool.check()


def test_what_is_put_off_has_room_whatever_others_have_taken():
    """A storm of copies takes all the room: they are counted, and the node behind it loses nothing."""
    numbers, rig = cuts([2], storm=100)
    assert rig.count("copy") == 256 * 100 - emit.EMIT_ROOM
    assert len(numbers) == 3 * (256 + emit.EMIT_ROOM)
    rig.pool.check()


@kernel
def cut_within_bounds(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, emitted: U64, copies: U64
) -> None:  # fmt: skip
    """As cut, but emits each row copies[0] times itself, counts what never fits, and cuts the rest."""
    n = np.int64(copies[0])
    for i in range(idx.size):
        if emit.room(emitted) < n:
            if not emit.never_fits(emitted, n):
                emit.put_off(emitted, idx.size - i)
                return
            count[0] += np.uint64(1)
        else:
            for _ in range(n):
                emit.emit(emitted, np.int64(idx[i]), 0)
        edge[i] = 1


@kernel
def note(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    """Let rows vanish that are in several places."""
    count[0] += np.uint64(idx.size)
    for i in range(idx.size):
        edge[i] = EDGE_HELD


def bounded(n, copies):
    rig = Rig(buffers=32768, packets=n)
    rig.source(n, ["cut"])
    made = Node("test-cut-within-bounds", cut_within_bounds, None, Passed)
    rig.add(made, "cut", ["note", "sink"], copies=np.array([copies], np.uint64))
    rig.add(Node("test-note", note, None, Passed), "note", [])
    rig.sink()
    return rig.build(256)


def test_a_round_has_a_bound_for_what_is_cut_too():
    """All that comes beyond it is the node's to count, until the next round."""
    rig = bounded(256, 1000)
    for k in (1, 2):
        rig.given["source"][0] = 256
        rig.run()
        assert 0 <= rig.count("note") - k * emit.ROUND_ROOM < k * emit.EMIT_ROOM
        assert rig.count("cut") == k * 256 - rig.count("note") // 1000
        assert rig.count("sink") == k * 256


@kernel
def stubborn(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, emitted: U64) -> None:
    """Put off all, whatever the room."""
    emit.put_off(emitted, idx.size)


def test_who_puts_off_for_ever_does_not_stop_the_worker():
    rig = Rig(buffers=1024, packets=256)
    rig.source(256, ["stubborn"])
    rig.add(Node("test-stubborn", stubborn, None, Passed), "stubborn", ["sink"])
    rig.sink()
    rig.build(256).run()
    assert int(rig.stats("stubborn")[c.FULL]) == rig.count("sink") == 256
    rig.pool.check()


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
