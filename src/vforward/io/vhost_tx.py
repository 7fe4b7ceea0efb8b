# SPDX-License-Identifier: Apache-2.0
"""vhost-tx: send frames to a virtual machine, or another virtio driver.

VIRTIO 1.2, section 5.1.6 (network device) over rings.vring. A frame goes into the next buffer of
the guest's receive queue or, with mergeable buffers, as many as it takes; of several queues that of
its flow (io.vhost_steer). What a guest has not said that it can do is done here: checksums are
completed; super-frames that it cannot take are dropped.

Reads   the receive queues; meta: off, end, next, flags, checksum and segmentation fields; data
Writes  the guest's memory; the used ring. Frees what was sent
Drops   what there was no buffer for, or cannot be sent (TxCount)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, Labels, Node
from vforward.io.port import TxEdge, drop
from vforward.io.vhost_copy import (
    AHEAD,
    CHAIN_PIECES,
    EDGES_AT,
    END_AT,
    HEADER_AT,
    HEADS_AT,
    HEADS_MAX,
    PAIRS_AT,
    PIECES_AT,
    PLACE_AT,
    ROWS_AT,
    SLOTS,
    ask_to_write,
    copy_out,
)
from vforward.io.vhost_header import leave
from vforward.io.vhost_rx import ALONE, PUBLISH_EVERY, interrupt
from vforward.io.vhost_steer import Flows, gather, mark, running, sort
from vforward.jit.intrinsics import address, copy, view, view2
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
from vforward.rings import guest_memory, vring
from vforward.rings import virtqueue as vq
from vforward.rings.net_features import HEADER_BYTES, MRG_RXBUF


class TxCount(Labels):
    """Counters of vhost-tx."""

    BYTES = 0, "bytes sent", INFO
    RING_FULL = 1, "the guest has given too few buffers"
    NO_PEER = 2, "nobody is there, or not ready"
    TOO_LONG = 3, "longer than the guest's buffers, which it does not merge"
    REFUSED = 4, "its checksum, segmentation or length fields are bad, or the guest takes no such"
    BROKEN = 5, "the queue was given up: what the peer wrote cannot be right, or its memory is gone"


@inline
def _look_ahead(queue: Any, memory: Any, work: Any, n: Any, packed: Any) -> Any:
    """For each of n buffers: its token; where it lies and how long it is if that is all of it, which it
    is in most, else 0. And ask for the first AHEAD. Returns how many there are.
    """
    header = i64(queue[vq.HEADER])
    cursor = vring.begin(queue, packed)
    for k in range(n):
        token, where, length, flags = vring.look(queue, cursor, packed)
        if token == vring.NONE:
            return k
        here = i64(0)
        if flags == vq.F_WRITE and length > 0:
            here = guest_memory.locate(memory, where, length)
        work[k] = u64(token)
        work[SLOTS + k] = here
        work[2 * SLOTS + k] = length
        ask_to_write(work, k, AHEAD, header)
        if token < 0:
            return k + 1
        cursor = vring.following(queue, cursor, token, packed)
    return n


@kernel
def _gather_buffers(
    queue: Any, memory: Any, work: Any, at: Any, available: Any, needed: Any
) -> Any:
    """List buffers from the at-th on until they hold needed bytes. Returns how many.

    0: there are too few. -Fault. TOO_SHORT: one does not do, and they are not merged.
    """
    pieces = view2(address(work) + 8 * PIECES_AT, CHAIN_PIECES, 2, np.int64)
    merged, packed = i64(queue[vq.FEATURES]) & MRG_RXBUF != 0, vring.is_packed(queue)
    used, heads, held = i64(0), 0, i64(0)
    cursor = vring.after_put(queue, at, packed)
    while held < needed:
        if heads and not merged:
            return i64(TOO_SHORT)
        if at + heads >= available or heads == HEADS_MAX:
            return i64(0)
        token, _, _, _ = vring.look(queue, cursor, packed)
        if token == vring.NONE:
            return i64(0)
        after = vring.read_chain(queue, memory, pieces, used, token, True, packed)
        if after < 0:
            return after
        length = i64(0)
        for p in range(used, after):
            length += pieces[p, 1]
        cursor = vring.following(queue, cursor, token, packed)
        work[HEADS_AT + 2 * heads] = u64(token)
        work[HEADS_AT + 2 * heads + 1] = length
        used = after
        held += length
        heads += 1
    return i64(heads)


TOO_SHORT = -100


@kernel
def _any(
    data: Any, meta: Any, queue: Any, memory: Any, work: Any, row: Any, at: Any, available: Any
) -> Any:
    """Send a packet of any kind into buffers of any shape, from the at-th on.

    Returns how many were used, or, nothing used, -Fault or UNSENT - counter.
    """
    header = view(address(work) + 8 * HEADER_AT, 16, np.uint8)
    for b in range(16):
        header[b] = 0
    if not leave(data, meta, row, i64(queue[vq.FEATURES]), header):
        return i64(UNSENT - TxCount.REFUSED)
    needed = i64(queue[vq.HEADER]) + chain_length(meta, row)
    heads = _gather_buffers(queue, memory, work, at, available, needed)
    if heads == 0:
        return i64(UNSENT - TxCount.RING_FULL)
    if heads == TOO_SHORT:
        return i64(UNSENT - TxCount.TOO_LONG)
    if heads < 0:
        return heads
    header[10] = heads & 0xFF
    header[11] = heads >> 8
    pieces = view2(address(work) + 8 * PIECES_AT, CHAIN_PIECES, 2, np.int64)
    copy_out(data, meta, work, pieces, i64(queue[vq.HEADER]), row)
    packed = vring.is_packed(queue)
    for h in range(heads):
        length = min(needed, i64(work[HEADS_AT + 2 * h + 1]))
        vring.put_used(queue, at + h, i64(work[HEADS_AT + 2 * h]), length, packed)
        needed -= length
    return heads


UNSENT = -1000
ONE_BUFFER = 1 << 16
"""Bytes 8 to 11 of a header: nothing is left to do, and num_buffers is 1."""


@inline
def _simple(
    base: Any, meta: Any, queue: Any, work: Any, row: Any, at: Any, used: Any, header: Any,
    packed: Any,
) -> bool:  # fmt: skip
    """Send a packet of one buffer with nothing left to do into the at-th buffer that was looked at, if
    it is of one piece, and put that as the used-th.

    A header that says that already is not written: where it has a cache line of its own, before the
    frame's, the driver need not fetch that again.
    """
    record = meta[row]
    here = i64(work[SLOTS + at])
    length = i64(record.end) - i64(record.off)
    if record.flags & (CHAINED | CSUM_PARTIAL | GSO) or here == 0:
        return False
    if header + length > i64(work[2 * SLOTS + at]):
        return False
    words = view(here, 3, np.uint32)
    if words[0] | words[1]:
        words[0] = 0
        words[1] = 0
    if header == HEADER_BYTES:
        if words[2] != ONE_BUFFER:
            words[2] = ONE_BUFFER
    elif view(here + 8, 1, np.uint16)[0]:
        view(here + 8, 1, np.uint16)[0] = 0
    copy(here + header, byte_address(base, row, record.off), length)
    vring.put_used(queue, used, i64(work[at]), header + length, packed)
    return True


@inline
def _packets(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, queue: Any, memory: Any,
    port: Any, work: Any, ready: Any, packed: Any,
) -> None:  # fmt: skip
    """_send, by a queue of one layout."""
    available, fault = i64(0), i64(0)
    nobody = i64(TxCount.NO_PEER)
    if ready:
        available = vring.waiting(queue, packed)
        fault = -min(available, 0)
        nobody = i64(TxCount.RING_FULL)
    wanted = max(0, min(available, idx.size))
    ahead = _look_ahead(queue, memory, work, wanted, packed)
    if ahead < wanted:
        available = i64(ahead)
    base, header, since = address(data), i64(queue[vq.HEADER]), i64(queue[vq.NEXT])
    at, published = i64(0), i64(0)  # buffers used, and those of them given back already
    sent = i64(0)  # bytes
    for i in range(idx.size):
        row = i64(idx[i])
        if fault:
            drop(meta, row, edge, i, count, i64(TxCount.BROKEN))
            continue
        if at >= available:
            drop(meta, row, edge, i, count, nobody)
            continue
        if not sound(meta, row):
            drop(meta, row, edge, i, count, i64(TxCount.REFUSED))
            continue
        heads, used = i64(1), at - published
        ask_to_write(work, at + AHEAD, ahead, header)
        if at >= ahead or not _simple(base, meta, queue, work, row, at, used, header, packed):
            heads = _any(data, meta, queue, memory, work, row, used, available - published)
            if heads < 0:
                if heads > UNSENT // 2:
                    fault = -heads
                reason = i64(TxCount.BROKEN) if fault else UNSENT - heads
                drop(meta, row, edge, i, count, reason)
                continue
        sent += i64(meta[row].end) - i64(meta[row].off) + i64(meta[row].rest)
        edge[i] = EDGE_HELD
        at += heads
        if at - published >= PUBLISH_EVERY:
            vring.publish(queue, at - published, packed)
            published = at
    if guest_memory.gone(memory) and available > 0:  # nobody knows what of it has arrived
        at, published, fault = i64(0), i64(0), i64(vq.Fault.MEMORY)
        sent = i64(0)
        for i in range(idx.size):
            if edge[i] == EDGE_HELD:
                drop(meta, i64(idx[i]), edge, i, count, i64(TxCount.BROKEN))
    count[TxCount.BYTES] += u64(sent)
    for i in range(idx.size):
        if edge[i] == EDGE_HELD:
            row = i64(idx[i])
            if meta[row].flags & CHAINED:
                put_rest(pool, meta, row)
            put_one(pool, row)
    if at:
        vring.publish(queue, at - published, packed)
        interrupt(queue, port, since)
    if fault:
        vq.give_up(queue, fault)


@inline
def _count(queue: Any, edge: Any) -> None:
    """Count the packets that were sent by one of several queues."""
    sent = i64(0)
    for i in range(edge.size):
        sent += i64(edge[i] == EDGE_HELD)
    queue[vq.MOVED] += u64(sent)


@kernel
def _send(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, queue: Any, memory: Any,
    port: Any, work: Any, ready: Any,
) -> None:  # fmt: skip
    """Send packets by one queue, and free them; what is not sent has the edge DROP.

    ready: what vq.ready has said in this call of the node, before its layout is looked at. Who stops the
    queue meanwhile waits for the call's end: packets that were chosen for it still go by it.
    """
    if ready and vring.is_packed(queue):
        _packets(data, meta, idx, edge, count, pool, queue, memory, port, work, ready, True)
    else:
        _packets(data, meta, idx, edge, count, pool, queue, memory, port, work, ready, False)


@kernel
def _spread(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, queues: Any, flows: Any,
    memory: Any, port: Any, work: Any, n: Any,
) -> None:  # fmt: skip
    """Send packets by the n pairs that running has listed, each by its flow's."""
    rows = view(address(work) + 8 * ROWS_AT, idx.size, np.uint32)
    edges = view(address(work) + 8 * EDGES_AT, idx.size, np.uint8)
    sort(data, meta, idx, flows, work, n, rows)
    first = i64(0)
    for pair in range(queues.shape[0] // 2):
        end = i64(work[END_AT + pair])
        if end > first:
            _send(
                data, meta, rows[first:end], edges[first:end], count, pool, queues[2 * pair], memory,
                port, work, True,
            )  # fmt: skip
            _count(queues[2 * pair], edges[first:end])
        first = end
    mark(queues, flows, work, idx.size)
    for i in range(idx.size):
        edge[i] = edges[i64(work[PLACE_AT + i])]


@kernel
def tx(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, queues: vq.Queues,
    flows: Flows, memory: U64, port: U64, work: U64,
) -> None:  # fmt: skip
    alone, n = i64(0), i64(0)
    if queues.shape[0] == 2:
        n = i64(vq.ready(queues[0]))
    else:
        n = running(queues, work)
        if n == 1:
            alone = i64(work[PAIRS_AT])
    if n < 2:
        port[ALONE] = u64(alone + 1)
        _send(data, meta, idx, edge, count, pool, queues[2 * alone], memory, port, work, n == 1)
        if queues.shape[0] > 2:
            _count(queues[2 * alone], edge)
        return
    if port[ALONE]:
        alone = i64(port[ALONE]) - 1
        gather(flows, queues[2 * alone], alone)
        port[ALONE] = u64(0)
    _spread(data, meta, idx, edge, count, pool, queues, flows, memory, port, work, n)


NODE = Node("vhost-tx", tx, TxEdge, TxCount)
