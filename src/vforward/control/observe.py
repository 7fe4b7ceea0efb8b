# SPDX-License-Identifier: Apache-2.0
"""Look into a running forwarder: what `vforward show` shows, as rows. Reads shared memory only.

    read     documents forwarder, routes, neighbors, cleared; segment drops and, of each worker, control,
             stats, taken and counts, and what they held when they were last cleared
    written  by clear: the segments NAME-cleared, the firewall's too, and the document "cleared"

Nobody is stopped or waited for, and nothing here imports Numba. A counter is shown as what it has
counted since the last clear, on all workers together.
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
COUNTED = ("stats", "taken", "counts")
"""Of each worker. Besides there are the ports' drops."""
HITS, POLICERS, POOLS = "rule-hits", "policers", "nat_pools"
"""What the firewall counts in; a forwarder that is only a graph has none."""
OUTSIDE = "counted by the port, outside of the graph"
QUEUE_FULL = "came while the node's queue was full"


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
    """What the workers have done."""

    name: str
    pid: int
    state: str  # of the worker that is not running, if there is one
    vector: int
    seconds: float  # since the last clear, or since the workers started
    packets: int  # that came in by ports
    packets_per_second: float
    clocks_per_packet: float  # of all nodes, per packet that came in
    load: float  # part of the workers' time spent on packets
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

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        if not (arena.path / "forwarder.json").exists():
            msg = f"forwarder {arena.name!r} is still starting; try again when it forwards"
            raise ArenaError(msg)
        self.about: dict[str, Any] = arena.read_document("forwarder")
        self.workers: int = self.about["workers"]
        self.controls = [arena.open(name) for name in self.segments("control")]
        self.nodes: list[dict[str, Any]] = self.about["nodes"]
        self._number = {node["name"]: number for number, node in enumerate(self.nodes)}

    def close(self) -> None:
        """Detach. Harmless when repeated."""
        self.arena.close()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def segments(self, name: str) -> list[str]:
        """By worker, the name of its own segment."""
        return [c.segment(name, worker) for worker in range(self.workers)]

    def runtime(self) -> Runtime:
        """What the workers and their nodes have done."""
        stats, since = self._since("stats"), self.cleared()
        packets = int(stats[self.received(), c.PACKETS].sum())
        busy = int(stats[:, c.CLOCKS].sum())
        clocks = [self.clocks(worker, since) for worker in range(self.workers)]
        seconds = max(clocks) / self.about["tsc_hz"]
        states = {int(control[c.STATE]) for control in self.controls}
        return Runtime(
            name=self.about["name"],
            pid=self.about["pid"],
            state=STATES.get(min(states - {c.RUNNING}, default=c.RUNNING), "unknown"),
            vector=int(self.controls[0][c.VECTOR]),
            seconds=seconds,
            packets=packets,
            packets_per_second=_ratio(packets, seconds),
            clocks_per_packet=_ratio(busy, packets),
            load=min(1.0, _ratio(busy, sum(clocks))),
            sleeps=sum(self.words(c.SLEEPS)) - sum(since["sleeps"]),
            rounds=sum(self.words(c.ROUNDS)) - sum(since["rounds"]),
            nodes=[_node_row(node, row, busy) for node, row in zip(self.nodes, stats, strict=True)],
        )

    def ports(self) -> list[PortRow]:
        """The ports by number."""
        stats, taken = self._since("stats"), self._since("taken")
        counts, drops = self._since("counts"), self._since("drops")
        peers = self.arena.read_document("peers")
        rows = []
        for port in self.about["ports"]:
            rx, tx = [self._number[name] for name in port["rx"]], self._number.get(port["tx"])
            outside = int(drops[port["number"], : len(port["statistics"])].sum())
            received = sent = None
            if rx:
                lost = outside + sum(self._drops(counts, node) for node in rx)
                length = sum(self._bytes(counts, node) for node in rx)
                received = Moved(int(stats[rx, c.PACKETS].sum()), length, lost)
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

    def routes(self) -> list[dict[str, Any]]:
        """The routes in force: prefix, kind, via, port, metric, vrf; the last may say how many more."""
        found = self.arena.read_document("routes")
        rows = list(found["routes"])
        if more := found["count"] - len(rows):
            rows.append({"prefix": f"... and {more:,} more"})
        return rows

    def bridges(self) -> list[dict[str, Any]]:
        """The bridges: ports, MACs learned, and how often one moved."""
        return list(self.arena.read_document("bridges")["bridges"])

    def macs(self) -> list[dict[str, Any]]:
        """Who is behind which port of a bridge; the last row may say how many more there are."""
        found = self.arena.read_document("bridges")
        rows = list(found["macs"])
        if more := found["count"] - len(rows):
            rows.append({"bridge": f"... and {more:,} more"})
        return rows

    def neighbors(self) -> list[dict[str, Any]]:
        """The neighbors: port, address, mac, state, age (s; None: configured).

        The last row may say how many more there are.
        """
        now = time.monotonic()  # one clock for all processes
        found = self.arena.read_document("neighbors")
        rows = [_neighbor(row, now) for row in found["neighbors"]]
        if more := found["count"] - len(rows):
            rows.append({"address": f"... and {more:,} more"})
        return rows

    def has(self, name: str) -> bool:
        """Whether there is a segment of that name."""
        return (self.arena.path / name).exists()

    def clear(self) -> None:
        """Count from zero from now on. The worker's own counters are left alone."""
        each = [*COUNTED, *filter(self.has, (HITS, POOLS))]
        shared = ["drops", *filter(self.has, (POLICERS,))]
        with Arena.attach(self.arena.name) as writer:
            for name in [*shared, *(one for names in map(self.segments, each) for one in names)]:
                writer.open(f"{name}-cleared", writable=True)[:] = self.arena.open(name)
        words = {"clock": c.NOW, "sleeps": c.SLEEPS, "rounds": c.ROUNDS}
        content = {name: self.words(word) for name, word in words.items()}
        self.arena.write_document("cleared", content)

    def since(self, name: str) -> NDArray[np.uint64]:
        """What a segment has counted since it was cleared, row by row as the documents say."""
        live, cleared = self.arena.open(name), self.arena.open(f"{name}-cleared")
        if name.startswith(("stats", "taken")) and live.shape[0] != len(self.nodes):
            shape = f"{live.shape[0]} rows of {name} for {len(self.nodes)} nodes"
            msg = f"arena {self.arena.name!r}: {shape}"
            raise ArenaError(msg)
        before = cleared.copy()  # before live: a counter only grows
        return np.asarray(live - before, np.uint64)

    def _since(self, name: str) -> NDArray[np.uint64]:
        """The same of all workers' segments of a name, and of one that they share."""
        names = self.segments(name) if name in COUNTED else [name]
        return np.sum([self.since(one) for one in names], axis=0, dtype=np.uint64)

    def received(self) -> list[int]:
        """The receive nodes of all ports."""
        return [self._number[name] for port in self.about["ports"] for name in port["rx"]]

    def words(self, word: int) -> list[int]:
        """A control word of each worker's."""
        return [int(control[word]) for control in self.controls]

    def clocks(self, worker: int, since: dict[str, list[int]]) -> int:
        """How long a worker has been at it since the last clear, or since it started."""
        return max(0, int(self.controls[worker][c.NOW]) - since["clock"][worker])

    def cleared(self) -> dict[str, list[int]]:
        if (self.arena.path / "cleared.json").exists():
            return dict(self.arena.read_document("cleared"))
        nothing = [0] * self.workers
        return {"clock": self.words(c.STARTED), "sleeps": nothing, "rounds": nothing}

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
