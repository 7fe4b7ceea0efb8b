# SPDX-License-Identifier: Apache-2.0
"""Two workers against one: routed packets per second of a whole forwarder, from generators to a null port.

    gen0 -> worker 0: the IPv4 path -> null        gen1 -> worker 1: the IPv4 path -> null

One worker has gen0 alone. Both forwarders live at a time, and one of them runs: so they share what the
machine does meanwhile, turn by turn. Each worker has a CPU of its own, and spins.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.harness import repeat, row
from benchmarks.session import Session
from vforward.control.forwarder import Forwarder
from vforward.graph import control as c
from vforward.graph.workers import available
from vforward.io.generator import GeneratorPort
from vforward.io.null import NullPort

CASE = "scaling"
WORKERS = 2
TIMES = 7
SECONDS = 0.5
SIZE = 60
FLOWS = 4096
MAC = bytes.fromhex("020000000009")


def scaling(session: Session) -> Iterator[dict[str, Any]]:
    """Packets per second of two workers over those of one, the median of TIMES turns."""
    if len(available()) < WORKERS:
        msg = f"{CASE}: {WORKERS} workers need {WORKERS} CPUs; there are {len(available())}"
        raise RuntimeError(msg)
    rates: list[tuple[float, float]] = []
    with ExitStack() as stack:
        one, two = (stack.enter_context(_forwarder(n)) for n in (1, WORKERS))

        def run() -> list[float]:
            rates.append((_rate(one), _rate(two)))
            return [rates[-1][1] / rates[-1][0]]

        session.progress(CASE, 0, TIMES)
        found = repeat(run, session.gauge, TIMES, lambda n: session.progress(CASE, n, TIMES))
    alone, together = (float(np.median(column)) / 1e6 for column in zip(*rates, strict=True))
    yield row(
        CASE, found, "times", vector=256, packets=FLOWS, touched=SIZE,
        one_mpps=round(alone, 2), two_mpps=round(together, 2),
        what=f"{together:.2f} Mpps of two workers over {alone:.2f} of one",
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
