# SPDX-License-Identifier: Apache-2.0
"""ip6-reassembly: pieces of packets learn their ports. A feature of the arc ip6-input.

As ip4-reassembly, for packets with a fragment header: RFC 8200 section 4.5, RFC 5722, RFC 7112 (a first
piece has all headers, up to the upper layer's). A whole packet that has such a header all the same
(RFC 6946) passes, as does what has none.

Limits  a later piece is taken for what its own fragment header names, so it does not find the session
        of a first piece that has more extension headers behind it: ip6-acl drops it (PIECE)

Reads   meta.l3, end, rest, rx_port; the IPv6 header and its extensions, ports of first pieces
Writes  meta.features, reason; flags and hash of pieces; the table reassembly6
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import Node
from vforward.jit.be import load16, load32
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import i64, kernel
from vforward.layout import EDGE_HELD, U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.reassembly.pieces import (
    FITS,
    Count,
    Edge,
    first_ports,
    length_refusal,
    take_up,
)
from vforward.packet import fragment6, ip6
from vforward.tables.ports import Ports
from vforward.tables.reassembly import DatagramTable, word_of

ASIDE = EDGE_HELD
"""Mark of a packet that the first pass leaves to the second. Keeps the usual packet's loop short."""
EXTENSIONS = fragment6.WALKED | 1 << ip6.FRAGMENT
"""Bit set of the next headers for which one has to look. What is 64 and more may look like one."""


@kernel
def _piece(data: Any, meta: Any, row: Any, at: Any) -> Any:
    """What take_up wants to know of a packet whose fragment header is at at."""
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    word = load16(data, row, at + fragment6.OFFSET)
    offset = word & ip6.FRAGMENT_OFFSET
    more = word & fragment6.MORE != 0
    n = end - at - fragment6.HEADER + i64(meta[row].rest)
    reason = length_refusal(at - l3 - ip6.HEADER, offset, n, more)
    known = i64(0)
    if reason == FITS:
        if offset == 0:
            protocol, l4 = ip6.upper(data, row, l3, end)
            known = first_ports(data, row, l4, protocol, end)
            if protocol <= 63 and EXTENSIONS >> protocol & 1:
                known = ~i64(Count.TINY)  # a header behind it is not there whole
        if known < 0:
            reason = ~known
        elif offset == 8 and data[row, at] == ip6.TCP:
            reason = i64(Count.TINY)
    return offset >> 3, (offset + n + 7) >> 3, more, reason, known


@kernel
def _key(data: Any, meta: Any, row: Any, at: Any, zone: Any) -> Any:
    l3 = i64(meta[row].l3)
    high, low = ip6.load_address(data, row, l3 + ip6.SRC)
    upper, lower = ip6.load_address(data, row, l3 + ip6.DST)
    return high, low, upper, lower, word_of(zone, 0, load32(data, row, at + fragment6.IDENT))


@kernel
def _look_closer(
    data: Any, meta: Any, idx: Any, edge: Any, table: Any, ports: Any, others: Any
) -> None:
    """Decide about what has extension headers, and was set aside."""
    now = cycles()
    for i in range(idx.size):
        if edge[i] != ASIDE:
            continue
        row = i64(idx[i])
        at = fragment6.find(data, row, i64(meta[row].l3), i64(meta[row].end))
        if at < 0 or not fragment6.is_piece(data, row, at):
            edge[i] = arcs.proceed(meta, row)
            continue
        key = _key(data, meta, row, at, i64(ports[meta[row].rx_port].vrf))
        edge[i] = take_up(meta, row, table, key, _piece(data, meta, row, at), now, others)


@kernel
def ip6_reassembly(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    reassembly6: DatagramTable, ports: Ports, pool: U64, emitted: U64,
) -> None:  # fmt: skip
    aside = 0
    for i in range(idx.size):
        row = i64(idx[i])
        if EXTENSIONS >> (i64(data[row, i64(meta[row].l3) + ip6.NEXT_HEADER]) & 63) & 1:
            edge[i] = ASIDE
            aside += 1
        else:
            edge[i] = arcs.proceed(meta, row)
    if aside:
        _look_closer(data, meta, idx, edge, reassembly6, ports, (count, pool, emitted))


NODE = Node("ip6-reassembly", ip6_reassembly, Edge, Count)
