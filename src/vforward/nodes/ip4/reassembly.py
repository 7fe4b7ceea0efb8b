# SPDX-License-Identifier: Apache-2.0
"""ip4-reassembly: pieces of datagrams learn their ports. A feature of the arc ip4-input.

Virtual: nothing is put together. A datagram's first piece tells its ports, and all its pieces carry
them on (PORTS_KNOWN); those that come before it wait here for it, and follow it. Overlapping pieces,
and such as hide what they are of, are refused with the rest of their datagram: RFC 791 section 3.2,
RFC 1858, RFC 3128, RFC 5722 section 3 (which is right for IPv4 too). What is no piece passes at once.
No ICMP tells of time that is over: that is for who puts the datagram together (RFC 792).

Reads   meta.l3, end, rest, rx_port; the IPv4 header, ports of first pieces
Writes  meta.features, reason; flags and hash of pieces; the table reassembly4
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import Node
from vforward.jit.be import load16, load32
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.reassembly.pieces import (
    FITS,
    Count,
    Edge,
    first_ports,
    length_refusal,
    take_up,
)
from vforward.packet import ip4
from vforward.tables.addresses import mapped
from vforward.tables.ports import Ports
from vforward.tables.reassembly import DatagramTable, word_of

ASIDE = EDGE_HELD
"""Mark of a packet that the first pass leaves to the second. Keeps the usual packet's loop short."""
PIECE = ip4.OFFSET_MASK | ip4.MORE_FRAGMENTS


@kernel
def _piece(data: Any, meta: Any, row: Any) -> Any:
    """What take_up wants to know of a packet."""
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    l4 = l3 + (i64(data[row, l3]) & 15) * 4
    word = load16(data, row, l3 + ip4.FRAGMENT)
    offset = (word & ip4.OFFSET_MASK) * 8
    more = word & ip4.MORE_FRAGMENTS != 0
    n = end - l4 + i64(meta[row].rest)
    protocol = i64(data[row, l3 + ip4.PROTOCOL])
    reason = length_refusal(l4 - l3, offset, n, more)
    known = i64(0)
    if reason == FITS:
        if offset == 0:
            known = first_ports(data, row, l4, protocol, end)
        if known < 0:
            reason = ~known
        elif offset == 8 and protocol == ip4.TCP:
            reason = i64(Count.TINY)
    return offset >> 3, (offset + n + 7) >> 3, more, reason, known


@kernel
def _key(data: Any, meta: Any, row: Any, zone: Any) -> Any:
    l3 = i64(meta[row].l3)
    src, dst = load32(data, row, l3 + ip4.SRC), load32(data, row, l3 + ip4.DST)
    protocol = i64(data[row, l3 + ip4.PROTOCOL])
    word = word_of(zone, protocol, load16(data, row, l3 + ip4.IDENT))
    return u64(0), mapped(src), u64(0), mapped(dst), word


@kernel
def _look_closer(
    data: Any, meta: Any, idx: Any, edge: Any, table: Any, ports: Any, others: Any
) -> None:
    """Decide about the pieces, which were set aside."""
    now = cycles()
    for i in range(idx.size):
        if edge[i] != ASIDE:
            continue
        row = i64(idx[i])
        key = _key(data, meta, row, i64(ports[meta[row].rx_port].vrf))
        edge[i] = take_up(meta, row, table, key, _piece(data, meta, row), now, others)


@kernel
def ip4_reassembly(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    reassembly4: DatagramTable, ports: Ports, pool: U64, emitted: U64,
) -> None:  # fmt: skip
    aside = 0
    for i in range(idx.size):
        row = i64(idx[i])
        if load16(data, row, i64(meta[row].l3) + ip4.FRAGMENT) & PIECE:
            edge[i] = ASIDE
            aside += 1
        else:
            edge[i] = arcs.proceed(meta, row)
    if aside:
        _look_closer(data, meta, idx, edge, reassembly4, ports, (count, pool, emitted))


NODE = Node("ip4-reassembly", ip4_reassembly, Edge, Count)
