# SPDX-License-Identifier: Apache-2.0
"""arc-past: stands where a feature was that is no more, for packets that had it still before them.

They waited somewhere (as pieces of a datagram, in another worker's ring) while it was unloaded.

Reads   meta.features
Writes  meta.features
Drops   nothing
"""

from __future__ import annotations

from vforward.graph import arcs
from vforward.graph.node import Labels, Node
from vforward.jit.kernel import i64, kernel
from vforward.layout import Counts, Data, Edges, Meta, Rows


class Edge(Labels):
    """None but those of the arc."""


@kernel
def arc_past(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    for i in range(idx.size):
        edge[i] = arcs.proceed(meta, i64(idx[i]))


NODE = Node("arc-past", arc_past, Edge)
