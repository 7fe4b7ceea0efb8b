# SPDX-License-Identifier: Apache-2.0
"""ip4-input: is it a valid IPv4 packet that a router may take?

RFC 1812 sections 5.2.2 (length, checksum, version, IHL, total length), 5.3.7 (martian addresses)
and 5.3.4 (link-layer broadcasts). Starts the arc of ip4-input features.

Reads   meta.off, len, total, l3, rx_port, flags; the IPv4 header
Writes  meta.len, total (Ethernet padding is cut off), features, reason
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import arcs
from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, load32
from vforward.jit.kernel import inline, kernel
from vforward.layout import (
    CHAINED, LINK_BROADCAST, U64, Counts, Data, Edges, Meta, Rows,
)  # fmt: skip
from vforward.packet import ip4


class Edge(Labels):
    """Ways out, besides those of the arc."""

    DROP = 0, "see the counters"


class Count(Labels):
    """Reasons."""

    TRUNCATED = 0, "shorter than an IPv4 header"
    BAD_VERSION = 1, "the version is not 4"
    BAD_IHL = 2, "the header length is below 20"
    BAD_LENGTH = 3, "the total length is below the header's, or beyond the frame's end"
    BAD_CHECKSUM = 4, "the header checksum is wrong"
    MARTIAN = 5, "source or destination that must not be forwarded"
    LINK_BROADCAST = 6, "a unicast packet in a broadcast or multicast frame"


@inline
def _martian(src: Any, dst: Any) -> Any:
    """Source 0/8, 127/8, 224/3; destination 0/8, 127/8. On u32 values held in i64."""
    s, d = src >> 24, dst >> 24
    return (s == 0) | (s == 127) | (s >= 224) | (d == 0) | (d == 127)


@kernel
def _options_sum(data: Any, row: int, l3: int, n: int) -> int:
    total = 0
    for k in range(0, n, 2):
        total += load16(data, row, l3 + k)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@kernel
def _reason(data: Any, meta: Any, row: int) -> int:
    """Why the packet is refused, in the order of RFC 1812; -1 if it is not."""
    l3, flags = np.int64(meta[row].l3), meta[row].flags
    here = np.int64(meta[row].len) - (l3 - np.int64(meta[row].off))
    there = np.int64(meta[row].total) - (l3 - np.int64(meta[row].off))
    if here < ip4.HEADER:
        return np.int64(Count.TRUNCATED)
    version, ihl = data[row, l3] >> 4, (data[row, l3] & 15) * 4
    length = load16(data, row, l3 + ip4.LENGTH)
    if version != 4:
        return np.int64(Count.BAD_VERSION)
    if ihl < ip4.HEADER:
        return np.int64(Count.BAD_IHL)
    if length < ihl or length > there or ihl > here:
        return np.int64(Count.BAD_LENGTH)
    if _options_sum(data, row, l3, ihl) != 0xFFFF:
        return np.int64(Count.BAD_CHECKSUM)
    dst = load32(data, row, l3 + ip4.DST)
    if _martian(load32(data, row, l3 + ip4.SRC), dst):
        return np.int64(Count.MARTIAN)
    group = dst >= 0xE0000000 and (dst < 0xF0000000 or dst == 0xFFFFFFFF)
    if flags & LINK_BROADCAST and not group:
        return np.int64(Count.LINK_BROADCAST)
    return -1


@kernel
def _trim_chain(meta: Any, row: int, total: int) -> None:
    """Cut a chained packet to total bytes; buffers beyond stay linked, with no bytes in them."""
    meta[row].total = total
    left = total
    for _ in range(meta.size):
        n = min(left, np.int64(meta[row].len))
        meta[row].len = n
        left -= n
        if not meta[row].flags & CHAINED:
            return
        row = np.int64(meta[row].next)


@kernel
def ip4_input(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, features: U64
) -> None:
    for i in range(idx.size):
        row = np.int64(idx[i])
        record = meta[row]
        l3, flags = np.int64(record.l3), np.int64(record.flags)
        link = l3 - np.int64(record.off)
        length = load16(data, row, l3 + ip4.LENGTH)
        src, dst = load32(data, row, l3 + ip4.SRC), load32(data, row, l3 + ip4.DST)
        suspect = (
            (data[row, l3] != 0x45)
            | (ip4.header_sum(data, row, l3) != np.uint64(0xFFFF))
            | (length < ip4.HEADER)
            | (length > np.int64(record.len) - link)
            | _martian(src, dst)
            | (flags & (LINK_BROADCAST | CHAINED) != 0)
        )
        if suspect:
            reason = _reason(data, meta, row)
            if reason >= 0:
                count[reason] += np.uint64(1)
                record.reason = reason
                edge[i] = Edge.DROP
                continue
        if flags & CHAINED:
            _trim_chain(meta, row, length + link)
        else:
            record.len = length + link
            record.total = length + link
        edge[i] = arcs.begin(meta, row, features[record.rx_port])


NODE = Node("ip4-input", ip4_input, Edge, Count)
