# SPDX-License-Identifier: Apache-2.0
"""The null port: nothing comes in, and what goes out is counted and gone."""

from __future__ import annotations

import numpy as np

from vforward.graph.node import Node
from vforward.io.port import Port, Tables, TxCount, TxEdge, default_mac
from vforward.jit.kernel import kernel
from vforward.layout import EDGE_HELD, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import packet_bytes
from vforward.memory.pool import Pool, put


@kernel
def swallow(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64) -> None:
    """Give every packet's buffers back."""
    total = np.int64(0)
    for i in range(idx.size):
        total += packet_bytes(meta, idx[i])
        edge[i] = EDGE_HELD
    count[TxCount.BYTES] += np.uint64(total)
    put(pool, meta, idx, idx.size)


NULL_TX = Node(name="null-tx", kernel=swallow, edges=TxEdge, counters=TxCount)


class NullPort(Port):
    """Swallows what is sent to it, for benchmarks and for ports that only receive."""

    kind = "null"

    def __init__(self, *, mac: bytes | None = None, mtu: int = 1500) -> None:
        self._given = mac
        self.mtu = mtu

    def open(self, number: int, pool: Pool) -> None:
        """Nothing to open."""
        self.mac = self._given or default_mac(number)

    def rx(self) -> None:
        """Nothing comes in."""

    def tx(self) -> tuple[Node, Tables]:
        """The node that swallows."""
        return NULL_TX, {}

    def senders(self) -> tuple[Node, list[Tables]]:
        """Every worker swallows for itself."""
        return NULL_TX, [{}] * self.workers

    def close(self) -> None:
        """Nothing to close."""
