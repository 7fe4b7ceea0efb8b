# SPDX-License-Identifier: Apache-2.0
"""How far apart the first and the last CPU are just now: clocks for a cache line to go there and back.

Whoever hosts a virtual machine moves its CPUs about, every few seconds, and nothing in the machine says
so. On two hyperthreads of one core a line takes some 70 clocks there and back, between cores of one level-3
cache some 160, and between two such caches some 770 (AMD EPYC, measured on 2026-11-30 within one minute).
What two programs hand to each other by a ring goes as fast as that allows: from 5 to 18 million packets
per second for the same two programs. So cases with two sides are measured at a distance, which the row
says, and two contestants are compared at the same one.

A look lasts some 0.2 ms and runs before everything else on both CPUs, if it may (SCHED_FIFO). Where two
processes look at a time, each may have one of the CPUs: after PATIENCE clocks a look is given up.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.both_cpus import at_once
from vforward.jit.atomics import load_acquire64, store_release64
from vforward.jit.intrinsics import address, cycles, relax
from vforward.jit.kernel import kernel

ROUNDS, CHUNKS = 50, 20
EVERY_S = 0.2
PATIENCE = 250_000_000
"""Clocks: some 100 ms."""
APART = 1.5
"""Distances that differ by more than this factor are of two placements."""
LEAST_OF_A_KIND = 3
"""Figures that each contestant has at a distance, for a ratio there."""


@kernel
def ball(word, mine, rounds, found):
    """Hand a cache line to and fro. found f64[chunks]: clocks of a round trip, in each chunk.

    word u64[>= 1], zeros at first; mine: 0 for one side, 1 for the other. Returns at once when the other
    side does not answer for PATIENCE clocks, and leaves the rest of found.
    """
    at = address(word)
    for chunk in range(found.size):
        start = cycles()
        for k in range(chunk * rounds, (chunk + 1) * rounds):
            tries = 0
            while load_acquire64(at) != np.uint64(2 * k + mine):
                relax()
                tries += 1
                if tries & 1023 == 0 and cycles() - start > PATIENCE:
                    return
            store_release64(at, np.uint64(2 * k + mine + 1))
        found[chunk] = np.float64(cycles() - start) / rounds


def distance() -> float:
    """Clocks of a round trip now, the least of a few; 0 on a machine with one CPU, infinite if given up."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return 0.0
    word, found = np.zeros(8, np.uint64), np.full((2, CHUNKS), np.inf)
    ball(word, 0, ROUNDS, found[0, :0])  # compiled before it comes before everything else
    sides = ((cpus[-n], partial(ball, word, n, ROUNDS, found[n])) for n in (0, 1))
    at_once(*sides, first=True)
    return float(found[0].min())


def steady(distances: Sequence[float]) -> float | None:
    """The middle of some distances, or None if they are of more than one placement, or not known."""
    if not distances or np.isinf(max(distances)) or max(distances) > APART * min(distances):
        return None
    return float(np.median(distances))


class Watch:
    """The distance, looked at again and again, of which the last few looks count, or all."""

    def __init__(self, looks: int | None = None) -> None:
        self._last: deque[float] = deque(maxlen=looks)

    def look(self) -> None:
        """Look now."""
        self._last.append(distance())

    def steady(self) -> float | None:
        """The distance over the last looks, or None if it changed."""
        return steady(self._last)


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """Look at the beginning, at the end, and every EVERY_S meanwhile."""
    watch, over = Watch(), threading.Event()

    def look() -> None:
        watch.look()
        while not over.wait(EVERY_S):
            watch.look()
        watch.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


class Figure(NamedTuple):
    """What was measured, and how far apart the CPUs were meanwhile: None if that changed."""

    value: float
    distance: float | None


class Together(NamedTuple):
    """Figures of two contestants at one distance, in the order of their making."""

    distance: float
    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, one by one."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=False)]


def together(ours: Sequence[Figure], theirs: Sequence[Figure]) -> list[Together]:
    """The distances at which both have been measured, that with the most figures of both first."""
    known = sorted({f.distance for f in [*ours, *theirs] if f.distance is not None})
    kinds: list[list[float]] = []
    for at in known:
        if kinds and at <= APART * kinds[-1][-1]:
            kinds[-1].append(at)
        else:
            kinds.append([at])
    found = []
    for kind in kinds:
        one, other = ([f.value for f in side if f.distance in kind] for side in (ours, theirs))
        if min(len(one), len(other)) >= LEAST_OF_A_KIND:
            at = float(np.median([f.distance for f in [*ours, *theirs] if f.distance in kind]))
            found.append(Together(at, one, other))
    return sorted(found, key=lambda pair: -min(len(pair.ours), len(pair.theirs)))


def wherever(ours: Sequence[Figure], theirs: Sequence[Figure]) -> Together:
    """All figures, for when the CPUs were at no one distance for long enough."""
    return Together(0.0, [f.value for f in ours], [f.value for f in theirs])


def ratios(pairs: Sequence[Together]) -> dict[str, float]:
    """The middle ratio at each distance, for a row."""
    return {f"at {p.distance:.0f} clocks": round(float(np.median(p.ratios)), 3) for p in pairs}
