# SPDX-License-Identifier: Apache-2.0
"""flow-take-up: packets of this worker's flows that others have handed to it go on along their arc.

One for each family, under a name of its own; it starts the arc as ip4-input does, but where the packet was.

Reads   the worker's ring; meta.features
Writes  meta.features
Drops   nothing
"""

from __future__ import annotations

from vforward.graph import arcs
from vforward.graph.node import Kind, Labels, Node
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.handoff.take_up import Count
from vforward.rings.mpsc import pop


class Edge(Labels):
    """None but those of the arc."""


@kernel
def flow_take_up(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, handed: U64) -> int:
    """handed: the ring."""
    n: int = pop(handed, idx, idx.size)
    for i in range(n):
        edge[i] = arcs.proceed(meta, i64(idx[i]))
    count[Count.TAKEN_UP] += u64(n)
    return n


NODE = Node("flow-take-up", flow_take_up, Edge, Count, Kind.INPUT)
