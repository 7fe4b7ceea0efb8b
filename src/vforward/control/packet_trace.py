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
PATIENCE_S = 5.0
"""Longest wait for a worker's round."""
DROP = "drop"


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
        records = _marked_since(found, marked)
        if not _is_of(view, controls):
            return enough
        now = time.monotonic()
        if _enough(view, records, wish):
            through, enough = through or now, records
        else:
            through = None
        settled = through is not None and now - through >= SETTLE_S
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


def _marked_since(traces: list[NDArray[Any]], marked: list[tuple[int, int]]) -> NDArray[Any]:
    """A copy of the records of packets that were marked now (an earlier trace marked others), by time.

    marked: by worker, the first one's number and how many there are.
    """
    records = np.concatenate(traces)
    numbers = records["packet"].astype(np.int64)
    wanted = [(numbers - first) & 0xFFFF < n for first, n in marked]
    records = records[np.logical_or.reduce(wanted)]
    return records[np.argsort(records["clock"], kind="stable")] if len(traces) > 1 else records


def _enough(view: View, records: NDArray[Any], wish: _Wish) -> bool:
    """Whether the packets that were wanted are through, or all that were marked."""
    numbers = records["packet"].tolist()
    ended = dict(zip(numbers, (records["edge"] == EDGE_HELD).tolist()))
    if len(ended) >= wish.marked and all(ended.values()):
        return True
    came: dict[int, int] = {}
    for number, node in zip(numbers, records["node"].tolist()):
        came.setdefault(number, node)
    right = [n for n, node in came.items() if wish.node in ("", view.nodes[node]["name"])]
    return len(right) >= wish.count and all(ended[n] for n in right[: wish.count])


def _packets(view: View, records: NDArray[Any]) -> list[TracedPacket]:
    ways: dict[int, list[Any]] = {}
    for record in records:
        ways.setdefault(int(record["packet"]), []).append(record)
    names = {port["number"]: port["name"] for port in view.about["ports"]}
    return [
        TracedPacket(
            number,
            names.get(int(way[0]["rx_port"]), ""),
            [_step(view, record, int(way[0]["clock"])) for record in way],
        )
        for number, way in ways.items()
    ]


def _step(view: View, record: Any, start: int) -> Step:
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
        microseconds=(int(record["clock"]) - start) * 1e6 / view.about["tsc_hz"],
        bytes=int(record["total"]),
        text=dissect.frame(head) if node["kind"] == "input" else dissect.packet(head),
    )


def _end(view: View, node: str) -> str:
    """What has become of a packet that went no further than this node."""
    if node in [port["tx"] for port in view.about["ports"]]:
        return "sent"
    return "freed" if node == DROP else "kept"
