# SPDX-License-Identifier: Apache-2.0
"""virtio-rx: take frames from a virtio-net device, which has written them to buffers of ours.

VIRTIO 1.2, section 5.1.6 (network device) over rings.vring_driver. A frame is a virtio-net header
and bytes, in one buffer or, with mergeable buffers, several. Two passes over a vector: find the
buffers and ask for their cache lines; then copy. The device can still write there, so nothing is
looked at twice: headers are parsed in our own buffers, after the copy.

While frames come the queue is polled and the device told not to call; after virtqueue.IDLE_POLLS polls
that found nothing it is asked to, as in io.vhost_rx.

Reads   the queue, the buffers shared with the device
Writes  data, meta (as every receive node); flags CHAINED, CSUM_PARTIAL, GSO; the queue
Drops   before the graph sees them: see RxCount
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import Kind, Node
from vforward.io.port import RxEdge
from vforward.io.vhost_copy import AHEAD, CHAIN_PIECES, LINE, PIECES_AT, SLOTS
from vforward.io.vhost_rx import (
    BELL,
    ETHERNET,
    NUMBER,
    POLLS,
    PUBLISH_EVERY,
    RING,
    RxCount,
    count_let_go,
    forget_kicks,
    frame_of,
)
from vforward.jit.atomics import load_once16, load_once64, store_release64
from vforward.jit.intrinsics import address, ask_read, call2, copy, view2
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import BUF_ROOM, HEADROOM, NIL, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address, packet_bytes
from vforward.memory.pool import take_one
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings import vring, vring_driver
from vforward.rings.net_features import HEADER_BYTES, MRG_RXBUF

BUFFERS_AT = 10
"""In a header: of how many buffers the frame is, u16."""
NOT_CHECKED = 2  # the flag DATA_VALID, of which nothing is believed


@inline
def kick(queue: Any, port: Any, since: Any, packed: Any) -> None:
    """Kick the device for what was published since ADDED was that, if it wants that."""
    if vring_driver.wants_kick(queue, since, packed):
        call2(i64(port[RING]), address(port) + 8 * BELL, i64(queue[vq.CALL]))


@inline
def _ask(queue: Any, work: Any, k: Any, n: Any) -> None:
    """Ask for the first two cache lines of the k-th of n buffers: a short frame lies behind its header."""
    if k < n and i64(work[k]) >= 0:
        here = driver.buffer(queue, i64(work[k]))
        ask_read(here)
        ask_read(here + LINE)


@inline
def _look_ahead(queue: Any, work: Any, n: Any, waiting: Any, packed: Any) -> Any:
    """For each of n buffers: its number, what is left of its batch, its length. And ask for the first
    AHEAD. Returns how many there are.
    """
    batch = i64(queue[driver.BATCH])
    for k in range(n):
        number, length, batch = vring_driver.returned(queue, k, waiting, batch, packed)
        if number == vring.NONE:
            return k
        work[k] = number
        work[SLOTS + k] = batch
        work[2 * SLOTS + k] = length
        _ask(queue, work, k, AHEAD)
    return n


@inline
def _length(work: Any, at: Any) -> Any:
    """Bytes of the at-th buffer, or -Fault."""
    length = i64(work[2 * SLOTS + at])
    if i64(work[at]) < 0:
        return -i64(driver.Fault.NUMBER)
    return length if length <= driver.STRIDE else -i64(driver.Fault.LENGTH)


@kernel
def _pieces(queue: Any, work: Any, at: Any, n: Any) -> Any:
    """List the buffers of the frame that begins in the at-th of n. Returns how many, or -Fault.

    0: not all of them are here yet.
    """
    length = _length(work, at)
    if length < HEADER_BYTES:
        return length if length < 0 else -i64(driver.Fault.LENGTH)
    buffers = i64(1)
    if queue[vq.FEATURES] & u64(MRG_RXBUF):
        buffers = i64(load_once16(driver.buffer(queue, i64(work[at])) + BUFFERS_AT))
        if buffers == 0 or buffers > min(SLOTS, i64(queue[vq.SIZE])):
            return -i64(driver.Fault.MERGED)
        if at + buffers > n:
            return i64(0)
    pieces = view2(address(work) + 8 * PIECES_AT, CHAIN_PIECES, 2, np.int64)
    for p in range(buffers):
        length = _length(work, at + p)
        if length < 0:
            return length
        pieces[p, 0], pieces[p, 1] = driver.buffer(queue, i64(work[at + p])), length
    return buffers


@inline
def _simple(queue: Any, work: Any, at: Any) -> bool:
    """Whether the at-th buffer is one frame with nothing left to do, for one buffer of ours."""
    length = i64(work[2 * SLOTS + at])
    if i64(work[at]) < 0 or length < HEADER_BYTES + ETHERNET or length > HEADER_BYTES + BUF_ROOM:
        return False
    here = driver.buffer(queue, i64(work[at]))
    if load_once64(here) & u64(0xFFFF & ~NOT_CHECKED) != u64(0):  # flags, gso_type
        return False
    return load_once16(here + BUFFERS_AT) == u64(1) or not queue[vq.FEATURES] & u64(MRG_RXBUF)


@inline
def _claim(here: Any, first: Any, length: Any) -> None:
    """Write to each cache line of a buffer that was read, from byte first on: who writes it next then takes
    it from one that wrote it last, and not from two that share it (rings.netmap_pipe). A header's is left
    to both: a device need not write what it says already.
    """
    for off in range(first, length, LINE):
        store_release64(here + off, u64(0))


@inline
def _give_back(queue: Any, work: Any, first: Any, after: Any, packed: Any) -> None:
    """Lend the buffers that were emptied to the device again."""
    for k in range(first, after):
        vring_driver.offer(queue, k - first, i64(work[k]), packed)
    vring_driver.publish(queue, after - first, after - first, packed)


@inline
def _frames(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, queue: Any, port: Any,
    work: Any, packed: Any,
) -> Any:  # fmt: skip
    """Take frames of a queue of one layout. Returns how many."""
    waiting = vring_driver.waiting(queue, packed)
    if waiting == 0:
        if vq.is_idle(queue):
            vring_driver.ask_for_calls(queue)
        return i64(0)
    port[POLLS] = u64(0)
    if vq.was_idle(queue):
        vring_driver.refuse_calls(queue)
    fault, since = -min(waiting, 0), i64(queue[driver.ADDED])
    n = _look_ahead(queue, work, min(waiting, SLOTS), waiting, packed)
    base, number = address(data), port[NUMBER]
    taken, given, kept, total = i64(0), i64(0), 0, i64(0)
    while taken < n and kept < idx.size:
        buffers = i64(1)
        _ask(queue, work, taken + AHEAD, n)
        if _simple(queue, work, taken):
            row = take_one(pool)
            if row == NIL:
                count[RxCount.NO_BUFFER] += u64(1)
                break
            here, length = driver.buffer(queue, i64(work[taken])), i64(work[2 * SLOTS + taken])
            copy(byte_address(base, row, HEADROOM), here + HEADER_BYTES, length - HEADER_BYTES)
            _claim(here, HEADER_BYTES, length)
            begin_packet(meta, row, length - HEADER_BYTES, number)
        else:
            buffers = _pieces(queue, work, taken, n)
            if buffers <= 0:
                fault = -buffers
                break
            features = i64(queue[vq.FEATURES])
            row = frame_of(
                data, meta, count, pool, work, buffers, i64(HEADER_BYTES), features, number
            )
            pieces = view2(address(work) + 8 * PIECES_AT, CHAIN_PIECES, 2, np.int64)
            for p in range(buffers):
                _claim(pieces[p, 0], i64(0) if p else i64(HEADER_BYTES), pieces[p, 1])
        taken += buffers
        if taken - given >= PUBLISH_EVERY:
            _give_back(queue, work, given, taken, packed)
            given = taken
        if row != NIL:
            total += packet_bytes(meta, row)
            idx[kept] = row
            edge[kept] = RxEdge.NEXT
            kept += 1
    if taken > 0:
        _give_back(queue, work, given, taken, packed)
        queue[driver.BATCH] = work[SLOTS + taken - 1]
        vring_driver.took(queue, taken, packed)
        kick(queue, port, since, packed)
    if fault:
        vq.give_up(queue, fault)
    count[RxCount.BYTES] += u64(total)
    queue[vq.MOVED] += u64(kept)
    return i64(kept)


@kernel
def rx(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, queue: U64, port: U64,
    work: U64,
) -> int:  # fmt: skip
    forget_kicks(port)
    count_let_go(count, port)
    if not vq.ready(queue):  # before its layout is looked at
        return 0
    if vring.is_packed(queue):
        return _frames(data, meta, idx, edge, count, pool, queue, port, work, True)
    return _frames(data, meta, idx, edge, count, pool, queue, port, work, False)


NODE = Node("virtio-rx", rx, RxEdge, RxCount, Kind.INPUT)
