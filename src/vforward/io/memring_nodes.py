# SPDX-License-Identifier: Apache-2.0
"""The nodes of a memring port: rows to and from a program that shares the pool. See io/memring.py.

Each field that the program may have written is read once, then checked, then used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import Kind, Labels, Node
from vforward.io.port import RxCount as AnyRxCount
from vforward.io.port import RxEdge, TxEdge
from vforward.io.port import TxCount as AnyTxCount
from vforward.jit.atomics import fence, load_acquire64, store_release64
from vforward.jit.intrinsics import address, call3
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import (
    BUF_ROOM,
    BUF_STRIDE,
    CHAINED,
    CSUM_PARTIAL,
    EDGE_HELD,
    GSO,
    HEADROOM,
    U8,
    U32,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.buffer import begin_packet, packet_bytes
from vforward.memory.chain import LONGEST
from vforward.memory.pool import put_one, take
from vforward.rings import memring as ring
from vforward.rings.spsc import free_slots, pop, push

REFILL = 64
"""Empty buffers are lent so many at a time, or half of what a program may hold: see _lend_empty."""
TRIES = 4
"""Looks into the ring of what was sent, in one round."""


class RxCount(Labels):
    """Counters of memring-rx."""

    BYTES = AnyRxCount.BYTES.value, AnyRxCount.BYTES.help, True
    NO_BUFFER = 1, "no buffer was free to be lent: calls", True
    NOT_LENT = 2, "the program sent or gave back a row that it had not"
    BAD_PACKET = 3, "the program sent a packet whose record is wrong (off, end, chain)"
    RECLAIMED = 4, "programs that went, and what they had was reclaimed", True


class TxCount(Labels):
    """Counters of memring-tx."""

    BYTES = AnyTxCount.BYTES.value, AnyTxCount.BYTES.help, True
    NO_PROGRAM = 1, "no program is attached (vforward.attach)"
    RING_FULL = 2, "the program holds as many packets as it may (room)"
    TOO_LONG = 3, "in more than 64 buffers, which no program is lent"


@kernel
def receive(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, words: U64, empty: U32,
    sent: U32, back: U32, full: U32, ledger: U8, spare: U32, state: U64,
) -> int:  # fmt: skip
    """What the program has sent since, up to a vector of it; what it gave back; empty buffers.

    When the program has gone: what it sent before, and when that is done, all that it had.
    """
    turn = ring.turn_of(state)
    if turn == ring.FREE:
        return 0
    if turn == ring.LIVE:
        _hear(words, state)
        _take_back(meta, count, pool, back, ledger, spare, state)
        _lend_empty(meta, count, pool, empty, ledger, spare, state)
    n = _take_sent(data, meta, idx, count, pool, sent, ledger, spare, state)
    for i in range(n):
        edge[i] = RxEdge.NEXT
    if turn == ring.ENDED and n == 0:
        ring.reclaim(pool, ledger, state, full, empty, sent, back)
        count[RxCount.RECLAIMED] += u64(1)
        _empty_event(state)  # what rang for the end would keep the worker awake
        ring.hand_over(state, ring.FREE)
    return n


@inline
def _hear(words: Any, state: Any) -> None:
    """Empty the eventfd, if the program has written it."""
    if load_acquire64(address(words) + 8 * ring.KICK):
        _empty_event(state)  # before: no program is between its write and the word, which is set
        store_release64(address(words) + 8 * ring.KICK, u64(0))
        fence()  # the program looks at the word behind its push: one of us sees the other


@inline
def _empty_event(state: Any) -> None:
    """It does not block."""
    call3(i64(state[ring.READ]), i64(state[ring.EVENT]), address(state) + 8 * ring.SINK, 8)


@inline
def _take_sent(
    data: Any, meta: Any, idx: Any, count: Any, pool: Any, sent: Any, ledger: Any, spare: Any,
    state: Any,
) -> int:  # fmt: skip
    """Packets from the program into idx. Returns how many."""
    n = 0
    total = i64(0)
    for _ in range(TRIES):  # what is refused leaves room for more, but not for ever
        got = pop(sent, spare, idx.size - n)
        for i in range(got):
            row = i64(spare[i])
            if not ring.returned(ledger, state, row):
                count[RxCount.NOT_LENT] += u64(1)
            elif _adopt(data, meta, pool, ledger, state, row, i64(state[ring.PORT])):
                idx[n] = row
                total += packet_bytes(meta, row)
                n += 1
            else:
                count[RxCount.BAD_PACKET] += u64(1)
        if got == 0 or n == idx.size:
            break
    count[RxCount.BYTES] += u64(total)
    return n


@inline
def _take_back(
    meta: Any, count: Any, pool: Any, back: Any, ledger: Any, spare: Any, state: Any
) -> None:
    got = pop(back, spare, spare.size)
    for i in range(got):
        if not ring.returned_chain(meta, pool, ledger, state, i64(spare[i])):
            count[RxCount.NOT_LENT] += u64(1)


@inline
def _lend_empty(
    meta: Any, count: Any, pool: Any, empty: Any, ledger: Any, spare: Any, state: Any
) -> None:
    """Lend what the program may still hold: many at a time, since each lot costs lines of memory; but when
    none is left in the ring however few, or one that the program keeps would stop all others.

    free is a lower bound (rings/spsc.py): a head that is seen late says that some are left, and a later
    round lends. What the program writes there says when to lend; how many it has, the ledger does.
    """
    room, free = i64(state[ring.ROOM]), free_slots(empty)
    n = min(min(free, room - i64(state[ring.LENT + ring.EMPTY])), spare.size)
    if n <= 0 or (n < min(REFILL, room // 2) and free < room):
        return
    got = take(pool, spare, n)
    if got < n:
        count[RxCount.NO_BUFFER] += u64(1)
    for i in range(got):
        begin_packet(meta, i64(spare[i]), 0, i64(state[ring.PORT]))
        ledger[i64(spare[i])] = ring.EMPTY
    state[ring.LENT + ring.EMPTY] += u64(got)
    push(empty, spare, got)


@kernel
def _adopt(data: Any, meta: Any, pool: Any, ledger: Any, state: Any, row: Any, port: Any) -> bool:
    """Make a packet of what the program has written, each field read once, all of it checked.

    row is struck off the ledger already. Returns False when it is none; its buffers are free then.
    """
    record = meta[row]
    off, end, flags, following = i64(record.off), i64(record.end), record.flags, i64(record.next)
    csum_start, csum_off = i64(record.csum_start), i64(record.csum_off)
    gso_type, gso_size, hdr_len = record.gso_type, record.gso_size, record.hdr_len
    n = end - off
    good = n >= 0 and end <= BUF_STRIDE and (off >= HEADROOM or n <= BUF_ROOM)
    begin_packet(meta, row, 0, port)
    if good and off < HEADROOM:  # a tag was put on, say: nodes want their headroom back
        for i in range(n - 1, -1, -1):
            data[row, HEADROOM + i] = data[row, off + i]
        csum_start += HEADROOM - off
        end += HEADROOM - off
        off = i64(HEADROOM)
    if good:
        record.off = off
        record.end = end
    last, buffers, rest, chained = row, 1, i64(0), flags & np.uint32(CHAINED)
    while chained:
        if not ring.returned(ledger, state, following):
            good = False
            break
        part = meta[following]
        chained, after = part.flags & np.uint32(CHAINED), i64(part.next)
        start, stop = i64(part.off), i64(part.end)
        begin_packet(meta, following, 0, port)
        good = good and start <= stop <= BUF_STRIDE and buffers < ring.BUFFERS_MAX
        if good:
            part.off = start
            part.end = stop
            rest += stop - start
        meta[last].next = following
        meta[last].flags = meta[last].flags | np.uint32(CHAINED)
        last, following = following, after
        buffers += 1
    if not good or n + rest > LONGEST:
        _free(meta, pool, row)
        return False
    record.rest = rest
    if flags & CSUM_PARTIAL and off <= csum_start and csum_start + csum_off + 2 <= end:
        record.csum_start = csum_start
        record.csum_off = csum_off
        record.flags = record.flags | np.uint32(CSUM_PARTIAL)
    if flags & GSO and gso_size:
        record.gso_type, record.gso_size, record.hdr_len = gso_type, gso_size, hdr_len
        record.flags = record.flags | np.uint32(GSO)
    return True


@inline
def _free(meta: Any, pool: Any, row: Any) -> None:
    """Give a chain that _adopt has laid out back to the pool."""
    for _ in range(meta.size):
        chained, following = meta[row].flags & CHAINED, i64(meta[row].next)
        put_one(pool, row)
        if not chained:
            return
        row = following


@kernel
def send(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, words: U64, full: U32, ledger: U8,
    spare: U32, state: U64,
) -> None:  # fmt: skip
    """Lend packets to the program; those that it may not hold as well are dropped."""
    live = ring.turn_of(state) == ring.LIVE
    n = 0
    total = i64(0)
    for i in range(idx.size):
        row = i64(idx[i])
        lent = ring.lend(meta, ledger, state, row, i64(state[ring.ROOM])) if live else 0
        if lent > 0:
            total += packet_bytes(meta, row)
            spare[n] = row
            n += 1
            edge[i] = EDGE_HELD
        else:
            reason = TxCount.TOO_LONG.value
            if lent == 0:
                reason = TxCount.RING_FULL.value if live else TxCount.NO_PROGRAM.value
            meta[row].reason = reason
            edge[i] = TxEdge.DROP
            count[reason] += u64(1)
    if n == 0:
        return
    count[TxCount.BYTES] += u64(total)
    push(full, spare, n)  # they fit: it has room for all that may be lent
    fence()  # the program looks at the ring behind its store: one of us sees the other
    if load_acquire64(address(words) + 8 * ring.ASLEEP):
        store_release64(address(words) + 8 * ring.ASLEEP, u64(0))
        one = address(state) + 8 * ring.ONE
        call3(i64(state[ring.WRITE]), i64(state[ring.PEER_EVENT]), one, 8)


RX = Node("memring-rx", receive, RxEdge, RxCount, Kind.INPUT)
TX = Node("memring-tx", send, TxEdge, TxCount)
