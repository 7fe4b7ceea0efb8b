# SPDX-License-Identifier: Apache-2.0
"""icmp6-echo: turn an echo request into its reply, in place.

RFC 4443 sections 2.2 (a group's or anycast address does not answer) and 4.2; RFC 4291 section 2.5.6
(what a link-local address says stays on the link); RFC 1624 (incremental checksum). Extension headers
are not repeated.

Reads   meta.l3, l4, off, end, rest, rx_port, flags; an echo request whose checksum ip6-local has
        found right; the link-layer header
Writes  the IPv6 header, right in front of the message; type and checksum; the link-layer header
        (LINK); meta.off (what was in front is gone), l3, flags, tx_port (LINK), reason
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, raw_load64, raw_store64, store16, store32
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import CHAINED, SELF_MADE, TRACED, Counts, Data, Edges, Meta, Rows
from vforward.nodes.icmp6.answer import put_link_header, sender_mac
from vforward.packet import icmp6, ip6
from vforward.packet.checksum import sum_bytes, update16
from vforward.tables.addresses import Addresses
from vforward.tables.ports import Ports
from vforward.tables.scope import NOBODY, is_anycast, speaker


class Edge(Labels):
    """Ways out."""

    REPLY = 0, "the reply: wire through a queue to ip6-lookup"
    LINK = 1, "to or from a link-local address, with its link header: wire to interface-output"
    DROP = 2, "see the counters"


class Count(Labels):
    """Reasons."""

    NO_ADDRESS = 0, "asked a group or anycast address, and the port has none to speak from"


VERSION_CLASS_FLOW = 0x60000000
KEPT = TRACED | CHAINED


@kernel
def _reply(data: Any, meta: Any, row: Any, addresses: Any, mine: Any) -> None:
    """Write the reply's headers. mine: the record to speak from, or NOBODY: who was asked."""
    old, l4 = i64(meta[row].l3), i64(meta[row].l4)
    l3 = l4 - ip6.HEADER
    asker_1, asker_2 = (
        raw_load64(data, row, old + ip6.SRC),
        raw_load64(data, row, old + ip6.SRC + 8),
    )
    asked_1, asked_2 = (
        raw_load64(data, row, old + ip6.DST),
        raw_load64(data, row, old + ip6.DST + 8),
    )
    asked_sum = sum_bytes(data, row, old + ip6.DST, 16)
    raw_store64(data, row, l3 + ip6.SRC, asked_1)
    raw_store64(data, row, l3 + ip6.SRC + 8, asked_2)
    if mine != NOBODY:
        ip6.store_address(data, row, l3 + ip6.SRC, addresses[mine].high, addresses[mine].low)
    raw_store64(data, row, l3 + ip6.DST, asker_1)
    raw_store64(data, row, l3 + ip6.DST + 8, asker_2)
    length = i64(meta[row].end) - l4 + i64(meta[row].rest)
    store32(data, row, l3 + ip6.VERSION_CLASS_FLOW, VERSION_CLASS_FLOW)
    store16(data, row, l3 + ip6.LENGTH, length)
    store16(data, row, l3 + ip6.NEXT_HEADER, ip6.ICMP6 << 8 | ip6.HOPS)
    check = load16(data, row, l4 + icmp6.CHECKSUM)
    check = update16(check, icmp6.ECHO << 8, icmp6.ECHO_REPLY << 8)
    check = update16(check, asked_sum, sum_bytes(data, row, l3 + ip6.SRC, 16))
    store16(data, row, l4 + icmp6.CHECKSUM, check)
    data[row, l4 + icmp6.TYPE] = icmp6.ECHO_REPLY
    meta[row].off = l3
    meta[row].l3 = l3
    meta[row].flags = (meta[row].flags & np.uint32(KEPT)) | np.uint32(SELF_MADE)


@kernel
def icmp6_echo(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, addresses: Addresses,
) -> None:  # fmt: skip
    for i in range(idx.size):
        row = i64(idx[i])
        l3 = i64(meta[row].l3)
        port = i64(meta[row].rx_port)
        source, _ = ip6.load_address(data, row, l3 + ip6.SRC)
        high, low = ip6.load_address(data, row, l3 + ip6.DST)
        link = ip6.is_link_local(source)
        mine = i64(NOBODY)
        if ip6.is_multicast(high) or is_anycast(addresses, ports, port, high, low):
            mine = speaker(addresses, ports, port, link)
            if mine == NOBODY:
                count[Count.NO_ADDRESS] += u64(1)
                meta[row].reason = Count.NO_ADDRESS
                edge[i] = Edge.DROP
                continue
        mac = sender_mac(data, meta, row)
        _reply(data, meta, row, addresses, mine)
        edge[i] = Edge.REPLY
        if link or ip6.is_link_local(high):
            put_link_header(data, meta, row, ports, mac)
            edge[i] = Edge.LINK


NODE = Node("icmp6-echo", icmp6_echo, Edge, Count)
