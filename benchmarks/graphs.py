# SPDX-License-Identifier: Apache-2.0
"""The graphs that are measured, and how one is run: bench-rx, the nodes in question, bench-tx.

Clocks are the scheduler's own statistics. What a node is charged with contains its share of the
scheduler; nothing between the first measured node and the last is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import fib_nodes, nodes, tables
from benchmarks.frames import CHECKSUM, OUR_MAC, header_sum, ip6_frame, udp_frame
from vforward.graph import control as c
from vforward.graph import scheduler
from vforward.graph.build import Graph
from vforward.graph.node import Node
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.nodes.ethernet import input as ethernet_input
from vforward.nodes.interface import output as interface_output
from vforward.nodes.ip4 import input as ip4_input
from vforward.nodes.ip4 import lookup as ip4_lookup
from vforward.nodes.ip4 import rewrite as ip4_rewrite
from vforward.nodes.ip6 import input as ip6_input
from vforward.nodes.ip6 import lookup as ip6_lookup
from vforward.nodes.ip6 import rewrite as ip6_rewrite
from vforward.tables.addresses import ADDRESS
from vforward.tables.adjacency import ADJACENCY
from vforward.tables.fib import Fib, Fib4, Fib6
from vforward.tables.ports import PORT, ROUTED, VIDS

PORTS = 64
OUT_PORT = 2
ADJACENCIES = 8
BUFFERS = 4096
IP4_PATH = ["ethernet-input", "ip4-input", "ip4-lookup", "ip4-rewrite", "interface-output"]
IP6_PATH = ["ethernet-input", "ip6-input", "ip6-lookup", "ip6-rewrite", "interface-output"]


class Bench:
    """A built graph with bench-rx at its head, and the names of the nodes that are measured."""

    def __init__(self, graph: Graph, measured: Sequence[str], prefixes: NDArray[np.uint32]) -> None:
        frame = udp_frame(0x0A000002, 0)
        rest = header_sum(frame[14:CHECKSUM] + frame[CHECKSUM + 2 : 34])
        together = len(prefixes) > 1 and bool((np.diff(prefixes) == 0x100).all())
        base = prefixes[0] if together else 0
        self.state = np.array([0, 0x9E3779B97F4A7C15, rest, base], np.uint64)
        self._rows = graph.pool.take(VECTOR_MAX)
        graph.add(
            nodes.RX,
            rows=self._rows,
            frame=np.frombuffer(bytearray(frame), np.uint8),
            prefixes=prefixes,
            state=self.state,
        )
        self._finish(graph, measured)

    def _finish(self, graph: Graph, measured: Sequence[str]) -> None:
        """Wire the ends, and what is not wired astray; build."""
        graph.add(nodes.TX)
        graph.add(nodes.TX, "astray")
        graph.wire(nodes.RX.name, "next", measured[0])
        for member in graph.members.values():
            for edge in member.edges:
                member.wired.setdefault(edge, "astray")
        self.graph = graph
        self.names = list(measured)
        self.plan = graph.build()
        self._words = self.plan.words()
        self._stats = self.plan.stats.reshape(-1, c.STATS)
        self._at = [graph.members[name].number for name in measured]

    def run(self, vector: int, vectors: int) -> NDArray[np.uint64]:
        """Send so many vectors through. Returns the measured nodes' STATS: calls, packets, clocks.

        Raises AssertionError unless every packet went through every one of them and out.
        """
        self.plan.control[c.VECTOR] = vector
        self.plan.stats[:] = 0
        self.state[0] = vector * vectors
        scheduler.run(self._words, True)
        ends = [*self._at, self.graph.members[nodes.TX.name].number]
        through = self._stats[ends, c.PACKETS]
        if not (through == vector * vectors).all():
            names = [*self.names, nodes.TX.name]
            seen = dict(zip(names, through.tolist(), strict=True))
            msg = f"of {vector * vectors} packets not all went the whole way: {seen}"
            raise AssertionError(msg)
        return self._stats[self._at].copy()

    def clocks_per_packet(self, vector: int, vectors: int) -> NDArray[np.float64]:
        """Of each measured node, its share of the scheduler included."""
        return self.run(vector, vectors)[:, c.CLOCKS] / (vector * vectors)


def chain(arena: Arena, node: Node, length: int) -> Bench:
    """The same node so many times in a row; it has one edge, next."""
    graph = Graph(arena, Pool(arena, BUFFERS))
    names = [graph.add(node, f"{node.name}-{i}") for i in range(length)]
    for name, to in zip(names, [*names[1:], nodes.TX.name], strict=True):
        graph.wire(name, "next", to)
    return Bench(graph, names, np.array([0x0B000000], np.uint32))


class Listed(Bench):
    """The same, with destinations from a list: u32[2**k], or pairs of u64 halves, u64[2**k]."""

    def __init__(self, graph: Graph, measured: Sequence[str], destinations: NDArray[Any]) -> None:
        ip6 = destinations.dtype == np.uint64
        frame = ip6_frame() if ip6 else udp_frame(0x0A000002, 0)
        rest = 0 if ip6 else header_sum(frame[14:CHECKSUM] + frame[CHECKSUM + 2 : 34])
        self.state = np.array([0, 0, rest], np.uint64)
        self._rows = graph.pool.take(VECTOR_MAX)
        graph.add(
            fib_nodes.RX6 if ip6 else fib_nodes.RX4,
            rows=self._rows,
            frame=np.frombuffer(bytearray(frame), np.uint8),
            state=self.state,
            **{"destinations6" if ip6 else "destinations": destinations},
        )
        self._finish(graph, measured)


def ip4_path(arena: Arena, prefixes: NDArray[np.uint32]) -> Bench:
    """The IPv4 path with these /24 routes, each to one of ADJACENCIES neighbors on one port."""
    n = len(prefixes)
    values = (1 + np.arange(n) % ADJACENCIES).astype(np.uint32)
    fib = Fib4(arena)
    fib.add_many(prefixes, np.full(n, 24, np.uint8), values, between=lambda _done: fib.reclaim())
    return Bench(path(arena, fib, ip4_input, ip4_lookup, ip4_rewrite), IP4_PATH, prefixes)


def ip4_path_bgp(arena: Arena, routes: int) -> Bench:
    """The IPv4 path with an Internet's table (benchmarks.tables)."""
    prefixes, lengths = tables.bgp4(routes)
    fib = Fib4(arena)
    values = tables.values(routes)
    fib.add_many(prefixes, lengths, values, between=lambda _done: fib.reclaim())
    graph = path(arena, fib, ip4_input, ip4_lookup, ip4_rewrite)
    return Listed(graph, IP4_PATH, tables.destinations4(prefixes, lengths))


