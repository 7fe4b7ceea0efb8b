# SPDX-License-Identifier: Apache-2.0
"""The network of `strategies` as tables of the nodes, and the calls that every node's test makes.

Port numbers are positions in strategies.PORTS, from 1 on; port 0 is down, and no packet's.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import strategies
from oracles import ethernet
from oracles.router import Port
from tables import nat_sessions
from vforward.graph.arcs import END
from vforward.graph.node import Node
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.nodes.ip4.lookup import Edge as Way
from vforward.tables import rate_limit
from vforward.tables.addresses import ADDRESS, mapped_int
from vforward.tables.adjacency import ADJACENCY, REWRITE_MAX
from vforward.tables.fib import Fib4
from vforward.tables.ports import CROSS_CONNECTED, NO_MAC, PORT, ROUTED, TAGGED, VIDS
from vforward.testing.run_node import Result, run_node

NUMBER = {port.name: i for i, port in enumerate(strategies.PORTS, 1)}
NAME = {i: name for name, i in NUMBER.items()}
N_PORTS = len(strategies.PORTS) + 1
META_OF_RECEIVE = ("off", "end", "l3", "flags", "rest", "rx_port")


class Heap:
    """What a table needs of an arena, in this process's memory."""

    def make(
        self, _: str, shape: int | tuple[int, ...], dtype: Any, *, sparse: bool = False
    ) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    def use(self, _: str, _first: int, last: int) -> int:
        return last


def number(mac: bytes) -> int:
    return int.from_bytes(mac, "big")


@cache
def ports() -> NDArray[Any]:
    table = np.zeros(N_PORTS, PORT)
    table["filter"] = NO_MAC
    for i, port in enumerate(strategies.PORTS, 1):
        to = table[i]
        to["mac"], to["mtu"], to["parent"] = (
            number(port.mac),
            port.mtu,
            NUMBER[port.parent or port.name],
        )
        to["output"] = to["parent"] - 1
        if port.vid:
            to["vlan"], to["tpid"], to["tags"] = port.vid, ethernet.VLAN, 1
            table["flags"][to["parent"]] = TAGGED
        to["address"] = port.addresses[0][0] if port.addresses else 0
        if port.mode == "xconnect":
            to["mode"], to["peer"] = CROSS_CONNECTED, NUMBER[port.peer or ""]
        else:
            to["mode"], to["filter"] = ROUTED, number(port.mac)
    return table


@cache
def vlans() -> NDArray[np.uint16]:
    table = np.zeros(N_PORTS * VIDS, np.uint16)
    for port in strategies.PORTS:
        if port.parent and port.vid:
            table[NUMBER[port.parent] * VIDS + port.vid] = NUMBER[port.name]
    return table


@cache
def own_addresses() -> NDArray[Any]:
    table = np.zeros(2 * len(strategies.OURS), ADDRESS)  # every second one is unused
    table["low"][1::2] = [mapped_int(ip) for ip in strategies.OURS]
    table["port"][1::2], table["length"] = 1, 128
    return table


def no_features(n: int = N_PORTS) -> NDArray[np.uint64]:
    """Masks of an arc with nothing enabled."""
    return np.full(n + 1, END, np.uint64)


def no_limits() -> NDArray[np.uint64]:
    """ICMP errors as many as there are to send."""
    return np.zeros(rate_limit.items_for(1), np.uint64)


def rewrite_bytes(header: bytes) -> NDArray[np.uint64]:
    """A link-layer header as an adjacency holds it; what is in front of it must not get out."""
    return np.frombuffer(header.rjust(REWRITE_MAX, b"\x5a"), np.uint64)


