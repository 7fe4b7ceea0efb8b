# SPDX-License-Identifier: Apache-2.0
"""The nodes of a memif port: packets copied out of a peer's memory, and into it. See io/memif.py.

What they read there is read once, by rings/memif_ring.py, and bounded.
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.io.port import RxCount as AnyRxCount
from vforward.io.port import RxEdge, TxEdge
from vforward.io.port import TxCount as AnyTxCount
from vforward.jit.atomics import load_acquire64, store_release64
from vforward.jit.intrinsics import address, call3, call4, copy
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import (
    BUF_ROOM,
    BUF_STRIDE,
    CHAINED,
    EDGE_HELD,
    GSO,
    HEADROOM,
    NIL,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.buffer import buffer_bytes, byte_address, packet_bytes
from vforward.memory.chain import LONGEST, begin_chain
from vforward.memory.pool import put, put_one, take_one
from vforward.packet.checksum import complete
from vforward.rings import memif_ring as ring

LOOK = 1024
"""Empty rounds after which the epoll is emptied, lest it wake us for ever."""


class RxCount(Labels):
    """Counters of memif-rx."""

    BYTES = AnyRxCount.BYTES.value, AnyRxCount.BYTES.help, INFO
    NO_BUFFER = AnyRxCount.NO_BUFFER.value, AnyRxCount.NO_BUFFER.help, INFO
    BAD_INDEX = 2, "peers let go: a ring's head or tail made no sense", INFO
    BAD_DESCRIPTOR = 3, "peers let go: a descriptor led out of their memory", INFO
    BAD_CHAIN = 4, "peers let go: a packet without end, or of more than 65549 bytes", INFO
    REFUSED = 5, "peers let go: they said something wrong on the control channel", INFO


class TxCount(Labels):
    """Counters of memif-tx."""

    BYTES = AnyTxCount.BYTES.value, AnyTxCount.BYTES.help, INFO
    NO_PEER = 1, "no peer is connected"
    RING_FULL = 2, "the peer has no empty buffers: it does not keep up"
    SUPER_FRAME = 3, "to be cut into segments by whoever sends it, which memif cannot"


@kernel
def receive(
    data: Data,
    meta: Meta,
    idx: Rows,
    edge: Edges,
    count: Counts,
    pool: U64,
    state: U64,
    pieces: U64,
) -> int:
    """Copy what the peer has sent, up to a vector of it, and give it its buffers back."""
    _forget_interrupts(state)
    if ring.turn_of(state) != ring.LIVE:
        _let_go(count, state)
        state[ring.IDLE] += u64(1)  # what rang for the end is forgotten, too
        return 0
    left = ring.received(state)
    if left <= 0:
        if left < 0:
            ring.fault(state, ring.BAD_INDEX)
        state[ring.IDLE] += u64(1)
        return 0
    n, at = 0, 0
    total = i64(0)
    while n < idx.size and at < left:
        parts = ring.packet(state, pieces, at, left - at)
        if parts <= 0:
            if parts < 0:
                ring.fault(state, -parts)
            break
        size = _size(pieces, parts)
        if size > LONGEST:
            ring.fault(state, ring.BAD_CHAIN)
            break
        row = take_one(pool)
        if row == NIL or not begin_chain(meta, pool, row, size, i64(state[ring.PORT])):
            if row != NIL:
                put_one(pool, row)
            count[RxCount.NO_BUFFER] += u64(1)
            break
        _pour(data, meta, row, pieces, parts)
        idx[n] = row
        edge[n] = RxEdge.NEXT
        total += size
        n += 1
        at += parts
    if at > 0:
        ring.emptied(state, at)
    state[ring.IDLE] = u64(0)
    count[RxCount.BYTES] += u64(total)
    return n


@inline
def _forget_interrupts(state: Any) -> None:
    """Empty the epoll now and then while nothing comes, before the turn and the ring are looked at.

    Both are stored before the eventfd is written: what has rung is found by the loads behind this call,
    which no load passes. Emptied after them it would take what rang in between, and the worker sleep on.
    """
    if i64(state[ring.IDLE]) % LOOK == 1:
        call4(
            i64(state[ring.EPOLL_WAIT]),
            i64(state[ring.EPOLL]),
            address(state) + 8 * ring.SINK,
            1,
            0,
        )


@inline
def _let_go(count: Any, state: Any) -> None:
    """Answer the link's thread: what it lets go of is no more in use here."""
    refused = load_acquire64(address(state) + 8 * ring.REFUSED)
    count[RxCount.REFUSED] += refused - state[ring.REFUSED_SEEN]
    state[ring.REFUSED_SEEN] = refused
    if state[ring.FAULTS] != state[ring.FAULTS_SEEN]:
        count[RxCount.BAD_INDEX + i64(state[ring.REASON]) - ring.BAD_INDEX] += u64(1)
        state[ring.FAULTS_SEEN] = state[ring.FAULTS]
    if ring.turn_of(state) == ring.ENDED:
        ring.hand_over(state, ring.FREE)


