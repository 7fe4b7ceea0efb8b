# SPDX-License-Identifier: Apache-2.0
"""Follow packets through a running forwarder: ask its workers to mark some, read what they record.

    written  control words TRACING and TRACE_WANTED, and TRACED_ROWS while the worker does not trace
    read     each worker's segment trace, up to TRACED_ROWS

One process at a time does that: it holds a lock on the file of the segment control. What was recorded while
another graph took the old one's place is forgotten, and begun anew.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control import dissect
from vforward.control.observe import View
from vforward.errors import ArenaError, ConfigError
from vforward.graph import control as c
from vforward.layout import EDGE_HELD, VECTOR_MAX
from vforward.memory.arena import Arena

BATCH = 512
"""Packets marked at once: their records fit into the trace, 16 for each."""
LOOK_S = 0.002
SETTLE_S = 0.05
"""How long a packet that a node keeps may take to go on, to the answer of an ARP request say."""
LATE_S = 1.0
"""How long a worker that gave a packet away may take to say so. It finds none of it where the other one has
sent it and used its buffer anew meanwhile."""
PATIENCE_S = 5.0
"""Longest wait for a worker's round."""
DROP = "drop"
HANDS_OFF = "-hand-off"
"""What names of nodes end with that give a packet to another worker: there it goes on."""


@dataclass(frozen=True)
class Step:
    """A packet at a node. edge: how it left, or "" and end: "sent", "freed", "kept"."""

    node: str
    edge: str
    to: str
    end: str
    reason: str  # why it was dropped, "" when it was not
    microseconds: float  # since its first step
    bytes: int
    text: str  # what the packet was when it left the node


@dataclass(frozen=True)
class TracedPacket:
    """A packet's way."""

    number: int
    port: str  # where it came in
    steps: list[Step]


def collect(view: View, count: int, node: str = "", timeout_s: float = 10.0) -> list[TracedPacket]:
    """Follow the next count packets, of one input node if given, until they are through.

    Returns fewer when no more came in time. Raises ArenaError when another trace is running or the
    worker does not answer, ConfigError when there is no such input node.
    """
    deadline = time.monotonic() + timeout_s
    found: list[TracedPacket] = []
    with _alone(view) as controls:
        while len(found) < count:
            view = view.now()
            inputs = [row["name"] for row in view.nodes if row["kind"] == "input"]
            if node and node not in inputs:
                msg = f"no input node {node!r}; there are: {', '.join(inputs) or 'none'}"
                raise ConfigError(msg)
            wanted = count - len(found)
            # Inputs share what is marked, so enough for a vector from each of them.
            marked = VECTOR_MAX * len(inputs) if node else wanted
            wish = _Wish(min(BATCH, marked), node, wanted)
            try:
                records = _batch(view, controls, wish, deadline)
            finally:
                _rewind(controls)
            found += [p for p in _packets(view, records) if not node or p.steps[0].node == node]
            if time.monotonic() >= deadline:
                break
    return found[:count]


