# SPDX-License-Identifier: Apache-2.0
"""ip6-input: is it a valid IPv6 packet that a router may take, and how far may its addresses go?

RFC 8200 section 3 (header), RFC 4291 sections 2.5.2 (::), 2.5.3 (::1), 2.5.6 (link-local) and 2.7
with erratum 3480 (multicast scopes), RFC 6890 (IPv4-mapped), RFC 4443 section 3.1 (beyond scope).
Starts the arc of ip6-input features; what stays on the link is decided here and not on the arc.
A checksum that is still to be completed must stand where packet.partial says.

Reads   meta.end, rest, l3, rx_port, flags, csum_start, csum_off; the IPv6 header and extensions
Writes  meta.end, rest (Ethernet padding is cut off), features, reason;
        scratch (ICMPv6 type << 8 | code), for packets that leave by ERROR
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels, Node
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
from vforward.packet import icmp6, ip6
from vforward.packet.partial import is_harmful
from vforward.packet.trim import trim
from vforward.tables.addresses import Addresses
from vforward.tables.ports import Ports
from vforward.tables.scope import is_ours

ASIDE = EDGE_HELD
"""Mark of a packet that the first pass leaves to the second. Keeps the usual packet's loop short."""
USUAL_FIRST, USUAL_LAST = 0x01, 0xFD
"""First bytes of the addresses that need no closer look: not ::/8, fe00::/8, ff00::/8."""
LINK_SCOPE = 2
MAPPED_LOW = 0xFFFF
"""Upper half of the low half of an IPv4-mapped address: RFC 4291 section 2.5.5.2."""


class Edge(Labels):
    """Ways out, besides those of the arc."""

    LOCAL = 0, "to this node or to all on the link: wire to ip6-local"
    ERROR = 1, "the sender is to be told: wire to icmp6-error"
    DROP = 2, "see the counters"


class Count(Labels):
    """Reasons."""

    TRUNCATED = 0, "shorter than an IPv6 header"
    BAD_VERSION = 1, "the version is not 6"
    BAD_LENGTH = 2, "the payload length is beyond the frame's end"
    MARTIAN = 3, "source or destination that must not be forwarded"
    LINK_BROADCAST = 4, "a unicast packet in a broadcast or multicast frame"
    LINK_LOCAL = 5, "to a link-local address that is not its port's"
    MULTICAST = 6, "to a group beyond the link; multicast is not routed"
    BEYOND_SCOPE = 7, "from a link-local address to another link; ICMPv6 tells the sender", INFO
    BAD_OFFLOAD = 8, "its checksum would be completed where it changes what rules and routes go by"


@kernel
def _nobodys(high: Any, low: Any) -> bool:
    """Whether an address is ::1 or IPv4-mapped, which no link carries."""
    return high == u64(0) and (low == u64(1) or low >> u64(32) == u64(MAPPED_LOW))


@kernel
def _martian(data: Any, row: Any, l3: Any) -> bool:
    """Whether no router may take up a packet with these addresses."""
    high, low = ip6.load_address(data, row, l3 + ip6.DST)
    scope = i64(data[row, l3 + ip6.DST + 1]) & 15
    group = ip6.is_multicast(high)
    if _nobodys(high, low) or ip6.is_zero(high, low) or (group and scope < LINK_SCOPE):
        return True
    high, low = ip6.load_address(data, row, l3 + ip6.SRC)
    if ip6.is_zero(high, low):  # who has no address yet speaks to groups on the link: RFC 4862
        return not (group and scope == LINK_SCOPE)
    return _nobodys(high, low) or ip6.is_multicast(high)


