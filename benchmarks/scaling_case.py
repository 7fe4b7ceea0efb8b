# SPDX-License-Identifier: Apache-2.0
"""Two workers against one: routed packets per second of a whole forwarder, from generators to a null port.

    gen0 -> worker 0: the IPv4 path -> null        gen1 -> worker 1: the IPv4 path -> null

A memory port's packets come from a program and go to one, which needs a CPU of its own beside each
worker's, and there are two: a generator makes packets in the worker itself, and a null port takes them
there. The path between is the same.

One worker is measured alone on the one CPU, and on the other: what two do is compared with the mean of
both. All forwarders live at a time, and one of them runs: so they share what the machine does
meanwhile, turn by turn. Each worker spins, on the first CPU or the last. Whether these are two cores,
their distance tells (benchmarks.distance): two hyperthreads of one core are nearest, and share it.
Whether they are whole, a loop that shares nothing tells, turn by turn (benchmarks.cores): `cores`, 2.0
if they are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.cores import cores
from benchmarks.distance import Figure, ratios, together, watching, wherever
from benchmarks.harness import LEAST, repeat, row, whole
from benchmarks.session import Session
from vforward.control.forwarder import Forwarder
from vforward.graph import control as c
from vforward.graph.workers import available
from vforward.io.generator import GeneratorPort
from vforward.io.null import NullPort

CASE = "scaling"
WORKERS = 2
TIMES = 2 * LEAST
SECONDS = 0.5
SIZE = 60
FLOWS = 4096
MAC = bytes.fromhex("020000000009")


def scaling(session: Session) -> Iterator[dict[str, Any]]:
    """Packets per second of two workers over those of one, the median of turns at one distance."""
    if len(available()) < WORKERS:
        msg = f"{CASE}: {WORKERS} workers need {WORKERS} CPUs; there are {len(available())}"
        raise RuntimeError(msg)
    first, last = available()[0], available()[-1]
    alone, both, loop = [], [], []
    with ExitStack() as stack:
        stack.enter_context(_on({first, last}))
        one, other = (stack.enter_context(_forwarder(1, core)) for core in (first, last))
        two = stack.enter_context(_forwarder(WORKERS, first))

        def run() -> list[float]:
            measures: list[tuple[list[Figure], Callable[[], float]]] = [
                (alone, lambda: (_rate(one) + _rate(other)) / 2),
                (both, partial(_rate, two)),
                (loop, cores),
            ]
            for figures, measure in measures:
                with watching() as watch:
                    value = measure()
                figures.append(Figure(value, watch.steady()))
            return [both[-1].value / alone[-1].value]

        session.progress(CASE, 0, TIMES)
        taken = repeat(run, session.gauge, TIMES, lambda n: session.progress(CASE, n, TIMES))
    pairs = together(both, alone)
    most = pairs[0] if pairs else wherever(both, alone)
    found = replace(
        whole(most.ratios, session.gauge, disturbed=taken.disturbed),
        rejected=TIMES - len(most.ratios),
    )
    one_mpps, two_mpps = (float(np.median(side)) / 1e6 for side in (most.theirs, most.ours))
    loops = together(loop, alone)
    yield row(
        CASE, found, "x", vector=256, packets=FLOWS, touched=SIZE,
        one_mpps=round(one_mpps, 2), two_mpps=round(two_mpps, 2),
        round_trip=round(most.distance), ratios=ratios(pairs),
        cores=round(float(np.median([figure.value for figure in loop])), 2),
        cores_by_distance={
            f"at {pair.distance:.0f} clocks": round(float(np.median(pair.ours)), 2) for pair in loops
        },
        what=f"{two_mpps:.2f} Mpps of two workers over {one_mpps:.2f} of one",
    )  # fmt: skip


@contextmanager
def _on(cpus: set[int]) -> Iterator[None]:
    """In the block this thread, and those that it makes, have these CPUs only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _forwarder(n: int, core: int) -> Forwarder:
    """n workers, the first on a CPU, each with a generator of its own."""
    made = Forwarder(
        f"bench-{os.getpid()}-{n}-{core}", workers=n, core=core, idle="spin", buffers=8192
    )
    try:
        for k in range(n):
            port = GeneratorPort(
                size=SIZE, flows=FLOWS, touch="headers", src=f"10.{k}.0.2", dst="10.9.0.0"
            )
            made.add_port(f"gen{k}", port, f"10.{k}.0.1/24")
        made.add_port("null", NullPort(), "10.8.0.1/24")
        made.add_route("10.9.0.0/16", via="10.8.0.2")
        made.add_neighbor("10.8.0.2", MAC, "null")
        made.build()
    except BaseException:
        made.close()
        raise
    return made


def _rate(forwarder: Forwarder) -> float:
    """Packets per second that reach the null port."""
    forwarder.start()
    try:
        time.sleep(SECONDS / 5)
        first, begin = _sent(forwarder), time.perf_counter()
        time.sleep(SECONDS)
        last, end = _sent(forwarder), time.perf_counter()
    finally:
        forwarder.stop()
    return (last - first) / (end - begin)


def _sent(forwarder: Forwarder) -> int:
    number = forwarder.graph.members["null-tx"].number
    return sum(int(plan.stats[number * c.STATS + c.PACKETS]) for plan in forwarder.graph.plans)
