# SPDX-License-Identifier: Apache-2.0
"""ip6-rewrite: one hop less to live, and the header of the next link in front.

RFC 8200 sections 3 (hop limit) and 5 (routers do not fragment); RFC 4443 sections 3.2 (too big) and
3.3 (hop limit exceeded). Starts the arc of ip6-output features.

Reads   meta.l3, end, rest, flags, adjacency, gso_size; hop limit
Writes  hop limit; the link-layer header; meta.off, tx_port, features;
        scratch (what icmp6-error needs), for packets that leave by ERROR
Drops   nothing
"""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels, Node
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import CHAINED, EDGE_HELD, GSO, SELF_MADE, U64, Counts, Data, Edges, Meta, Rows
from vforward.packet import icmp6, ip6
from vforward.tables.adjacency import Adjacencies, put_header


class Edge(Labels):
    """Ways out, besides those of the arc."""

    ERROR = 0, "the sender is to be told: wire to icmp6-error"


class Count(Labels):
    """What happened."""

    EXPIRED = 0, "its hop limit ran out; ICMPv6 tells the sender", INFO
    TOO_BIG = 1, "longer than the MTU; ICMPv6 tells the sender", INFO


ASIDE = EDGE_HELD
"""Mark of a packet that the first pass leaves to the second. Keeps the usual packet's loop short."""


@kernel
def _longest_segment(data: Any, meta: Any, row: int) -> int:
    """Bytes of the longest IP packet that a super-frame will be cut into."""
    l3 = i64(meta[row].l3)
    protocol, l4 = ip6.upper(data, row, l3, i64(meta[row].end))
    header = i64(8)
    if protocol == ip6.TCP:
        header = i64(data[row, min(l4 + 12, data.shape[1] - 1)] >> 4) * 4
    return l4 - l3 + header + i64(meta[row].gso_size)


@kernel
def _look_closer(data: Any, meta: Any, idx: Any, edge: Any, count: Any, adjacencies: Any) -> None:
    """Decide about the packets that were set aside."""
    for i in range(idx.size):
        if edge[i] != ASIDE:
            continue
        row = i64(idx[i])
        l3 = i64(meta[row].l3)
        to = adjacencies[meta[row].adjacency]
        longest = i64(meta[row].end) + i64(meta[row].rest) - l3
        if meta[row].flags & GSO:
            longest = _longest_segment(data, meta, row)
        hops = i64(data[row, l3 + ip6.HOP_LIMIT])
        forwarded = meta[row].flags & SELF_MADE == 0
        edge[i] = Edge.ERROR
        if forwarded and hops <= 1:
            count[Count.EXPIRED] += u64(1)
            meta[row].scratch = icmp6.HOP_LIMIT_EXCEEDED
        elif longest > i64(to.mtu):
            count[Count.TOO_BIG] += u64(1)
            meta[row].scratch = i64(to.mtu) << 16 | icmp6.TOO_BIG
        else:
            if forwarded:
                data[row, l3 + ip6.HOP_LIMIT] = hops - 1
            put_header(data, meta, row, l3, to)
            edge[i] = arcs.EDGE_END


@kernel
def ip6_rewrite(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    adjacencies: Adjacencies, features: U64,
) -> None:  # fmt: skip
    aside = 0
    edge[:] = arcs.EDGE_END
    for i in range(idx.size):
        row = i64(idx[i])
        record = meta[row]
        to = adjacencies[record.adjacency]
        l3 = i64(record.l3)
        long = i64(record.end) - l3 > i64(to.mtu)
        hops = i64(data[row, l3 + ip6.HOP_LIMIT])
        if long | (hops <= 1) | (record.flags & (SELF_MADE | GSO | CHAINED) != 0):
            edge[i] = ASIDE
            aside += 1
            continue
        data[row, l3 + ip6.HOP_LIMIT] = hops - 1
        put_header(data, meta, row, l3, to)
    if aside:
        _look_closer(data, meta, idx, edge, count, adjacencies)
    if not arcs.quiet(features):
        for i in range(idx.size):
            if edge[i] == arcs.EDGE_END:
                row = i64(idx[i])
                edge[i] = arcs.begin(meta, row, features[meta[row].tx_port])


NODE = Node("ip6-rewrite", ip6_rewrite, Edge, Count)
