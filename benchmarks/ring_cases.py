# SPDX-License-Identifier: Apache-2.0
"""Cases of rings: the SPSC ring beside DPDK's rte_ring, and what it takes to wake who sleeps.

DPDK's figures are those of its own program, dpdk-test with ring_perf_autotest, from Debian's package:
clocks for a burst to be enqueued and dequeued (of 8 and of 32 pointers), by one thread, and by two on
two cores, where the clocks of both sides are added (and said per pointer). Ours are the same loops as its
"bulk" ones: items of 8 bytes, as large a ring, bursts whole or not at all.

Both take turns, TIMES times; ours in a turn is the median of RUNS runs, the ratio the median of turns'. Of
two cores those turns are compared throughout which both CPUs were equally far apart
(benchmarks.distance): between two hyperthreads of one core a burst takes a third of the clocks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import peer_versions
from benchmarks.both_cpus import at_once
from benchmarks.distance import Figure, Together, ratios, together, watching, wherever
from benchmarks.dpdk_cases import NoFigureError, figure, say
from benchmarks.harness import LEAST, Measured, missing, repeat, row, whole
from benchmarks.session import Session
from vforward.jit.atomics import fetch_add64, load_acquire64
from vforward.jit.intrinsics import address, cycles, relax
from vforward.jit.kernel import kernel
from vforward.rings.spsc import Ring, pop_all, push_all

SLOTS = 4096
SIZES = (8, 32)
TIMES = 2 * LEAST
RUNS = 50
"""Of ours, in a turn."""
BURSTS = 1 << 14
UNIT = "clocks/burst"
SPSC = "spsc"
PROGRAM = "dpdk-test"
TWO_CORES = "two physical cores"
TOGETHER = "two-cores"


@kernel
def one_side(ring, items, size, bursts):
    """Clocks for so many bursts pushed and popped by one thread."""
    start = cycles()
    for _ in range(bursts):
        push_all(ring, items, size)
        pop_all(ring, items, size)
    return np.float64(cycles() - start) / bursts


@kernel
def producer(ring, items, size, bursts, gate):
    """Clocks per burst pushed, from when both sides are there."""
    fetch_add64(address(gate), np.uint64(1))
    while load_acquire64(address(gate)) < 2:
        relax()
    start = cycles()
    for _ in range(bursts):
        while not push_all(ring, items, size):
            relax()
    return np.float64(cycles() - start) / bursts


@kernel
def consumer(ring, items, size, bursts, gate):
    """Clocks per burst popped, and the sum of the last item of each."""
    fetch_add64(address(gate), np.uint64(1))
    while load_acquire64(address(gate)) < 2:
        relax()
    start = cycles()
    total = np.uint64(0)
    for _ in range(bursts):
        while not pop_all(ring, items, size):
            relax()
        total += items[size - 1]
    return np.float64(cycles() - start) / bursts, total


def _alone(size: int) -> float:
    ring, items = Ring.make(SLOTS, np.uint64), np.arange(size, dtype=np.uint64)
    clocks = float(one_side(ring.array, items, size, BURSTS))
    if items.tolist() != list(range(size)) or ring.used_slots():
        msg = "the ring changed what went through it"
        raise AssertionError(msg)
    return clocks


def _together(size: int) -> float:
    """Clocks of both sides, each on a CPU of its own."""
    ring, gate = Ring.make(SLOTS, np.uint64), np.zeros(1, np.uint64)
    cpus = sorted(os.sched_getaffinity(0))
    clocks: list[float] = []

    def produce() -> None:
        items = np.arange(1, 1 + size, dtype=np.uint64)
        clocks.append(float(producer(ring.array, items, size, BURSTS, gate)))

    def consume() -> None:
        spent, total = consumer(ring.array, np.zeros(size, np.uint64), size, BURSTS, gate)
        clocks.append(float(spent))
        if total != size * BURSTS:
            msg = "the ring lost items"
            raise AssertionError(msg)

    at_once((cpus[0], produce), (cpus[-1], consume))
    return sum(clocks)


def theirs(text: str) -> dict[str, float]:
    """The figures of ring_perf_autotest's output that ours are compared with, by name."""
    pointers = text.partition("elem APIs")[0]
    alone, _, together = pointers.partition(TWO_CORES)
    alone = alone.partition("Testing bulk enq/deq")[2]
    found = {}
    for size in SIZES:
        says = rf"SP/SC: bulk \(size: {size}\): ([\d.]+)"
        found[f"one-thread-{size}"] = figure(alone, says)
        if together:
            found[f"{TOGETHER}-{size}"] = round(size * figure(together, says), 2)  # said per item
    return found


