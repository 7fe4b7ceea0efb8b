# SPDX-License-Identifier: Apache-2.0
"""tcp4-reset: tell who sent a TCP segment that it was refused. The reset is built in its place.

See nodes.tcp.reset. RFC 1812 section 4.3.2.7, as for ICMP errors (when to say nothing); RFC 6864 section
4.1 (it may not be fragmented, so needs no identification).

Reads   meta.l3, end, rest, rx_port, flags; the packet as it was received
Writes  IPv4 and TCP header, without options; meta.off, end, rest, flags, next, treatment, reason
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, load32, store16, store32
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import LINK_BROADCAST, U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.answer import become_answer
from vforward.nodes.tcp.reset import Count, segment_refusal, write_reset
from vforward.packet import ip4, tcp
from vforward.packet.checksum import fold
from vforward.tables.addresses import Addresses, mapped
from vforward.tables.ports import Ports
from vforward.tables.rate_limit import allow, key_of
from vforward.tables.scope import is_ours


class Edge(Labels):
    """Ways out."""

    REPLY = 0, "the reset: wire to again"
    DROP = 1, "see the counters"


VERSION_IHL_TOS = 0x4500
TTL_PROTOCOL = 64 << 8 | ip4.TCP
LENGTH = ip4.HEADER + tcp.HEADER


@kernel
def _refusal(data: Any, meta: Any, row: Any, ports: Any, addresses: Any) -> Any:
    """Why nothing is said about the packet; -1 if a reset is to be sent, unless there are too many."""
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    if data[row, l3 + ip4.PROTOCOL] != ip4.TCP:
        return i64(Count.NOT_TCP)
    if load16(data, row, l3 + ip4.FRAGMENT) & (ip4.OFFSET_MASK | ip4.MORE_FRAGMENTS):
        return i64(Count.RESET_ABOUT_FRAGMENT)
    l4 = l3 + (i64(data[row, l3]) & 15) * 4
    reason = segment_refusal(data, row, l4, end, end - l4 + i64(meta[row].rest))
    if reason >= 0:
        return reason
    if meta[row].flags & LINK_BROADCAST or load32(data, row, l3 + ip4.DST) >= ip4.GROUPS:
        return i64(Count.RESET_ABOUT_BROADCAST)
    src = load32(data, row, l3 + ip4.SRC)
    if src == 0 or src >= ip4.GROUPS:
        return i64(Count.RESET_BAD_SOURCE)
    if is_ours(addresses, ports, i64(meta[row].rx_port), u64(0), mapped(src)):
        return i64(Count.RESET_BAD_SOURCE)
    return i64(-1)


@kernel
def _write(data: Any, meta: Any, row: Any, pool: Any) -> None:
    """Turn the packet into the answer."""
    l3 = i64(meta[row].l3)
    l4 = l3 + (i64(data[row, l3]) & 15) * 4
    length = i64(meta[row].end) - l4 + i64(meta[row].rest)
    src, dst = load32(data, row, l3 + ip4.SRC), load32(data, row, l3 + ip4.DST)
    to = l3 + ip4.HEADER
    write_reset(data, row, l4, length, to, src + dst + ip4.TCP + tcp.HEADER)
    header_sum = VERSION_IHL_TOS + LENGTH + ip4.DONT_FRAGMENT + TTL_PROTOCOL + src + dst
    store16(data, row, l3, VERSION_IHL_TOS)
    store16(data, row, l3 + ip4.LENGTH, LENGTH)
    store32(data, row, l3 + ip4.IDENT, ip4.DONT_FRAGMENT)
    store16(data, row, l3 + ip4.TTL, TTL_PROTOCOL)
    store16(data, row, l3 + ip4.CHECKSUM, fold(header_sum) ^ 0xFFFF)
    store32(data, row, l3 + ip4.SRC, dst)
    store32(data, row, l3 + ip4.DST, src)
    become_answer(meta, pool, row, l3, to + tcp.HEADER)


@kernel
def tcp4_reset(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, addresses: Addresses, pool: U64, icmp_limits: U64,
) -> None:  # fmt: skip
    now = cycles()
    for i in range(idx.size):
        row = i64(idx[i])
        reason = _refusal(data, meta, row, ports, addresses)
        if reason < 0:
            src = load32(data, row, i64(meta[row].l3) + ip4.SRC)
            if not allow(icmp_limits, key_of(0, mapped(src)), now):
                reason = i64(Count.RATE_LIMITED)
        if reason >= 0:
            count[reason] += u64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP
            continue
        _write(data, meta, row, pool)
        edge[i] = Edge.REPLY


NODE = Node("tcp4-reset", tcp4_reset, Edge, Count)
