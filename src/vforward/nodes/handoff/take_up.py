# SPDX-License-Identifier: Apache-2.0
"""output-take-up: packets that other workers have handed to this one, to be sent.

Reads   the worker's ring
Writes  nothing
Drops   nothing
"""

from __future__ import annotations

from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.jit.kernel import kernel, u64
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows
from vforward.rings.mpsc import pop


class Edge(Labels):
    """Ways out."""

    NEXT = 0, "wire to interface-output"


class Count(Labels):
    """No reasons to drop."""

    TAKEN_UP = 0, "packets that other workers have handed to this one", INFO


@kernel
def take_up(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, handed: U64) -> int:
    """handed: the ring."""
    n: int = pop(handed, idx, idx.size)
    for i in range(n):
        edge[i] = Edge.NEXT
    count[Count.TAKEN_UP] += u64(n)
    return n


NODE = Node("output-take-up", take_up, Edge, Count, Kind.INPUT)
