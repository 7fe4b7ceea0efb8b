# SPDX-License-Identifier: Apache-2.0
"""host-punt: what is for the router itself and not answered by it goes to the host, by a TAP.

The host stands at the port where the packet came in (ports[].host). It is given the frame as it
came, without tags: from the sender's MAC, to the port's or to the group it was sent to. Checksums and
segmentation that are still to be done stay so. What has no link-layer header left is from the port's
MAC with the other LOCAL_BIT, as are the answers of host-input.

Reads   meta.l3, off, rx_port, flags; the Ethernet header, if there is one; the IP version
Writes  the Ethernet header in front of l3; meta.off, tx_port
Drops   see Count
"""

from __future__ import annotations

import numpy as np

from vforward.graph.node import Labels, Node
from vforward.jit.be import load64, store64
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import LINK_BROADCAST, Counts, Data, Edges, Meta, Rows
from vforward.packet import ethernet as eth
from vforward.tables.ports import HOST, Ports


class Edge(Labels):
    """Ways out."""

    OUTPUT = 0, "to the host: wire to interface-output"
    DROP = 1, "see the counters"


class Count(Labels):
    """Reasons."""

    NO_HOST = 0, "no TAP stands for its port"


@kernel
def punt(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, ports: Ports) -> None:
    for i in range(idx.size):
        row = np.int64(idx[i])
        record = meta[row]
        port = ports[record.rx_port]
        if ports[port.host].mode != HOST or port.host == 0:
            count[Count.NO_HOST] += u64(1)
            record.reason = Count.NO_HOST
            edge[i] = Edge.DROP
            continue
        off, l3 = i64(record.off), i64(record.l3)
        to, source = port.mac, port.mac ^ u64(eth.LOCAL_BIT)
        if l3 - off >= eth.HEADER:
            if record.flags & LINK_BROADCAST:
                to = load64(data, row, off + eth.DST) >> u64(16)
            source = load64(data, row, off + eth.SRC) >> u64(16)
        kind = eth.IP6 if data[row, l3] >> 4 == 6 else eth.IP4
        off = l3 - eth.HEADER
        store64(data, row, off + eth.DST, to << u64(16) | source >> u64(32))
        store64(data, row, off + eth.SRC, source << u64(16) | u64(kind))
        record.off = off
        record.tx_port = port.host
        edge[i] = Edge.OUTPUT


NODE = Node("host-punt", punt, Edge, Count)
