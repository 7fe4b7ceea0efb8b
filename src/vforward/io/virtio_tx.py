# SPDX-License-Identifier: Apache-2.0
"""virtio-tx: send frames to a virtio-net device, by copying them to buffers of ours that it reads.

VIRTIO 1.2, section 5.1.6 (network device) over rings.vring_driver. A frame takes one buffer, a
long one a chain of them. Of several queues a flow always goes by the same one: so its packets do not pass
each other, and the device is to send what comes back by that pair (5.1.6.5.5). What the device has not
said that it can do is done here: checksums are completed; super-frames that it cannot take are dropped.
Buffers are taken back when more are sent.

Reads   the queues; meta: off, end, next, flags, checksum and segmentation fields; data
Writes  the buffers shared with the device; the queues. Frees what was sent
Drops   what there was no buffer for, or cannot be sent (TxCount)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, Labels, Node
from vforward.io.port import TxEdge, drop
from vforward.io.spread import spread
from vforward.io.vhost_copy import (
    AHEAD,
    CHAIN_PIECES,
    EDGES_AT,
    END_AT,
    HEADER_AT,
    PIECES_AT,
    PLACE_AT,
    ROWS_AT,
    copy_out,
)
from vforward.io.vhost_header import leave
from vforward.io.vhost_rx import PUBLISH_EVERY
from vforward.io.virtio_rx import kick
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
from vforward.packet.flow_hash import frame_hash
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings import vring, vring_driver
from vforward.rings.net_features import HEADER_BYTES


class TxCount(Labels):
    """Counters of virtio-tx."""

    BYTES = 0, "bytes sent", INFO
    RING_FULL = 1, "the device has not taken enough of what it was sent"
    NO_PEER = 2, "nobody is there, or not ready"
    REFUSED = 3, "its checksum, segmentation or length fields are bad, or the device takes no such"
    BROKEN = 4, "the queue was given up: what the peer wrote cannot be right"


@inline
def _ask(queue: Any, k: Any, room: Any) -> None:
    """Ask for the cache line in which a frame begins in the k-th free buffer of room, to write to it."""
    if k < room:
        ask_write(driver.buffer(queue, driver.free(queue, k)) + HEADER_BYTES)


@kernel
def _any(data: Any, meta: Any, queue: Any, work: Any, row: Any, at: Any, room: Any) -> Any:
    """Copy a packet of any kind to free buffers from the at-th on, of room, and list them in work.

    Returns how many, or minus a counter.
    """
    header = view(address(work) + 8 * HEADER_AT, 16, np.uint8)
    for b in range(16):
        header[b] = 0
    if not leave(data, meta, row, i64(queue[vq.FEATURES]), header):
        return -i64(TxCount.REFUSED)
    left = HEADER_BYTES + chain_length(meta, row)
    n = (left + driver.STRIDE - 1) // driver.STRIDE
    if left < HEADER_BYTES or n > CHAIN_PIECES:
        return -i64(TxCount.REFUSED)
    if n > room:
        return -i64(TxCount.RING_FULL)
    pieces = view2(address(work) + 8 * PIECES_AT, CHAIN_PIECES, 2, np.int64)
    for p in range(n):
        number, part = driver.free(queue, at + p), min(left, driver.STRIDE)
        pieces[p, 0], pieces[p, 1] = driver.buffer(queue, number), part
        left -= part
    copy_out(data, meta, work, pieces, HEADER_BYTES, row)
    return n


@inline
def _simple(base: Any, meta: Any, queue: Any, row: Any, k: Any, at: Any, packed: Any) -> bool:
    """Send a packet of one buffer with nothing left to do, if it is one, as the k-th."""
    record = meta[row]
    length = i64(record.end) - i64(record.off)
    if record.flags & (CHAINED | CSUM_PARTIAL | GSO) or HEADER_BYTES + length > driver.STRIDE:
        return False
    number = driver.free(queue, at)
    here = driver.buffer(queue, number)
    words = view(here, 3, np.uint32)
    if words[0] | words[1] | words[2]:
        words[0] = 0
        words[1] = 0
        words[2] = 0
    copy(here + HEADER_BYTES, byte_address(base, row, record.off), length)
    vring_driver.add(queue, k, at, HEADER_BYTES + length, packed)
    return True


@inline
def _packets(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, queue: Any, port: Any,
    work: Any, ready: Any, packed: Any,
) -> None:  # fmt: skip
    """_send, by a queue of one layout."""
    room, nobody = i64(0), i64(TxCount.NO_PEER)
    if ready:
        nobody = i64(TxCount.RING_FULL)
        fault = vring_driver.reclaim(queue, packed)
        room = i64(queue[driver.FREE])
        if fault:
            vq.give_up(queue, fault)
            room, nobody = i64(0), i64(TxCount.BROKEN)
    for n in range(AHEAD):
        _ask(queue, n, room)
    base, since = address(data), i64(queue[driver.ADDED])
    pieces = view2(address(work) + 8 * PIECES_AT, CHAIN_PIECES, 2, np.int64)
    k, at, sent = i64(0), i64(0), i64(0)  # buffers and descriptors not yet published; packets
    for i in range(idx.size):
        row = i64(idx[i])
        if at >= room:
            drop(meta, row, edge, i, count, nobody)
            continue
        if not sound(meta, row):
            drop(meta, row, edge, i, count, i64(TxCount.REFUSED))
            continue
        n = i64(1)
        _ask(queue, at + AHEAD, room)
        if not _simple(base, meta, queue, row, k, at, packed):
            n = _any(data, meta, queue, work, row, at, room - at)
            if n < 0:
                drop(meta, row, edge, i, count, -n)
                continue
            vring_driver.add_chain(queue, k, at, pieces, n, packed)
        count[TxCount.BYTES] += u64(i64(meta[row].end) - i64(meta[row].off) + i64(meta[row].rest))
        edge[i] = EDGE_HELD
        k += 1
        at += n
        sent += 1
        if k == PUBLISH_EVERY:
            vring_driver.publish(queue, k, at, packed)
            driver.gone(queue, at)
            room -= at
            k, at = i64(0), i64(0)
        if meta[row].flags & CHAINED:
            put_rest(pool, meta, row)
        put_one(pool, row)
    if sent:
        vring_driver.publish(queue, k, at, packed)
        driver.gone(queue, at)
        kick(queue, port, since, packed)
        queue[vq.MOVED] += u64(sent)


@kernel
def _send(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, queue: Any, port: Any, work: Any
) -> None:  # fmt: skip
    """Send packets by one queue, and free them; what is not sent has the edge DROP."""
    ready = vq.ready(queue)  # before its layout is looked at
    if ready and vring.is_packed(queue):
        _packets(data, meta, idx, edge, count, pool, queue, port, work, ready, True)
    else:
        _packets(data, meta, idx, edge, count, pool, queue, port, work, ready, False)


@inline
def _place(data: Any, meta: Any, row: Any, n: Any) -> Any:
    """By which of n queues a packet goes."""
    if not sound(meta, row):
        return i64(0)
    flow = frame_hash(data, row, i64(meta[row].off), i64(meta[row].end))
    return (flow & 0xFFFF) * n >> 16


@kernel
def _spread(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, queues: Any, port: Any,
    work: Any,
) -> None:  # fmt: skip
    """Send packets by several queues, each by its flow's."""
    n = i64(queues.size)
    rows = view(address(work) + 8 * ROWS_AT, idx.size, np.uint32)
    edges = view(address(work) + 8 * EDGES_AT, idx.size, np.uint8)
    for i in range(idx.size):
        work[PLACE_AT + i] = u64(_place(data, meta, i64(idx[i]), n))
    spread(idx, work, n, END_AT, PLACE_AT, rows)
    first = i64(0)
    for q in range(n):
        end = i64(work[END_AT + q])
        if end > first:
            where = i64(queues[q])
            queue = view(where, driver.words_at(where), np.uint64)
            part, to = rows[first:end], edges[first:end]
            _send(data, meta, part, to, count, pool, queue, port, work)
        first = end
    for i in range(idx.size):
        edge[i] = edges[i64(work[PLACE_AT + i])]


@kernel
def tx(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, queues: U64, port: U64,
    work: U64,
) -> None:  # fmt: skip
    """queues: addresses of those by which is sent here, at most PAIRS_MAX."""
    if queues.size == 1:
        where = i64(queues[0])
        queue = view(where, driver.words_at(where), np.uint64)
        _send(data, meta, idx, edge, count, pool, queue, port, work)
    else:
        _spread(data, meta, idx, edge, count, pool, queues, port, work)


NODE = Node("virtio-tx", tx, TxEdge, TxCount)
