# SPDX-License-Identifier: Apache-2.0
"""ethernet-input: whose frame it is, and what it carries.

IEEE 802.3 (frame, MAC filter), IEEE 802.1Q-2018 section 9.6 (tag; VID 0 is a priority tag only). One
or two tags name a sub-interface, which then is the packet's port; of a bridged or cross-connected
port, frames that no sub-interface claims stay with it.

Reads   meta.off, end, rx_port; the Ethernet header
Writes  meta.l3, rx_port (of a tagged frame), flags (LINK_BROADCAST)
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, load64
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, LINK_BROADCAST, Counts, Data, Edges, Meta, Rows
from vforward.packet import ethernet as eth
from vforward.tables.ports import (
    BRIDGED,
    CROSS_CONNECTED,
    HOST,
    ROUTED,
    STACKED,
    TAGGED,
    VIDS,
    Ports,
    Vlans,
)

ASIDE = EDGE_HELD
"""Mark of a frame that the first pass leaves to the second. Keeps the usual frame's loop short."""


class Edge(Labels):
    """Ways out."""

    IP4 = 0, "an IPv4 packet for this router: wire to ip4-input"
    IP6 = 1, "an IPv6 packet for this router: wire to ip6-input"
    ARP = 2, "an ARP message: wire to arp-input"
    CROSS_CONNECT = 3, "any frame of a cross-connected port: wire to l2-cross-connect"
    BRIDGE = 4, "any frame of a bridged port: wire to l2-forward"
    HOST = 5, "any frame of the host's: wire to host-input"
    DROP = 6, "see the counters"


class Count(Labels):
    """Reasons."""

    TRUNCATED = 0, "shorter than its link-layer header"
    NOT_FOR_US = 1, "sent to another station's MAC"
    UNKNOWN_VLAN = 2, "its VLAN is not configured on the port"
    UNKNOWN_ETHERTYPE = 3, "neither IPv4 nor IPv6 nor ARP"
    DOWN = 4, "the port is not configured"


@kernel
def _claimant(data: Any, row: Any, off: Any, length: Any, port: Any, tables: Any) -> Any:
    """The sub-interface that claims a tagged frame, or 0."""
    ports, vlans, inner_vlans = tables
    if length < eth.HEADER + eth.TAG or not ports[port].flags & TAGGED:
        return i64(0)
    tpid = load16(data, row, off + eth.TYPE)
    found = i64(vlans[port * VIDS + (load16(data, row, off + eth.HEADER) & eth.VID_MASK)])
    if found & STACKED:
        block = (found & ~STACKED) * VIDS
        found = i64(0)
        inner = load16(data, row, off + eth.HEADER + 2)
        if length >= eth.HEADER + 2 * eth.TAG and (inner == eth.VLAN or inner == eth.QINQ):
            vid = load16(data, row, off + eth.HEADER + eth.TAG) & eth.VID_MASK
            found = i64(inner_vlans[block + vid])
        if found == 0:
            found = i64(inner_vlans[block])
    return found if ports[found].tpid == tpid else i64(0)


@kernel
def _unusual(data: Any, meta: Any, row: int, count: Any, tables: Any) -> int:
    """All but an untagged IP frame to the port's own MAC. Returns the edge."""
    ports = tables[0]
    off, length = i64(meta[row].off), i64(meta[row].end) - i64(meta[row].off)
    port = i64(meta[row].rx_port)
    reason = -1
    unclaimed = False
    edge = i64(Edge.DROP)
    l3 = off + eth.HEADER
    kind = load16(data, row, off + eth.TYPE) if length >= eth.HEADER else 0
    if kind == eth.VLAN or kind == eth.QINQ:
        cut = length < eth.HEADER + eth.TAG
        vid = 0 if cut else load16(data, row, l3) & eth.VID_MASK
        if vid:
            claimant = _claimant(data, row, off, length, port, tables)
            unclaimed = claimant == 0
            port = claimant if claimant else port
            meta[row].rx_port = port
        if not (cut or unclaimed):  # a priority tag, or a sub-interface's
            l3 += eth.TAG * (i64(ports[port].tags) if vid else 1)
            kind = load16(data, row, l3 - 2)
    mode = ports[port].mode
    if length < eth.HEADER:
        reason = i64(Count.TRUNCATED)
    elif mode == CROSS_CONNECTED:
        return i64(Edge.CROSS_CONNECT)
    elif mode == BRIDGED:
        return i64(Edge.BRIDGE)
    elif mode == HOST:
        return i64(Edge.HOST)
    elif mode != ROUTED:
        reason = i64(Count.DOWN)
    else:
        to = load64(data, row, off) >> u64(16)
        if to & u64(eth.GROUP_BIT):
            meta[row].flags = meta[row].flags | np.uint32(LINK_BROADCAST)
        elif to != ports[port].mac:
            reason = i64(Count.NOT_FOR_US)
        meta[row].l3 = l3
        if reason >= 0:
            pass
        elif unclaimed:
            reason = i64(Count.UNKNOWN_VLAN)
        elif kind == eth.IP4:
            edge = i64(Edge.IP4)
        elif kind == eth.IP6:
            edge = i64(Edge.IP6)
        elif kind == eth.ARP:
            edge = i64(Edge.ARP)
        elif length < l3 - off or (
            l3 == off + eth.HEADER and (kind == eth.VLAN or kind == eth.QINQ)
        ):
            reason = i64(Count.TRUNCATED)
        else:
            reason = i64(Count.UNKNOWN_ETHERTYPE)
    if reason >= 0:
        count[reason] += u64(1)
        meta[row].reason = reason
    return edge


@kernel
def ethernet_input(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, vlans: Vlans, inner_vlans: Vlans,
) -> None:  # fmt: skip
    aside = 0
    for i in range(idx.size):
        row = i64(idx[i])
        record = meta[row]
        off = i64(record.off)
        port = ports[record.rx_port]
        other = (load64(data, row, off) >> u64(16)) ^ port.filter
        kind = load16(data, row, off + eth.TYPE)
        odd = i64(other) | (kind ^ eth.IP4) * (kind ^ eth.IP6)
        edge[i] = i64(kind == eth.IP6)  # Edge.IP6 is 1, Edge.IP4 is 0
        if (odd != 0) | (i64(record.end) < off + eth.HEADER):
            edge[i] = ASIDE
            if (port.mode == BRIDGED) & (port.flags == 0):
                edge[i] = Edge.BRIDGE
            else:
                aside += 1
            continue
        record.l3 = off + eth.HEADER
    if aside:
        tables = (ports, vlans, inner_vlans)
        for i in range(idx.size):
            if edge[i] == ASIDE:
                edge[i] = _unusual(data, meta, i64(idx[i]), count, tables)


NODE = Node("ethernet-input", ethernet_input, Edge, Count)
