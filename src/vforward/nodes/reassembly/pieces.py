# SPDX-License-Identifier: Apache-2.0
"""What ip4-reassembly and ip6-reassembly share: what becomes of a piece of a datagram.

RFC 1858 and RFC 3128 (tiny first pieces, and those that overlap its header), RFC 5722 (overlaps), RFC
8200 section 4.5 (lengths), RFC 7112 (the first piece has all headers).

Whether a second copy of a piece is the same as the first nobody can tell, since the first has gone: so
it counts as an overlap. Pieces that waited and may not go on are freed here, and counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import arcs, emit
from vforward.graph.node import Labels
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import CHAINED, EDGE_HELD, NIL, PORTS_KNOWN
from vforward.memory.pool import put_one, put_rest
from vforward.packet import ports, tcp
from vforward.packet.flow_hash import TCP
from vforward.tables import pieces
from vforward.tables import reassembly as datagrams


class Edge(Labels):
    """Ways out, besides those of the arc and being held."""

    DROP = 0, "see the counters"


class Count(Labels):
    """Reasons. Packets that waited are freed here."""

    TINY = 0, "a first piece without its ports (TCP: its header), or one that overlaps TCP's header"
    BAD_LENGTH = 1, "not a multiple of 8, none, beyond 65535, or not where the last piece ends"
    OVERLAP = 2, "has bytes of a piece that came before"
    TOO_MANY_GAPS = 3, "leaves more gaps between pieces than are kept in mind"
    REFUSED = 4, "a piece of its datagram was refused before, or while it waited"
    QUEUE_FULL = 5, "as many pieces, by their buffers, wait for a first one as may"
    EXPIRED = 6, "waited, and no first piece came in time"
    EVICTED = 7, "waited, and its datagram, the oldest, had to make place"
    NO_ROOM = 8, "waited, and more packets than may be made in one round were to go on"


PORTS_UNKNOWN = ports.NONE
BEYOND_65535 = 65535
FITS = -1


@kernel
def first_ports(data: Any, row: Any, l4: Any, protocol: Any, end: Any) -> Any:
    """The ports of a first piece whose upper layer begins at l4, or PORTS_UNKNOWN: it is tiny.

    An ICMP message that belongs to no flow has ports 0.
    """
    if protocol == TCP and l4 + tcp.HEADER > end:
        return i64(PORTS_UNKNOWN)
    found = ports.load(data, row, l4, protocol, end)
    if (
        found == ports.NONE
        and l4 + 8 <= end
        and (protocol == ports.ICMP or protocol == ports.ICMP6)
    ):
        return i64(0)
    return found


@kernel
def length_refusal(headers: Any, offset: Any, n: Any, more: Any) -> Any:
    """BAD_LENGTH, or FITS: of n bytes at an offset, behind headers of the whole datagram."""
    if n <= 0 or headers + offset + n > BEYOND_65535 or (more and n & 7):
        return i64(Count.BAD_LENGTH)
    return i64(FITS)


@kernel
def free_held(meta: Any, table: Any, at: Any, reason: Any, count: Any, pool: Any) -> None:
    """Free and count the packets that wait for a datagram."""
    row = datagrams.release(table, meta, at)
    while row != NIL:
        count[reason] += u64(1)
        if meta[row].flags & CHAINED:
            put_rest(pool, meta, row)
        put_one(pool, row)
        row = datagrams.release(table, meta, at)


@kernel
def _record_of(meta: Any, table: Any, key: Any, now: Any, count: Any, pool: Any) -> Any:
    """The record of a datagram, a new one if need be."""
    at = datagrams.find(table, key)
    if at != 0 and datagrams.is_over(table, at, now):
        free_held(meta, table, at, i64(Count.EXPIRED), count, pool)
        datagrams.forget(table, at)
        at = i64(0)
    if at == 0:
        if datagrams.is_full(table):
            first = datagrams.oldest(table)
            free_held(meta, table, first, i64(Count.EVICTED), count, pool)
            datagrams.forget(table, first)
        at = datagrams.begin(table, key, now)
    return at


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
def take_up(meta: Any, row: Any, table: Any, key: Any, piece: Any, now: Any, others: Any) -> Any:
    """Decide about a piece; returns its edge.

    key: see tables.reassembly. piece: where it begins and ends, in units of eight bytes; whether more
    follow; why it is refused whatever came before, or FITS; its ports, if it is the first. others:
    the tables count, pool, emitted.
    """
    start, end, more, reason, its_ports = piece
    count, pool, emitted = others
    at = _record_of(meta, table, key, now, count, pool)
    record = table[at]
    if record.flags & datagrams.REFUSED:
        return _refuse(meta, row, i64(Count.REFUSED), count)
    if reason < 0:
        found = pieces.fits(record, start, end, more)
        if found == pieces.OVERLAPS:
            reason = i64(Count.OVERLAP)
        elif found == pieces.BEYOND:
            reason = i64(Count.BAD_LENGTH)
        elif found == pieces.TOO_MANY:
            reason = i64(Count.TOO_MANY_GAPS)
    if reason >= 0:
        record.flags = datagrams.REFUSED
        free_held(meta, table, at, i64(Count.REFUSED), count, pool)
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
    while record.n_rows and emit.room(emitted) > 0:
        waited = datagrams.release(table, meta, at)
        emit.emit(emitted, waited, _go_on(meta, waited, known))
    free_held(meta, table, at, i64(Count.NO_ROOM), count, pool)
    if pieces.is_whole(record):
        datagrams.forget(table, at)
    return edge
