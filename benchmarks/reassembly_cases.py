# SPDX-License-Identifier: Apache-2.0
"""What virtual reassembly costs packets that are whole: nearly all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import graphs, nodes, tables
from benchmarks.frames import FRAME_BYTES
from benchmarks.graph_cases import PACKETS
from benchmarks.harness import parts, row, tsc_hz
from benchmarks.session import Session, arena
from vforward.graph import control as c
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.nodes.ip4 import input as ip4_input
from vforward.nodes.ip4 import lookup as ip4_lookup
from vforward.nodes.ip4 import reassembly as ip4_reassembly
from vforward.nodes.ip4 import rewrite as ip4_rewrite
from vforward.nodes.ip6 import input as ip6_input
from vforward.nodes.ip6 import lookup as ip6_lookup
from vforward.nodes.ip6 import reassembly as ip6_reassembly
from vforward.nodes.ip6 import rewrite as ip6_rewrite
from vforward.tables.fib import Fib4, Fib6
from vforward.tables.reassembly import Reassembly

ROUTES = 16
VECTORS = PACKETS // VECTOR_MAX
PATHS = {
    "ip4": (graphs.IP4_PATH, (ip4_input, ip4_lookup, ip4_rewrite), ip4_reassembly.NODE),
    "ip6": (graphs.IP6_PATH, (ip6_input, ip6_lookup, ip6_rewrite), ip6_reassembly.NODE),
}


class Bench(graphs.Listed):
    """A family's path with its reassembly on the arc, and few routes."""

    def __init__(self, memory: Arena, family: str) -> None:
        measured, inner, node = PATHS[family]
        values, each = tables.values(ROUTES), np.arange(ROUTES, dtype=np.uint64)
        destinations: Any
        if family == "ip4":
            fib: Fib4 | Fib6 = Fib4(memory)
            prefixes, lengths = (
                (0x0B000000 + (each << 8)).astype(np.uint32),
                np.full(ROUTES, 24, np.uint8),
            )
            fib.add_many(prefixes, lengths, values)
            destinations = tables.destinations4(prefixes, lengths)
        else:
            fib = Fib6(memory)
            prefixes, lengths = (0x20010DB8 << 32) + (each << 16), np.full(ROUTES, 48, np.uint8)
            fib.add_many(np.stack([prefixes, np.zeros_like(prefixes)], axis=1), lengths, values)
            destinations = tables.destinations6(prefixes, lengths)
        graph = graphs.path(memory, fib, *inner, features=[node.name])
        graph.tables |= Reassembly(memory, int(tsc_hz())).tables
        graph.add(node)
        self.feature, self.arc = node.name, graph.arcs[f"{family}-input"]
        super().__init__(graph, measured, destinations)

    def added(self) -> list[float]:
        """Clocks per packet of the node, and by how much the rest of the path became slower."""
        self.arc.disable(self.feature, nodes.PORT)
        without = float(self.clocks_per_packet(VECTOR_MAX, VECTORS).sum())
        self.arc.enable(self.feature, nodes.PORT)
        rest = float(self.clocks_per_packet(VECTOR_MAX, VECTORS).sum())
        stats = self.plan.stats.reshape(-1, c.STATS)[self.graph.members[self.feature].number]
        if stats[c.PACKETS] != PACKETS:
            msg = f"{self.feature} has seen {stats[c.PACKETS]} of {PACKETS} packets"
            raise AssertionError(msg)
        return [float(stats[c.CLOCKS]) / PACKETS, rest - without]


def reassembly_pass(session: Session) -> Iterator[dict[str, Any]]:
    """Packets that are no pieces, through ip6-reassembly and ip4-reassembly."""
    for family in ("ip6", "ip4"):
        with arena() as memory:
            found = session.measure("reassembly-pass", Bench(memory, family).added, 2)
        yield row(
            "reassembly-pass", found, "clocks/packet", vector=VECTOR_MAX, packets=PACKETS,
            touched=FRAME_BYTES, family=family,
            nodes=parts([f"{family}-reassembly", "rest of the path"], found),
        )  # fmt: skip
