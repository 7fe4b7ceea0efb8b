# SPDX-License-Identifier: Apache-2.0
"""ip6-urpf: no packet whose source lies elsewhere. A feature of the arc ip6-input.

RFC 3704 sections 2.2 and 2.4 (strict and loose reverse path forwarding), by the routes of the VRF of
the port that the packet came by. A link-local source is on every link (RFC 4291 section 2.5.6), and
what has none yet (::, section 2.5.2) passes as well.

Reads   meta.l3, rx_port; the source address
Writes  meta.features, reason
Drops   see Count
"""

from __future__ import annotations

from vforward.graph import arcs
from vforward.graph.node import Labels, Node
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import SELF_MADE, U32, Counts, Data, Edges, Meta, Rows
from vforward.packet import ip6
from vforward.tables import trie
from vforward.tables.adjacency import Adjacencies
from vforward.tables.ports import URPF_STRICT, Ports
from vforward.tables.urpf import passes


class Edge(Labels):
    """Ways out, besides those of the arc."""

    DROP = 0, "see the counters"


class Count(Labels):
    """Reasons."""

    LOOSE = 0, "its source has no route, or is the router itself"
    STRICT = 1, "the route to its source does not lead out of the port that it came by"


@kernel
def ip6_urpf(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    fib6_root: U32, fib6_nodes: U32, adjacencies: Adjacencies, buckets: U32, ports: Ports,
) -> None:  # fmt: skip
    for i in range(idx.size):
        row = i64(idx[i])
        port = ports[meta[row].rx_port]
        high, low = ip6.load_address(data, row, i64(meta[row].l3) + ip6.SRC)
        asked = port.urpf != 0 and not meta[row].flags & SELF_MADE
        if asked and not (ip6.is_link_local(high) or ip6.is_zero(high, low)):
            found = trie.lookup6(fib6_root, fib6_nodes, i64(port.vrf), high, low)
            if not passes(adjacencies, buckets, found, port.urpf, meta[row].rx_port):
                reason = Count.STRICT if port.urpf == URPF_STRICT else Count.LOOSE
                count[reason] += u64(1)
                meta[row].reason = reason
                edge[i] = Edge.DROP
                continue
        edge[i] = arcs.proceed(meta, row)


NODE = Node("ip6-urpf", ip6_urpf, Edge, Count)
