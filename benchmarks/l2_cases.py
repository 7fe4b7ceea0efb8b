# SPDX-License-Identifier: Apache-2.0
"""Cases of the learning bridge: one domain, two ports, every station known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import graphs, nodes
from benchmarks.frames import FRAME_BYTES, udp_frame
from benchmarks.graph_cases import PACKETS
from benchmarks.harness import parts, row
from benchmarks.session import Session, arena
from vforward.graph.build import Graph
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.nodes.ethernet import input as ethernet_input
from vforward.nodes.interface import output as interface_output
from vforward.nodes.l2 import forward
from vforward.tables import bridge, mac
from vforward.tables.ports import BRIDGED, NO_MAC, PORT, VIDS

DOMAIN = 1
FEW = 1_000
MANY = 1_000_000
PATH = ["ethernet-input", "l2-forward", "interface-output"]


@kernel
def _learn_all(table: Any, domains: Any, stations: Any) -> int:
    """Have every station learned, as frames from it would. Returns how many were."""
    learned = 0
    for number in range(stations):
        x = mac.mix(nodes.station(u64(number)) << u64(16) | u64(DOMAIN << 8))
        said = mac.learn(table, domains, DOMAIN, x, i64(nodes.PORT + number % 2), i64(0))
        learned += i64(said == mac.LEARNED)
    return learned


class Bench(graphs.Bench):
    """ethernet-input, l2-forward, interface-output, and so many stations that send at random."""

    def __init__(self, arena: Arena, stations: int) -> None:
        graph = Graph(arena, Pool(arena, graphs.BUFFERS), graphs.PORTS)
        ports = np.zeros(graphs.PORTS, PORT)
        tables = bridge.make_tables(arena, graphs.PORTS)
        ports["filter"] = NO_MAC
        for port in (nodes.PORT, nodes.PORT + 1):
            ports[port]["mode"] = BRIDGED
            tables["relay"][port] = bridge.relay_word(port, DOMAIN)
            ports[port]["output"], ports[port]["parent"] = port - 1, port
        tables["domains"][DOMAIN]["flags"] = bridge.LEARN | bridge.FLOOD_UNKNOWN
        tables["domains"][DOMAIN]["limit"] = bridge.NO_LIMIT
        self.table = mac.MacTable(arena, tables["domains"], max(mac.ENTRIES, 2 * stations))
        learned = _learn_all(self.table.table, tables["domains"], stations)
        # Of a million a few find no room; their frames would be flooded, which is another path.
        if learned < 0.9999 * stations:
            msg = f"of {stations} stations only {learned} were learned"
            raise AssertionError(msg)
        tagless = {
            "vlans": np.zeros(graphs.PORTS * VIDS, np.uint16),
            "inner_vlans": np.zeros(VIDS, np.uint16),
        }
        graph.tables |= tables | tagless | {"ports": ports, "mac": self.table.table}
        for module in (ethernet_input, forward):
            graph.add(module.NODE)
        graph.add(interface_output.NODE, edges=["one", "two"])
        graph.wire("ethernet-input", "bridge", "l2-forward")
        for edge in ("output", "flood"):
            graph.wire("l2-forward", edge, "interface-output")
        for edge in ("one", "two"):
            graph.wire("interface-output", edge, nodes.TX.name)
        self._begin(graph, PATH, stations)

    def _begin(self, graph: Graph, measured: list[str], stations: int) -> None:
        self.state = np.array([0, 0x9E3779B97F4A7C15, stations], np.uint64)
        graph.add(
            nodes.RX_BRIDGED,
            rows=graph.pool.take(VECTOR_MAX),
            frame=np.frombuffer(bytearray(udp_frame(0x0A000002, 0)), np.uint8),
            state=self.state,
        )
        self._finish(graph, measured)


def l2_path(session: Session) -> Iterator[dict[str, Any]]:
    """A thousand stations."""
    yield _row(session, "l2-path", FEW)


def l2_path_1m(session: Session) -> Iterator[dict[str, Any]]:
    """A million stations, sources and destinations at random: every look-up misses the L2 cache."""
    yield _row(session, "l2-path-1m", MANY)


def _row(session: Session, case: str, stations: int) -> dict[str, Any]:
    vectors = PACKETS // VECTOR_MAX
    with arena() as memory:
        bench = Bench(memory, stations)
        found = session.measure(case, lambda: bench.clocks_per_packet(VECTOR_MAX, vectors))
    return row(
        case,
        found,
        "clocks/packet",
        vector=VECTOR_MAX,
        packets=VECTOR_MAX * vectors,
        touched=FRAME_BYTES,
        nodes=parts(bench.names, found),
        macs=stations,
    )
