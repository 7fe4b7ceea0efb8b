# SPDX-License-Identifier: Apache-2.0
"""Packets cut up: buffers all or none, payload from and to every place in a chain."""

import numpy as np
import pytest

from vforward.layout import BUF_ROOM, HEADROOM, NIL
from vforward.memory.buffer import packet_bytes
from vforward.memory.chain import fill, gather, length
from vforward.memory.cut import copy_payload, cut, forward, give_back, take_pieces
from vforward.testing import heap_pool

SIZE = 3 * BUF_ROOM + 100


def text(n):
    return (np.arange(n) * 7 % 251).astype(np.uint8)


def packet(pool, n):
    row, source = int(pool.take(1)[0]), text(n)
    assert fill(pool.data, pool.meta, pool.caches[0], row, source.ctypes.data, n, 9)
    return row


def content(pool, row):
    target = np.zeros(1 << 17, np.uint8)
    n = gather(pool.data, pool.meta, row, target.ctypes.data, target.size)
    assert n == length(pool.meta, row) == packet_bytes(pool.meta, row)
    return target[:n]


def pieces(pool, first):
    found = []
    while first != NIL:
        found.append(int(first))
        first = int(pool.meta[first]["scratch"])
    return found


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_pieces_are_taken_in_order_the_last_is_shorter(n):
    pool = heap_pool(40)
    taken = pieces(pool, take_pieces(pool.meta, pool.caches[0], n, BUF_ROOM + 5, 60, 9))
    sizes = [packet_bytes(pool.meta, row) for row in taken]
    assert sizes == [BUF_ROOM + 5] * (n - 1) + [60] * (n > 0)
    assert {int(pool.meta[row]["rx_port"]) for row in taken} <= {9}
    give_back(pool.meta, pool.caches[0], taken[0] if taken else NIL)
    assert pool.free == 40
    pool.check()


@pytest.mark.parametrize("free", range(5))
def test_all_or_none(free):
    pool = heap_pool(free)
    assert take_pieces(pool.meta, pool.caches[0], 3, BUF_ROOM + 1, 60, 9) == NIL  # needs five
    assert pool.free == free
    pool.check()


@pytest.mark.parametrize("end", [0, 1, BUF_ROOM - 1, BUF_ROOM, BUF_ROOM + 1, 3 * BUF_ROOM, SIZE])
def test_a_packet_is_ended(end):
    pool = heap_pool(8)
    row = packet(pool, SIZE)
    cut(pool.meta, pool.caches[0], row, end)
    assert (content(pool, row) == text(SIZE)[:end]).all()
    assert pool.free == 8 - max(1, -(-end // BUF_ROOM))


@pytest.mark.parametrize("start", [0, 54, BUF_ROOM - 1, BUF_ROOM, BUF_ROOM + 1, 2 * BUF_ROOM])
@pytest.mark.parametrize("n", [1, BUF_ROOM - 54, BUF_ROOM - 53, BUF_ROOM])
def test_payload_is_copied_and_goes_on_where_it_ended(start, n):
    pool = heap_pool(16)
    row, to, then = packet(pool, SIZE), packet(pool, 54 + n), packet(pool, 64)
    place = forward(pool.meta, row, HEADROOM, start)
    place = copy_payload(pool.data, pool.meta, *place, to, HEADROOM + 54, n)
    assert (content(pool, to)[54:] == text(SIZE)[start : start + n]).all()
    assert (content(pool, to)[:54] == text(54)).all()
    copy_payload(pool.data, pool.meta, *place, then, HEADROOM, 64)
    assert (content(pool, then) == text(SIZE)[start + n :][:64]).all()
