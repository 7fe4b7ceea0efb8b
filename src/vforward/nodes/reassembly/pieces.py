# SPDX-License-Identifier: Apache-2.0
"""What ip4-reassembly and ip6-reassembly share: what becomes of a piece of a datagram.

RFC 1858 and RFC 3128 (tiny first pieces, and those that overlap its header), RFC 5722 (overlaps), RFC
8200 section 4.5 (lengths), RFC 7112 (the first piece has all headers).

What has been seen already is dropped, and its datagram goes on: networks do send twice (RFC 8200 section
4.5). Whether it is the same nobody can tell, since the first has gone on; but nobody gets it either.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import arcs, emit
from vforward.graph.node import Labels
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import CHAINED, EDGE_HELD, PORTS_KNOWN
from vforward.memory.pool import put_one, put_rest
from vforward.packet import ports, tcp
from vforward.packet.flow_hash import TCP
from vforward.tables import pieces
from vforward.tables import reassembly as datagrams
from vforward.tables.held import buffers


class Edge(Labels):
    """Ways out, besides those of the arc and being held."""

    DROP = 0, "see the counters"


class Count(Labels):
    """Reasons."""

    TINY = 0, "a first piece without its ports (TCP: its header), or one that overlaps TCP's header"
    ICMP = 1, "ICMP that is no echo: it is short, and must not come in pieces"
    BAD_LENGTH = 2, "not a multiple of 8, none, beyond 65535, or not where the last piece ends"
    OVERLAP = 3, "has some bytes of a piece that came before"
    TOO_MANY_GAPS = 4, "leaves more gaps between pieces than are kept in mind"
    REFUSED = 5, "a piece of its datagram was refused before, or while it waited"
    QUEUE_FULL = 6, "as many pieces, by their buffers, wait for a first one as may"
    EXPIRED = 7, "waited, and no first piece came in time"
    EVICTED = 8, "waited, and its datagram, the oldest, had to make place"
    NO_ROOM = 9, "waited, and more packets than may be made in one round were to go on: freed here"
    COPY = 10, "all of it came before"


BEYOND_65535 = 65535
FITS = -1


@kernel
def first_ports(data: Any, row: Any, l4: Any, protocol: Any, end: Any) -> Any:
    """The ports of a first piece whose upper layer begins at l4, or ~reason.

    ICMP and ICMPv6 errors fit in the least MTU (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c)),
    and discovery is not cut (RFC 6980). So nothing is lost with pieces of what is no echo, and one
    cannot be taken for an error, or a part of it.
    """
    if protocol == TCP and l4 + tcp.HEADER > end:
        return ~i64(Count.TINY)
    found = ports.load(data, row, l4, protocol, end)
    if found != ports.NONE:
        return found
    icmp = protocol == ports.ICMP or protocol == ports.ICMP6
    return ~i64(Count.ICMP) if icmp and l4 + 8 <= end else ~i64(Count.TINY)


@kernel
def length_refusal(headers: Any, offset: Any, n: Any, more: Any) -> Any:
    """BAD_LENGTH, or FITS: of n bytes at an offset, behind headers of the whole datagram."""
    if n <= 0 or headers + offset + n > BEYOND_65535 or (more and n & 7):
        return i64(Count.BAD_LENGTH)
    return i64(FITS)


@kernel
def _refuse(meta: Any, row: Any, reason: Any, count: Any) -> Any:
    count[reason] += u64(1)
    meta[row].reason = reason
    return i64(Edge.DROP)


@kernel
def _go_on(meta: Any, row: Any, known: Any) -> Any:
    """Mark a piece with its datagram's ports; returns its edge."""
    meta[row].flags = meta[row].flags | np.uint32(PORTS_KNOWN)
    meta[row].hash = known
    return arcs.proceed(meta, row)


@kernel
def let_go(meta: Any, table: Any, at: Any, reason: Any, known: Any, others: Any) -> None:
    """Emit the packets that wait for a datagram: dropped for a reason, or on with its ports (FITS)."""
    count, pool, emitted = others
    while table[at].n_rows:
        row = datagrams.release(table, meta, at)
        if emit.room(emitted) <= 0:
            count[Count.NO_ROOM] += u64(1)
            if meta[row].flags & CHAINED:
                put_rest(pool, meta, row)
            put_one(pool, row)
        elif reason == FITS:
            emit.emit(emitted, row, _go_on(meta, row, known))
        else:
            emit.emit(emitted, row, _refuse(meta, row, reason, count))


@kernel
def _find(meta: Any, table: Any, key: Any, now: Any, others: Any) -> Any:
    """The record of a datagram whose time is not over, or 0."""
    at = datagrams.find(table, key)
    if at != 0 and datagrams.is_over(table, at, now):
        let_go(meta, table, at, i64(Count.EXPIRED), i64(0), others)
        datagrams.forget(table, at)
        at = i64(0)
    return at


@kernel
def _begin(meta: Any, table: Any, key: Any, now: Any, others: Any) -> Any:
    """A record for a datagram that has none."""
    if datagrams.is_full(table):
        first = datagrams.oldest(table)
        let_go(meta, table, first, i64(Count.EVICTED), i64(0), others)
        datagrams.forget(table, first)
    return datagrams.begin(table, key, now)


@kernel
def _fault(record: Any, start: Any, end: Any, more: Any) -> Any:
    """Why a piece does not go with those that came before, or FITS."""
    found = pieces.fits(record, start, end, more)
    if found == pieces.COPY:
        return i64(Count.COPY)
    if found == pieces.OVERLAPS:
        return i64(Count.OVERLAP)
    if found == pieces.BEYOND:
        return i64(Count.BAD_LENGTH)
    return i64(Count.TOO_MANY_GAPS) if found == pieces.TOO_MANY else i64(FITS)


@kernel
def take_up(meta: Any, row: Any, table: Any, key: Any, piece: Any, now: Any, others: Any) -> Any:
    """Decide about a piece; returns its edge.

    key: see tables.reassembly. piece: where it begins and ends, in units of eight bytes; whether more
    follow; why it is refused whatever came before, or FITS; its ports, if it is the first. others:
    the tables count, pool, emitted.
    """
    start, end, more, reason, its_ports = piece
    count = others[0]
    at = _find(meta, table, key, now, others)
    if at == 0:
        if start != 0 and reason == FITS and not datagrams.has_room(table, buffers(meta, row)):
            return _refuse(meta, row, i64(Count.QUEUE_FULL), count)
        at = _begin(meta, table, key, now, others)
    record = table[at]
    if record.flags & datagrams.REFUSED:
        return _refuse(meta, row, i64(Count.REFUSED), count)
    if reason == FITS:
        reason = _fault(record, start, end, more)
    if reason == Count.COPY:
        return _refuse(meta, row, reason, count)
    if reason != FITS:
        record.flags = datagrams.REFUSED
        let_go(meta, table, at, i64(Count.REFUSED), i64(0), others)
        return _refuse(meta, row, reason, count)
    if start != 0 and not record.flags & datagrams.PORTS:
        if not datagrams.hold(table, meta, at, row):
            return _refuse(meta, row, i64(Count.QUEUE_FULL), count)
        pieces.add(record, start, end, more)
        return i64(EDGE_HELD)
    pieces.add(record, start, end, more)
    if start == 0:
        record.ports = its_ports
        record.flags = datagrams.PORTS
    known = i64(record.ports)
    edge = _go_on(meta, row, known)
    let_go(meta, table, at, i64(FITS), known, others)
    if pieces.is_whole(record):
        datagrams.forget(table, at)
    return edge
