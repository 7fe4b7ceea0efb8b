# SPDX-License-Identifier: Apache-2.0
"""l2-cross-connect: what comes in on one port goes out of its peer, as it is.

Reads   meta.rx_port
Writes  meta.tx_port
Drops   nothing
"""

from __future__ import annotations

import numpy as np

from vforward.graph.node import Labels, Node
from vforward.jit.kernel import kernel
from vforward.layout import Counts, Data, Edges, Meta, Rows
from vforward.tables.ports import Ports


class Edge(Labels):
    """Ways out."""

    OUTPUT = 0, "every frame: wire to interface-output"


@kernel
def l2_cross_connect(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, ports: Ports
) -> None:
    edge[:] = Edge.OUTPUT
    for i in range(idx.size):
        row = np.int64(idx[i])
        meta[row].tx_port = ports[meta[row].rx_port].peer


NODE = Node("l2-cross-connect", l2_cross_connect, Edge)
