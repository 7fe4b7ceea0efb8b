# SPDX-License-Identifier: Apache-2.0
"""ip6-session: packets of known sessions, either direction. A feature of the arc ip6-input.

As ip4-session, without NAT: RFC 9293, RFC 5961, RFC 4443 section 2.4 (ICMPv6 errors go with the session
that they are about; ND and other messages of no flow go on to the rules). Extension headers are passed
over as packet.ip6 says. Pieces of datagrams come from ip6-reassembly, with the ports of the first one.

In two passes over the vector the cache lines are asked for of which the third has need.

Reads   meta.l3, end, rest, rx_port; hash of pieces (PORTS_KNOWN); IPv6 header and extensions, TCP,
        UDP, ICMPv6
Writes  the table sessions; meta.treatment, features, reason; work
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import Node
from vforward.jit.be import load32
from vforward.jit.intrinsics import ctz, prefetch2
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.jit.vector import near16
from vforward.layout import PORTS_KNOWN, U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.session.outcome import Count, Edge, after_error, conclude, drop
from vforward.packet import icmp6, ip4, ip6
from vforward.packet import ports as l4_ports
from vforward.tables import session as t
from vforward.tables import session_index as index
from vforward.tables import session_tcp as machine
from vforward.tables.ports import Ports
from vforward.tables.related import related6
from vforward.tables.session_follow import follow


@kernel
def _without_ports(
    data: Any,
    meta: Any,
    row: Any,
    count: Any,
    s: Any,
    skips: Any,
    protocol: Any,
    l4: Any,
    zone: Any,
) -> Any:
    """The edge of a packet that is of no flow: an ICMPv6 message, one of ICMPv4, or cut off."""
    if protocol == ip4.ICMP:  # means nothing here
        return arcs.proceed(meta, row)
    if protocol != ip6.ICMP6:
        return drop(meta, row, count, i64(Count.SHORT))
    if l4 < i64(meta[row].end) and data[row, l4] < icmp6.INFORMATIONAL:
        said = related6(s, data, meta, row, i64(meta[row].l3), l4, zone)
        return after_error(meta, row, count, skips, said)
    return arcs.proceed(meta, row)


@inline
def _decide(data: Any, meta: Any, row: Any, count: Any, s: Any, zone: Any, skips: Any) -> Any:
    """The edge of a packet."""
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    protocol, l4 = ip6.upper(data, row, l3, end)
    piece = meta[row].flags & PORTS_KNOWN != 0
    at = i64(l4)
    if piece:
        both = i64(meta[row].hash)
        if protocol == ip6.FRAGMENT:
            protocol, at = i64(data[row, l4]), i64(-1)
    else:
        both = l4_ports.load(data, row, l4, protocol, end)
    if both == l4_ports.NONE:
        return _without_ports(data, meta, row, count, s, skips, protocol, l4, zone)
    src_high, src_low = ip6.load_address(data, row, l3 + ip6.SRC)
    dst_high, dst_low = ip6.load_address(data, row, l3 + ip6.DST)
    if (src_high == dst_high) & (src_low == dst_low) & (both >> 16 == both & 0xFFFF):
        return drop(meta, row, count, i64(Count.LAND))
    if protocol == t.TCP and at >= 0:
        reason = machine.malformed(data, meta, row, at)
        if reason:
            return drop(meta, row, count, reason)
    mine = index.mine6(s, src_high, src_low, dst_high, dst_low, both, protocol, zone)
    if mine < 0:
        return arcs.proceed(meta, row)
    verdict = follow(s, data, meta, row, at, i64(not piece), mine >> 1, mine & 1)
    return conclude(meta, row, count, s, skips, mine, verdict)


@kernel
def ip6_session(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    sessions: U64, ports: Ports, skips: U64, work: U64,
) -> None:  # fmt: skip
    s = t.shard(sessions)
    bits = i64(s.head[t.BITS])
    for i in range(idx.size):
        row = i64(idx[i])
        l3 = i64(meta[row].l3)
        src_high, src_low = ip6.load_address(data, row, l3 + ip6.SRC)
        dst_high, dst_low = ip6.load_address(data, row, l3 + ip6.DST)
        both, protocol = load32(data, row, l3 + ip6.HEADER), i64(data[row, l3 + ip6.NEXT_HEADER])
        zone = i64(ports[meta[row].rx_port].vrf)
        mixed = t.hash6(s, src_high, src_low, dst_high, dst_low, both, protocol, zone)
        prefetch2(s.entries, index.bucket(s, mixed))
        work[i] = mixed
    for i in range(idx.size):
        wanted = index.tag(work[i], bits)
        at = index.bucket(s, work[i])
        hits = near16(s.entries, at, wanted, i64(1) << bits)
        entry = i64(s.entries[at + (ctz(u64(hits)) & 15)]) ^ wanted
        prefetch2(s.hot, entry >> 1 if hits else i64(0))
    for i in range(idx.size):
        row = i64(idx[i])
        zone = i64(ports[meta[row].rx_port].vrf)
        edge[i] = _decide(data, meta, row, count, s, zone, skips)


NODE = Node("ip6-session", ip6_session, Edge, Count)
