# SPDX-License-Identifier: Apache-2.0
"""bvi-input: what comes to the routed interface of a bridge domain, as ethernet-input for a port.

IEEE 802.3 (MAC filter); IEEE 802.1Q section 9.6 (a tag with VID 0 says a priority, and no VLAN).

Reads   meta.off, end, rx_port (the BVI); the Ethernet header
Writes  meta.l3, flags (LINK_BROADCAST), reason
Drops   see Count
"""

from __future__ import annotations

import numpy as np

from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, load64
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import LINK_BROADCAST, Counts, Data, Edges, Meta, Rows
from vforward.packet import ethernet as eth
from vforward.tables.ports import Ports


class Edge(Labels):
    """Ways out."""

    IP4 = 0, "an IPv4 packet for this router: wire to ip4-input"
    IP6 = 1, "an IPv6 packet for this router: wire to ip6-input"
    ARP = 2, "an ARP message: wire to arp-input"
    DROP = 3, "see the counters"


class Count(Labels):
    """Reasons."""

    TRUNCATED = 0, "shorter than its link-layer header"
    NOT_FOR_US = 1, "sent to another station's MAC"
    UNKNOWN_ETHERTYPE = 2, "neither IPv4 nor IPv6 nor ARP"


@kernel
def bvi_input(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, ports: Ports) -> None:
    for i in range(idx.size):
        row = i64(idx[i])
        off, length = i64(meta[row].off), i64(meta[row].end) - i64(meta[row].off)
        to = load64(data, row, off) >> u64(16)
        kind = load16(data, row, off + eth.TYPE)
        header = i64(eth.HEADER)
        if (
            (kind == eth.VLAN or kind == eth.QINQ)
            and length >= eth.HEADER + eth.TAG
            and load16(data, row, off + eth.HEADER) & eth.VID_MASK == 0
        ):
            kind = load16(data, row, off + eth.HEADER + 2)
            header += eth.TAG
        meta[row].l3 = off + header
        is_group = to & u64(eth.GROUP_BIT) != u64(0)
        edge[i] = Edge.DROP
        reason = i64(-1)
        if length < header:
            reason = i64(Count.TRUNCATED)
        elif not is_group and to != ports[meta[row].rx_port].mac:
            reason = i64(Count.NOT_FOR_US)
        elif kind == eth.IP4:
            edge[i] = Edge.IP4
        elif kind == eth.IP6:
            edge[i] = Edge.IP6
        elif kind == eth.ARP:
            edge[i] = Edge.ARP
        else:
            reason = i64(Count.UNKNOWN_ETHERTYPE)
        if reason >= 0:
            count[reason] += u64(1)
            meta[row].reason = reason
        elif is_group:
            meta[row].flags = meta[row].flags | np.uint32(LINK_BROADCAST)


NODE = Node("bvi-input", bvi_input, Edge, Count)
