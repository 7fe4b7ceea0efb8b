# SPDX-License-Identifier: Apache-2.0
"""ip4-local: packets for the router itself. It answers pings; the port's host gets what else there is.

RFC 1122 sections 3.2.2.1 (protocol and port unreachable) and 3.2.2.6 (echo); RFC 792. A port without
a host: fragments are not put together, and the sender is told that nobody listens. A ping to a group
is the host's to answer. A ping's checksum that is still to be completed (CSUM_PARTIAL) is completed
here.

Reads   meta.l3, end, rest, flags, rx_port, csum_start, csum_off; the IPv4 header; all of a ping
Writes  the ICMP checksum and meta.flags of a CSUM_PARTIAL message; meta.reason;
        scratch (ICMP type << 8 | code, for packets that leave by ERROR)
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, load32
from vforward.jit.kernel import inline, kernel
from vforward.layout import Counts, Data, Edges, Meta, Rows
from vforward.packet import icmp4, ip4
from vforward.packet.checksum import complete, sum_to_end
from vforward.packet.partial import is_partial_at
from vforward.tables.ports import Ports


class Edge(Labels):
    """Ways out."""

    ICMP_ECHO = 0, "an echo request: wire to icmp4-echo"
    ERROR = 1, "nobody is here for it: wire to icmp4-error"
    DROP = 2, "see the counters"
    PUNT = 3, "for the host that stands for the port: wire to host-punt"


class Count(Labels):
    """Reasons."""

    FRAGMENT = 0, "a piece of a datagram; they are not put together"
    ICMP_TRUNCATED = 1, "shorter than an ICMP header"
    ICMP_BAD_CHECKSUM = 2, "the ICMP checksum is wrong"
    ICMP_IGNORED = 3, "an ICMP message other than an echo request"
    NO_LISTENER = 4, "TCP; the router listens on no port"


@kernel
def _icmp_reason(data: Any, meta: Any, row: Any, l4: Any) -> Any:
    """Why an ICMP message is consumed; -1 if it is an echo request to answer."""
    if np.int64(meta[row].end) < l4 + icmp4.HEADER:
        return np.int64(Count.ICMP_TRUNCATED)
    if is_partial_at(meta, row, l4, icmp4.CHECKSUM):
        complete(data, meta, row)
    elif sum_to_end(data, meta, row, l4) != 0xFFFF:
        return np.int64(Count.ICMP_BAD_CHECKSUM)
    if load16(data, row, l4 + icmp4.TYPE) != icmp4.ECHO << 8:
        return np.int64(Count.ICMP_IGNORED)
    return -1


@inline
def _is_ping(data: Any, meta: Any, row: Any, l3: Any) -> Any:
    """Whether it is an echo request to one address, right or wrong."""
    l4 = l3 + (np.int64(data[row, l3]) & 15) * 4
    return (
        data[row, l3 + ip4.PROTOCOL] == ip4.ICMP
        and np.int64(meta[row].end) >= l4 + icmp4.HEADER
        and load16(data, row, l4 + icmp4.TYPE) == icmp4.ECHO << 8
        and not load16(data, row, l3 + ip4.FRAGMENT) & (ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK)
        and load32(data, row, l3 + ip4.DST) < ip4.GROUPS
    )


@kernel
def ip4_local(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, ports: Ports) -> None:
    for i in range(idx.size):
        row = np.int64(idx[i])
        l3 = np.int64(meta[row].l3)
        if ports[meta[row].rx_port].host != 0 and not _is_ping(data, meta, row, l3):
            edge[i] = Edge.PUNT
            continue
        protocol = np.int64(data[row, l3 + ip4.PROTOCOL])
        reason: Any = -1
        edge[i] = Edge.ICMP_ECHO
        if load16(data, row, l3 + ip4.FRAGMENT) & (ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK):
            reason = np.int64(Count.FRAGMENT)
        elif protocol == ip4.ICMP:
            reason = _icmp_reason(data, meta, row, l3 + (np.int64(data[row, l3]) & 15) * 4)
        elif protocol == ip4.TCP:
            reason = np.int64(Count.NO_LISTENER)
        else:
            edge[i] = Edge.ERROR
            meta[row].scratch = icmp4.PROTOCOL_UNREACHABLE
            if protocol == ip4.UDP:
                meta[row].scratch = icmp4.PORT_UNREACHABLE
        if reason >= 0:
            count[reason] += np.uint64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP


NODE = Node("ip4-local", ip4_local, Edge, Count)
