# SPDX-License-Identifier: Apache-2.0
"""Look at the workers of a running forwarder one by one, as rows.

read     documents workers, forwarder; segments control, stats and counts of each worker, and what they held
         when they were last cleared
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vforward.control.observe import STATES, View
from vforward.graph import control as c

HANDED_OFF, TAKEN_UP = "handed-off", "taken-up"
"""Counters of the nodes that move packets between workers (nodes.handoff)."""


@dataclass(frozen=True)
class WorkerRow:
    """What one worker has done.

    packets: that came in by its queues. load: part of its time spent on packets.
    """

    number: int
    core: int | None
    state: str
    packets: int
    handed_off: int
    taken_up: int
    clocks_per_packet: float  # that came in, or was taken up
    load: float
    sleeps: int
    rounds: int
    queues: list[str]


def workers(view: View) -> list[WorkerRow]:
    """The workers by number."""
    said, since = view.document("workers"), view.cleared()
    rows = []
    for number, control in enumerate(view.controls):
        stats = view.since(view.segments("stats")[number])
        packets = int(stats[view.received(), c.PACKETS].sum())
        counts = view.since(view.segments("counts")[number])
        given, taken = (_counted(view, counts, label) for label in (HANDED_OFF, TAKEN_UP))
        busy, clocks = int(stats[:, c.CLOCKS].sum()), view.clocks(number, since)
        rows.append(
            WorkerRow(
                number=number,
                core=said[number]["core"],
                state=STATES.get(int(control[c.STATE]), "unknown"),
                packets=packets,
                handed_off=given,
                taken_up=taken,
                clocks_per_packet=busy / (packets + taken) if packets + taken else 0.0,
                load=min(1.0, busy / clocks) if clocks else 0.0,
                sleeps=int(control[c.SLEEPS]) - since["sleeps"][number],
                rounds=int(control[c.ROUNDS]) - since["rounds"][number],
                queues=said[number]["queues"],
            )
        )
    return rows


def _counted(view: View, counts: NDArray[np.uint64], label: str) -> int:
    """What all counters of a label have counted."""
    places = [
        node["counts_at"] + k
        for node in view.nodes
        for k, counter in enumerate(node["counters"])
        if counter["label"] == label
    ]
    return int(counts[places].sum())
