"""run_node itself: what it reports, and that it sees what a bad kernel does."""

import numpy as np
import pytest

from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.jit.kernel import kernel
from vforward.layout import (
    BUF_ROOM,
    EDGE_ARC,
    EDGE_HELD,
    HEADROOM,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.pool import put, put_one, put_rest, take_one
from vforward.testing import heap_pool, run_node


class Edge(Labels):
    EVEN = 0, "first byte even"
    VERY_ODD = 1, "first byte odd"


class Count(Labels):
    ODD_ONES = 0, "odd ones"
    CALLS = 1, "calls", INFO


@kernel
def parity(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, limit: U64) -> None:
    count[1] += np.uint64(1)
    for i in range(idx.size):
        row = idx[i]
        first = data[row, np.int64(meta[row].off)]
        edge[i] = first & 1
        count[0] += np.uint64(first & 1)
        meta[row].reason = 0
        meta[row].hash = limit[0]


NODE = Node("parity", parity, Edge, Count)
FRAMES = [bytes([i]) * (1 + i) for i in range(7)]
LIMIT = {"limit": np.array([5], np.uint64)}


@pytest.mark.parametrize(("vector", "calls"), [(1, 7), (3, 3), (256, 1)])
def test_edges_counters_frames_and_meta(vector, calls):
    result = run_node(NODE, FRAMES, tables=LIMIT, vector=vector, rx_port=3, l3=14)
    assert result.edges == ["even", "very-odd"] * 3 + ["even"]
    assert result.out == {"even": FRAMES[::2], "very-odd": FRAMES[1::2]}
    assert result.counters == {"odd-ones": 3, "calls": calls}
    assert result.meta["hash"].tolist() == [5] * 7
    assert result.meta["rx_port"].tolist() == [3] * 7
    assert result.meta["l3"].tolist() == [HEADROOM + 14] * 7
    assert (result.held, result.reason(1)) == ([], "odd-ones")
    result.pool.check(held=result.rows)


def test_a_callback_prepares_meta_and_long_frames_are_chains():
    seen = []

    def prepare(record, i):
        record["treatment"] = 7 + i
        seen.append(int(record["end"]) - int(record["off"]) + int(record["rest"]))

    frames = [b"", b"a" * BUF_ROOM, b"b" * (BUF_ROOM + 1), b"c" * 65549]
    result = run_node(NODE, frames, tables=LIMIT, meta=prepare)
    assert result.frames == frames
    assert seen == [len(f) for f in frames]
    assert result.meta["treatment"].tolist() == [7, 8, 9, 10]
    assert result.counted == {"calls": 1, "odd-ones": result.edges.count("very-odd")}


def test_no_frames_is_one_call_less():
    assert run_node(NODE, tables=LIMIT).counted == {}


def test_a_missing_table_is_named():
    with pytest.raises(AssertionError, match="limit"):
        run_node(NODE, FRAMES)


@kernel
def misbehave(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, how: U64
) -> None:
    for i in range(idx.size):
        row = np.int64(idx[i])
        edge[i] = 0
        if how[0] == 0:  # held and given back: right
            edge[i] = EDGE_HELD
        elif how[0] == 1:  # kept: right
            edge[i] = EDGE_HELD
            continue
        elif how[0] == 2:
            put_one(pool, row)
            put_one(pool, row)
            edge[i] = EDGE_HELD
            continue
        elif how[0] == 4:
            take_one(pool)
        elif how[0] == 5:
            idx[i] = idx[0]
        elif how[0] == 6:
            edge[i] = 77
        elif how[0] == 7:
            edge[i] = EDGE_ARC - 1  # as if it had set nothing
        elif how[0] == 8:
            meta[row].rest = 5
        elif how[0] == 9:
            meta[row].end = 3000
        elif how[0] == 10:
            edge[i] = EDGE_ARC + 5 + 57 * i
        elif how[0] == 11:
            meta[row].next = row
        elif how[0] == 12 and i == 0:
            put_rest(pool, meta, row)
            meta[row].rest = 0
        elif how[0] == 13:  # gives back one buffer of a chain only
            put_one(pool, row)
            edge[i] = EDGE_HELD
            continue
        if how[0] == 0 or how[0] == 3:
            put(pool, meta, idx[i : i + 1], 1)


BAD = Node("misbehave", misbehave, Edge)


def behave(how, frames=(b"ab", b"c" * 5000)):
    return run_node(BAD, list(frames), tables={"how": np.array([how], np.uint64)}, vector=256)


def test_held_and_given_back():
    result = behave(0)
    assert (result.edges, result.frames, result.held) == (["held"] * 2, [None] * 2, [])
    result.pool.check()


def test_held_and_kept():
    result = behave(1)
    assert sorted(result.held) == sorted(result.rows.tolist())
    result.pool.check(held=result.held)


def test_edges_of_an_arc_have_names():
    assert behave(10).edges == ["arc-5", "arc-end"]


def test_a_chain_may_be_cut():
    assert behave(12, [b"c" * 5000]).frames == [b"c" * BUF_ROOM]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (2, "twice"),
        (3, "given back and passed on"),
        (4, "lost"),
        (5, "twice"),
        (6, "none of the node's"),
        (7, "gave it no edge"),
        (8, "meta.rest is 5"),
        (9, "do not fit"),
        (11, "not CHAINED"),
    ],
)
def test_faults_are_found(how, message):
    with pytest.raises(AssertionError, match=message):
        behave(how)


def test_the_rest_of_a_chain_given_back_in_part_is_reported_as_kept():
    assert len(behave(13, [b"c" * 5000]).held) == 1


@kernel
def source(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64) -> int:
    idx[0] = take_one(pool)
    edge[0] = 1
    row = np.int64(idx[0])
    meta[row].off, meta[row].end, meta[row].rest = 0, 3, 0
    return 1


def test_an_input_node_is_polled_once():
    pool = heap_pool(300)
    result = run_node(Node("source", source, Edge, kind=Kind.INPUT), pool=pool, vector=4)
    assert result.out == {"very-odd": [b"\xa5" * 3]}
    pool.check(held=result.rows)


def test_edges_named_when_added():
    result = run_node(Node("p", parity, None, Count), FRAMES, tables=LIMIT, edges=["a", "b"])
    assert result.edges == ["a", "b"] * 3 + ["a"]
