# SPDX-License-Identifier: Apache-2.0
"""drop: the end of packets that a node refused, and counted with a reason. Frees their buffers.

Reads   meta.next, flags
Writes  nothing
Drops   everything
"""

from __future__ import annotations

from vforward.graph.node import Labels, Node
from vforward.jit.kernel import kernel
from vforward.layout import EDGE_HELD, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.pool import put


class Edge(Labels):
    """None: nothing goes on from here."""


@kernel
def drop(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64) -> None:
    put(pool, meta, idx, idx.size)
    for i in range(idx.size):
        edge[i] = EDGE_HELD


NODE = Node("drop", drop, Edge)
