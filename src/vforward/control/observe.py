# SPDX-License-Identifier: Apache-2.0
"""Look into a running forwarder: what its API serves, as rows. Reads shared memory only.

    read     documents forwarder, routes, neighbors, cleared; segment drops and, of each worker, control,
             and of each graph too stats, taken and counts, and what they held when they were last cleared
    written  by clear: the segments NAME-cleared, the firewall's too, and the document "cleared"

Nobody is stopped or waited for, and nothing here imports Numba. A counter is shown as what it has
counted since the last clear, on all workers together.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control.observe_rows import (
    OUTSIDE,
    QUEUE_FULL,
    EdgeRow,
    ErrorRow,
    Listing,
    Moved,
    PortRow,
    Runtime,
    WaysRow,
    neighbor,
    node_row,
    port_row,
    ratio,
)
from vforward.errors import ArenaError
from vforward.graph import control as c
from vforward.layout import EDGE_HELD
from vforward.memory.arena import Arena
from vforward.memory.place import refuse_foreign, running, runtime_directory

STATES = {c.IDLE: "idle", c.RUNNING: "running", c.PAUSED: "paused", c.STOPPED: "stopped"}
COUNTED = ("stats", "taken", "counts")
"""Of each worker. Besides there are the ports' drops."""
OF_GRAPH = (*COUNTED, "trace")
"""Segments that each graph has of its own."""
HITS, POLICERS, POOLS = "rule-hits", "policers", "nat_pools"
"""What the firewall counts in; a forwarder that is only a graph has none."""


def choose(name: str = "") -> str:
    """The name, or that of the only forwarder running. Raises ArenaError: none, or several."""
    if name:
        return name
    names = running()
    if not names:
        where = runtime_directory()
        if where.exists():
            refuse_foreign(where)  # what runs there may be one's own all the same
        msg = (
            f"no forwarder is running (looked in {where}); start one: vforward run FILE, or ask as the "
            "user of the one that runs"
        )
        raise ArenaError(msg)
    if len(names) > 1:
        msg = f"several forwarders are running: {', '.join(names)}; choose one with -n NAME"
        raise ArenaError(msg)
    return names[0]


def attach(name: str = "") -> View:
    """Look into the forwarder of that name, or into the only one. Raises ArenaError."""
    return View(Arena.attach(choose(name)))


@dataclass
class _Line:
    """Views of one forwarder, of which the newest counts."""

    lock: threading.Lock
    newest: View


