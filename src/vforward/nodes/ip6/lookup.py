# SPDX-License-Identifier: Apache-2.0
"""ip6-lookup: the longest prefix that matches the destination names an adjacency.

RFC 4632 section 5.1 (longest match), in the VRF of the port that the packet came by. The adjacency
says by which edge to go on; one with several next hops names them, and the flow hash picks one
(RFC 2992).

Reads   meta.l3, end, rx_port; the destination address; for several next hops what the hash covers
Writes  meta.adjacency; scratch (ICMPv6 type << 8 | code, for packets that leave by ERROR);
        hash, where there were several next hops
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load64
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import U32, Counts, Data, Edges, Meta, Rows
from vforward.packet.flow_hash import hash6
from vforward.tables import trie
from vforward.tables.adjacency import Adjacencies, Way
from vforward.tables.ports import Ports

DST = 24
"""Where the destination address begins (RFC 8200 section 3)."""

UNUSUAL = Way.DROP & Way.ERROR & Way.MULTIPATH
"""A bit that the other ways do not have."""
assert UNUSUAL > (Way.REWRITE | Way.RESOLVE | Way.LOCAL | Way.NOTIFY)


class Edge(Labels):
    """Ways out; adjacencies hold these numbers."""

    REWRITE = Way.REWRITE, "to a neighbor whose MAC is known: wire to ip6-rewrite"
    RESOLVE = Way.RESOLVE, "to a neighbor whose MAC is not known: wire to nd-resolve"
    LOCAL = Way.LOCAL, "to the router itself: wire to ip6-local"
    NOTIFY = Way.NOTIFY, "to a stale neighbor: wire to neighbor-notify"
    DROP = Way.DROP, "see the counters"
    ERROR = Way.ERROR, "no way to get there: wire to icmp6-error"


class Count(Labels):
    """Reasons."""

    BLACKHOLE = 0, "its route says: drop"
    UNREACHABLE = (
        1,
        "no route, or one that says unreachable or prohibited; ICMPv6 tells the sender",
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
            flow = hash6(data, row, i64(meta[row].l3), i64(meta[row].end))
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
def ip6_lookup(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    fib6_root: U32, fib6_nodes: U32, adjacencies: Adjacencies, buckets: U32, ports: Ports,
) -> None:  # fmt: skip
    ways = 0
    vrfs = trie.has_vrfs(fib6_nodes)
    if trie.is_large(fib6_nodes):
        # Level by level. Until the last pass edge is the list of packets that are still on the way.
        left = 0
        for i in range(idx.size):
            row = i64(idx[i])
            high = load64(data, row, i64(meta[row].l3) + DST)
            vrf = i64(ports[meta[row].rx_port].vrf) if vrfs else 0
            entry = trie.first(fib6_root, vrf, i64(high >> u64(48)))
            trie.fetch(fib6_nodes, entry)
            meta[row].adjacency = entry
            edge[left] = i
            left += entry >> 31
        at = DST + 2
        while left:
            n, left = left, 0
            for k in range(n):
                i = i64(edge[k])
                row = i64(idx[i])
                slot = i64(data[row, i64(meta[row].l3) + at])
                entry = trie.step(fib6_nodes, i64(meta[row].adjacency), slot)
                trie.fetch(fib6_nodes, entry)
                meta[row].adjacency = entry
                edge[left] = i
                left += entry >> 31
            at += 1
        for i in range(idx.size):
            row = i64(idx[i])
            found = trie.value(i64(meta[row].adjacency))
            way = _way(meta, row, found, adjacencies)
            edge[i] = way
            ways |= way
    else:
        for i in range(idx.size):
            row = i64(idx[i])
            l3 = i64(meta[row].l3)
            high, low = load64(data, row, l3 + DST), load64(data, row, l3 + DST + 8)
            vrf = i64(ports[meta[row].rx_port].vrf) if vrfs else 0
            found = trie.lookup6(fib6_root, fib6_nodes, vrf, high, low)
            way = _way(meta, row, found, adjacencies)
            edge[i] = way
            ways |= way
    if ways & UNUSUAL:
        _unusual(data, meta, idx, edge, count, adjacencies, buckets)


NODE = Node("ip6-lookup", ip6_lookup, Edge, Count)
