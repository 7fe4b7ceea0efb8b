# SPDX-License-Identifier: Apache-2.0
"""segment: cut super-frames up for who cannot send them whole.

A segment has the super-frame's headers and gso_size bytes of its payload, the last one the rest.
RFC 9293 section 3.1 (TCP), RFC 3168 section 6.1.2 (CWR is for once), RFC 768, RFC 791, RFC 8200; what
is left open there is done as Linux does it: sequence numbers go on; FIN and PSH are the last segment's,
CWR the first's; in IPv4 the identification counts up, DF or not. All checksums are whole afterwards.

Before a port's send node, and between ip4-rewrite and ip4-fragment. From the first super-frame of a
vector on all packets are emitted, so that those of a flow stay in order; those for which there is no
room are put off (graph.emit), and so none is dropped for that.

    whole   u64[1]   types of super-frames that pass as they are: bit n is virtio's gso_type n

Reads   meta: off, end, rest, flags, gso_type, gso_size; all of a super-frame
Writes  segments; of the first: meta.end, rest, next, flags; lengths, numbers, flags, checksums
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import emit
from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load16, load32, store16, store32
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import (
    BUF_ROOM,
    CHAINED,
    CSUM_PARTIAL,
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
from vforward.memory.buffer import byte_address, packet_bytes
from vforward.memory.cut import copy_payload, cut, forward, take_pieces
from vforward.packet import ethernet as eth
from vforward.packet import ip4, ip6, tcp
from vforward.packet.checksum import fold, sum_bytes, sum_to_end
from vforward.packet.partial import TCP_CHECKSUM, UDP_CHECKSUM

TCP4, TCP6, UDP_L4, ECN = 1, 4, 5, 0x80
"""Types of super-frames: linux/virtio_net.h."""
ECN_BIT = 7
"""In ``whole``: super-frames with ECN too."""
UDP_HEADER, UDP_LENGTH = 8, 4
NONE, LATER = -1, -2
LEAST_MSS = 48
"""Linux's TCP_MIN_SND_MSS (net/tcp.h). With less, one short frame would take all the room."""
UDP_SEGMENTS = 128
"""Linux's UDP_MAX_SEGMENTS (linux/udp.h)."""


class Edge(Labels):
    """Ways out."""

    NEXT = 0, "as short as may be: wire to the port's send node"
    DROP = 1, "see the counters"


class Count(Labels):
    """Reasons."""

    BAD_HEADERS = 0, "super-frames whose headers are not those that their type says"
    NO_BUFFER = 1, "the pool was empty"
    NO_ROOM = 2, "more segments than there is room for in a round"
    SEGMENTS = 3, "segments made", INFO


@inline
def _is_whole(meta: Any, row: Any, whole: Any) -> Any:
    """Whether a packet may pass as it is. No port sends a super-frame whose checksum is complete."""
    if not meta[row].flags & GSO:
        return True
    if not meta[row].flags & CSUM_PARTIAL:
        return False
    kind = i64(meta[row].gso_type)
    needed = i64(1) << (kind & 31) | (kind & ECN) >> ECN_BIT << ECN_BIT
    return i64(whole[0]) & needed == needed


@kernel
def _upper(data: Any, row: Any, l3: Any, end: Any) -> Any:
    """The protocol of an IPv6 packet and where its header begins, behind what each segment may repeat:
    no fragment's header, nor one that authenticates the rest.
    """
    protocol, at = i64(data[row, l3 + ip6.NEXT_HEADER]), l3 + ip6.HEADER
    for _ in range(ip6.HEADERS_MAX):
        repeated = protocol in (ip6.HOP_BY_HOP, ip6.ROUTING, ip6.DESTINATION)
        if not repeated or at + 8 > end:
            break
        size = (i64(data[row, at + 1]) + 1) * 8
        if at + size > end:
            break
        protocol = i64(data[row, at])
        at += size
    return protocol, at


@kernel
def _transport(data: Any, meta: Any, row: Any, l3: Any, kind: Any) -> Any:
    """Where the transport header and the payload begin, (NONE, NONE) where they are not as kind says.

    l3: of a header whose EtherType fits.
    """
    end = i64(meta[row].end)
    wanted = i64(ip4.UDP) if kind == UDP_L4 else i64(ip4.TCP)
    bad = i64(NONE), i64(NONE)
    if l3 + ip4.HEADER > end:
        return bad
    if i64(data[row, l3]) >> 4 == 4:
        l4 = l3 + (i64(data[row, l3]) & 15) * 4
        protocol = i64(data[row, l3 + ip4.PROTOCOL])
        pieces = load16(data, row, l3 + ip4.FRAGMENT) & (ip4.OFFSET_MASK | ip4.MORE_FRAGMENTS)
        if l4 < l3 + ip4.HEADER or pieces:
            return bad
    elif i64(data[row, l3]) >> 4 == 6 and l3 + ip6.HEADER <= end:
        protocol, l4 = _upper(data, row, l3, end)
    else:
        return bad
    header = i64(UDP_HEADER)
    if protocol == ip4.TCP:
        if l4 + tcp.HEADER > end:
            return bad
        header = (i64(data[row, l4 + tcp.OFFSET]) >> 4) * 4
        if header < tcp.HEADER:
            return bad
    if protocol != wanted or l4 + header > end:
        return bad
    return l4, l4 + header


