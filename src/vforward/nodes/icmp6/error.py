# SPDX-License-Identifier: Apache-2.0
"""icmp6-error: tell a sender why its packet was refused. The error is built around it, in place.

RFC 4443 sections 2.2 (source address), 2.4 (c: how much is quoted; e: when to say nothing; f: how
often), 3 (the messages).

Reads   meta.scratch (MTU or pointer << 16 | type << 8 | code, by the node that refused the packet),
        off, l3, end, rest, rx_port, flags; the packet and its link-layer header, as received
Writes  48 bytes in front of the IPv6 header, and the link-layer header (LINK); meta.off, l3, end,
        rest, flags, next, treatment, tx_port (LINK), reason
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import Labels, Node
from vforward.jit.be import store16, store32
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import (
    LINK_BROADCAST,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.nodes.answer import become_answer
from vforward.nodes.icmp6.answer import put_link_header, sender_mac
from vforward.packet import icmp6, ip6
from vforward.tables.addresses import Addresses
from vforward.tables.adjacency import REWRITE_MAX
from vforward.tables.ports import Ports
from vforward.tables.rate_limit import allow, key_of
from vforward.tables.scope import NOBODY, is_ours, speaker


class Edge(Labels):
    """Ways out."""

    REPLY = 0, "the error: wire through a queue to ip6-lookup"
    LINK = 1, "to or from a link-local address, with its link header: wire to interface-output"
    DROP = 2, "see the counters"


class Count(Labels):
    """Reasons."""

    ICMP_ABOUT_ICMP = 0, "it is an ICMPv6 error or redirect itself"
    ICMP_ABOUT_MULTICAST = 1, "it was sent to many, by its link or IPv6 destination"
    ICMP_BAD_SOURCE = 2, "its source address is none, a group's, or one of ours"
    ICMP_NO_ADDRESS = 3, "the port it came from has no address to speak from"
    NO_HEADROOM = 4, "no room for the error in front of it"
    RATE_LIMITED = 5, "too many errors, in all or to its sender"


ADDED = ip6.HEADER + icmp6.HEADER
QUOTE = ip6.MIN_MTU - ADDED
"""Most bytes quoted: RFC 4443 section 2.4(c)."""
VERSION_CLASS_FLOW = 0x60000000


@kernel
def _about_error(data: Any, meta: Any, row: Any) -> bool:
    """Whether a packet is an ICMPv6 error or redirect, or may be one: RFC 4443 section 2.4 (e.1, e.2)."""
    end = i64(meta[row].end)
    protocol, l4 = ip6.upper(data, row, i64(meta[row].l3), end)
    if protocol != ip6.ICMP6:
        return False
    if l4 >= end:
        return True
    kind = data[row, l4 + icmp6.TYPE]
    return kind < icmp6.INFORMATIONAL or kind == icmp6.REDIRECT


@kernel
def _reason(data: Any, meta: Any, row: Any, ports: Any, addresses: Any, mine: Any) -> Any:
    """Why nothing is said about the packet; -1 if an error is to be sent, unless there are too many."""
    l3 = i64(meta[row].l3)
    if _about_error(data, meta, row):
        return i64(Count.ICMP_ABOUT_ICMP)
    what = i64(meta[row].scratch) & 0xFFFF
    group = data[row, l3 + ip6.DST] == 0xFF or meta[row].flags & LINK_BROADCAST != 0
    if group and what != icmp6.TOO_BIG and what != icmp6.UNKNOWN_OPTION:
        return i64(Count.ICMP_ABOUT_MULTICAST)
    high, low = ip6.load_address(data, row, l3 + ip6.SRC)
    if ip6.is_zero(high, low) or ip6.is_multicast(high):
        return i64(Count.ICMP_BAD_SOURCE)
    if is_ours(addresses, ports, i64(meta[row].rx_port), high, low):
        return i64(Count.ICMP_BAD_SOURCE)
    if mine == NOBODY:
        return i64(Count.ICMP_NO_ADDRESS)
    if l3 < ADDED + REWRITE_MAX:
        return i64(Count.NO_HEADROOM)
    return i64(-1)


@kernel
def _write(data: Any, meta: Any, row: Any, mine: Any, pool: Any) -> None:
    """Write both headers in front of the packet, of which as much as fits is quoted."""
    old = i64(meta[row].l3)
    quoted = min(i64(meta[row].end) - old, QUOTE)
    scratch = i64(meta[row].scratch)
    high, low = ip6.load_address(data, row, old + ip6.SRC)
    l3, l4 = old - ADDED, old - icmp6.HEADER
    store32(data, row, l3 + ip6.VERSION_CLASS_FLOW, VERSION_CLASS_FLOW)
    store16(data, row, l3 + ip6.LENGTH, icmp6.HEADER + quoted)
    store16(data, row, l3 + ip6.NEXT_HEADER, ip6.ICMP6 << 8 | ip6.HOPS)
    ip6.store_address(data, row, l3 + ip6.SRC, mine.high, mine.low)
    ip6.store_address(data, row, l3 + ip6.DST, high, low)
    store16(data, row, l4 + icmp6.TYPE, scratch & 0xFFFF)
    store32(data, row, l4 + icmp6.REST, scratch >> 16 & 0xFFFF)
    become_answer(meta, pool, row, l3, old + quoted)
    icmp6.put_checksum(data, meta, row, l3, l4)


@kernel
def icmp6_error(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, addresses: Addresses, pool: U64, icmp_limits: U64,
) -> None:  # fmt: skip
    now = cycles()
    for i in range(idx.size):
        row = i64(idx[i])
        high, low = ip6.load_address(data, row, i64(meta[row].l3) + ip6.SRC)
        link = ip6.is_link_local(high)
        mine = speaker(addresses, ports, i64(meta[row].rx_port), link)
        reason = _reason(data, meta, row, ports, addresses, mine)
        if reason < 0 and not allow(icmp_limits, key_of(high, low), now):
            reason = i64(Count.RATE_LIMITED)
        if reason >= 0:
            count[reason] += u64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP
            continue
        mac = sender_mac(data, meta, row)
        _write(data, meta, row, addresses[mine], pool)
        edge[i] = Edge.REPLY
        if link or ip6.is_link_local(addresses[mine].high):
            put_link_header(data, meta, row, ports, mac)
            edge[i] = Edge.LINK


NODE = Node("icmp6-error", icmp6_error, Edge, Count)
