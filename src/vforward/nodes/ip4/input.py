# SPDX-License-Identifier: Apache-2.0
"""ip4-input: is it a valid IPv4 packet that a router may take?

RFC 1812 sections 5.2.2 (length, checksum, version, IHL, total length), 5.3.7 (martian sources;
destinations are the routes' to refuse: 0/8 and 127/8 are blackholes in every VRF) and 5.3.4 (link-layer
broadcasts). Starts the arc of ip4-input features.

What came in a frame to many and never leaves its link, 224.0.0/24 and 255.255.255.255, goes to the
port's host if it has one, from 0.0.0.0 too (RFC 2131 section 4.1); it takes no part in the features.
A checksum that is still to be completed must stand where packet.partial says.

Reads   meta.end, rest, l3, rx_port, flags, csum_start, csum_off; the IPv4 header
Writes  meta.end, rest (Ethernet padding is cut off), features, reason
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import arcs
from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, load32
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import (
    CHAINED,
    CSUM_PARTIAL,
    EDGE_HELD,
    LINK_BROADCAST,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)  # fmt: skip
from vforward.packet import ip4
from vforward.packet.partial import is_harmful
from vforward.packet.trim import trim
from vforward.tables.ports import Ports

ASIDE = EDGE_HELD
"""Mark of a packet that the first pass leaves to the second. Keeps the usual packet's loop short."""


class Edge(Labels):
    """Ways out, besides those of the arc."""

    DROP = 0, "see the counters"
    LOCAL = 1, "for all on the link, and the port has a host: wire to ip4-local"


class Count(Labels):
    """Reasons."""

    TRUNCATED = 0, "shorter than an IPv4 header"
    BAD_VERSION = 1, "the version is not 4"
    BAD_IHL = 2, "the header length is below 20"
    BAD_LENGTH = 3, "the total length is below the header's, or beyond the frame's end"
    BAD_CHECKSUM = 4, "the header checksum is wrong"
    MARTIAN = 5, "source that must not be forwarded"
    LINK_BROADCAST = 6, "a unicast packet in a broadcast or multicast frame"
    BAD_OFFLOAD = 7, "its checksum would be completed where it changes what rules and routes go by"


MARTIAN = np.zeros(256, np.uint8)
"""By a source's first byte: 1 where none can come from (0/8, 127/8, 224/3)."""
MARTIAN[[0, 127]] = 1
MARTIAN[224:] = 1


@kernel
def _options_sum(data: Any, row: int, l3: int, n: int) -> int:
    total = 0
    for k in range(0, n, 2):
        total += load16(data, row, l3 + k)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@kernel
def _malformed(data: Any, meta: Any, row: int) -> int:
    """Why the packet is refused, in the order of RFC 1812 section 5.2.2; -1 if it is not."""
    l3 = i64(meta[row].l3)
    here = i64(meta[row].end) - l3
    there = i64(meta[row].end) - l3 + i64(meta[row].rest)
    if here < ip4.HEADER:
        return i64(Count.TRUNCATED)
    version, ihl = i64(data[row, l3]) >> 4, (i64(data[row, l3]) & 15) * 4
    length = load32(data, row, l3) & 0xFFFF
    if version != 4:
        return i64(Count.BAD_VERSION)
    if ihl < ip4.HEADER:
        return i64(Count.BAD_IHL)
    if length < ihl or length > there or ihl > here:
        return i64(Count.BAD_LENGTH)
    if _options_sum(data, row, l3, ihl) != 0xFFFF:
        return i64(Count.BAD_CHECKSUM)
    piece = load16(data, row, l3 + ip4.FRAGMENT) & ip4.OFFSET_MASK != 0
    if is_harmful(meta, row, l3 + ihl, i64(data[row, l3 + ip4.PROTOCOL]), piece):
        return i64(Count.BAD_OFFLOAD)
    return -1


@kernel
def _misaddressed(data: Any, meta: Any, row: int) -> int:
    """Why the packet is refused, by its addresses; -1 if it is not."""
    l3 = i64(meta[row].l3)
    dst = load32(data, row, l3 + ip4.DST)
    if MARTIAN[data[row, l3 + ip4.SRC]]:
        return i64(Count.MARTIAN)
    group = dst >= ip4.GROUPS and (dst < 0xF0000000 or dst == ip4.BROADCAST)
    if meta[row].flags & LINK_BROADCAST and not group:
        return i64(Count.LINK_BROADCAST)
    return -1


@kernel
def _is_for_host(data: Any, meta: Any, row: int, ports: Any) -> bool:
    """Whether a packet to all on the link is for the host of its port."""
    l3 = i64(meta[row].l3)
    dst = load32(data, row, l3 + ip4.DST)
    if ports[meta[row].rx_port].host == 0 or not meta[row].flags & LINK_BROADCAST:
        return False
    if dst >> 8 != ip4.LINK_GROUPS and dst != ip4.BROADCAST:
        return False
    return MARTIAN[data[row, l3 + ip4.SRC]] == 0 or load32(data, row, l3 + ip4.SRC) == 0


@kernel
def _look_closer(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, features: Any, ports: Any
) -> None:
    """Decide about the packets that were set aside."""
    for i in range(idx.size):
        if edge[i] != ASIDE:
            continue
        row = i64(idx[i])
        local = False
        reason = _malformed(data, meta, row)
        if reason < 0:
            local = _is_for_host(data, meta, row, ports)
            if not local:
                reason = _misaddressed(data, meta, row)
        if reason >= 0:
            count[reason] += u64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP
            continue
        trim(meta, row, load16(data, row, i64(meta[row].l3) + ip4.LENGTH))
        if local:
            edge[i] = Edge.LOCAL
        else:
            edge[i] = arcs.begin(meta, row, features[meta[row].rx_port])


@kernel
def ip4_input(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, features: U64, ports: Ports
) -> None:
    aside = 0
    quiet = arcs.quiet(features)
    for i in range(idx.size):
        row = i64(idx[i])
        record = meta[row]
        l3 = i64(record.l3)
        length = load32(data, row, l3) & 0xFFFF
        a, b, c = ip4.header_words(data, row, l3)
        here = i64(record.end) - l3
        odd = (
            (a & u64(0xFF)) ^ u64(0x45)
            | u64(record.flags & (LINK_BROADCAST | CHAINED | CSUM_PARTIAL))
            | u64(MARTIAN[i64(np.uint8(b >> u64(32)))])
        )
        outside = ((length - ip4.HEADER) | (here - length)) < 0  # one sign bit for two comparisons
        if (odd != u64(0)) | outside | (not ip4.checksum_right(a, b, c)):
            edge[i] = ASIDE
            aside += 1
            continue
        record.end = l3 + length
        edge[i] = arcs.EDGE_END if quiet else arcs.begin(meta, row, features[record.rx_port])
    if aside:
        _look_closer(data, meta, idx, edge, count, features, ports)


NODE = Node("ip4-input", ip4_input, Edge, Count)
