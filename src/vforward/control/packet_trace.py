# SPDX-License-Identifier: Apache-2.0
"""Follow packets through a running forwarder: ask its worker to mark some, read what it records.

    written  control words TRACING and TRACE_WANTED, and TRACED_ROWS while the worker does not trace
    read     segment trace, up to TRACED_ROWS

One process at a time does that: it holds a lock on the file of the segment trace.
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
    inputs = [row["name"] for row in view.nodes if row["kind"] == "input"]
    if node and node not in inputs:
        msg = f"no input node {node!r}; there are: {', '.join(inputs) or 'none'}"
        raise ConfigError(msg)
    deadline = time.monotonic() + timeout_s
    found: list[TracedPacket] = []
    with _alone(view) as control:
        while len(found) < count:
            wanted = count - len(found)
            # Inputs share what is marked, so enough for a vector from each of them.
            marked = VECTOR_MAX * len(inputs) if node else wanted
            wish = _Wish(min(BATCH, marked), node, wanted)
            try:
                records = _batch(view, control, wish, deadline)
            finally:
                _rewind(control)
            found += [p for p in _packets(view, records) if not node or p.steps[0].node == node]
            if time.monotonic() >= deadline:
                break
    return found[:count]


@contextmanager
def _alone(view: View) -> Iterator[NDArray[np.uint64]]:
    """The control words, to be written by nobody else who traces."""
    descriptor = os.open(view.arena.path / "trace", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"forwarder {view.arena.name!r} is traced by another process already"
            raise ArenaError(msg) from None
        with Arena.attach(view.arena.name) as writer:
            yield writer.open("control", writable=True)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class _Wish:
    """What a batch is for. node: the input that count packets are wanted of, "" for any."""

    marked: int
    node: str
    count: int


def _batch(view: View, control: NDArray[np.uint64], wish: _Wish, deadline: float) -> NDArray[Any]:
    """Have packets marked; their records when enough of them are through, or time is up."""
    _rewind(control)
    trace = view.arena.open("trace")
    first = int(control[c.TRACE_NEXT])
    control[c.TRACE_WANTED] = wish.marked
    c.watch(control, c.TRACES, on=True)
    through: float | None = None  # since when
    while True:
        rows = int(control[c.TRACED_ROWS])
        records = _marked_since(trace[:rows], first, int(control[c.TRACE_NEXT]) - first)
        now = time.monotonic()
        through = (through or now) if _enough(view, records, wish) else None
        settled = through is not None and now - through >= SETTLE_S
        if settled or now >= deadline or rows >= trace.size:
            return records
        time.sleep(LOOK_S)


def _rewind(control: NDArray[np.uint64]) -> None:
    """Switch tracing off and, when the worker has seen it, empty the trace. Raises ArenaError."""
    c.watch(control, c.TRACES, on=False)
    before = int(control[c.ROUNDS])
    deadline = time.monotonic() + PATIENCE_S
    while int(control[c.STATE]) in (c.RUNNING, c.PAUSED) and int(control[c.ROUNDS]) < before + 2:
        if time.monotonic() > deadline:
            msg = f"the worker has done no round for {PATIENCE_S:.0f} s; tracing is switched off"
            raise ArenaError(msg)
        time.sleep(LOOK_S)
    control[c.TRACE_WANTED] = 0
    control[c.TRACED_ROWS] = 0


def _marked_since(records: NDArray[Any], first: int, n: int) -> NDArray[Any]:
    """A copy of the records of n packets from that number on: an earlier trace marked others."""
    age = (records["packet"].astype(np.int64) - first) & 0xFFFF
    return records[age < n].copy()


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