@inline
def _is_sound(meta: Any, row: Any, kind: Any, headers: Any) -> Any:
    """Whether the headers fit a buffer behind its headroom, and the segments are not absurdly many."""
    size, payload = i64(meta[row].gso_size), packet_bytes(meta, row) - headers
    few = payload <= UDP_SEGMENTS * size if kind == UDP_L4 else size >= LEAST_MSS
    return (headers <= BUF_ROOM) & few


@kernel
def _headers(data: Any, meta: Any, row: Any) -> Any:
    """Where a super-frame's network header, transport header and payload begin; NONE first if bad."""
    kind = i64(meta[row].gso_type) & ~ECN
    l3, ether = eth.behind_tags(data, row, i64(meta[row].off), i64(meta[row].end))
    fits = ether == eth.IP4 and (kind in (TCP4, UDP_L4))
    fits |= ether == eth.IP6 and (kind in (TCP6, UDP_L4))
    if l3 == NONE or not fits or meta[row].gso_size == 0:
        return i64(NONE), i64(NONE), i64(NONE)
    version = 4 if ether == eth.IP4 else 6
    if l3 >= i64(meta[row].end) or i64(data[row, l3]) >> 4 != version:
        return i64(NONE), i64(NONE), i64(NONE)
    l4, payload = _transport(data, meta, row, l3, kind)
    fits = l4 != NONE and _is_sound(meta, row, kind, payload - i64(meta[row].off))
    return l3 if fits else i64(NONE), l4, payload


@kernel
def _pseudo_sum(data: Any, meta: Any, row: Any, l3: Any, l4: Any, protocol: Any) -> Any:
    """The sum of the pseudo-header without its length; NONE where there is no checksum at all.

    One that is still to be completed is believed: its destination may be a routing header's.
    """
    field = l4 + (TCP_CHECKSUM if protocol == ip4.TCP else UDP_CHECKSUM)
    if meta[row].flags & CSUM_PARTIAL:
        length = packet_bytes(meta, row) - (l4 - i64(meta[row].off))
        return fold(i64(load16(data, row, field)) + ((length & 0xFFFF) ^ 0xFFFF))
    if i64(data[row, l3]) >> 4 == 6:
        return fold(sum_bytes(data, row, l3 + ip6.SRC, 32) + protocol)
    if protocol == ip4.UDP and load16(data, row, field) == 0:
        return i64(NONE)
    return fold(sum_bytes(data, row, l3 + ip4.SRC, 8) + protocol)


@inline
def _count_up(data: Any, meta: Any, row: Any, l3: Any, l4: Any, k: Any) -> Any:
    """Make the network header segment k's. Returns how many bytes are behind it."""
    behind = packet_bytes(meta, row) - (l4 - i64(meta[row].off))
    if i64(data[row, l3]) >> 4 == 6:
        store16(data, row, l3 + ip6.LENGTH, l4 - l3 - ip6.HEADER + behind)
        return behind
    store16(data, row, l3 + ip4.LENGTH, l4 - l3 + behind)
    store16(data, row, l3 + ip4.IDENT, (load16(data, row, l3 + ip4.IDENT) + k) & 0xFFFF)
    store16(data, row, l3 + ip4.CHECKSUM, 0)
    store16(data, row, l3 + ip4.CHECKSUM, sum_bytes(data, row, l3, l4 - l3) ^ 0xFFFF)
    return behind


@inline
def _go_on(data: Any, row: Any, l4: Any, skipped: Any, last: Any) -> None:
    """Make the TCP header that of a segment before which so many bytes went."""
    number = (load32(data, row, l4 + tcp.SEQUENCE) + skipped) & 0xFFFFFFFF
    store32(data, row, l4 + tcp.SEQUENCE, number)
    gone = (0 if last else tcp.FIN | tcp.PSH) | (tcp.CWR if skipped else 0)
    data[row, l4 + tcp.FLAGS] = i64(data[row, l4 + tcp.FLAGS]) & ~gone & 0xFF


