# SPDX-License-Identifier: Apache-2.0
"""output-hand-off: packets that leave by a port that another worker sends by go to that worker.

Reads   meta.tx_port
Writes  work; meta.reason
Drops   see outcome.Count
"""

from __future__ import annotations

from vforward.graph.node import Node
from vforward.jit.kernel import i64, kernel
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.handoff.outcome import Count, Edge, hand_off
from vforward.tables.ports import Ports


@kernel
def output_hand_off(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, senders: U64, handoff: U64, work: U64,
) -> None:  # fmt: skip
    """senders: by interface-output's edge, the worker."""
    for i in range(idx.size):
        work[i] = senders[ports[meta[i64(idx[i])].tx_port].output]
    hand_off(meta, idx, edge, count, handoff, work)


NODE = Node("output-hand-off", output_hand_off, Edge, Count)
