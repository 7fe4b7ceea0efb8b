# SPDX-License-Identifier: Apache-2.0
"""again: what the router makes itself waits here for the next round, then goes the way of what came in.

A queue that starts an arc of input features: so an ICMP error about a translated packet is translated
back, as one from elsewhere would be.

Reads   meta.rx_port
Writes  meta.features
Drops   nothing (what does not fit the scheduler drops, see graph.scheduler)
"""

from __future__ import annotations

from vforward.graph import arcs
from vforward.graph.node import Kind, Labels, Node
from vforward.jit.kernel import i64, kernel
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows


class Edge(Labels):
    """None but those of the arc."""


@kernel
def again(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, features: U64) -> None:
    edge[:] = arcs.EDGE_END
    if not arcs.quiet(features):
        for i in range(idx.size):
            row = i64(idx[i])
            edge[i] = arcs.begin(meta, row, features[meta[row].rx_port])


NODE = Node("again", again, Edge, kind=Kind.QUEUE)
