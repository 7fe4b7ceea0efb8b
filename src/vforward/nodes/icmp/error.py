# SPDX-License-Identifier: Apache-2.0
"""icmp4-error: tell a sender why its packet was refused. The error is built around it, in place.

RFC 792, RFC 1191 section 4 (MTU), RFC 1812 sections 4.3.2.3 (how much is quoted), 4.3.2.4 (source
address), 4.3.2.5 (precedence), 4.3.2.7 (when to say nothing) and 4.3.2.8 (how often to say it).

Reads   meta.scratch (MTU << 16 | type << 8 | code, by the node that refused the packet), l3, end,
        rest, rx_port, flags; the packet as it was received, or as NAT has changed it; sessions
Writes  28 bytes in front of the IPv4 header; meta.off, l3, end, rest, flags, next, treatment, reason
Drops   see Count

The source of a packet that NAT has changed (TRANSLATED) may be one of ours: the error goes there, and
on its way, which begins at again, it is translated back to who sent the packet (tables.related). Errors
are limited by that one: all who are masqueraded have one source, and none is to use up the others' share.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, load32, store16, store32
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import kernel
from vforward.layout import (
    LINK_BROADCAST,
    TRANSLATED,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.nodes.answer import become_answer
from vforward.packet import icmp4, ip4
from vforward.packet.checksum import fold, sum_bytes
from vforward.tables.addresses import Addresses, mapped
from vforward.tables.adjacency import REWRITE_MAX
from vforward.tables.ports import Ports
from vforward.tables.rate_limit import allow, key_of
from vforward.tables.related import sender4
from vforward.tables.scope import is_ours
from vforward.tables.session import shard


class Edge(Labels):
    """Ways out."""

    REPLY = 0, "the error: wire through a queue to ip4-lookup"
    DROP = 1, "see the counters"


class Count(Labels):
    """Reasons."""

    ICMP_ABOUT_ICMP = 0, "it is an ICMP error itself, or of an unknown type"
    ICMP_ABOUT_FRAGMENT = 1, "a fragment other than the first"
    ICMP_ABOUT_BROADCAST = 2, "it was sent to many, by its link or IP destination"
    ICMP_BAD_SOURCE = 3, "its source address is none, or one of ours in the VRF and not by NAT"
    ICMP_NO_ADDRESS = 4, "the port it came from has no address to speak from"
    NO_HEADROOM = 5, "no room for the error in front of it"
    RATE_LIMITED = 6, "too many errors of late, in all or to this address"


ADDED = ip4.HEADER + icmp4.HEADER
QUOTE = 576 - ADDED
"""Most bytes quoted: RFC 1812 section 4.3.2.3 wants the whole error to have 576."""
VERSION_IHL_TOS = 0x45C0
"""No options; precedence 6, internetwork control."""
TTL_PROTOCOL = 64 << 8 | ip4.ICMP


@kernel
def _reason(data: Any, meta: Any, row: Any, ports: Any, addresses: Any, sender: Any) -> Any:
    """Why nothing is said about the packet; -1 if an error is to be sent, unless there are too many."""
    l3 = np.int64(meta[row].l3)
    if data[row, l3 + ip4.PROTOCOL] == ip4.ICMP:
        l4 = l3 + (np.int64(data[row, l3]) & 15) * 4
        if l4 >= np.int64(meta[row].end):
            return np.int64(Count.ICMP_ABOUT_ICMP)
        kind = np.int64(data[row, l4])
        if kind > 31 or not icmp4.QUERIES >> kind & 1:
            return np.int64(Count.ICMP_ABOUT_ICMP)
    if load16(data, row, l3 + ip4.FRAGMENT) & ip4.OFFSET_MASK:
        return np.int64(Count.ICMP_ABOUT_FRAGMENT)
    dst = load32(data, row, l3 + ip4.DST)
    if meta[row].flags & LINK_BROADCAST or dst >> 28 == 0xE or dst == 0xFFFFFFFF:
        return np.int64(Count.ICMP_ABOUT_BROADCAST)
    src = load32(data, row, l3 + ip4.SRC)
    port = np.int64(meta[row].rx_port)
    ours = is_ours(addresses, ports, port, np.uint64(0), mapped(src))
    if src == 0 or (ours and not meta[row].flags & TRANSLATED):
        return np.int64(Count.ICMP_BAD_SOURCE)
    if sender == 0:
        return np.int64(Count.ICMP_NO_ADDRESS)
    if l3 < ADDED + REWRITE_MAX:
        return np.int64(Count.NO_HEADROOM)
    return -1


@kernel
def _told(data: Any, meta: Any, row: Any, ports: Any, sessions: Any) -> Any:
    """Who is told in the end."""
    l3 = np.int64(meta[row].l3)
    if not meta[row].flags & TRANSLATED:
        return load32(data, row, l3 + ip4.SRC)
    zone = np.int64(ports[meta[row].rx_port].vrf)
    return sender4(shard(sessions), data, meta, row, l3, zone)


@kernel
def _write(data: Any, meta: Any, row: Any, quoted: Any, sender: Any) -> None:
    """Write both headers in front of the packet, which quoted bytes follow."""
    l3 = np.int64(meta[row].l3)
    src = load32(data, row, l3 + ip4.SRC)
    what = np.int64(meta[row].scratch) & 0xFFFF
    mtu = np.int64(meta[row].scratch) >> 16 & 0xFFFF
    message_sum = fold(what + mtu + sum_bytes(data, row, l3, quoted))
    at = l3 - ADDED
    length = ADDED + quoted
    header_sum = VERSION_IHL_TOS + length + TTL_PROTOCOL + fold(sender) + fold(src)
    store16(data, row, at, VERSION_IHL_TOS)
    store16(data, row, at + ip4.LENGTH, length)
    store32(data, row, at + ip4.IDENT, 0)
    store16(data, row, at + ip4.TTL, TTL_PROTOCOL)
    store16(data, row, at + ip4.CHECKSUM, fold(header_sum) ^ 0xFFFF)
    store32(data, row, at + ip4.SRC, sender)
    store32(data, row, at + ip4.DST, src)
    store16(data, row, at + ip4.HEADER + icmp4.TYPE, what)
    store16(data, row, at + ip4.HEADER + icmp4.CHECKSUM, message_sum ^ 0xFFFF)
    store32(data, row, at + ip4.HEADER + icmp4.REST, mtu)


@kernel
def icmp4_error(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, addresses: Addresses, sessions: U64, pool: U64, icmp_limits: U64,
) -> None:  # fmt: skip
    now = cycles()
    for i in range(idx.size):
        row: Any = np.int64(idx[i])
        sender = np.int64(ports[meta[row].rx_port].address)
        reason = _reason(data, meta, row, ports, addresses, sender)
        if reason < 0:
            told = _told(data, meta, row, ports, sessions)
            if not allow(icmp_limits, key_of(0, mapped(told)), now):
                reason = np.int64(Count.RATE_LIMITED)
        if reason >= 0:
            count[reason] += np.uint64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP
            continue
        l3 = np.int64(meta[row].l3)
        quoted: Any = min(np.int64(meta[row].end) - l3, QUOTE)
        _write(data, meta, row, quoted, sender)
        become_answer(meta, pool, row, l3 - ADDED, l3 + quoted)
        edge[i] = Edge.REPLY


NODE = Node("icmp4-error", icmp4_error, Edge, Count)
