# SPDX-License-Identifier: Apache-2.0
"""arp-resolve: holds packets whose next hop's MAC is not known, and tells the control plane of it.

RFC 1122 sections 2.3.2.1 (not one request for each packet: only the first of a next hop is told of)
and 2.3.2.2 (keep the latest packet). arp-release, or a later packet, lets them go.

Reads   meta.adjacency, l3; the destination address
Writes  the table held
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import Labels, Node
from vforward.jit.be import load32
from vforward.jit.kernel import inline, kernel
from vforward.layout import CHAINED, EDGE_HELD, NIL, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.pool import put_one, put_rest
from vforward.nodes.arp import events as ev
from vforward.packet import ip4
from vforward.tables import held as table
from vforward.tables.adjacency import Adjacencies
from vforward.tables.held import Held


class Edge(Labels):
    """Ways out, besides being held."""

    DROP = 0, "see the counters"


class Count(Labels):
    """Reasons."""

    QUEUE_FULL = 0, "was held, the oldest of its next hop's, and had to make place; freed here"
    TABLE_FULL = 1, "as many packets or next hops wait as may"
    EVENTS_FULL = 2, "the control plane is too slow to be told of its next hop"


@inline
def _refusal(held: Any, slot: Any, events: Any, port: Any, ip: Any) -> Any:
    """Why the first packet of a next hop cannot be held, or -1, and then control is told of it."""
    if slot == 0 or not table.has_room(held):
        return np.int64(Count.TABLE_FULL)
    if not ev.post(events, ev.RESOLVE, port, ip, np.uint64(0)):
        return np.int64(Count.EVENTS_FULL)
    return np.int64(-1)


@kernel
def arp_resolve(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    adjacencies: Adjacencies, held: Held, events: U64, pool: U64,
) -> None:  # fmt: skip
    told = 0
    for i in range(idx.size):
        row = np.int64(idx[i])
        to = adjacencies[meta[row].adjacency]
        ip = np.int64(to.next_hop[1] & np.uint64(0xFFFFFFFF))
        if ip == 0:
            ip = load32(data, row, np.int64(meta[row].l3) + ip4.DST)
        key = table.key_of(to.tx_port, ip)
        slot = table.probe(held, key)
        if slot == 0 or held[slot].n == 0:
            reason = _refusal(held, slot, events, to.tx_port, ip)
            if reason >= 0:
                count[reason] += np.uint64(1)
                meta[row].reason = reason
                edge[i] = Edge.DROP
                continue
            told += 1
        oldest = table.append(held, slot, key, row)
        edge[i] = EDGE_HELD
        if oldest != NIL:
            count[Count.QUEUE_FULL] += np.uint64(1)
            if meta[oldest].flags & CHAINED:
                put_rest(pool, meta, oldest)
            put_one(pool, oldest)
    if told:
        ev.wake(events)


NODE = Node("arp-resolve", arp_resolve, Edge, Count)
