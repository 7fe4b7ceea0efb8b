# SPDX-License-Identifier: Apache-2.0
"""The cases netmap-pipe and vale: packets per second between programs that touch every byte.

Two threads spin, one on the first CPU and one on the last. A run is short, so that most are over before
anybody else wants the CPU; those at which somebody did are set aside as in all cases.

What goes from one CPU to another goes as fast as their distance allows (benchmarks.distance), so runs are
made in TURNS turns. A turn's figure is the median of its undisturbed runs, the row's that of the turns
throughout which the CPUs were equally far apart; how far says `round_trip`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.both_cpus import at_once
from benchmarks.distance import Figure, together, watching, wherever
from benchmarks.harness import LEAST, Measured, row, whole
from benchmarks.netmap_nodes import BATCH, SIZE, both_programs, pipe_receiver, pipe_sender
from benchmarks.session import Session
from vforward.rings.netmap import Port
from vforward.rings.netmap_layout import RING_SLOTS
from vforward.rings.netmap_message import Reply
from vforward.rings.netmap_names import parse_name
from vforward.rings.netmap_pair import Pair
from vforward.rings.vale import forward
from vforward.rings.vale_switch import Switch

COUNT = 200_000
"""Packets of a run: a few milliseconds."""
ROUNDS = 64
TURNS = 2 * LEAST


def _port(name: str, reply: Reply, descriptors: list[int]) -> Port:
    """A program's side of a port, without a server."""
    return Port(name, reply, socket.socket(socket.AF_UNIX), [os.dup(d) for d in descriptors])


def _rate(one: Callable[[], None], other: Callable[[], None]) -> float:
    """Millions of packets per second, COUNT of them, when one runs on the first CPU, other on the last."""
    cpus = sorted(os.sched_getaffinity(0))
    return COUNT / at_once((cpus[0], one), (cpus[-1], other)) / 1e6


def _by_turns(session: Session, case: str, run: Callable[[], Sequence[float]]) -> dict[str, Any]:
    """The row of a case: see the module."""
    brief = replace(session, wanted=max(1, session.wanted // LEAST))
    taken: list[Measured] = []
    figures = []
    for _ in range(TURNS):
        with watching() as watch:
            turn = brief.measure(case, run, TURNS)
        taken.append(turn)
        figures.append(Figure(turn.value, None if turn.disturbed else watch.steady()))
    return _row(session, case, figures, taken)


def _row(
    session: Session, case: str, figures: Sequence[Figure], taken: Sequence[Measured]
) -> dict[str, Any]:
    """figures: of the turns, without a distance where they were disturbed or the CPUs were moved."""
    kinds = together(figures, figures)
    used = kinds[0] if kinds else wherever(figures, figures)
    disturbed = not kinds and any(turn.disturbed for turn in taken)
    found = whole(used.ours, session.gauge, disturbed=disturbed)
    note = {} if kinds else {"note": "the CPUs were nowhere long enough: all turns count"}
    return row(
        case, replace(found, rejected=len(figures) - len(used.ours)), "Mpps", vector=BATCH,
        packets=COUNT * sum(turn.runs for turn in taken) // len(taken), touched=SIZE,
        slots=RING_SLOTS, round_trip=round(used.distance),
        rates={
            f"at {kind.distance:.0f} clocks": round(float(np.median(kind.ours)), 2)
            for kind in kinds
        },
        **note,
    )  # fmt: skip


def netmap_pipe(session: Session) -> Iterator[dict[str, Any]]:
    """One end of a pipe writes frames, the other end reads them."""
    names = [parse_name(name) for name in ("bench{1", "bench}1")]
    pair = Pair(names[0], 0, 0, 0)
    sender, receiver = (_port(str(name), *pair.take(name, 0)) for name in names)
    template, total = np.arange(SIZE, dtype=np.uint8), np.zeros(2, np.uint64)
    odd = [0, 0]

    def send() -> None:
        odd[0] = pipe_sender(sender.krings, sender.bufs, template, COUNT)

    def receive() -> None:
        odd[1] = pipe_receiver(receiver.krings, receiver.bufs, total, COUNT)

    def run() -> list[float]:
        rate = _rate(send, receive)
        _check(odd, total)
        return [rate]

    yield _by_turns(session, "netmap-pipe", run)
    for port in (sender, receiver):
        port.close()
    pair.close()


def vale(session: Session) -> Iterator[dict[str, Any]]:
    """The switch has a core to itself; the programs at its two ports share the other one."""
    switch = Switch("bench")
    stations = [bytes([2, 0, 0, 0, 0, i]) for i in (1, 2)]
    ports = []
    for name in "ab":
        _, reply, descriptors = switch.attach(name, 0, 0, 0)
        ports.append(_port(name, reply, descriptors))
    one, two = ports
    two.inject(
        stations[0] + stations[1] + bytes(SIZE - 12)
    )  # so that it is known where station 1 is
    two.txsync()
    switch.forward()
    one.rxsync()
    one.next_packet()
    one.rxsync()
    template = np.frombuffer(stations[1] + stations[0] + bytes(range(SIZE - 12)), np.uint8)
    total, words = np.zeros(2, np.uint64), np.zeros_like(switch._words)
    records = switch.ports[:2]
    odd = [0]

    def work() -> None:
        done = 0
        while done < COUNT:
            done += int(forward(records, switch.macs, switch.now, words, ROUNDS))

    def programs() -> None:
        args = one.krings, one.bufs, two.krings, two.bufs, template, total, COUNT
        odd[0] = both_programs(*args)

    def run() -> list[float]:
        before = int(records["sent"][1])
        rate = _rate(work, programs)
        _check(odd, total)
        if int(records["sent"][1]) - before != COUNT or records["full"].any():
            msg = f"not all of {COUNT} frames were forwarded: {records}"
            raise AssertionError(msg)
        return [rate]

    yield _by_turns(session, "vale", run)
    for port in ports:
        port.close()
    switch.close()


def _check(odd: list[int], total: Any) -> None:
    """Whether every frame came as it was sent, in order, and no ring was reinitialised."""
    if any(odd) or total[1] or not total[0]:
        msg = f"frames came wrong: {odd}, {total}"
        raise AssertionError(msg)
