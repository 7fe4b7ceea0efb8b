# SPDX-License-Identifier: Apache-2.0
"""ip4-fragment: cut what is longer than the MTU into pieces, each with the link header in front.

RFC 791 section 3.2 (procedure; section 3.1: which options are copied), RFC 1812 section 5.2.6.
RFC 6864 section 4.2: a router leaves the identification as it is; section 4.3: what the router itself
sent without one (ICMP errors) gets one here. Starts the arc of ip4-output features.

The packet becomes its own first piece; the others are new, all of them or none. All are emitted, packets
that are short enough too, so that those of a flow stay in order; those for which there is no room are put
off (graph.emit).

Reads   meta.off (the link header), l3, end, rest, flags, adjacency, tx_port; all of the packet
Writes  the pieces; of the first: meta.end, rest, next, length, flags and checksum of the header;
        a CSUM_PARTIAL checksum; features; scratch; reason
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import arcs, emit
from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load16, store16
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import (
    CSUM_PARTIAL,
    EDGE_HELD,
    HEADROOM,
    NIL,
    SELF_MADE,
    TRACED,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.buffer import byte_address, packet_bytes
from vforward.memory.cut import copy_payload, cut, forward, take_pieces
from vforward.packet import ip4
from vforward.packet.checksum import complete, sum_bytes
from vforward.tables.adjacency import Adjacencies


class Edge(Labels):
    """Ways out, besides those of the arc."""

    DROP = 0, "see the counters"


class Count(Labels):
    """Reasons."""

    MTU_TOO_SMALL = 0, "the MTU has no room for the header and eight bytes"
    BEYOND_65535 = 1, "a fragment that reaches beyond the longest datagram"
    NO_BUFFER = 2, "the pool was empty"
    NO_ROOM = 3, "more pieces than there is room for in a round"
    FRAGMENTS = 4, "fragments made", INFO


PROGRAM_END, NO_OPERATION, COPIED = 0, 1, 0x80
"""Option types of one byte; and the bit of those that every piece has."""
LONGEST = 65535
NONE, LATER = -1, -2


@kernel
def _copy_options(data: Any, row: Any, l3: Any, to: Any, at: Any) -> Any:
    """Copy the options that every piece has to data[to, at], padded; returns how many bytes.

    to NIL: they are only counted. An option whose length is wrong ends the list.
    """
    end = l3 + (i64(data[row, l3]) & 15) * 4
    k = l3 + ip4.HEADER
    n = i64(0)
    while k < end and data[row, k] != PROGRAM_END:
        kind = i64(data[row, k])
        size = i64(1)
        if kind != NO_OPERATION:
            size = i64(data[row, k + 1]) if k + 1 < end else i64(0)
            if size < 2 or k + size > end:
                break
        if kind & COPIED:
            if to != NIL:
                for j in range(size):
                    data[to, at + n + j] = data[row, k + j]
            n += size
        k += size
    while n & 3:
        if to != NIL:
            data[to, at + n] = PROGRAM_END
        n += 1
    return n


@kernel
def _finish(data: Any, row: Any, l3: Any, header: Any, length: Any, fragment: Any) -> None:
    """Write what pieces' headers do not have in common, and the checksum."""
    data[row, l3] = 0x40 | header >> 2
    store16(data, row, l3 + ip4.LENGTH, length)
    store16(data, row, l3 + ip4.FRAGMENT, fragment)
    store16(data, row, l3 + ip4.CHECKSUM, 0)
    store16(data, row, l3 + ip4.CHECKSUM, sum_bytes(data, row, l3, header) ^ 0xFFFF)