@contextmanager
def _alone(view: View) -> Iterator[list[NDArray[np.uint64]]]:
    """The workers' control words, to be written by nobody else who traces."""
    descriptor = os.open(view.arena.path / "control", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"forwarder {view.arena.name!r} is traced by another process already"
            raise ArenaError(msg) from None
        with Arena.attach(view.arena.name) as writer:
            yield [writer.open(name, writable=True) for name in view.segments("control")]
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class _Wish:
    """What a batch is for. node: the input that count packets are wanted of, "" for any."""

    marked: int
    node: str
    count: int


def _batch(
    view: View, controls: list[NDArray[np.uint64]], wish: _Wish, deadline: float
) -> NDArray[Any]:
    """Have packets marked; their records when enough of them are through, or time is up.

    When the graph changes before: those that were enough already, or none.
    """
    _rewind(controls)
    traces = [view.arena.open(name) for name in view.segments("trace")]
    first = [int(control[c.TRACE_NEXT]) for control in controls]
    for control in controls:  # all of them first: a packet that one marks another may be given
        c.watch(control, c.TRACES, on=True)
    for control in controls:
        control[c.TRACE_WANTED] = wish.marked
    through: float | None = None  # since when
    enough = traces[0][:0]
    while True:
        rows = [int(control[c.TRACED_ROWS]) for control in controls]
        marked = [
            (n, int(control[c.TRACE_NEXT]) - n) for n, control in zip(first, controls, strict=True)
        ]
        found = [trace[:n] for trace, n in zip(traces, rows, strict=True)]
        seen = _marked_since(found, marked)
        records = _in_order(seen)
        if not _is_of(view, controls):
            return enough
        now = time.monotonic()
        settle_s = _settle_s(view, seen, records, wish)
        if settle_s is not None:
            through, enough = through or now, records
        else:
            through = None
        settled = through is not None and settle_s is not None and now - through >= settle_s
        if settled or now >= deadline or max(rows) >= c.TRACE_ROOM:
            return records
        time.sleep(LOOK_S)


def _is_of(view: View, controls: list[NDArray[np.uint64]]) -> bool:
    """Whether the workers are on the graph that is seen: else their records are of another one's nodes."""
    return all(int(control[c.GENERATION]) == view.generation for control in controls)


def _rewind(controls: list[NDArray[np.uint64]]) -> None:
    """Switch tracing off and, when the workers have seen it, empty the traces. Raises ArenaError."""
    for control in controls:
        c.watch(control, c.TRACES, on=False)
    before = [int(control[c.ROUNDS]) for control in controls]
    deadline = time.monotonic() + PATIENCE_S
    for control, rounds in zip(controls, before, strict=True):
        while int(control[c.STATE]) in (c.RUNNING, c.PAUSED) and control[c.ROUNDS] < rounds + 2:
            if time.monotonic() > deadline:
                msg = (
                    f"the worker has done no round for {PATIENCE_S:.0f} s; tracing is switched off"
                )
                raise ArenaError(msg)
            time.sleep(LOOK_S)
        control[c.TRACE_WANTED] = 0
        control[c.TRACED_ROWS] = 0


def _marked_since(traces: list[NDArray[Any]], marked: list[tuple[int, int]]) -> list[NDArray[Any]]:
    """By worker, a copy of its records of packets that were marked now: an earlier trace marked others.

    marked: by worker, the first one's number and how many there are.
    """
    found = []
    for trace in traces:
        numbers = trace["packet"].astype(np.int64)
        wanted = [(numbers - first) & 0xFFFF < n for first, n in marked]
        found.append(trace[np.logical_or.reduce(wanted)])
    return found


def _in_order(traces: list[NDArray[Any]]) -> NDArray[Any]:
    """The records of all workers, each packet's in the order of its way.

    A record is made behind its node's call. So one of a packet that was given away there may have been made
    when the worker that took it up had made some: it goes by the clock of the one before it, on its worker.
    """
    records = np.concatenate(traces)
    if len(traces) == 1:
        return records
    clocks = np.concatenate([_before_given_away(trace) for trace in traces])
    return records[np.argsort(clocks, kind="stable")]


def _before_given_away(trace: NDArray[Any]) -> NDArray[np.uint64]:
    """By record of a worker's, its clock; if the packet went no further, that of its last one that did."""
    order = np.argsort(trace["packet"], kind="stable")
    packets, clocks = trace["packet"][order], trace["clock"][order]
    at = np.arange(trace.size)
    first = np.maximum.accumulate(np.where(np.diff(packets, prepend=packets[:1]) != 0, at, 0))
    went_on = np.maximum.accumulate(np.where(trace["edge"][order] != EDGE_HELD, at, -1))
    made = np.empty_like(clocks)
    made[order] = clocks[np.where(went_on >= first, went_on, at)]
    return made


def _settle_s(
    view: View, traces: list[NDArray[Any]], records: NDArray[Any], wish: _Wish
) -> float | None:
    """For how long to wait for more when those that were wanted are through, or all that were marked.

    A packet is when its way ends otherwise than by being given to another worker, and it has ended on each
    one that has records of it. traces: records by worker. None: they are not.
    """
    here = [
        dict(zip(trace["packet"].tolist(), (trace["edge"] == EDGE_HELD).tolist()))
        for trace in traces
    ]
    numbers, nodes = records["packet"].tolist(), records["node"].tolist()
    came, last = dict(zip(numbers[::-1], nodes[::-1])), dict(zip(numbers, nodes))
    names = [node["name"] for node in view.nodes]
    ended = dict(zip(numbers, (records["edge"] == EDGE_HELD).tolist()))
    over = {n for n, end in ended.items() if end and not names[last[n]].endswith(HANDS_OFF)}
    told = {n for n in over if all(ends.get(n, True) for ends in here)}
    right = [n for n in dict.fromkeys(numbers) if wish.node in ("", names[came[n]])]
    for through, wait in ((told, SETTLE_S), (over, LATE_S)):
        wanted = len(right) >= wish.count and through.issuperset(right[: wish.count])
        if wanted or (len(ended) >= wish.marked and len(through) == len(ended)):
            return wait
    return None


def _packets(view: View, records: NDArray[Any]) -> list[TracedPacket]:
    ways: dict[int, list[Any]] = {}
    for record in records:
        ways.setdefault(int(record["packet"]), []).append(record)
    names = {port["number"]: port["name"] for port in view.about["ports"]}
    return [
        TracedPacket(
            number,
            names.get(int(way[0]["rx_port"]), ""),
            [_step(view, record, clock) for record, clock in zip(way, _clocks(way), strict=True)],
        )
        for number, way in ways.items()
    ]


def _clocks(way: list[Any]) -> list[int]:
    """By step, clocks since the first one: none is later than the next, see _in_order."""
    clocks = np.array([int(record["clock"]) for record in way], np.int64)
    at_most = np.minimum.accumulate(clocks[::-1])[::-1]
    return [int(clock) for clock in at_most - at_most[0]]


def _step(view: View, record: Any, clocks: int) -> Step:
    node = view.nodes[int(record["node"])]
    ways = {edge["edge"]: edge for edge in node["edges"]}
    way = ways.get(int(record["edge"]), {"label": "", "to": ""})
    reason = ""
    if way["to"] == DROP:
        labels = [counter["label"] for counter in node["counters"]]
        reason = "".join(labels[int(record["reason"]) :][:1])
    head = record["head"].tobytes()[: int(record["length"])]
    return Step(
        node=node["name"],
        edge=way["label"],
        to=way["to"],
        end="" if way["label"] else _end(view, node["name"]),
        reason=reason,
        microseconds=clocks * 1e6 / view.about["tsc_hz"],
        bytes=int(record["total"]),
        text=dissect.frame(head) if node["kind"] == "input" else dissect.packet(head),
    )


def _end(view: View, node: str) -> str:
    """What has become of a packet that went no further than this node."""
    if node in [port["tx"] for port in view.about["ports"]]:
        return "sent"
    return "freed" if node == DROP else "kept"
