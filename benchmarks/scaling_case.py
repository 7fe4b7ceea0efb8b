# SPDX-License-Identifier: Apache-2.0
"""Two workers against one: routed packets per second of a whole forwarder, from generators to a null port.

    gen0 -> worker 0: the IPv4 path -> null        gen1 -> worker 1: the IPv4 path -> null

A memory port's packets come from a program and go to one, which needs a CPU beside the workers', and there
are two: a generator makes packets in the worker itself, and a null port takes them there. The path between
is the same.

One worker has gen0 alone. Both forwarders live at a time, and one of them runs: so they share what the
machine does meanwhile, turn by turn. Each worker has a CPU of its own, and spins. Whether two CPUs are two
cores, their distance tells (benchmarks.distance): two hyperthreads of one core are nearest, and share it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

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
    alone, both = [], []
    with ExitStack() as stack:
        one, two = (stack.enter_context(_forwarder(n)) for n in (1, WORKERS))

        def run() -> list[float]:
            for forwarder, figures in ((one, alone), (two, both)):
                with watching() as watch:
                    rate = _rate(forwarder)
                figures.append(Figure(rate, watch.steady()))
            return [both[-1].value / alone[-1].value]

        session.progress(CASE, 0, TIMES)
        taken = repeat(run, session.gauge, TIMES, lambda n: session.progress(CASE, n, TIMES))
    pairs = together(both, alone)
    first = pairs[0] if pairs else wherever(both, alone)
    found = replace(
        whole(first.ratios, session.gauge, disturbed=taken.disturbed),
        rejected=TIMES - len(first.ratios),
    )
    one_mpps, two_mpps = (float(np.median(side)) / 1e6 for side in (first.theirs, first.ours))
    yield row(
        CASE, found, "x", vector=256, packets=FLOWS, touched=SIZE,
        one_mpps=round(one_mpps, 2), two_mpps=round(two_mpps, 2),
        round_trip=round(first.distance), ratios=ratios(pairs),
        what=f"{two_mpps:.2f} Mpps of two workers over {one_mpps:.2f} of one",
    )  # fmt: skip


def _forwarder(n: int) -> Forwarder:
    """n workers, each with a generator of its own."""
    made = Forwarder(
        f"bench-{os.getpid()}-{n}", workers=n, core=available()[0], idle="spin", buffers=8192
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