@kernel
def _fill(
    data: Any, meta: Any, row: Any, kept: Any, first: Any, piece: Any, features: Any, emitted: Any
) -> None:
    """Write the pieces behind the first, which has so many bytes of payload, and emit them all."""
    off, l3 = i64(meta[row].off), i64(meta[row].l3)
    link = l3 - off
    header = ip4.HEADER + kept
    word = load16(data, row, l3 + ip4.FRAGMENT)
    start = l3 + (i64(data[row, l3]) & 15) * 4
    source, at = forward(meta, row, start, first)
    offset = ((word & ip4.OFFSET_MASK) << 3) + first
    base = address(data)
    emit.emit(emitted, row, arcs.begin(meta, row, features[meta[row].tx_port]))
    while piece != NIL:
        following = i64(meta[piece].scratch)
        to = meta[piece]
        to.l3 = HEADROOM + link
        to.adjacency, to.tx_port, to.trace = meta[row].adjacency, meta[row].tx_port, meta[row].trace
        to.flags |= meta[row].flags & np.uint32(SELF_MADE | TRACED)
        copy(byte_address(base, piece, HEADROOM), byte_address(base, row, off), link + ip4.HEADER)
        _copy_options(data, row, l3, piece, HEADROOM + link + ip4.HEADER)
        n = packet_bytes(meta, piece) - link - header
        source, at = copy_payload(data, meta, source, at, piece, HEADROOM + link + header, n)
        more = word & ip4.MORE_FRAGMENTS if following == NIL else ip4.MORE_FRAGMENTS
        flags = word & ~(ip4.OFFSET_MASK | ip4.MORE_FRAGMENTS) | more
        _finish(data, piece, HEADROOM + link, header, header + n, flags | offset >> 3)
        emit.emit(emitted, piece, arcs.begin(meta, piece, features[to.tx_port]))
        offset += n
        piece = following


@kernel
def _fragment(
    data: Any, meta: Any, row: Any, mtu: Any, count: Any, features: Any, pool: Any, emitted: Any
) -> Any:
    """Cut one packet and emit its pieces. Returns why that could not be done, NONE, or LATER."""
    l3 = i64(meta[row].l3)
    link = l3 - i64(meta[row].off)
    header = (i64(data[row, l3]) & 15) * 4
    payload = packet_bytes(meta, row) - link - header
    word = load16(data, row, l3 + ip4.FRAGMENT)
    if emit.room(emitted) == 0:
        return i64(LATER)
    if payload <= mtu - header:
        emit.emit(emitted, row, arcs.begin(meta, row, features[meta[row].tx_port]))
        return i64(NONE)
    if mtu < header + 8:
        return i64(Count.MTU_TOO_SMALL)
    if ((word & ip4.OFFSET_MASK) << 3) + payload > LONGEST:
        return i64(Count.BEYOND_65535)
    first = (mtu - header) & ~7
    kept = _copy_options(data, row, l3, i64(NIL), 0)
    room = mtu - ip4.HEADER - kept
    even = room & ~7
    over = payload - first - room
    n = 1 + (max(over, 0) + even - 1) // even
    if emit.room(emitted) <= n:
        return i64(Count.NO_ROOM) if emit.never_fits(emitted, n + 1) else i64(LATER)
    headers = link + ip4.HEADER + kept
    last = payload - first - (n - 1) * even
    piece = take_pieces(meta, pool, n, headers + even, headers + last, meta[row].rx_port)
    if piece == NIL:
        return i64(Count.NO_BUFFER)
    # Only a checksum behind the header: in it, a virtual machine would have us change its length.
    if i64(meta[row].csum_start) >= l3 + header:
        complete(data, meta, row)
    meta[row].flags = meta[row].flags & ~np.uint32(CSUM_PARTIAL)
    plain = not word & (ip4.OFFSET_MASK | ip4.MORE_FRAGMENTS)
    if meta[row].flags & SELF_MADE and plain and load16(data, row, l3 + ip4.IDENT) == 0:
        store16(data, row, l3 + ip4.IDENT, i64(count[Count.FRAGMENTS]) & 0xFFFF)
    _fill(data, meta, row, kept, first, piece, features, emitted)
    cut(meta, pool, row, link + header + first)
    _finish(data, row, l3, header, header + first, word | ip4.MORE_FRAGMENTS)
    count[Count.FRAGMENTS] += u64(n + 1)
    return i64(NONE)


@kernel
def ip4_fragment(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    adjacencies: Adjacencies, features: U64, pool: U64, emitted: U64,
) -> None:  # fmt: skip
    for i in range(idx.size):
        row = i64(idx[i])
        mtu = i64(adjacencies[meta[row].adjacency].mtu)
        reason = _fragment(data, meta, row, mtu, count, features, pool, emitted)
        if reason == LATER:
            emit.put_off(emitted, idx.size - i)
            return
        edge[i] = EDGE_HELD
        if reason != NONE:
            count[reason] += u64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP


NODE = Node("ip4-fragment", ip4_fragment, Edge, Count)
