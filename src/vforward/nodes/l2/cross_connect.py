# SPDX-License-Identifier: Apache-2.0
"""l2-cross-connect: what comes in on one port goes out of its peer, but for the tags that change.

A wire: link-local group addresses (IEEE 802.1Q-2018 section 8.6.3) pass as all others do. Tags
change as the port says where the frame comes in, then as the port says where it goes out.

Reads   meta.off, end, rx_port; tags
Writes  meta.tx_port; tags, meta.off, hdr_len where they change
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import Labels, Node
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, Counts, Data, Edges, Meta, Rows
from vforward.nodes.l2 import tags
from vforward.tables.ports import Ports

ASIDE = EDGE_HELD
"""Mark of a frame that the first pass leaves to the second. Keeps the usual frame's loop short."""


class Edge(Labels):
    """Ways out."""

    OUTPUT = 0, "to the peer: wire to interface-output"
    DROP = 1, "see the counters"


class Count(Labels):
    """Reasons."""

    TAGS = 0, "has not the tags that are to be taken off, or no room for those to be put on"


@kernel
def _rewrite(data: Any, meta: Any, idx: Any, edge: Any, count: Any, ports: Any) -> None:
    """Change the tags of the frames that were set aside."""
    for i in range(idx.size):
        if edge[i] != ASIDE:
            continue
        row = i64(idx[i])
        port = ports[meta[row].rx_port]
        edge[i] = Edge.OUTPUT
        if not (
            tags.come_in(data, meta, row, port) and tags.go_out(data, meta, row, ports[port.peer])
        ):
            count[Count.TAGS] += u64(1)
            meta[row].reason = Count.TAGS
            edge[i] = Edge.DROP


@kernel
def l2_cross_connect(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, ports: Ports
) -> None:
    edge[:] = Edge.OUTPUT
    aside = 0
    for i in range(idx.size):
        row = i64(idx[i])
        port = ports[meta[row].rx_port]
        meta[row].tx_port = port.peer
        if tags.changes_in(port) | tags.changes_out(ports[port.peer]):
            edge[i] = ASIDE
            aside += 1
    if aside:
        _rewrite(data, meta, idx, edge, count, ports)


NODE = Node("l2-cross-connect", l2_cross_connect, Edge, Count)
