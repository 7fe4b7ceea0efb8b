# SPDX-License-Identifier: Apache-2.0
"""virtio-tx: send frames to a virtio-net device, by copying them to buffers of ours that it reads.

VIRTIO 1.2, section 5.1.6 (network device) over rings.virtqueue_driver. A frame takes one buffer, a
long one a chain of them. What the device has not said that it can do is done here: checksums are
completed; super-frames that it cannot take are dropped. Buffers are taken back when more are sent.

Reads   the queue; meta: off, end, next, flags, checksum and segmentation fields; data
Writes  the buffers shared with the device; descriptors, the available ring. Frees what was sent
Drops   what there was no buffer for, or cannot be sent (TxCount)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, Labels, Node
from vforward.io.port import TxEdge, drop
from vforward.io.vhost_copy import CHAIN_PIECES, HEADER_AT, LINE, PIECES_AT, copy_out
from vforward.io.vhost_header import leave
from vforward.io.vhost_rx import PUBLISH_EVERY
from vforward.io.virtio_rx import HEADER, kick
from vforward.jit.intrinsics import address, ask_write, copy, view, view2
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import (
    CHAINED,
    CSUM_PARTIAL,
    EDGE_HELD,
    GSO,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.buffer import byte_address, sound
from vforward.memory.chain import length as chain_length
from vforward.memory.pool import put_one, put_rest
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver


class TxCount(Labels):
    """Counters of virtio-tx."""

    BYTES = 0, "bytes sent", INFO
    RING_FULL = 1, "the device has not taken enough of what it was sent"
    NO_PEER = 2, "nobody is there, or not ready"
    REFUSED = 3, "its checksum, segmentation or length fields are bad, or the device takes no such"
    BROKEN = 4, "the queue was given up: what the peer wrote cannot be right"


@inline
def _look_ahead(queue: Any, n: Any) -> None:
    """Ask for the first two cache lines of n free buffers, to write to."""
    for k in range(n):
        here = driver.buffer(queue, driver.free(queue, k))
        ask_write(here)
        ask_write(here + LINE)


@kernel
def _any(data: Any, meta: Any, queue: Any, work: Any, row: Any, at: Any, room: Any) -> Any:
    """Copy a packet of any kind to free buffers from the at-th on, of room, and describe them.

    Returns how many, or minus a counter.
    """
    header = view(address(work) + 8 * HEADER_AT, 16, np.uint8)
    for b in range(16):
        header[b] = 0
    if not leave(data, meta, row, i64(queue[vq.FEATURES]), header):
        return -i64(TxCount.REFUSED)
    left = HEADER + chain_length(meta, row)
    n = (left + driver.STRIDE - 1) // driver.STRIDE
    if left < HEADER or n > CHAIN_PIECES:
        return -i64(TxCount.REFUSED)
    if n > room:
        return -i64(TxCount.RING_FULL)
    pieces = view2(address(work) + 8 * PIECES_AT, CHAIN_PIECES, 2, np.int64)
    for p in range(n):
        number, part = driver.free(queue, at + p), min(left, driver.STRIDE)
        pieces[p, 0], pieces[p, 1] = driver.buffer(queue, number), part
        left -= part
        driver.describe(queue, number, part, driver.free(queue, at + p + 1) if left > 0 else -1)
    copy_out(data, meta, work, pieces, HEADER, row)
    return n


@inline
def _simple(base: Any, meta: Any, queue: Any, row: Any, at: Any) -> bool:
    """Do it for a packet of one buffer with nothing left to do, if it is one."""
    record = meta[row]
    length = i64(record.end) - i64(record.off)
    if record.flags & (CHAINED | CSUM_PARTIAL | GSO) or HEADER + length > driver.STRIDE:
        return False
    number = driver.free(queue, at)
    here = driver.buffer(queue, number)
    words = view(here, 3, np.uint32)
    words[0] = 0
    words[1] = 0
    words[2] = 0
    copy(here + HEADER, byte_address(base, row, record.off), length)
    driver.describe(queue, number, HEADER + length, -1)
    return True


@kernel
def tx(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, queue: U64, port: U64,
    work: U64,
) -> None:  # fmt: skip
    room, nobody = i64(0), i64(TxCount.NO_PEER)
    if vq.ready(queue):
        nobody = i64(TxCount.RING_FULL)
        fault = driver.reclaim(queue)
        room = i64(queue[driver.FREE])
        if fault:
            vq.give_up(queue, fault)
            room, nobody = i64(0), i64(TxCount.BROKEN)
    _look_ahead(queue, min(room, idx.size))
    base = address(data)
    at, sent, published = i64(0), i64(0), i64(0)  # descriptors; buffers of them; those published
    for i in range(idx.size):
        row = i64(idx[i])
        if at >= room:
            drop(meta, row, edge, i, count, nobody)
            continue
        if not sound(meta, row):
            drop(meta, row, edge, i, count, i64(TxCount.REFUSED))
            continue
        n = i64(1)
        if not _simple(base, meta, queue, row, at):
            n = _any(data, meta, queue, work, row, at, room - at)
            if n < 0:
                drop(meta, row, edge, i, count, -n)
                continue
        driver.offer(queue, sent - published, driver.lend(queue, at, n))
        count[TxCount.BYTES] += u64(i64(meta[row].end) - i64(meta[row].off) + i64(meta[row].rest))
        edge[i] = EDGE_HELD
        at += n
        sent += 1
        if sent - published == PUBLISH_EVERY:
            driver.publish(queue, sent - published)
            published = sent
        if meta[row].flags & CHAINED:
            put_rest(pool, meta, row)
        put_one(pool, row)
    if sent:
        driver.publish(queue, sent - published)
        driver.gone(queue, at)
        kick(queue, port, sent)


NODE = Node("virtio-tx", tx, TxEdge, TxCount)
