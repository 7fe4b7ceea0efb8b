# SPDX-License-Identifier: Apache-2.0
"""ip4-rewrite: one hop less to live, and the header of the next link in front.

RFC 1812 sections 5.3.1 (TTL) and 4.2.2.9; RFC 1624 (incremental checksum); RFC 1191 (too big with DF).
Starts the arc of ip4-output features.

Reads   meta.l3, off, len, total, flags, adjacency, gso_size, hdr_len; TTL, checksum
Writes  TTL, checksum; the link-layer header; meta.off, len, total, tx_port, features;
        scratch (what icmp4-error needs), for packets that leave by ERROR
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load16, raw_load16, raw_store16, raw_store64
from vforward.jit.kernel import inline, kernel
from vforward.layout import GSO, SELF_MADE, U64, Counts, Data, Edges, Meta, Rows
from vforward.packet import ip4
from vforward.tables.adjacency import Adjacencies


class Edge(Labels):
    """Ways out, besides those of the arc."""

    DROP = 0, "see the counters"
    ERROR = 1, "the sender is to be told: wire to icmp4-error"


class Count(Labels):
    """Reasons."""

    NEEDS_FRAGMENTATION = 0, "longer than the MTU, and may be fragmented, which is not done"
    EXPIRED = 1, "its TTL ran out; ICMP tells the sender", INFO
    TOO_BIG = 2, "longer than the MTU with DF set; ICMP tells the sender", INFO


EXPIRED_ICMP = 11 << 8
TOO_BIG_ICMP = 3 << 8 | 4


@kernel
def _longest_segment(data: Any, meta: Any, row: int) -> int:
    """Bytes of the longest IP packet that a super-frame will be cut into."""
    l3 = np.int64(meta[row].l3)
    l4 = l3 + (data[row, l3] & 15) * 4
    header = 8
    if data[row, l3 + ip4.PROTOCOL] == ip4.TCP:
        header = (data[row, min(l4 + 12, data.shape[1] - 1)] >> 4) * 4
    return l4 - l3 + header + np.int64(meta[row].gso_size)


@inline
def _longest(data: Any, meta: Any, row: Any, link: Any) -> Any:
    """Bytes of the longest IP packet that this becomes on the wire."""
    if meta[row].flags & GSO:
        return _longest_segment(data, meta, row)
    return np.int64(meta[row].total) - link


@kernel
def _refuse(data: Any, meta: Any, row: int, count: Any, mtu: int, expired: bool) -> int:
    """Count and mark a packet that cannot go on. Returns its edge."""
    if expired:
        count[Count.EXPIRED] += np.uint64(1)
        meta[row].scratch = EXPIRED_ICMP
        return np.int64(Edge.ERROR)
    if load16(data, row, np.int64(meta[row].l3) + ip4.FRAGMENT) & ip4.DONT_FRAGMENT:
        count[Count.TOO_BIG] += np.uint64(1)
        meta[row].scratch = mtu << 16 | TOO_BIG_ICMP
        return np.int64(Edge.ERROR)
    count[Count.NEEDS_FRAGMENTATION] += np.uint64(1)
    meta[row].reason = Count.NEEDS_FRAGMENTATION
    return np.int64(Edge.DROP)


@kernel
def ip4_rewrite(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    adjacencies: Adjacencies, features: U64,
) -> None:  # fmt: skip
    for i in range(idx.size):
        row = np.int64(idx[i])
        record = meta[row]
        to = adjacencies[record.adjacency]
        l3, off = np.int64(record.l3), np.int64(record.off)
        link = l3 - off
        hop = np.int64(record.flags & SELF_MADE == 0)
        ttl = np.int64(data[row, l3 + ip4.TTL])
        expired = ttl <= hop
        mtu = np.int64(to.mtu)
        if expired | (_longest(data, meta, row, link) > mtu):
            edge[i] = _refuse(data, meta, row, count, mtu, expired)
            continue
        data[row, l3 + ip4.TTL] = ttl - hop
        # Read in little-endian order, the word that holds the TTL falls by 1, so the checksum rises
        # by 1; 0xFFFF folds to 0x0000, and what overflows carries around (RFC 1624 equation 3).
        checksum = raw_load16(data, row, l3 + ip4.CHECKSUM) + hop
        raw_store16(data, row, l3 + ip4.CHECKSUM, checksum + np.int64(checksum >= 0xFFFF))
        raw_store64(data, row, l3 - 24, to.rewrite[0])
        raw_store64(data, row, l3 - 16, to.rewrite[1])
        raw_store64(data, row, l3 - 8, to.rewrite[2])
        start = l3 - np.int64(to.rewrite_len)
        record.off = start
        record.len = np.int64(record.len) + off - start
        record.total = np.int64(record.total) + off - start
        record.tx_port = to.tx_port
        edge[i] = arcs.begin(meta, row, features[to.tx_port])


NODE = Node("ip4-rewrite", ip4_rewrite, Edge, Count)
