# SPDX-License-Identifier: Apache-2.0
"""bvi-output: what the router sends by the routed interface of a bridge domain enters the bridge.

A queue, since what the bridge floods may come back to the router: a cycle. The frame is then one
that came in by the BVI, so nothing is learned of it and it does not come back.

Reads   meta.tx_port (the BVI)
Writes  meta.rx_port
Drops   nothing (what does not fit the scheduler drops, see graph.scheduler)
"""

from __future__ import annotations

from vforward.graph.node import Kind, Labels, Node
from vforward.jit.kernel import i64, kernel
from vforward.layout import Counts, Data, Edges, Meta, Rows


class Edge(Labels):
    """Ways out."""

    NEXT = 0, "every frame, a round later: wire to l2-forward"


@kernel
def bvi_output(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    for i in range(idx.size):
        row = i64(idx[i])
        meta[row].rx_port = meta[row].tx_port
        edge[i] = Edge.NEXT


NODE = Node("bvi-output", bvi_output, Edge, kind=Kind.QUEUE)
