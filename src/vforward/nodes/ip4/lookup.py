# SPDX-License-Identifier: Apache-2.0
"""ip4-lookup: the longest prefix that matches the destination names an adjacency.

RFC 1812 section 5.2.4.3 (longest match), in the VRF of the port that the packet came by. The adjacency
says by which edge to go on; one with several next hops names them, and the flow hash picks one
(RFC 2992).

Reads   meta.l3, end, rx_port; the destination address; for several next hops what the hash covers
Writes  meta.adjacency; scratch (ICMP type << 8 | code, for packets that leave by ERROR);
        hash, where there were several next hops
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load32
from vforward.jit.intrinsics import prefetch
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import U32, Counts, Data, Edges, Meta, Rows
from vforward.packet import ip4
from vforward.packet.flow_hash import hash4
from vforward.tables import trie
from vforward.tables.adjacency import Adjacencies, Way
from vforward.tables.ports import Ports

UNUSUAL = Way.DROP & Way.ERROR & Way.MULTIPATH
"""A bit that the other ways do not have."""
assert UNUSUAL > (Way.REWRITE | Way.RESOLVE | Way.LOCAL | Way.NOTIFY)

ON, WORD = 1 << 62, (1 << 40) - 1
"""Between the passes, in scratch: a leaf; or ON, the word of an entry << 8, and the last 8 bits."""


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
def _way(meta: Any, row: Any, found: Any, adjacencies: Any) -> Any:
    """Note the adjacency that was found. Returns its way."""
    meta[row].adjacency = found
    return i64(adjacencies[found].edge)


@kernel
def _unusual(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, adjacencies: Any, buckets: Any
) -> None:
    """Look after packets that go to none or to one of several neighbors."""
    for i in range(idx.size):
        if edge[i] < Way.DROP:
            continue
        row = i64(idx[i])
        if edge[i] == Way.MULTIPATH:
            several = adjacencies[meta[row].adjacency]
            flow = hash4(data, row, i64(meta[row].l3), i64(meta[row].end))
            meta[row].hash = flow
            found = i64(buckets[i64(several.first) + (flow & i64(several.mask))])
            edge[i] = _way(meta, row, found, adjacencies)
        if edge[i] == Way.DROP:
            count[Count.BLACKHOLE] += u64(1)
            meta[row].reason = Count.BLACKHOLE
        elif edge[i] == Way.ERROR:
            count[Count.UNREACHABLE] += u64(1)
            meta[row].scratch = adjacencies[meta[row].adjacency].icmp


@kernel
def ip4_lookup(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    fib4_root: U32, fib4_nodes: U32, adjacencies: Adjacencies, buckets: U32, ports: Ports,
) -> None:  # fmt: skip
    ways = 0
    vrfs = trie.has_vrfs(fib4_nodes)
    if trie.is_large(fib4_nodes) or vrfs:  # one lookup at a time knows no VRFs
        for i in range(idx.size):
            row = i64(idx[i])
            dst = load32(data, row, i64(meta[row].l3) + ip4.DST)
            vrf = i64(ports[meta[row].rx_port].vrf) if vrfs else 0
            entry = trie.first(fib4_root, vrf, dst >> 16)
            trie.fetch(fib4_nodes, entry)
            meta[row].scratch = u64(entry) << u64(32) | u64(dst)
        for i in range(idx.size):
            row = i64(idx[i])
            begun = i64(meta[row].scratch)
            entry = begun >> 32 & 0xFFFFFFFF
            if entry & trie.CHILD:
                word = trie.place(fib4_nodes, entry, begun >> 8 & 0xFF)
                prefetch(fib4_nodes, word)
                meta[row].scratch = u64(ON | word << 8 | begun & 0xFF)
            else:
                meta[row].scratch = u64(entry)
        for i in range(idx.size):
            row = i64(idx[i])
            entry = i64(meta[row].scratch)
            if entry & ON:
                slot = entry & 0xFF
                entry = trie.at(fib4_nodes, entry >> 8 & WORD)
                if entry & trie.CHILD:
                    entry = trie.step(fib4_nodes, entry, slot)
            found = trie.value(entry)
            way = _way(meta, row, found, adjacencies)
            edge[i] = way
            ways |= way
    else:
        for i in range(idx.size):
            row = i64(idx[i])
            dst = load32(data, row, i64(meta[row].l3) + ip4.DST)
            found = trie.lookup4(fib4_root, fib4_nodes, 0, dst)
            way = _way(meta, row, found, adjacencies)
            edge[i] = way
            ways |= way
    if ways & UNUSUAL:
        _unusual(data, meta, idx, edge, count, adjacencies, buckets)


NODE = Node("ip4-lookup", ip4_lookup, Edge, Count)
