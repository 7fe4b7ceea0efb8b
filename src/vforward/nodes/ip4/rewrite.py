# SPDX-License-Identifier: Apache-2.0
"""ip4-rewrite: one hop less to live, and the header of the next link in front.

RFC 1812 sections 5.3.1 (TTL) and 4.2.2.9; RFC 1624 (incremental checksum); RFC 1191 (too big with DF).
Starts the arc of ip4-output features.

A packet that is to be fragmented leaves as if it were forwarded: ip4-fragment starts the arc then.
A super-frame is as long as its longest segment; if that is too long it is cut into segments, and these
into fragments. What is behind such a packet in the vector goes the same way, lest it overtakes it: the
last piece of a datagram is short. But not a super-frame that is short enough, which would be cut there.

Reads   meta.l3, end, rest, flags, adjacency, gso_size; TTL, checksum
Writes  TTL, checksum; the link-layer header; meta.off, tx_port, features;
        scratch (what icmp4-error needs), for packets that leave by ERROR
Drops   nothing
"""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load16, raw_load32, raw_store32
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import CHAINED, EDGE_HELD, GSO, SELF_MADE, U64, Counts, Data, Edges, Meta, Rows
from vforward.packet import ip4
from vforward.tables.adjacency import Adjacencies, put_header


class Edge(Labels):
    """Ways out, besides those of the arc."""

    ERROR = 0, "the sender is to be told: wire to icmp4-error"
    FRAGMENT = 1, "longer than the MTU, and may be fragmented, or behind one: wire to ip4-fragment"
    SEGMENT = (
        2,
        "a super-frame whose segments are, or behind one: to segment, and that to ip4-fragment",
    )


class Count(Labels):
    """Reasons."""

    EXPIRED = 0, "its TTL ran out; ICMP tells the sender", INFO
    TOO_BIG = 1, "longer than the MTU with DF set; ICMP tells the sender", INFO


ASIDE = EDGE_HELD
"""Mark of a packet that the first pass leaves to the second. Keeps the usual packet's loop short."""
EXPIRED_ICMP = 11 << 8
TOO_BIG_ICMP = 3 << 8 | 4


@kernel
def _longest_segment(data: Any, meta: Any, row: int) -> int:
    """Bytes of the longest IP packet that a super-frame will be cut into."""
    l3 = i64(meta[row].l3)
    l4 = l3 + (data[row, l3] & 15) * 4
    header = 8
    if data[row, l3 + ip4.PROTOCOL] == ip4.TCP:
        header = (data[row, min(l4 + 12, data.shape[1] - 1)] >> 4) * 4
    return l4 - l3 + header + i64(meta[row].gso_size)


@kernel
def _way(data: Any, meta: Any, row: int, count: Any, mtu: int, expired: bool) -> int:
    """Where a packet goes that cannot go on as it is: counted and marked. Returns its edge."""
    if expired:
        count[Count.EXPIRED] += u64(1)
        meta[row].scratch = EXPIRED_ICMP
        return i64(Edge.ERROR)
    if load16(data, row, i64(meta[row].l3) + ip4.FRAGMENT) & ip4.DONT_FRAGMENT:
        count[Count.TOO_BIG] += u64(1)
        meta[row].scratch = mtu << 16 | TOO_BIG_ICMP
        return i64(Edge.ERROR)
    return i64(Edge.SEGMENT if meta[row].flags & GSO else Edge.FRAGMENT)


@inline
def _decrement(word: Any) -> Any:
    """One hop less in the four bytes TTL, protocol, checksum, given and returned in raw order.

    Read in little-endian order, the 16 bits that hold the TTL fall by 1, so the checksum rises by 1;
    0xFFFF folds to 0x0000, and what overflows carries around (RFC 1624 equation 3).
    """
    return word + 0xFFFF + (i64(word >= 0xFFFE0000) << 16)


@kernel
def _look_closer(data: Any, meta: Any, idx: Any, edge: Any, count: Any, adjacencies: Any) -> None:
    """Decide about the packets that were set aside, and which way goes what is behind them."""
    behind = i64(arcs.EDGE_END)
    for i in range(idx.size):
        if edge[i] != ASIDE:
            edge[i] = behind
            continue
        row = i64(idx[i])
        to = adjacencies[meta[row].adjacency]
        longest = i64(meta[row].end) + i64(meta[row].rest) - i64(meta[row].l3)
        if meta[row].flags & GSO:
            longest = _longest_segment(data, meta, row)
        word = raw_load32(data, row, i64(meta[row].l3) + ip4.TTL)
        forwarded = meta[row].flags & SELF_MADE == 0
        expired = forwarded and word & 0xFF <= 1
        edge[i] = arcs.EDGE_END if meta[row].flags & GSO else behind
        if expired or longest > i64(to.mtu):
            edge[i] = _way(data, meta, row, count, i64(to.mtu), expired)
            if edge[i] == Edge.ERROR:
                continue
            if behind == Edge.SEGMENT:
                edge[i] = Edge.SEGMENT
            behind = i64(edge[i])
        if forwarded:
            raw_store32(data, row, i64(meta[row].l3) + ip4.TTL, _decrement(word))
        put_header(data, meta, row, i64(meta[row].l3), to)


@kernel
def ip4_rewrite(
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
        word = raw_load32(data, row, l3 + ip4.TTL)
        if long | (word & 0xFF <= 1) | (record.flags & (SELF_MADE | GSO | CHAINED) != 0):
            edge[i] = ASIDE
            aside += 1
            continue
        raw_store32(data, row, l3 + ip4.TTL, _decrement(word))
        put_header(data, meta, row, l3, to)
    if aside:
        _look_closer(data, meta, idx, edge, count, adjacencies)
    if not arcs.quiet(features):
        for i in range(idx.size):
            if edge[i] == arcs.EDGE_END:
                row = i64(idx[i])
                edge[i] = arcs.begin(meta, row, features[meta[row].tx_port])


NODE = Node("ip4-rewrite", ip4_rewrite, Edge, Count)
