# SPDX-License-Identifier: Apache-2.0
"""ip6-hand-off: as ip4-hand-off, for IPv6. A feature of the arc ip6-input.

Extension headers are passed over as packet.ip6 says. ND and other messages of no flow stay here.

Reads   meta.l3, end, rx_port; IPv6 header and extensions, ports, quotes of ICMPv6 errors; seeds in the
        head of sessions
Writes  work; meta.features, reason
Drops   see outcome.Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import Node
from vforward.jit.be import load32
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import U64, VECTOR_MAX, Counts, Data, Edges, Meta, Rows
from vforward.nodes.handoff.outcome import NO_FLOW, Count, Edge, sort
from vforward.packet import fragment6, icmp6, ip6
from vforward.packet import ports as l4_ports
from vforward.packet.quoted import REFUSED, quoted6
from vforward.tables import flow_home
from vforward.tables import session as t
from vforward.tables.ports import Ports


@kernel
def _of_quote(data: Any, meta: Any, row: Any, s: Any, l4: Any, zone: Any) -> Any:
    """The hash of the flow that an ICMPv6 message is about, if it is an error."""
    if l4 >= i64(meta[row].end) or data[row, l4] >= icmp6.INFORMATIONAL:
        return u64(NO_FLOW)
    inner, _, _, protocol, src_high, src_low, dst_high, dst_low, both = quoted6(data, meta, row, l4)
    if inner == REFUSED:
        return u64(NO_FLOW)
    return flow_home.mixed6(s, src_high, src_low, dst_high, dst_low, both, protocol, zone)


@inline
def _of_packet(data: Any, meta: Any, row: Any, s: Any, zone: Any) -> Any:
    """The hash of a packet's flow, of its datagram if it is a piece."""
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    src_high, src_low = ip6.load_address(data, row, l3 + ip6.SRC)
    dst_high, dst_low = ip6.load_address(data, row, l3 + ip6.DST)
    at = fragment6.find(data, row, l3, end)
    if at >= 0 and fragment6.is_piece(data, row, at):
        ident = load32(data, row, at + fragment6.IDENT)
        return flow_home.mixed6(s, src_high, src_low, dst_high, dst_low, ident, ip6.FRAGMENT, zone)
    protocol, l4 = ip6.upper(data, row, l3, end)
    both = l4_ports.load(data, row, l4, protocol, end)
    if both == l4_ports.NONE:
        if protocol == ip6.ICMP6:
            return _of_quote(data, meta, row, s, l4, zone)
        return u64(NO_FLOW)
    return flow_home.mixed6(s, src_high, src_low, dst_high, dst_low, both, protocol, zone)


@kernel
def ip6_hand_off(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    sessions: U64, ports: Ports, handoff: U64, work: U64,
) -> None:  # fmt: skip
    s = t.shard(sessions)
    mixed = work[2 * VECTOR_MAX :]
    for i in range(idx.size):
        row = i64(idx[i])
        mixed[i] = _of_packet(data, meta, row, s, i64(ports[meta[row].rx_port].vrf))
    sort(meta, idx, edge, count, s, handoff, work)


NODE = Node("ip6-hand-off", ip6_hand_off, Edge, Count)
