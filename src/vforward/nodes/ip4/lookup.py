# SPDX-License-Identifier: Apache-2.0
"""ip4-lookup: the longest prefix that matches the destination names an adjacency.

RFC 1812 section 5.2.4.3 (longest match). The adjacency says by which edge to go on.

Reads   meta.l3; the destination address
Writes  meta.adjacency; scratch (ICMP type << 8 | code, for packets that leave by ERROR)
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load32
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import U32, Counts, Data, Edges, Meta, Rows
from vforward.packet import ip4
from vforward.tables import fib4
from vforward.tables.adjacency import Adjacencies, Way


class Edge(Labels):
    """Ways out; adjacencies hold these numbers."""

    REWRITE = Way.REWRITE, "to a neighbor whose MAC is known: wire to ip4-rewrite"
    RESOLVE = Way.RESOLVE, "to a neighbor whose MAC is not known: wire to arp-resolve"
    LOCAL = Way.LOCAL, "to the router itself: wire to ip4-local"
    NOTIFY = Way.NOTIFY, "to a stale neighbor: wire to neighbor-notify"
    DROP = Way.DROP, "see the counters"
    ERROR = Way.ERROR, "no way to get there: wire to icmp4-error"


class Count(Labels):
    """Reasons."""

    BLACKHOLE = 0, "its route says: drop"
    UNREACHABLE = (
        1,
        "no route, or one that says unreachable or prohibited; ICMP tells the sender",
        INFO,
    )


@inline
def _leave(meta: Any, row: Any, found: Any, count: Any, adjacencies: Any) -> Any:
    """Note the adjacency that was found. Returns its edge."""
    meta[row].adjacency = found
    way = adjacencies[found].edge
    if way >= Edge.DROP:
        if way == Edge.DROP:
            count[Count.BLACKHOLE] += u64(1)
            meta[row].reason = Count.BLACKHOLE
        else:
            count[Count.UNREACHABLE] += u64(1)
            meta[row].scratch = adjacencies[found].icmp
    return way


@kernel
def ip4_lookup(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    fib4_root: U32, fib4_blocks: U32, adjacencies: Adjacencies,
) -> None:  # fmt: skip
    if fib4.is_large(fib4_blocks):
        for i in range(idx.size):
            row = i64(idx[i])
            dst = load32(data, row, i64(meta[row].l3) + ip4.DST)
            meta[row].adjacency = fib4.begin(fib4_root, fib4_blocks, dst)
        for i in range(idx.size):
            row = i64(idx[i])
            found = fib4.finish(fib4_blocks, meta[row].adjacency)
            if found == fib4.UNFINISHED:
                dst = load32(data, row, i64(meta[row].l3) + ip4.DST)
                found = fib4.lookup(fib4_root, fib4_blocks, dst)
            edge[i] = _leave(meta, row, found, count, adjacencies)
    else:
        for i in range(idx.size):
            row = i64(idx[i])
            dst = load32(data, row, i64(meta[row].l3) + ip4.DST)
            found = fib4.lookup(fib4_root, fib4_blocks, dst)
            edge[i] = _leave(meta, row, found, count, adjacencies)


NODE = Node("ip4-lookup", ip4_lookup, Edge, Count)