class View:
    """A running forwarder, seen from outside. A context manager: leaving it detaches.

    A view is of one graph; ``now`` gives that of the graph that has taken its place, if there is one.
    """

    def __init__(
        self, arena: Arena, *, heeds_clear: bool = True, line: _Line | None = None
    ) -> None:
        """heeds_clear: False, counters are shown as counted since the forwarder began. line: of views."""
        self.arena = arena
        self._heeds_clear = heeds_clear
        if not (arena.path / "forwarder.json").exists():
            msg = f"forwarder {arena.name!r} is still starting; try again when it forwards"
            raise ArenaError(msg)
        self.stamp = self._read()
        self._number = {node["name"]: number for number, node in enumerate(self.nodes)}
        self._line = line or _Line(threading.Lock(), self)
        self._documents: dict[str, tuple[tuple[int, int], Any]] = {}

    def _read(self) -> tuple[int, int]:
        """Read who it is, and map what its graph counts in: all of it is there until nobody looks."""
        while True:
            stamp = _stamp(self.arena)
            self.about: dict[str, Any] = self.arena.read_document("forwarder")
            self.workers: int = self.about["workers"]
            self.generation: int = self.about.get("generation", 0)
            self.nodes: list[dict[str, Any]] = self.about["nodes"]
            try:
                self.controls = [self.arena.open(name) for name in self.segments("control")]
                for name in ("trace", *COUNTED):
                    for one in self.segments(name):
                        self.arena.open(one)
                        if name in COUNTED:
                            self.arena.open(f"{one}-cleared")
            except ArenaError:
                if stamp == _stamp(self.arena):
                    raise
            else:
                return stamp

    def now(self) -> View:
        """The forwarder as it is now: the newest view of it. Any thread. Raises ArenaError."""
        with self._line.lock:
            if self._line.newest.stamp != _stamp(self.arena):
                self._line.newest = View(
                    Arena.attach(self.arena.name), heeds_clear=self._heeds_clear, line=self._line
                )
            return self._line.newest

    def close(self) -> None:
        """Detach. Harmless when repeated."""
        self.arena.close()
        self._line.newest.arena.close()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def document(self, name: str) -> Any:
        """What is published under that name, not to be changed: read when it was written anew.

        Raises ArenaError when there is none. Any thread.
        """
        stamp = _stamp(self.arena, name)
        before, content = self._documents.get(name, (None, None))
        if before != stamp:  # what is read may be newer than the stamp: then it is read once more
            content = self.arena.read_document(name)
            self._documents[name] = stamp, content
        return content

    def segments(self, name: str) -> list[str]:
        """By worker, the name of its own segment."""
        generation = self.generation if name in OF_GRAPH else 0
        return [c.segment(name, worker, generation) for worker in range(self.workers)]

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
            packets_per_second=ratio(packets, seconds),
            clocks_per_packet=ratio(busy, packets),
            load=min(1.0, ratio(busy, sum(clocks))),
            sleeps=sum(self.words(c.SLEEPS)) - sum(since["sleeps"]),
            rounds=sum(self.words(c.ROUNDS)) - sum(since["rounds"]),
            nodes=[node_row(node, row, busy) for node, row in zip(self.nodes, stats, strict=True)],
        )

    def ports(self) -> list[PortRow]:
        """The ports by number."""
        stats, taken = self._since("stats"), self._since("taken")
        counts, drops = self._since("counts"), self._since("drops")
        peers = self.document("peers")
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
            rows.append(port_row(port, received, sent, peers.get(port["name"], "")))
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
        found = self.document("routes")
        return Listing(found["count"], found["routes"])

    def bridges(self) -> list[dict[str, Any]]:
        """The bridges: ports, MACs learned, and how often one moved."""
        return list(self.document("bridges")["bridges"])

    def macs(self) -> Listing:
        """Who is behind which port of a bridge: bridge, mac, port, static, age (None: static)."""
        found = self.document("bridges")
        return Listing(found["count"], found["macs"])

    def neighbors(self) -> Listing:
        """The neighbors: port, address, mac, state, age (s; None: configured)."""
        now = time.monotonic()  # one clock for all processes
        found = self.document("neighbors")
        return Listing(found["count"], [neighbor(row, now) for row in found["neighbors"]])

    def has(self, name: str) -> bool:
        """Whether there is a segment of that name."""
        return (self.arena.path / name).exists()

    def before(self, name: str) -> NDArray[Any]:
        """A copy of what a segment held when it was cleared last: what is to be subtracted."""
        cleared = self.arena.open(f"{name}-cleared")
        return cleared.copy() if self._heeds_clear else np.zeros_like(cleared)

    def clear(self) -> None:
        """Count from zero from now on. The worker's own counters are left alone."""
        each = [*COUNTED, *filter(self.has, (HITS, POOLS))]
        shared = ["drops", *filter(self.has, (POLICERS,))]
        try:
            with Arena.attach(self.arena.name) as writer:
                for name in [
                    *shared,
                    *(one for names in map(self.segments, each) for one in names),
                ]:
                    writer.open(f"{name}-cleared", writable=True)[:] = self.arena.open(name)
        except ArenaError:
            if self.now() is self:
                raise
        if self.now() is not self:  # another graph took its place meanwhile
            self.now().clear()
            return
        words = {"clock": c.NOW, "sleeps": c.SLEEPS, "rounds": c.ROUNDS}
        content = {name: self.words(word) for name, word in words.items()}
        self.arena.write_document("cleared", content)

    def since(self, name: str) -> NDArray[np.uint64]:
        """What a segment has counted since it was cleared, row by row as the documents say."""
        before = self.before(name)  # first: a counter only grows
        live = self.arena.open(name)
        if name.startswith(("stats", "taken")) and live.shape[0] != len(self.nodes):
            shape = f"{live.shape[0]} rows of {name} for {len(self.nodes)} nodes"
            msg = f"arena {self.arena.name!r}: {shape}"
            raise ArenaError(msg)
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
        """By worker, what its words were when it was cleared last, or when it started."""
        if self._heeds_clear and (self.arena.path / "cleared.json").exists():
            return dict(self.document("cleared"))
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


def _stamp(arena: Arena, name: str = "forwarder") -> tuple[int, int]:
    """Other than before when the document was published anew. Raises ArenaError."""
    try:
        status = (arena.path / f"{name}.json").stat()
    except OSError as error:
        what = "is gone" if name == "forwarder" else f"has no document {name!r}"
        raise ArenaError(f"forwarder {arena.name!r} {what}: {error.strerror}") from error
    return status.st_ino, status.st_mtime_ns
