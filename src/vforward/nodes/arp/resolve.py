# SPDX-License-Identifier: Apache-2.0
"""arp-resolve: holds IPv4 packets whose next hop's MAC is not known; control is told of the first.

RFC 1122 sections 2.3.2.1 (not one request for each packet) and 2.3.2.2 (keep the latest packet).
neighbor-release, or a later packet, lets them go.

Reads   meta.adjacency, l3; the destination address, where the adjacency leaves the next hop to it
Writes  the table held
Drops   see nodes.neighbor.hold
"""

from __future__ import annotations

from vforward.graph.node import Node
from vforward.jit.be import load32
from vforward.jit.kernel import i64, kernel
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.neighbor import events as ev
from vforward.nodes.neighbor.hold import Count, Edge, hold
from vforward.packet import ip4
from vforward.tables.addresses import mapped
from vforward.tables.adjacency import Adjacencies
from vforward.tables.held import Held


@kernel
def arp_resolve(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    adjacencies: Adjacencies, held: Held, events: U64, pool: U64,
) -> None:  # fmt: skip
    told = False
    for i in range(idx.size):
        row = i64(idx[i])
        to = adjacencies[meta[row].adjacency]
        high, low = to.next_hop[0], to.next_hop[1]
        if high | low == 0:
            low = mapped(load32(data, row, i64(meta[row].l3) + ip4.DST))
        way, news = hold(meta, row, to.tx_port, high, low, (count, held, events, pool))
        edge[i] = way
        told |= news
    if told:
        ev.wake(events)


NODE = Node("arp-resolve", arp_resolve, Edge, Count)
