# SPDX-License-Identifier: Apache-2.0
"""Counters of the last process, added to those of this one, by name: what is counted never goes back.

Nodes, their edges and their counters are found by the names in the document "forwarder", rules, policers
and bridges by those in "numbers", pools of NAT by what they say of themselves. What a worker has counted is
the same worker's, or the first one's where there are fewer now. What had been cleared stays cleared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vforward.control.publish import DROPS
from vforward.graph import control as c
from vforward.graph.worker import read_clock
from vforward.layout import EDGE_HELD
from vforward.memory.previous import Previous
from vforward.tables.nat import NAT_POOL
from vforward.tables.policer import POLICER

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

SUMMED = (c.ROUNDS, c.BUSY_ROUNDS, c.SLEEPS, c.ROUND_CLOCKS)
Add = Callable[[NDArray[Any], NDArray[Any]], None]
"""Adds what an old array has counted to a new one."""


@dataclass(frozen=True)
class Nodes:
    """How the last process's nodes are those of this one: pairs of places, old and new.

    rows: of stats. edges: of taken, by row and edge. counts: of counters.
    """

    rows: NDArray[np.int64]
    edges: NDArray[np.int64]
    counts: NDArray[np.int64]


def nodes(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Nodes:
    """By the documents' lists of nodes. Raises what an odd document makes it raise."""
    by_name = {node["name"]: (row, node) for row, node in enumerate(new)}
    rows, edges, counts = [], [], []
    for row, node in enumerate(old):
        if node["name"] not in by_name:
            continue
        here, its = by_name[node["name"]]
        rows.append((row, here))
        ways = {edge["label"]: int(edge["edge"]) for edge in its["edges"]}
        for edge in node["edges"]:
            if edge["label"] in ways:
                edges.append((row, int(edge["edge"]), here, ways[edge["label"]]))
        edges.append((row, EDGE_HELD, here, EDGE_HELD))
        labels = {counter["label"]: at for at, counter in enumerate(its["counters"])}
        for at, counter in enumerate(node["counters"]):
            if counter["label"] in labels:
                counts.append(
                    (int(node["counts_at"]) + at, its["counts_at"] + labels[counter["label"]])
                )
    return Nodes(
        *(
            np.array(pairs, np.int64).reshape(-1, n)
            for pairs, n in ((rows, 2), (edges, 4), (counts, 2))
        )
    )


def add_nodes(previous: Previous, forwarder: Forwarder, places: Nodes, generation: int) -> None:
    """What nodes have counted, of the old graph of a generation. Raises ArenaError, IndexError."""
    rows, edges, counts = places.rows, places.edges, places.counts

    def stats(new: NDArray[Any], old: NDArray[Any]) -> None:
        new[rows[:, 1]] += old[rows[:, 0]]

    def taken(new: NDArray[Any], old: NDArray[Any]) -> None:
        new[edges[:, 2], edges[:, 3]] += old[edges[:, 0], edges[:, 1]]

    def numbers(new: NDArray[Any], old: NDArray[Any]) -> None:
        new[counts[:, 1]] += old[counts[:, 0]]

    for name, add, dimensions in (("stats", stats, 2), ("taken", taken, 2), ("counts", numbers, 1)):
        _add(
            previous, forwarder, name, np.uint64, add, dimensions=dimensions, generation=generation
        )


