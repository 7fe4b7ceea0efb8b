# SPDX-License-Identifier: Apache-2.0
"""egress: which port a packet will leave by, asked of the routes before it is forwarded.

For rules that name that port. Of several next hops it is the one that the packet's own flow hash
picks; when NAT changes the flow after that, ip4-lookup may pick another.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, kernel
from vforward.packet.flow_hash import hash4, hash6
from vforward.tables import trie
from vforward.tables.adjacency import Way

NOWHERE, SELF = 0, 0xFFFF
"""In place of a port: no route, or one that says drop; to the router itself."""


@kernel
def _port_of(adjacencies: Any, found: Any) -> Any:
    to = adjacencies[found]
    way = i64(to.edge)
    if way == Way.LOCAL:
        return i64(SELF)
    return i64(NOWHERE) if way == Way.DROP or way == Way.ERROR else i64(to.tx_port)


@kernel
def egress4(data: Any, meta: Any, row: Any, dst: Any, vrf: Any, routes: Any) -> Any:
    """The port by which a packet to dst would leave. routes: root, nodes, adjacencies, buckets."""
    root, nodes, adjacencies, buckets = routes
    found = i64(trie.lookup4(root, nodes, vrf, dst))
    to = adjacencies[found]
    if to.edge == Way.MULTIPATH:
        flow = hash4(data, row, i64(meta[row].l3), i64(meta[row].end))
        found = i64(buckets[i64(to.first) + (flow & i64(to.mask))])
    return _port_of(adjacencies, found)


@kernel
def egress6(data: Any, meta: Any, row: Any, high: Any, low: Any, vrf: Any, routes: Any) -> Any:
    """The same of an IPv6 packet."""
    root, nodes, adjacencies, buckets = routes
    found = i64(trie.lookup6(root, nodes, vrf, high, low))
    to = adjacencies[found]
    if to.edge == Way.MULTIPATH:
        flow = hash6(data, row, i64(meta[row].l3), i64(meta[row].end))
        found = i64(buckets[i64(to.first) + (flow & i64(to.mask))])
    return _port_of(adjacencies, found)
