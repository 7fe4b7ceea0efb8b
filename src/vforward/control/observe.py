# SPDX-License-Identifier: Apache-2.0
"""Look into a running forwarder: what its API serves, as rows. Reads shared memory only.

    read     documents forwarder, routes, neighbors, cleared; segments control, stats, taken,
             counts, drops, and what they held when they were last cleared
    written  by clear: the segments NAME-cleared, the firewall's too, and the document "cleared"

Nobody is stopped or waited for, and nothing here imports Numba. A counter is shown as what it has
counted since the last clear.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ArenaError
from vforward.graph import control as c
from vforward.layout import EDGE_HELD
from vforward.memory.arena import Arena
from vforward.memory.place import running, runtime_directory

STATES = {c.IDLE: "idle", c.RUNNING: "running", c.PAUSED: "paused", c.STOPPED: "stopped"}
COUNTED = ("stats", "taken", "counts", "drops")
HITS, POLICERS, POOLS = "rule-hits", "policers", "nat_pools"
"""What the firewall counts in; a forwarder that is only a graph has none."""
OUTSIDE = "counted by the port, outside of the graph"
QUEUE_FULL = "came while the node's queue was full"


@dataclass(frozen=True)
class Listing:
    """Rows of a table that may be long: the first of them, and how many there are."""

    count: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class NodeRow:
    """What a node has done."""

    name: str
    kind: str
    calls: int
    packets: int
    clocks_per_packet: float
    packets_per_call: float
    share: float  # of the clocks spent on packets
    empty_polls: int
    clocks_per_empty_poll: float


@dataclass(frozen=True)
class Runtime:
    """What the worker has done."""

    name: str
    pid: int
    state: str
    vector: int
    seconds: float  # since the last clear, or since the worker started
    packets: int  # that came in by ports
    packets_per_second: float
    clocks_per_packet: float  # of all nodes, per packet that came in
    load: float  # part of the time spent on packets
    sleeps: int
    rounds: int
    nodes: list[NodeRow]


@dataclass(frozen=True)
class Moved:
    """What went through a port one way."""

    packets: int
    bytes: int
    drops: int


@dataclass(frozen=True)
class PortRow:
    """A port, or a sub-interface: its parent counts its packets. rx None: nothing comes in.

    touched: of a port that makes packets, which of their bytes it writes. other_end: how it stands with
    what is outside: who is there, of a port whose peers come and go, or what was chosen.
    """

    number: int
    name: str
    type: str
    mac: str
    mtu: int
    addresses: list[str]
    parent: str
    vlan: int
    peer: str
    rx: Moved | None
    tx: Moved | None
    touched: str = ""
    other_end: str = ""
    inner: int = 0
    bridge: str = ""
    vrf: str = "default"
    urpf: str = ""


@dataclass(frozen=True)
class ErrorRow:
    """A counter that is not zero. drop: it counts packets that were dropped."""

    node: str
    reason: str
    count: int
    drop: bool
    help: str


@dataclass(frozen=True)
class EdgeRow:
    """A way out of a node, and the packets that took it."""

    label: str
    to: str
    packets: int


@dataclass(frozen=True)
class WaysRow:
    """A node and its ways out. ended: packets that went nowhere: sent, freed or held.

    made: packets that it made besides those it was given; they are in its edges too.
    """

    name: str
    kind: str
    packets: int
    edges: list[EdgeRow]
    ended: int
    made: int = 0


def choose(name: str = "") -> str:
    """The name, or that of the only forwarder running. Raises ArenaError: none, or several."""
    if name:
        return name
    names = running()
    if not names:
        where = runtime_directory()
        msg = f"no forwarder is running (looked in {where}); start one: vforward run FILE"
        raise ArenaError(msg)
    if len(names) > 1:
        msg = f"several forwarders are running: {', '.join(names)}; choose one with -n NAME"
        raise ArenaError(msg)
    return names[0]


def attach(name: str = "") -> View:
    """Look into the forwarder of that name, or into the only one. Raises ArenaError."""
    return View(Arena.attach(choose(name)))


class View:
    """A running forwarder, seen from outside. A context manager: leaving it detaches."""

    def __init__(self, arena: Arena, *, heeds_clear: bool = True) -> None:
        """heeds_clear: False, counters are shown as counted since the forwarder began."""
        self.arena = arena
        self._heeds_clear = heeds_clear
        if not (arena.path / "forwarder.json").exists():
            msg = f"forwarder {arena.name!r} is still starting; try again when it forwards"
            raise ArenaError(msg)
        self.about: dict[str, Any] = arena.read_document("forwarder")
        self.control = arena.open("control")
        self.nodes: list[dict[str, Any]] = self.about["nodes"]
        self._number = {node["name"]: number for number, node in enumerate(self.nodes)}

    def close(self) -> None:
        """Detach. Harmless when repeated."""
        self.arena.close()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def runtime(self) -> Runtime:
        """What the worker and its nodes have done."""
        stats, since = self._since("stats"), self._cleared()
        received = [self._number[port["rx"]] for port in self.about["ports"] if port["rx"]]
        packets = int(stats[received, c.PACKETS].sum())
        busy = int(stats[:, c.CLOCKS].sum())
        clocks = max(0, int(self.control[c.NOW]) - since["clock"])
        seconds = clocks / self.about["tsc_hz"]
        return Runtime(
            name=self.about["name"],
            pid=self.about["pid"],
            state=STATES.get(int(self.control[c.STATE]), "unknown"),
            vector=int(self.control[c.VECTOR]),
            seconds=seconds,
            packets=packets,
            packets_per_second=_ratio(packets, seconds),
            clocks_per_packet=_ratio(busy, packets),
            load=min(1.0, _ratio(busy, clocks)),
            sleeps=int(self.control[c.SLEEPS]) - since["sleeps"],
            rounds=int(self.control[c.ROUNDS]) - since["rounds"],
            nodes=[_node_row(node, row, busy) for node, row in zip(self.nodes, stats, strict=True)],
        )

    def ports(self) -> list[PortRow]:
        """The ports by number."""
        stats, taken = self._since("stats"), self._since("taken")
        counts, drops = self._since("counts"), self._since("drops")
        peers = self.arena.read_document("peers")
        rows = []
        for port in self.about["ports"]:
            rx, tx = self._number.get(port["rx"]), self._number.get(port["tx"])
            outside = int(drops[port["number"], : len(port["statistics"])].sum())
            received = sent = None
            if rx is not None:
                lost = outside + self._drops(counts, rx)
                received = Moved(int(stats[rx, c.PACKETS]), self._bytes(counts, rx), lost)
            if tx is not None:
                packets, lost = int(taken[tx, EDGE_HELD]), self._drops(counts, tx)
                sent = Moved(packets, self._bytes(counts, tx), lost)
            rows.append(_port_row(port, received, sent, peers.get(port["name"], "")))
        return sorted(rows, key=lambda row: row.number)

    def errors(self) -> list[ErrorRow]:
        """The counters that are not zero: drops first, each kind in the graph's order."""
        counts, stats, drops = self._since("counts"), self._since("stats"), self._since("drops")
        rows = []
        for number, node in enumerate(self.nodes):
            for counter, count in zip(node["counters"], self._counts(counts, number), strict=True):
                label, text = counter["label"], counter["help"]
                rows.append(ErrorRow(node["name"], label, int(count), counter["drop"], text))
            full = int(stats[number, c.FULL])
            rows.append(ErrorRow(node["name"], "queue-full", full, True, QUEUE_FULL))
        for port in self.about["ports"]:
            for label, count in zip(port["statistics"], drops[port["number"]], strict=False):
                rows.append(ErrorRow(port["name"], label, int(count), True, OUTSIDE))
        return sorted((row for row in rows if row.count), key=lambda row: not row.drop)

    def graph(self) -> list[WaysRow]:
        """The nodes in the order in which they run, each with its ways out."""
        stats, taken = self._since("stats"), self._since("taken")
        rows = []
        for node, stat, by_edge in zip(self.nodes, stats, taken, strict=True):
            packets, ended = int(stat[c.PACKETS]), int(by_edge[EDGE_HELD])
            edges = [EdgeRow(e["label"], e["to"], int(by_edge[e["edge"]])) for e in node["edges"]]
            made = int(stat[c.EMITTED])
            rows.append(WaysRow(node["name"], node["kind"], packets, edges, ended, made))
        return rows

    def routes(self) -> Listing:
        """The routes in force: prefix, kind, via, paths, port, metric, vrf, source."""
        found = self.arena.read_document("routes")
        return Listing(found["count"], found["routes"])

    def bridges(self) -> list[dict[str, Any]]:
        """The bridges: ports, MACs learned, and how often one moved."""
        return list(self.arena.read_document("bridges")["bridges"])

    def macs(self) -> Listing:
        """Who is behind which port of a bridge: bridge, mac, port, static, age (None: static)."""
        found = self.arena.read_document("bridges")
        return Listing(found["count"], found["macs"])

    def neighbors(self) -> Listing:
        """The neighbors: port, address, mac, state, age (s; None: configured)."""
        now = time.monotonic()  # one clock for all processes
        found = self.arena.read_document("neighbors")
        return Listing(found["count"], [_neighbor(row, now) for row in found["neighbors"]])

    def has(self, name: str) -> bool:
        """Whether there is a segment of that name."""
        return (self.arena.path / name).exists()

    def before(self, name: str) -> NDArray[Any]:
        """A copy of what a segment held when it was cleared last: what is to be subtracted."""
        cleared = self.arena.open(f"{name}-cleared")
        return cleared.copy() if self._heeds_clear else np.zeros_like(cleared)

    def clear(self) -> None:
        """Count from zero from now on. The worker's own counters are left alone."""
        with Arena.attach(self.arena.name) as writer:
            for name in (*COUNTED, *filter(self.has, (HITS, POLICERS, POOLS))):
                writer.open(f"{name}-cleared", writable=True)[:] = self.arena.open(name)
        words = {"clock": c.NOW, "sleeps": c.SLEEPS, "rounds": c.ROUNDS}
        content = {name: int(self.control[word]) for name, word in words.items()}
        self.arena.write_document("cleared", content)

    def _cleared(self) -> dict[str, int]:
        if self._heeds_clear and (self.arena.path / "cleared.json").exists():
            return dict(self.arena.read_document("cleared"))
        return {"clock": int(self.control[c.STARTED]), "sleeps": 0, "rounds": 0}

    def _since(self, name: str) -> NDArray[np.uint64]:
        """What the segment has counted since it was cleared, row by row as the documents say."""
        before = self.before(name)  # first: a counter only grows
        live = self.arena.open(name)
        if name in ("stats", "taken") and live.shape[0] != len(self.nodes):
            shape = f"{live.shape[0]} rows of {name} for {len(self.nodes)} nodes"
            msg = f"arena {self.arena.name!r}: {shape}"
            raise ArenaError(msg)
        return np.asarray(live - before, np.uint64)

    def _counts(self, counts: NDArray[np.uint64], number: int) -> NDArray[np.uint64]:
        node = self.nodes[number]
        return counts[node["counts_at"] :][: len(node["counters"])]

    def _drops(self, counts: NDArray[np.uint64], number: int) -> int:
        pairs = zip(self.nodes[number]["counters"], self._counts(counts, number), strict=True)
        return sum(int(count) for counter, count in pairs if counter["drop"])

    def _bytes(self, counts: NDArray[np.uint64], number: int) -> int:
        labels = [counter["label"] for counter in self.nodes[number]["counters"]]
        if "bytes" not in labels:
            return 0
        return int(self._counts(counts, number)[labels.index("bytes")])