def ip6_path(arena: Arena, routes: int) -> Bench:
    """The IPv6 path with an Internet's table (benchmarks.tables)."""
    prefixes, lengths = tables.bgp6(routes)
    fib = Fib6(arena)
    halves = np.stack([prefixes, np.zeros_like(prefixes)], axis=1)
    values = tables.values(routes)
    fib.add_many(halves, lengths, values, between=lambda _done: fib.reclaim())
    graph = path(arena, fib, ip6_input, ip6_lookup, ip6_rewrite)
    return Listed(graph, IP6_PATH, tables.destinations6(prefixes, lengths))


def path(arena: Arena, fib: Fib, *inner: ModuleType, features: Sequence[str] = ()) -> Graph:
    """ethernet-input, the input, lookup and rewrite nodes of one family, interface-output.

    features: names of those between the input and the lookup, which the caller adds.
    """
    graph = Graph(arena, Pool(arena, BUFFERS), PORTS)
    graph.tables |= _ports() | fib.tables
    taken, looked_up, rewritten = [graph.add(module.NODE) for module in (ethernet_input, *inner)][
        1:
    ]
    graph.add(interface_output.NODE, edges=["in", "out"])
    graph.wire("ethernet-input", taken.removesuffix("-input"), taken)
    graph.wire(looked_up, "rewrite", rewritten)
    graph.wire("interface-output", "out", nodes.TX.name)
    graph.arc(taken, starts=[taken], features=features, end=looked_up)
    output = taken.replace("input", "output")
    graph.arc(output, starts=[rewritten], features=[], end="interface-output")
    return graph


def _ports() -> dict[str, NDArray[Any]]:
    ports = np.zeros(PORTS, PORT)
    for port in (nodes.PORT, OUT_PORT):
        ports[port]["mac"] = ports[port]["filter"] = int.from_bytes(OUR_MAC, "big") + port - 1
        ports[port]["mode"], ports[port]["mtu"] = ROUTED, 1500
        ports[port]["output"] = port - 1
        ports[port]["parent"] = port
    adjacencies = np.zeros(1 + ADJACENCIES, ADJACENCY)
    adjacencies["edge"] = ip4_lookup.Edge.REWRITE
    adjacencies[0]["edge"] = ip4_lookup.Edge.DROP
    adjacencies["tx_port"], adjacencies["mtu"] = OUT_PORT, 1500
    adjacencies["rewrite"], adjacencies["rewrite_len"] = (1, 2, 3), 14
    return {
        "ports": ports,
        "vlans": np.zeros(PORTS * VIDS, np.uint16),
        "inner_vlans": np.zeros(VIDS, np.uint16),
        "adjacencies": adjacencies,
        "buckets": np.zeros(1, np.uint32),
        "addresses": np.zeros(1, ADDRESS),
    }