def add_hits(previous: Previous, forwarder: Forwarder, hits: NDArray[np.int64]) -> None:
    """What rules were found for. hits: by old place the new one, below 0: none."""

    def add(new: NDArray[Any], old: NDArray[Any]) -> None:
        places = np.flatnonzero(hits[: old.size // 2] >= 0)
        new.reshape(-1, 2)[hits[places]] += old.reshape(-1, 2)[places]

    _add(previous, forwarder, "rule-hits", np.uint64, add)


def add_pools(previous: Previous, forwarder: Forwarder) -> None:
    """How often pools of NAT gave a source, or had none."""
    says = ("first", "last", "low", "high")
    here = {
        tuple(int(row[name]) for name in says): n
        for n, row in enumerate(forwarder.firewall.pools.table)
    }
    there = previous.open("nat_pools", NAT_POOL)

    def add(new: NDArray[Any], old: NDArray[Any]) -> None:
        for number in np.flatnonzero(there["high"][: old.size]).tolist():
            to = here.get(tuple(int(there[number][name]) for name in says))
            for name in ("allocated", "exhausted"):
                if to is not None:
                    new[to][name] += old[number][name]

    _add(previous, forwarder, "nat_pools", NAT_POOL, add)


def add_policers(previous: Previous, forwarder: Forwarder, numbers: NDArray[np.int64]) -> None:
    """What policers have seen. numbers: by old number the new one, below 1: none."""
    for name in ("policers", "policers-cleared"):
        old, new = previous.open(name, POLICER), forwarder.arena.open(name, writable=True)
        for number in np.flatnonzero(numbers[: old.size] > 0).tolist():
            for what in ("packets", "bytes"):
                new[int(numbers[number])][what] += old[number][what]


def add_drops(
    previous: Previous,
    forwarder: Forwarder,
    ports: list[dict[str, Any]],
    before: NDArray[np.uint64],
) -> None:
    """What ports had dropped outside of the graph, into before; what was cleared, into its segment."""
    counted = previous.open("drops", np.uint64, dimensions=2)
    cleared = previous.open("drops-cleared", np.uint64, dimensions=2)
    into = forwarder.arena.open("drops-cleared", writable=True)
    for port in ports:
        interface = forwarder.interfaces.by_name.get(port["name"])
        if interface is None or interface.port is None:
            continue
        labels = list(interface.port.statistics())[:DROPS]
        for at, label in enumerate(port["statistics"][:DROPS]):
            if label in labels:
                to = interface.number, labels.index(label)
                before[to] += counted[int(port["number"]), at]
                into[to] += np.minimum(cleared, counted)[int(port["number"]), at]


def add_workers(previous: Previous, forwarder: Forwarder) -> None:
    """Rounds and the like; and since when they count, where the last process's workers had begun."""
    now = read_clock()
    controls = [forwarder.arena.open(name, writable=True) for name in _ours(forwarder, "control")]
    since: dict[str, list[int]] = {"clock": [now] * len(controls), "sleeps": [0] * len(controls)}
    since["rounds"] = [0] * len(controls)
    cleared = dict(previous.document("cleared")) if previous.has("cleared.json") else None
    words = [*SUMMED, *range(c.ROUND_TIMES, c.ROUND_TIMES + c.ROUND_BUCKETS)]
    for worker, to, old in _workers(previous, forwarder, "control", np.uint64):
        controls[to][words] += old[words]
        begun = int(old[c.STARTED]) if cleared is None else int(cleared["clock"][worker])
        if worker == to:
            since["clock"][to] = now - min(max(0, int(old[c.NOW]) - begun), now)
        if cleared is not None:
            for name in ("sleeps", "rounds"):
                since[name][to] += int(cleared[name][worker])
    forwarder.arena.write_document("cleared", since)


def _add(
    previous: Previous,
    forwarder: Forwarder,
    name: str,
    dtype: Any,
    add: Add,
    *,
    dimensions: int = 1,
    generation: int = 0,
) -> None:
    """Add what each old worker's segment of a name has counted, and what was cleared of it."""
    for worker, to, old in _workers(previous, forwarder, name, dtype, dimensions, generation):
        add(forwarder.arena.open(c.segment(name, to), writable=True), old)
        one = f"{_segment(name, worker, generation)}-cleared"
        cleared = previous.open(one, dtype, dimensions=dimensions)
        add(forwarder.arena.open(f"{c.segment(name, to)}-cleared", writable=True), cleared)


def _workers(
    previous: Previous,
    forwarder: Forwarder,
    name: str,
    dtype: Any,
    dimensions: int = 1,
    generation: int = 0,
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Of each old worker's segment of a name: its number, the new worker's who counts on, what it holds."""
    for worker in range(c.WORKERS_MAX):
        one = _segment(name, worker, generation)
        if not previous.has(one):
            return
        to = worker if worker < forwarder.n_workers else 0
        yield worker, to, previous.open(one, dtype, dimensions=dimensions)


def _segment(name: str, worker: int, generation: int) -> str:
    """The name of an old worker's segment, of a graph that has taken the place of so many others."""
    return c.segment(name, worker) + (f".{generation}" if generation else "")


def _ours(forwarder: Forwarder, name: str) -> list[str]:
    return [c.segment(name, worker) for worker in range(forwarder.n_workers)]
