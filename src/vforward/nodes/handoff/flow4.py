# SPDX-License-Identifier: Apache-2.0
"""ip4-hand-off: packets of flows that another worker has go to it. A feature of the arc ip4-input, before
all that keeps something of flows.

A packet belongs to the worker that its flow's hash names (tables.flow_home), or that has it as a stray. An
ICMP error is about the flow of the packet that it quotes. The pieces of a datagram meet where its addresses
and identification say, and go on from there (ip4-piece-hand-off). What is of no flow stays here.

Reads   meta.l3, end, rx_port; IPv4 header, ports, quotes of ICMP errors; seeds in the head of sessions
Writes  work; meta.features, reason
Drops   see outcome.Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import Node
from vforward.jit.be import load16, load64
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import U64, VECTOR_MAX, Counts, Data, Edges, Meta, Rows
from vforward.nodes.handoff.outcome import NO_FLOW, Count, Edge, sort
from vforward.packet import ip4
from vforward.packet import ports as l4_ports
from vforward.packet.quoted import REFUSED, quoted4
from vforward.tables import flow_home
from vforward.tables import session as t
from vforward.tables.ports import Ports

PIECE = ip4.OFFSET_MASK | ip4.MORE_FRAGMENTS


@kernel
def _of_quote(data: Any, meta: Any, row: Any, s: Any, zone: Any) -> Any:
    """The hash of the flow that an ICMP message is about, if it is an error."""
    inner, _, _, protocol, src, dst = quoted4(data, meta, row, i64(meta[row].l3))
    if inner == REFUSED:
        return u64(NO_FLOW)
    return flow_home.mixed4(s, src, dst, protocol, zone)


@inline
def _of_packet(data: Any, meta: Any, row: Any, s: Any, zone: Any) -> Any:
    """The hash of a packet's flow, of its datagram if it is a piece."""
    l3 = i64(meta[row].l3)
    protocol = i64(data[row, l3 + ip4.PROTOCOL])
    addresses = load64(data, row, l3 + ip4.SRC)
    src, dst = i64(addresses >> u64(32)) << 16, i64(addresses & u64(0xFFFFFFFF)) << 16
    if load16(data, row, l3 + ip4.FRAGMENT) & PIECE:
        ident = load16(data, row, l3 + ip4.IDENT)
        return flow_home.mixed4(s, src | ident, dst | ident, protocol, zone)
    l4 = l3 + (i64(data[row, l3]) & 15) * 4
    both = l4_ports.load(data, row, l4, protocol, i64(meta[row].end))
    if both == l4_ports.NONE:
        return _of_quote(data, meta, row, s, zone) if protocol == ip4.ICMP else u64(NO_FLOW)
    return flow_home.mixed4(s, src | both >> 16, dst | both & 0xFFFF, protocol, zone)


@kernel
def ip4_hand_off(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    sessions: U64, ports: Ports, handoff: U64, work: U64,
) -> None:  # fmt: skip
    s = t.shard(sessions)
    mixed = work[2 * VECTOR_MAX :]
    for i in range(idx.size):
        row = i64(idx[i])
        mixed[i] = _of_packet(data, meta, row, s, i64(ports[meta[row].rx_port].vrf))
    sort(meta, idx, edge, count, s, handoff, work)


NODE = Node("ip4-hand-off", ip4_hand_off, Edge, Count)
