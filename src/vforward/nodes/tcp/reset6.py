# SPDX-License-Identifier: Apache-2.0
"""tcp6-reset: tell who sent a TCP segment that it was refused. The reset is built in its place.

See nodes.tcp.reset. RFC 4443 section 2.4 (e), as for ICMPv6 errors (when to say nothing).

Reads   meta.off, l3, end, rest, rx_port, flags; the packet and its link-layer header, as received
Writes  IPv6 and TCP header, without extensions and options, and the link-layer header (LINK);
        meta.off, end, rest, flags, next, treatment, tx_port (LINK), reason
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import Labels, Node
from vforward.jit.be import store16, store32
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import LINK_BROADCAST, U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.answer import become_answer
from vforward.nodes.icmp6.answer import put_link_header, sender_mac
from vforward.nodes.tcp.reset import Count, segment_refusal, write_reset
from vforward.packet import fragment6, ip6, tcp
from vforward.tables.addresses import Addresses
from vforward.tables.ports import Ports
from vforward.tables.rate_limit import allow, key_of
from vforward.tables.scope import is_ours


class Edge(Labels):
    """Ways out."""

    REPLY = 0, "the reset: wire to again"
    LINK = 1, "to or from a link-local address, with its link header: wire to interface-output"
    DROP = 2, "see the counters"


VERSION_CLASS_FLOW = 0x60000000


@kernel
def _refusal(data: Any, meta: Any, row: Any, upper: Any, ports: Any, addresses: Any) -> Any:
    """Why nothing is said about the packet; -1 if a reset is to be sent, unless there are too many.

    upper: the upper layer's protocol and where it begins, see ip6.upper.
    """
    protocol, l4 = upper
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    at = fragment6.find(data, row, l3, end)
    if at >= 0 and fragment6.is_piece(data, row, at):
        return i64(Count.RESET_ABOUT_FRAGMENT)
    if protocol != ip6.TCP:
        return i64(Count.NOT_TCP)
    reason = segment_refusal(data, row, l4, end, end - l4 + i64(meta[row].rest))
    if reason >= 0:
        return reason
    if meta[row].flags & LINK_BROADCAST or data[row, l3 + ip6.DST] == 0xFF:
        return i64(Count.RESET_ABOUT_BROADCAST)
    high, low = ip6.load_address(data, row, l3 + ip6.SRC)
    if ip6.is_zero(high, low) or ip6.is_multicast(high):
        return i64(Count.RESET_BAD_SOURCE)
    if is_ours(addresses, ports, i64(meta[row].rx_port), high, low):
        return i64(Count.RESET_BAD_SOURCE)
    return i64(-1)


@kernel
def _write(data: Any, meta: Any, row: Any, l4: Any, pool: Any) -> bool:
    """Turn the packet into the answer. Returns whether it is to stay on the link."""
    l3 = i64(meta[row].l3)
    length = i64(meta[row].end) - l4 + i64(meta[row].rest)
    to = l3 + ip6.HEADER
    pseudo = ip6.pseudo_sum(data, row, l3, tcp.HEADER, ip6.TCP)
    write_reset(data, row, l4, length, to, pseudo)
    high, low = ip6.load_address(data, row, l3 + ip6.SRC)
    upper, lower = ip6.load_address(data, row, l3 + ip6.DST)
    store32(data, row, l3 + ip6.VERSION_CLASS_FLOW, VERSION_CLASS_FLOW)
    store16(data, row, l3 + ip6.LENGTH, tcp.HEADER)
    store16(data, row, l3 + ip6.NEXT_HEADER, ip6.TCP << 8 | ip6.HOPS)
    ip6.store_address(data, row, l3 + ip6.SRC, upper, lower)
    ip6.store_address(data, row, l3 + ip6.DST, high, low)
    become_answer(meta, pool, row, l3, to + tcp.HEADER)
    return ip6.is_link_local(high) or ip6.is_link_local(upper)


@kernel
def tcp6_reset(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, addresses: Addresses, pool: U64, icmp_limits: U64,
) -> None:  # fmt: skip
    now = cycles()
    for i in range(idx.size):
        row = i64(idx[i])
        l3 = i64(meta[row].l3)
        upper = ip6.upper(data, row, l3, i64(meta[row].end))
        reason = _refusal(data, meta, row, upper, ports, addresses)
        high, low = ip6.load_address(data, row, l3 + ip6.SRC)
        if reason < 0 and not allow(icmp_limits, key_of(high, low), now):
            reason = i64(Count.RATE_LIMITED)
        if reason >= 0:
            count[reason] += u64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP
            continue
        mac = sender_mac(data, meta, row)
        edge[i] = Edge.REPLY
        if _write(data, meta, row, upper[1], pool):
            put_link_header(data, meta, row, ports, mac)
            edge[i] = Edge.LINK


NODE = Node("tcp6-reset", tcp6_reset, Edge, Count)