@inline
def _size(pieces: Any, parts: Any) -> Any:
    total = i64(0)
    for p in range(parts):
        total += i64(pieces[2 * p + 1])
    return total


@inline
def _pour(data: Any, meta: Any, row: Any, pieces: Any, parts: Any) -> None:
    """Copy the parts one behind the other into the chain that begin_chain has laid out."""
    room = i64(BUF_ROOM)
    for p in range(parts):
        source, n = i64(pieces[2 * p]), i64(pieces[2 * p + 1])
        while n > 0:
            if room == 0:
                row = i64(meta[row].next)
                room = i64(BUF_ROOM)
            part = min(n, room)
            copy(byte_address(address(data), row, HEADROOM + BUF_ROOM - room), source, part)
            source += part
            n -= part
            room -= part


@kernel
def send(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, state: U64, place: U64
) -> None:
    """Copy packets into the peer's empty buffers; those beyond them are dropped."""
    reason = i64(TxCount.NO_PEER)
    room = i64(0)
    if ring.turn_of(state) == ring.LIVE:
        reason = i64(TxCount.RING_FULL)
        room = ring.writable(state)
        if room < 0:
            ring.fault(state, ring.BAD_INDEX)
    at = 0
    total = i64(0)
    for i in range(idx.size):
        row = i64(idx[i])
        why = reason
        used = i64(0)
        if meta[row].flags & GSO:
            why = i64(TxCount.SUPER_FRAME)
        elif room > at:
            complete(data, meta, row)
            used = _write(data, meta, row, state, place, at, room)
        if used > 0:
            at += used
            total += packet_bytes(meta, row)
            edge[i] = EDGE_HELD
            put(pool, meta, idx[i : i + 1], 1)
        else:
            if used < 0:
                room = i64(0)
                ring.fault(state, ring.BAD_DESCRIPTOR)
            meta[row].reason = why
            edge[i] = TxEdge.DROP
            count[why] += u64(1)
    count[TxCount.BYTES] += u64(total)
    if at > 0 and ring.filled(state, at):
        if load_acquire64(address(state) + 8 * ring.RANG) == 0:
            store_release64(address(state) + 8 * ring.RANG, u64(1))
            one = address(state) + 8 * ring.ONE
            call3(i64(state[ring.WRITE]), i64(state[ring.BELL]), one, 8)


@kernel
def _write(data: Any, meta: Any, row: Any, state: Any, place: Any, at: Any, room: Any) -> Any:
    """Copy a packet into slots from at on. Returns how many, 0 if they are too few, -1 if bad."""
    used = i64(0)
    to, free = i64(0), i64(0)
    filled, region = i64(0), i64(0)
    while True:
        source = byte_address(address(data), row, meta[row].off)
        n = max(0, min(buffer_bytes(meta, row), BUF_STRIDE - i64(meta[row].off)))
        while n > 0 or used == 0:
            if free == 0:
                if used > 0:
                    ring.describe(state, at + used - 1, region, filled, True)
                if at + used >= room or used == ring.PIECES:
                    return 0
                if not ring.slot(state, place, at + used):
                    return -1
                to, free, region = i64(place[0]), i64(place[1]), i64(place[2])
                used += 1
                filled = i64(0)
            part = min(n, free)
            copy(to, source, part)
            to += part
            source += part
            filled += part
            free -= part
            n -= part
        if not meta[row].flags & CHAINED or meta[row].next >= meta.size:
            break
        row = i64(meta[row].next)
    ring.describe(state, at + used - 1, region, filled, False)
    return used


RX = Node("memif-rx", receive, RxEdge, RxCount, Kind.INPUT)
TX = Node("memif-tx", send, TxEdge, TxCount)
