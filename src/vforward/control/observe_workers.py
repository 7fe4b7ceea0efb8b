# SPDX-License-Identifier: Apache-2.0
"""Look at the workers of a running forwarder one by one, as rows.

read     documents workers, forwarder; segments control and stats of each worker, and what they held
         when they were last cleared
"""

from __future__ import annotations

from dataclasses import dataclass

from vforward.control.observe import STATES, View
from vforward.graph import control as c

HAND_OFF, TAKE_UP = "hand-off", "take-up"
"""What names of nodes end with that move packets between workers."""


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
    said, since = view.arena.read_document("workers"), view.cleared()
    rows = []
    for number, control in enumerate(view.controls):
        stats = view.since(c.segment("stats", number))
        packets = int(stats[view.received(), c.PACKETS].sum())
        given, taken = (
            sum(
                int(row[c.PACKETS])
                for node, row in zip(view.nodes, stats, strict=True)
                if node["name"].endswith(end)
            )
            for end in (HAND_OFF, TAKE_UP)
        )
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