def _ask() -> dict[str, float]:
    cpus = sorted(os.sched_getaffinity(0))
    lcores = ",".join(f"{n}@{cpu}" for n, cpu in enumerate(dict.fromkeys((cpus[0], cpus[-1]))))
    return theirs(
        say(
            [PROGRAM, "--lcores", lcores, "--no-pci", "--no-huge", "-m", "256", "--no-telemetry",
             "--file-prefix", f"vforward-bench-{os.getpid()}"],
            "ring_perf_autotest",
        )
    )  # fmt: skip


def spsc(session: Session) -> Iterator[dict[str, Any]]:
    """Our ring and DPDK's in turns; the last row is DPDK's clocks over ours where that is least."""
    runs = {f"one-thread-{size}": lambda size=size: _alone(size) for size in SIZES}
    if len(os.sched_getaffinity(0)) > 1:
        runs |= {f"{TOGETHER}-{size}": lambda size=size: _together(size) for size in SIZES}
    ours: dict[str, list[Figure]] = {name: [] for name in runs}
    dpdk: dict[str, list[Figure]] = {name: [] for name in runs}
    why = ""

    def turn() -> list[float]:
        nonlocal why
        with watching() as watch:
            mine = {
                name: float(np.median([run() for _ in range(RUNS)])) for name, run in runs.items()
            }
            try:
                said = _ask()
            except NoFigureError as error:
                said, why = {}, f"{PROGRAM}: {error}"
        for figures, found in ((ours, mine), (dpdk, said)):
            for name, value in found.items():
                at = watch.steady() if name.startswith(TOGETHER) else 0.0
                figures[name].append(Figure(value, at))
        return [1.0]

    session.progress(SPSC, 0, TIMES)
    taken = repeat(turn, session.gauge, TIMES, lambda n: session.progress(SPSC, n, TIMES))
    medians = {}
    for name in runs:
        pairs = together(dpdk[name], ours[name])
        used = pairs[0] if pairs else wherever(dpdk[name], ours[name])
        yield _row(session, f"{SPSC}-{name}", used.theirs, used, taken)
        if used.ours:
            yield _row(
                session,
                f"{SPSC}-{name}-rte-ring",
                used.ours,
                used,
                taken,
                peer=peer_versions.dpdk(),
            )
            medians[name] = used, ratios(pairs)
    if not medians:
        yield missing(SPSC, "x", session.gauge, why or "one CPU only")
        return
    name = min(medians, key=lambda one: float(np.median(medians[one][0].ratios)))
    used, at = medians[name]
    yield row(
        SPSC, whole(used.ratios, session.gauge, disturbed=taken.disturbed), "x",
        vector=0, packets=0, touched=8,
        ratios={one: round(float(np.median(u.ratios)), 3) for one, (u, _) in medians.items()}
        | {f"{name} {where}": ratio for where, ratio in at.items() if used.distance},
        what=f"clocks of rte_ring / clocks of ours, the worst: {name}", peer=peer_versions.dpdk(),
    )  # fmt: skip


def _row(
    session: Session, name: str, figures: list[float], at: Together, taken: Measured, **more: Any
) -> dict[str, Any]:
    """A row of some figures, and the least of them."""
    found = whole(figures, session.gauge, disturbed=taken.disturbed)
    size = int(name.split("-")[3])
    return row(
        name, found, UNIT, vector=size, packets=BURSTS * size, touched=8,
        least=round(min(figures), 2), round_trip=round(at.distance), **more,
    )  # fmt: skip
