# SPDX-License-Identifier: Apache-2.0
"""Routes to sources, drawn by Hypothesis, as the oracle of uRPF and as tables of its nodes."""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from nodes.network import Heap, drops, run_both
from oracles import lpm, urpf
from vforward.graph.arcs import END
from vforward.graph.node import Node
from vforward.memory.arena import Arena
from vforward.tables.adjacency import ADJACENCY, Way
from vforward.tables.fib import Fib4, Fib6
from vforward.tables.ports import PORT, URPF_LOOSE, URPF_STRICT

PORTS = (1, 2, 3)
MODES = {"": 0, "loose": URPF_LOOSE, "strict": URPF_STRICT}
KINDS = {"local": Way.LOCAL, "blackhole": Way.DROP, "unreachable": Way.ERROR}
VRFS = (0, 1, 5)


@dataclass
class World:
    """Routes by VRF: (prefix, length, route). Of each port: its mode and VRF."""

    bits: int
    routes: dict[int, list[tuple[int, int, urpf.Route]]] = field(default_factory=dict)
    modes: dict[int, str] = field(default_factory=dict)
    vrfs: dict[int, int] = field(default_factory=dict)

    def refusal(self, port: int, source: int) -> str | None:
        table: lpm.Table[urpf.Route] = lpm.Table(self.bits)
        for route in self.routes.get(self.vrfs.get(port, 0), ()):
            table.add(*route)
        return urpf.refusal(self.modes.get(port, ""), port, source, table)

    def tables(self) -> dict[str, NDArray[Any]]:
        fib = (Fib4 if self.bits == 32 else Fib6)(cast("Arena", Heap()))
        records = np.zeros(500, ADJACENCY)
        buckets = np.zeros(500, np.uint32)
        records[0]["edge"] = Way.ERROR
        used, filled = 1, 3  # buckets begin anywhere
        for vrf, routes in self.routes.items():
            for prefix, length, route in routes:
                hops = route.ports if route.kind == "via" else ()
                first = used
                for port in hops or (0,):
                    records[used]["tx_port"] = port
                    usual = (Way.REWRITE, Way.RESOLVE, Way.NOTIFY)[used % 3]
                    records[used]["edge"] = KINDS.get(route.kind, usual)
                    used += 1
                if len(hops) > 1:
                    first, used = used, used + 1
                    size = 1 << (len(hops) - 1).bit_length()
                    records[first]["edge"] = Way.MULTIPATH
                    records[first]["first"], records[first]["mask"] = filled, size - 1
                    for k in range(size):
                        buckets[filled + k] = first - len(hops) + k % len(hops)
                    filled += size
                fib.add(prefix, length, first, vrf)
        ports = np.zeros(4, PORT)
        for port in PORTS:
            ports[port]["urpf"] = MODES[self.modes.get(port, "")]
            ports[port]["vrf"] = self.vrfs.get(port, 0)
        return {"ports": ports, "adjacencies": records, "buckets": buckets, **fib.tables}


def compare(node: Node, world: World, packets: list[tuple[int, bytes, int]]) -> list[str]:
    """Give (port, packet, source) to the node and to the oracle. Returns the edges."""

    def prepare(record: Any, i: int) -> None:
        record["rx_port"] = packets[i][0]
        record["features"] = END if i % 2 else END | 1 << 7

    frames = [b"\x5a" * 14 + packet for _, packet, _ in packets]
    result = run_both(node, frames, l3=14, meta=prepare, tables=world.tables())
    assert result.frames == frames
    for i, (port, _, source) in enumerate(packets):
        reason = world.refusal(port, source)
        if reason:
            assert (result.edges[i], result.reason(i)) == ("drop", reason)
        else:
            assert result.edges[i] == ("arc-end" if i % 2 else "arc-7")
            assert int(result.meta[i]["features"]) == (0 if i % 2 else END)
    assert result.counted == drops(result)
    return result.edges


def worlds(bits: int, prefixes: st.SearchStrategy[tuple[int, int]]) -> st.SearchStrategy[World]:
    """Return worlds of up to eight routes in each VRF."""
    hops = st.lists(st.sampled_from(PORTS), min_size=1, max_size=5).map(tuple)
    route = st.one_of(
        hops.map(lambda ports: urpf.Route("via", ports)),
        st.sampled_from(tuple(KINDS)).map(urpf.Route),
    )
    some = st.lists(st.tuples(prefixes, route), max_size=8).map(
        lambda made: [(prefix, length, route) for (prefix, length), route in made]
    )
    return st.builds(
        World,
        st.just(bits),
        st.dictionaries(st.sampled_from(VRFS), some),
        st.fixed_dictionaries({port: st.sampled_from(tuple(MODES)) for port in PORTS}),
        st.fixed_dictionaries({port: st.sampled_from(VRFS) for port in PORTS}),
    )
