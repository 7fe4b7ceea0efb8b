# SPDX-License-Identifier: Apache-2.0
"""interface-output: to the send node of the packet's port. Its edges are the graph's ports.

Reads   meta.tx_port
Writes  nothing
Drops   nothing
"""

from __future__ import annotations

import numpy as np

from vforward.graph.node import Node
from vforward.jit.kernel import kernel
from vforward.layout import Counts, Data, Edges, Meta, Rows
from vforward.tables.ports import Ports


@kernel
def interface_output(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, ports: Ports
) -> None:
    for i in range(idx.size):
        edge[i] = ports[meta[np.int64(idx[i])].tx_port].output


NODE = Node("interface-output", interface_output, edges=None)