@kernel
def _finish(
    data: Any, meta: Any, row: Any, at: Any, protocol: Any, pseudo: Any, which: Any
) -> None:  # fmt: skip
    """Make the headers a segment's. at: (l3, l4). which: (its number, gso_size, whether it is the last)."""
    l3, l4 = at
    k, size, last = which
    behind = _count_up(data, meta, row, l3, l4, k)
    field = l4 + UDP_CHECKSUM
    if protocol == ip4.TCP:
        field = l4 + TCP_CHECKSUM
        _go_on(data, row, l4, k * size, last)
    else:
        store16(data, row, l4 + UDP_LENGTH, behind)
    if pseudo == NONE:
        return
    store16(data, row, field, 0)
    checksum = fold(sum_to_end(data, meta, row, l4) + pseudo + behind) ^ 0xFFFF
    store16(data, row, field, 0xFFFF if checksum == 0 and protocol == ip4.UDP else checksum)


@inline
def _inherit(meta: Any, row: Any, piece: Any, shift: Any) -> None:
    """What nodes know of the super-frame they know of its segment. shift: of its place in the buffer."""
    to, of = meta[piece], meta[row]
    to.l3, to.l4 = i64(of.l3) + shift, i64(of.l4) + shift
    to.flags |= of.flags & ~np.uint32(CHAINED | CSUM_PARTIAL | GSO)
    to.tx_port, to.adjacency, to.hash, to.trace = of.tx_port, of.adjacency, of.hash, of.trace
    to.treatment = of.treatment


@kernel
def _segment(data: Any, meta: Any, row: Any, count: Any, pool: Any, emitted: Any) -> Any:
    """Cut a super-frame up and emit its segments. Returns why that could not be done, NONE, or LATER."""
    l3, l4, payload = _headers(data, meta, row)
    if l3 == NONE:
        return i64(Count.BAD_HEADERS)
    off, size = i64(meta[row].off), i64(meta[row].gso_size)
    headers = payload - off
    left = packet_bytes(meta, row) - headers
    n = max(i64(1), (left + size - 1) // size)
    if emit.room(emitted) < n:
        return i64(Count.NO_ROOM) if emit.never_fits(emitted, n) else i64(LATER)
    final = headers + left - (n - 1) * size
    piece = take_pieces(meta, pool, n - 1, headers + size, final, meta[row].rx_port)
    if piece == NIL and n > 1:
        return i64(Count.NO_BUFFER)
    protocol = ip4.UDP if i64(meta[row].gso_type) & ~ECN == UDP_L4 else ip4.TCP
    pseudo = _pseudo_sum(data, meta, row, l3, l4, protocol)
    emit.emit(emitted, row, i64(Edge.NEXT))
    shift = HEADROOM - off
    source, at = forward(meta, row, payload, size) if n > 1 else (row, payload)
    for k in range(1, n):
        following = i64(meta[piece].scratch)
        _inherit(meta, row, piece, shift)
        copy(
            byte_address(address(data), piece, HEADROOM),
            byte_address(address(data), row, off),
            headers,
        )
        bytes_here = packet_bytes(meta, piece) - headers
        source, at = copy_payload(data, meta, source, at, piece, payload + shift, bytes_here)
        place = l3 + shift, l4 + shift
        _finish(data, meta, piece, place, protocol, pseudo, (k, size, k == n - 1))
        emit.emit(emitted, piece, i64(Edge.NEXT))
        piece = following
    if n > 1:
        cut(meta, pool, row, headers + size)
    meta[row].flags = meta[row].flags & ~np.uint32(CSUM_PARTIAL | GSO)
    _finish(data, meta, row, (l3, l4), protocol, pseudo, (0, size, n == 1))
    count[Count.SEGMENTS] += u64(n)
    return i64(NONE)


@kernel
def segment(
    data: Data,
    meta: Meta,
    idx: Rows,
    edge: Edges,
    count: Counts,
    whole: U64,
    pool: U64,
    emitted: U64,
) -> None:
    first = idx.size
    for i in range(idx.size):
        if not _is_whole(meta, i64(idx[i]), whole):
            first = i
            break
        edge[i] = Edge.NEXT
    for i in range(first, idx.size):
        row = i64(idx[i])
        reason = i64(NONE)
        if not _is_whole(meta, row, whole):
            reason = _segment(data, meta, row, count, pool, emitted)
        elif emit.room(emitted) > 0:
            emit.emit(emitted, row, i64(Edge.NEXT))
        else:
            reason = i64(LATER)
        if reason == LATER:
            emit.put_off(emitted, idx.size - i)
            return
        edge[i] = EDGE_HELD
        if reason != NONE:
            count[reason] += u64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP


NODE = Node("segment", segment, Edge, Count)
