# SPDX-License-Identifier: Apache-2.0
"""queue: packets wait here for the next round. A cycle in a graph needs one.

Reads   nothing
Writes  nothing
Drops   nothing (what does not fit the scheduler drops, see graph.scheduler)
"""

from __future__ import annotations

from vforward.graph.node import Kind, Labels, Node
from vforward.jit.kernel import kernel
from vforward.layout import Counts, Data, Edges, Meta, Rows


class Edge(Labels):
    """Ways out."""

    NEXT = 0, "every packet, a round later"


@kernel
def queue(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    edge[:] = Edge.NEXT


NODE = Node("queue", queue, Edge, kind=Kind.QUEUE)
