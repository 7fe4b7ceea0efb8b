"""Chains: filled and gathered at the boundaries of buffers, and short pools."""

import numpy as np
import pytest

from vforward.layout import BUF_ROOM, BUF_STRIDE, CHAINED, HEADROOM, NIL
from vforward.memory.chain import LONGEST, fill, gather, length
from vforward.testing import heap_pool

SIZES = [0, 1, 60, BUF_ROOM - 1, BUF_ROOM, BUF_ROOM + 1, 2 * BUF_ROOM, 2 * BUF_ROOM + 1, LONGEST]


def pattern(n):
    return (np.arange(n) * 7 % 251).astype(np.uint8)


@pytest.mark.parametrize("n", SIZES)
def test_what_is_filled_is_gathered(n):
    pool, source, target = heap_pool(40), pattern(n), np.zeros(n + 1, np.uint8)
    row = int(pool.take(1)[0])
    assert fill(pool.data, pool.meta, pool.caches[0], row, source.ctypes.data, n, 9)
    assert (
        length(pool.meta, row)
        == int(pool.meta[row]["end"]) - HEADROOM + int(pool.meta[row]["rest"])
        == n
    )
    assert gather(pool.data, pool.meta, row, target.ctypes.data, n + 1) == n
    assert (target[:n] == source).all()
    buffers = 0
    at = row
    while at != NIL:
        record = pool.meta[at]
        last = record["next"] == NIL
        assert bool(record["flags"] & CHAINED) != last
        assert (int(record["off"]), int(record["rx_port"])) == (HEADROOM, 9)
        assert last or int(record["end"]) - int(record["off"]) == BUF_ROOM
        at, buffers = int(record["next"]), buffers + 1
    assert buffers == max(1, -(-n // BUF_ROOM))
    assert pool.free == 40 - buffers
    pool.put(np.array([row], np.uint32))
    pool.check()


@pytest.mark.parametrize("room", [0, 1, BUF_ROOM, BUF_ROOM + 1, 3999])
def test_gather_stops_at_the_room(room):
    pool, source, target = heap_pool(40), pattern(4000), np.zeros(4000, np.uint8)
    row = int(pool.take(1)[0])
    fill(pool.data, pool.meta, pool.caches[0], row, source.ctypes.data, 4000, 0)
    assert gather(pool.data, pool.meta, row, target.ctypes.data, room) == room
    assert (target[:room] == source[:room]).all()
    assert not target[room:].any()


def test_a_short_pool_leaves_the_first_buffer_alone():
    pool, source = heap_pool(4), pattern(LONGEST)
    row = int(pool.take(1)[0])
    assert not fill(pool.data, pool.meta, pool.caches[0], row, source.ctypes.data, LONGEST, 0)
    assert pool.free == 3
    pool.check(held=[row])


def test_wrong_lengths_and_links_stay_in_bounds():
    pool, target = heap_pool(4), np.zeros(4 * BUF_STRIDE, np.uint8)
    pool.meta[1]["off"], pool.meta[1]["end"] = 2100, 65535
    pool.meta[1]["flags"], pool.meta[1]["next"] = CHAINED, 1
    assert gather(pool.data, pool.meta, 1, target.ctypes.data, target.size) == 4 * 12
    pool.meta[1]["next"] = 4
    assert gather(pool.data, pool.meta, 1, target.ctypes.data, target.size) == 12
    assert length(pool.meta, 1) == 65535 - 2100
