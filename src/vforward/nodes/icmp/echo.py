# SPDX-License-Identifier: Apache-2.0
"""icmp4-echo: turn an echo request into its reply, in place.

RFC 792 "Echo or Echo Reply Message"; RFC 1812 section 4.3.3.6; RFC 1624 (incremental checksum).

Reads   meta.l3, flags; an echo request whose checksum ip4-local has found right
Writes  the IPv4 header (addresses swapped, TTL, checksum); ICMP type and checksum;
        meta.off (what was in front of the IPv4 header is gone), flags
Drops   nothing
"""

from __future__ import annotations

import numpy as np

from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, raw_load32, raw_store32, store16
from vforward.jit.kernel import kernel
from vforward.layout import CSUM_PARTIAL, GSO, SELF_MADE, Counts, Data, Edges, Meta, Rows
from vforward.packet import icmp4, ip4
from vforward.packet.checksum import sum_bytes, update16


class Edge(Labels):
    """Ways out."""

    REPLY = 0, "the reply: wire through a queue to ip4-lookup"


TTL = 64


@kernel
def icmp4_echo(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    edge[:] = Edge.REPLY
    for i in range(idx.size):
        row = np.int64(idx[i])
        l3 = np.int64(meta[row].l3)
        header = (np.int64(data[row, l3]) & 15) * 4
        src = raw_load32(data, row, l3 + ip4.SRC)
        raw_store32(data, row, l3 + ip4.SRC, raw_load32(data, row, l3 + ip4.DST))
        raw_store32(data, row, l3 + ip4.DST, src)
        data[row, l3 + ip4.TTL] = TTL
        store16(data, row, l3 + ip4.CHECKSUM, 0)
        store16(data, row, l3 + ip4.CHECKSUM, sum_bytes(data, row, l3, header) ^ 0xFFFF)
        l4 = l3 + header
        old = load16(data, row, l4 + icmp4.CHECKSUM)
        check = update16(old, icmp4.ECHO << 8, icmp4.ECHO_REPLY << 8)
        # 0 and 0xffff are one number, but over a message of zeros only 0xffff verifies.
        store16(data, row, l4 + icmp4.CHECKSUM, check if check else 0xFFFF)
        data[row, l4 + icmp4.TYPE] = icmp4.ECHO_REPLY
        meta[row].off = l3
        meta[row].flags = (meta[row].flags | np.uint32(SELF_MADE)) & ~np.uint32(CSUM_PARTIAL | GSO)


NODE = Node("icmp4-echo", icmp4_echo, Edge)