@kernel
def _reason(data: Any, meta: Any, row: int) -> int:
    """Why the packet is refused whatever its scope; -1 if it is not."""
    l3 = i64(meta[row].l3)
    here = i64(meta[row].end) - l3
    if here < ip6.HEADER:
        return i64(Count.TRUNCATED)
    if data[row, l3] >> 4 != 6:
        return i64(Count.BAD_VERSION)
    if load16(data, row, l3 + ip6.LENGTH) > here + i64(meta[row].rest) - ip6.HEADER:
        return i64(Count.BAD_LENGTH)
    if _martian(data, row, l3):
        return i64(Count.MARTIAN)
    if meta[row].flags & LINK_BROADCAST and data[row, l3 + ip6.DST] != 0xFF:
        return i64(Count.LINK_BROADCAST)
    if meta[row].flags & CSUM_PARTIAL:
        protocol, l4 = ip6.upper(data, row, l3, i64(meta[row].end))
        if is_harmful(meta, row, l4, protocol, False):
            return i64(Count.BAD_OFFLOAD)
    return -1


@kernel
def _way(data: Any, meta: Any, row: int, count: Any, ports: Any, addresses: Any) -> int:
    """The edge of a packet that is not refused, by the scope of its addresses."""
    l3, port = i64(meta[row].l3), i64(meta[row].rx_port)
    high, low = ip6.load_address(data, row, l3 + ip6.DST)
    reason = i64(Count.MULTICAST)
    if ip6.is_multicast(high):
        if data[row, l3 + ip6.DST + 1] & 15 == LINK_SCOPE:
            return i64(Edge.LOCAL)
    elif ip6.is_link_local(high):
        if is_ours(addresses, ports, port, high, low):
            return i64(Edge.LOCAL)
        reason = i64(Count.LINK_LOCAL)
    else:
        source, _ = ip6.load_address(data, row, l3 + ip6.SRC)
        if not ip6.is_link_local(source) or is_ours(addresses, ports, port, high, low):
            return i64(arcs.EDGE_END)
        count[Count.BEYOND_SCOPE] += u64(1)
        meta[row].scratch = icmp6.BEYOND_SCOPE
        return i64(Edge.ERROR)
    count[reason] += u64(1)
    meta[row].reason = reason
    return i64(Edge.DROP)


@kernel
def _look_closer(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, ports: Any, addresses: Any
) -> None:
    """Decide about the packets that were set aside."""
    for i in range(idx.size):
        if edge[i] != ASIDE:
            continue
        row = i64(idx[i])
        reason = _reason(data, meta, row)
        if reason >= 0:
            count[reason] += u64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP
            continue
        trim(meta, row, ip6.HEADER + load16(data, row, i64(meta[row].l3) + ip6.LENGTH))
        edge[i] = _way(data, meta, row, count, ports, addresses)


@kernel
def ip6_input(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, addresses: Addresses, features: U64,
) -> None:  # fmt: skip
    aside = 0
    edge[:] = arcs.EDGE_END
    for i in range(idx.size):
        row = i64(idx[i])
        record = meta[row]
        l3 = i64(record.l3)
        length = ip6.HEADER + (load32(data, row, l3 + ip6.LENGTH) >> 16)
        src, dst = i64(data[row, l3 + ip6.SRC]), i64(data[row, l3 + ip6.DST])
        outside = (  # one sign bit for five comparisons
            (i64(record.end) - l3 - length)
            | (src - USUAL_FIRST) | (USUAL_LAST - src)
            | (dst - USUAL_FIRST) | (USUAL_LAST - dst)
        ) < 0  # fmt: skip
        odd = (i64(data[row, l3]) >> 4) ^ 6 | i64(
            record.flags & (LINK_BROADCAST | CHAINED | CSUM_PARTIAL)
        )
        if outside | (odd != 0):
            edge[i] = ASIDE
            aside += 1
            continue
        record.end = l3 + length
    if aside:
        _look_closer(data, meta, idx, edge, count, ports, addresses)
    if not arcs.quiet(features):
        for i in range(idx.size):
            if edge[i] == arcs.EDGE_END:
                row = i64(idx[i])
                edge[i] = arcs.begin(meta, row, features[meta[row].rx_port])


NODE = Node("ip6-input", ip6_input, Edge, Count)