def adjacency(port: Port, next_hop: int, mac: bytes | None) -> NDArray[Any]:
    """One record, ADJACENCY[1]: to a neighbor, or (mac None) to one that has to be asked for."""
    record = np.zeros(1, ADJACENCY)
    record["tx_port"], record["mtu"] = NUMBER[port.name], port.mtu
    record["next_hop"] = 0, mapped_int(next_hop) if next_hop else 0
    record["edge"] = Way.RESOLVE
    if mac is not None:
        header = ethernet.header(mac, port.mac, ethernet.IP4, ethernet.tag_of(port.vid))
        record["edge"], record["rewrite_len"] = Way.REWRITE, len(header)
        record["rewrite"] = rewrite_bytes(header)
    return record


def refusing(edge: Way, icmp: int = 0) -> NDArray[Any]:
    record = np.zeros(1, ADJACENCY)
    record["edge"], record["icmp"] = edge, icmp
    return record


@cache
def routing() -> tuple[Fib4, NDArray[Any]]:
    """The table and the adjacencies that lead where the oracle's routes and neighbors do."""
    router = strategies.router()
    fib = Fib4(cast("Arena", Heap()), n_vrfs=1, max_lines=4096)
    records = [refusing(Way.ERROR, 3 << 8)]
    known: dict[tuple[Any, ...], int] = {}

    def at(key: tuple[Any, ...], record: NDArray[Any]) -> int:
        if key not in known:
            known[key] = len(records)
            records.append(record)
        return known[key]

    always = {
        "local": refusing(Way.LOCAL),
        "blackhole": refusing(Way.DROP),
        "unreachable": refusing(Way.ERROR, 3 << 8 | 1),
        "prohibit": refusing(Way.ERROR, 3 << 8 | 13),
    }
    for prefix, length, route in router.fib.routes:
        if route.kind in always:
            where = at((route.kind,), always[route.kind])
        else:
            port, hop = router.port[route.port or ""], route.next_hop or 0
            where = at(
                (port.name, hop), adjacency(port, hop, router.neighbors.get((port.name, hop)))
            )
        fib.add(prefix, length, where)
    for (name, address), its_mac in router.neighbors.items():
        found = router.fib.lookup(address)
        if found is not None and (found.kind, found.port) == ("glean", name):
            where = at((name, address), adjacency(router.port[name], address, its_mac))
            fib.add(address, 32, where)
    return fib, np.concatenate(records)


@cache
def tables() -> dict[str, NDArray[Any]]:
    """All tables of all nodes."""
    fib, adjacencies = routing()
    return {
        "ports": ports(),
        "vlans": vlans(),
        "inner_vlans": np.zeros(VIDS, np.uint16),
        "addresses": own_addresses(),
        "features": no_features(),
        **fib.tables,
        "adjacencies": adjacencies,
        "buckets": np.zeros(1, np.uint32),
        "icmp_limits": no_limits(),
        "sessions": nat_sessions.table(1),
    }


def run_both(
    node: Node, frames: Sequence[bytes], *, compare: Sequence[str] = META_OF_RECEIVE, **given: Any
) -> Result:
    """run_node at vector sizes 256, 1 and 3, which must agree, with the network's tables."""
    tables_ = {**tables(), **given.pop("tables", {})}
    first, *others = (
        run_node(node, frames, vector=v, tables=tables_, **given) for v in (VECTOR_MAX, 1, 3)
    )
    for other in others:
        assert (other.edges, other.frames, other.emitted, other.counters) == (
            first.edges, first.frames, first.emitted, first.counters,
        )  # fmt: skip
        for name in compare:
            assert (other.meta[name] == first.meta[name]).all(), name
    return first


def drops(result: Result) -> dict[str, int]:
    """How many packets left by the edge drop, by the reason in their meta."""
    found: dict[str, int] = {}
    for i, edge in enumerate(result.edges):
        if edge == "drop":
            found[result.reason(i)] = found.get(result.reason(i), 0) + 1
    return found


def bytes_from_l3(result: Result, i: int) -> bytes:
    """Packet i as the nodes of IP see it: from its network header on."""
    frame = result.frames[i]
    assert frame is not None
    return frame[int(result.meta[i]["l3"]) - int(result.meta[i]["off"]) :]
