# SPDX-License-Identifier: Apache-2.0
"""neighbor-notify: packets go to a stale neighbor; tells the control plane that it is used.

RFC 4861 section 7.3.2 (STALE: forward, and then find out whether it is still there). One node for
each family, under a name of its own. Once for a neighbor and call, or a few times where several mix.

Reads   meta.adjacency
Writes  nothing
Drops   nothing
"""

from __future__ import annotations

from vforward.graph.node import INFO, Labels, Node
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import NIL, U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.neighbor import events as ev
from vforward.tables.adjacency import Adjacencies


class Edge(Labels):
    """Ways out."""

    REWRITE = 0, "as if it were not stale: wire to ip4-rewrite or ip6-rewrite"


class Count(Labels):
    """No reasons to drop."""

    EVENTS_FULL = 0, "the control plane was too slow to be told; a later packet will", INFO


@kernel
def neighbor_notify(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    adjacencies: Adjacencies, events: U64,
) -> None:  # fmt: skip
    edge[:] = Edge.REWRITE
    last = i64(NIL)
    told = False
    for i in range(idx.size):
        number = i64(meta[i64(idx[i])].adjacency)
        if number == last:
            continue
        last = number
        to = adjacencies[number]
        if ev.post(events, ev.USED, 0, to.tx_port, to.next_hop[0], to.next_hop[1], u64(0)):
            told = True
        else:
            count[Count.EVENTS_FULL] += u64(1)
    if told:
        ev.wake(events)


NODE = Node("neighbor-notify", neighbor_notify, Edge, Count)
