# SPDX-License-Identifier: Apache-2.0
"""The nodes of the netmap port: frames out of a netmap port's rx ring, and into its tx ring.

Frames are copied between the region and the pool: a peer never sees a buffer of the pool. What it
writes (lengths, buffer numbers) is loaded once and checked before use; a slot that makes no sense is
skipped and counted. When the peer does not read, what is sent to it is dropped and counted.

    place   i64[8]
    0 VALE (1) or a pipe (0)    1 address of buffer 0     2 1: a wakeup was asked for
    3 the bell, a socket        4, 5 addresses of send(2) and recv(2)
    6 the port's number
    7 1: there is a server      What else is here and in krings changes only while it is 0.

    scratch u8[]  a long frame, in one piece; also what is sent to wake, and where wakeups are read to

The bell never makes us wait (MSG_DONTWAIT), whatever the peer does to it: an eventfd, which both sides
have, could be filled by the peer and made to block.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.io.linux import MSG_DONTWAIT, MSG_NOSIGNAL
from vforward.io.port import RxEdge, TxEdge, drop
from vforward.jit.atomics import load_acquire64, store_release64
from vforward.jit.intrinsics import address, call4, copy
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import EDGE_HELD, NIL, U8, U64, ArrayOf, Counts, Data, Edges, Meta, Rows
from vforward.memory.chain import LONGEST, fill, gather, length
from vforward.memory.pool import put, put_one, take_one
from vforward.packet.checksum import complete
from vforward.rings.netmap_layout import (
    BUF_SIZE,
    CUR,
    HEAD,
    MAX_FRAGS,
    NS_MOREFRAG,
    RX,
    SLOTS,
    THEIRS,
    TX,
    load,
    store,
)
from vforward.rings.netmap_pipe import WAITS, pipe_rxsync, pipe_txsync, pipe_waits
from vforward.rings.netmap_sync import (
    KRING,
    PORT_WAITS,
    WAKE,
    distance,
    following,
    is_slot,
    port_sync,
    port_waits,
)

VALE, BUFS, ASKED, BELL, SEND, RECV, NUMBER, LIVE, PLACE_WORDS = range(9)
UNREAD = 2
"""In ASKED: we were woken, and what the peer sent for it was not there yet."""
BELL_BYTES = 4096
"""Of wakeups, read at once."""

Krings = Annotated[NDArray[Any], ArrayOf(KRING)]
Place = Annotated[NDArray[np.int64], ArrayOf(np.int64)]


class RxCount(Labels):
    """Counters of netmap-rx."""

    BYTES = 0, "bytes received", INFO
    NO_BUFFER = 1, "frames left where they were, since no buffer was free: calls", INFO
    BAD = 2, "without a buffer, or longer than 65549 bytes: skipped"


class TxCount(Labels):
    """Counters of netmap-tx."""

    BYTES = 0, "bytes sent", INFO
    RING_FULL = 1, "the peer does not read, or not fast enough"
    TOO_LONG = 2, "longer than 64 buffers of netmap's"
    NO_SERVER = 3, "there is no netmap server"


@kernel
def hand_over(place: Any, live: Any) -> None:
    """Let the worker into the memory that is named here and in krings, or (0) out by the next quiet one."""
    store_release64(address(place) + 8 * LIVE, u64(live))


@inline
def _is_live(place: Any) -> bool:
    return load_acquire64(address(place) + 8 * LIVE) != u64(0)


@inline
def _wake(place: Any, scratch: Any) -> None:
    scratch[0] = 1
    call4(place[SEND], place[BELL], address(scratch), 1, MSG_DONTWAIT | MSG_NOSIGNAL)


@inline
def _sync(krings: Any, place: Any, scratch: Any, which: Any) -> None:
    if place[VALE]:
        answer = port_sync(krings, which)
    elif which == TX:
        answer = pipe_txsync(krings)
    else:
        answer = pipe_rxsync(krings)
    if answer >= 0 and answer & WAKE:
        _wake(place, scratch)


@inline
def _ask(krings: Any, place: Any, scratch: Any) -> None:
    """Ask for a wakeup, and empty what has woken us before.

    The peer takes our word back and then sends: what is not there yet is read the next time.
    """
    word = krings[RX].link + (PORT_WAITS if place[VALE] else THEIRS + WAITS)
    waits = load(word)
    if place[ASKED] == UNREAD or (place[ASKED] == 1 and not waits):
        got = call4(place[RECV], place[BELL], address(scratch), BELL_BYTES, MSG_DONTWAIT)
        place[ASKED] = 1 if got > 0 else UNREAD
    if waits:
        return
    place[ASKED] = max(place[ASKED], 1)
    if place[VALE]:
        port_waits(krings, RX, 1)
    else:
        pipe_waits(krings, RX, 1)


@inline
def _frame(k: Any, place: Any, at: Any, scratch: Any) -> Any:
    """The frame that begins at a slot: (address, bytes, slot behind it). Bytes: -1 if it is bad.

    One of several slots is gathered in scratch.
    """
    total, last = i64(0), k.last
    where = address(scratch)
    for n in range(MAX_FRAGS + 1):
        word = load_acquire64(k.ring + SLOTS + 16 * at)
        size = i64(word >> u64(32)) & 0xFFFF
        more = i64(word >> u64(48)) & NS_MOREFRAG
        at = following(k.n, at)
        source = place[BUFS] + i64(word & u64(0xFFFFFFFF)) * BUF_SIZE
        good = is_slot(k, word) and total >= 0 and total + size <= LONGEST and n < MAX_FRAGS
        if n == 0 and not more:
            return source, size if good else i64(-1), at
        if good:
            copy(where + total, source, size)
        total = total + size if good else i64(-1)
        if not more or at == last:
            break
    return where, total, at


@kernel
def receive(
    data: Data,
    meta: Meta,
    idx: Rows,
    edge: Edges,
    count: Counts,
    pool: U64,
    krings: Krings,
    place: Place,
    scratch: U8,
) -> int:
    """What the peer has sent since, up to a vector of it."""
    if not _is_live(place):
        return 0
    k = krings[RX]
    _sync(krings, place, scratch, RX)
    if k.first == k.last:
        _ask(krings, place, scratch)
        _sync(krings, place, scratch, RX)  # what came before the peer knew that we wait
    at, n = k.first, 0
    while at != k.last and n < idx.size:
        row = take_one(pool)
        if row == NIL:
            count[RxCount.NO_BUFFER] += u64(1)
            break
        where, size, behind = _frame(k, place, at, scratch)
        if size < 0:
            count[RxCount.BAD] += u64(1)
            put_one(pool, row)
        elif fill(data, meta, pool, row, where, size, place[NUMBER]):
            count[RxCount.BYTES] += u64(size)
            idx[n], edge[n] = row, RxEdge.NEXT
            n += 1
        else:
            count[RxCount.NO_BUFFER] += u64(1)
            put_one(pool, row)
            break
        at = behind
    store(k.ring + HEAD, at)
    store(k.ring + CUR, at)
    return n


@inline
def _put(
    data: Any, meta: Any, row: Any, k: Any, place: Any, at: Any, size: Any, scratch: Any
) -> Any:
    """Copy a packet into slots from at on. Returns the slot behind it."""
    source = address(scratch)
    if size > BUF_SIZE:
        gather(data, meta, row, source, size)
    done = i64(0)
    while True:
        slot = k.ring + SLOTS + 16 * at
        buf = i64(load_acquire64(slot) & u64(0xFFFFFFFF))
        part = min(size - done, BUF_SIZE)
        to = place[BUFS] + (buf if 0 <= buf < k.bufs else i64(0)) * BUF_SIZE
        if size > BUF_SIZE:
            copy(to, source + done, part)
        else:
            gather(data, meta, row, to, part)
        done += part
        store(slot + 4, part | (NS_MOREFRAG if done < size else 0) << 16)
        at = following(k.n, at)
        if done >= size:
            return at


@kernel
def send(
    data: Data,
    meta: Meta,
    idx: Rows,
    edge: Edges,
    count: Counts,
    pool: U64,
    krings: Krings,
    place: Place,
    scratch: U8,
) -> None:
    """Hand packets to the peer; those beyond its room are dropped."""
    if not _is_live(place):
        for i in range(idx.size):
            drop(meta, i64(idx[i]), edge, i, count, TxCount.NO_SERVER.value)
        return
    k = krings[TX]
    _sync(krings, place, scratch, TX)
    at = k.first
    for i in range(idx.size):
        row = i64(idx[i])
        size = length(meta, row)
        slots = max(i64(1), (size + BUF_SIZE - 1) // BUF_SIZE)
        if slots > MAX_FRAGS or slots > distance(k.n, at, k.last):
            fits = slots <= MAX_FRAGS
            reason = TxCount.RING_FULL.value if fits else TxCount.TOO_LONG.value
            drop(meta, row, edge, i, count, reason)
            continue
        complete(data, meta, row)
        at = _put(data, meta, row, k, place, at, size, scratch)
        count[TxCount.BYTES] += u64(size)
        edge[i] = EDGE_HELD
        put(pool, meta, idx[i : i + 1], 1)
    store(k.ring + CUR, at)
    store(k.ring + HEAD, at)
    _sync(krings, place, scratch, TX)


NETMAP_RX = Node("netmap-rx", receive, RxEdge, RxCount, Kind.INPUT)
NETMAP_TX = Node("netmap-tx", send, TxEdge, TxCount)