def _node_row(node: dict[str, Any], row: NDArray[np.uint64], busy: int) -> NodeRow:
    calls, packets, clocks = (int(row[word]) for word in (c.CALLS, c.PACKETS, c.CLOCKS))
    return NodeRow(
        name=node["name"],
        kind=node["kind"],
        calls=calls,
        packets=packets,
        clocks_per_packet=_ratio(clocks, packets),
        packets_per_call=_ratio(packets, calls),
        share=_ratio(clocks, busy),
        empty_polls=int(row[c.EMPTY_CALLS]),
        clocks_per_empty_poll=_ratio(int(row[c.EMPTY_CLOCKS]), int(row[c.EMPTY_CALLS])),
    )


def _port_row(port: dict[str, Any], rx: Moved | None, tx: Moved | None, other_end: str) -> PortRow:
    return PortRow(
        number=port["number"],
        name=port["name"],
        type=port["type"],
        mac=port["mac"],
        mtu=port["mtu"],
        addresses=port["addresses"],
        parent=port.get("parent") or "",
        vlan=port.get("vlan") or 0,
        inner=port.get("inner") or 0,
        peer=port.get("peer") or "",
        bridge=port.get("bridge") or "",
        vrf=port.get("vrf") or "default",
        urpf=port.get("urpf") or "",
        rx=rx,
        tx=tx,
        touched=port.get("touched") or "",
        other_end=other_end,
    )


def _neighbor(row: dict[str, Any], now: float) -> dict[str, Any]:
    rest = {key: value for key, value in row.items() if key != "since"}
    age = None if row["state"] == "static" else round(max(0.0, now - row["since"]), 3)
    return {**rest, "age": age}


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0
