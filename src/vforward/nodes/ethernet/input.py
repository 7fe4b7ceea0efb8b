# SPDX-License-Identifier: Apache-2.0
"""ethernet-input: whose frame it is, and what it carries.

IEEE 802.3 (frame, MAC filter), IEEE 802.1Q section 9.6 (tag; VID 0 is a priority tag only). One tag
is taken off: it names a sub-interface, which then is the packet's port.

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
from vforward.tables.ports import CROSS_CONNECTED, VIDS, Ports, Vlans

ASIDE = EDGE_HELD
"""Mark of a frame that the first pass leaves to the second. Keeps the usual frame's loop short."""


class Edge(Labels):
    """Ways out."""

    IP4 = 0, "an IPv4 packet for this router: wire to ip4-input"
    ARP = 1, "an ARP message: wire to arp-input"
    CROSS_CONNECT = 2, "any frame of a cross-connected port: wire to l2-cross-connect"
    DROP = 3, "see the counters"


class Count(Labels):
    """Reasons."""

    TRUNCATED = 0, "shorter than its link-layer header"
    NOT_FOR_US = 1, "sent to another station's MAC"
    UNKNOWN_VLAN = 2, "its VLAN is not configured on the port"
    UNKNOWN_ETHERTYPE = 3, "neither IPv4 nor ARP nor one VLAN tag"
    DOWN = 4, "the port is not configured"


@kernel
def _unusual(data: Any, meta: Any, row: int, count: Any, ports: Any, vlans: Any) -> int:
    """All but an untagged IPv4 frame to the port's own MAC. Returns the edge."""
    off, length = i64(meta[row].off), i64(meta[row].end) - i64(meta[row].off)
    port = i64(meta[row].rx_port)
    reason = -1
    edge = i64(Edge.DROP)
    if length < eth.HEADER:
        reason = i64(Count.TRUNCATED)
    elif ports[port].mode == CROSS_CONNECTED:
        return i64(Edge.CROSS_CONNECT)
    elif ports[port].mode == 0:
        reason = i64(Count.DOWN)
    else:
        to = load64(data, row, off) >> u64(16)
        if to & u64(eth.GROUP_BIT):
            meta[row].flags = meta[row].flags | np.uint32(LINK_BROADCAST)
        elif to != ports[port].mac:
            reason = i64(Count.NOT_FOR_US)
        kind = load16(data, row, off + eth.TYPE)
        l3 = off + eth.HEADER
        if reason < 0 and (kind == eth.VLAN or kind == eth.QINQ):
            if length < eth.HEADER + eth.TAG:
                reason = i64(Count.TRUNCATED)
            else:
                vid = load16(data, row, l3) & eth.VID_MASK
                kind = load16(data, row, l3 + 2)
                l3 += eth.TAG
                if vid:
                    port = i64(vlans[port * VIDS + vid])
                    if port == 0:
                        reason = i64(Count.UNKNOWN_VLAN)
                    else:
                        meta[row].rx_port = port
        meta[row].l3 = l3
        if reason < 0:
            if kind == eth.IP4:
                edge = i64(Edge.IP4)
            elif kind == eth.ARP:
                edge = i64(Edge.ARP)
            else:
                reason = i64(Count.UNKNOWN_ETHERTYPE)
    if reason >= 0:
        count[reason] += u64(1)
        meta[row].reason = reason
    return edge


@kernel
def ethernet_input(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, ports: Ports, vlans: Vlans
) -> None:
    aside = 0
    edge[:] = Edge.IP4
    for i in range(idx.size):
        row = i64(idx[i])
        record = meta[row]
        off = i64(record.off)
        other = (load64(data, row, off) >> u64(16)) ^ ports[record.rx_port].filter
        odd = i64(other) | (load16(data, row, off + eth.TYPE) ^ eth.IP4)
        if (odd != 0) | (i64(record.end) < off + eth.HEADER):
            edge[i] = ASIDE
            aside += 1
            continue
        record.l3 = off + eth.HEADER
    if aside:
        for i in range(idx.size):
            if edge[i] == ASIDE:
                edge[i] = _unusual(data, meta, i64(idx[i]), count, ports, vlans)


NODE = Node("ethernet-input", ethernet_input, Edge, Count)
