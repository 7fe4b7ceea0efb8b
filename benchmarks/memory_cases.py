# SPDX-License-Identifier: Apache-2.0
"""What this machine's memory costs: the floor under every case whose tables do not fit a cache.

A line of 64 bytes is loaded at random from so many KiB on huge pages, where the kernel gives such: many
loads under way at a time, or, ``chained``, each only when the one before it has come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import row
from benchmarks.session import Session, arena
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import kernel, u64

KIBIBYTES = tuple(256 << k for k in range(9))
WORDS = 8
"""Of a line."""
LOADS = 1 << 16
SEED = 7


def link(table: NDArray[np.uint64], rng: np.random.Generator) -> None:
    """Let the first word of each line say where the next one is: one cycle through all, at random."""
    order = rng.permutation(len(table) // WORDS).astype(np.uint64) * np.uint64(WORDS)
    table[order] = np.roll(order, -1)


@kernel
def apart(table, lines, state):
    """Clocks for LOADS loads that do not depend on each other; state u64[2]: random, sum."""
    x, total = state[0], u64(0)
    start = cycles()
    for _ in range(LOADS):
        x ^= x << u64(13)
        x ^= x >> u64(7)
        x ^= x << u64(17)
        total += table[((x >> u64(32)) * lines >> u64(32)) * u64(WORDS)]
    spent = cycles() - start
    state[0], state[1] = x, total
    return spent


@kernel
def in_turn(table, state):
    """The same for loads each of which names the next; state u64[1]: where to go on."""
    at = state[0]
    start = cycles()
    for _ in range(LOADS):
        at = table[at]
    spent = cycles() - start
    state[0] = at
    return spent


def memory(session: Session) -> Iterator[dict[str, Any]]:
    """Clocks per line, by size; the last row is the largest table."""
    rng = np.random.default_rng(SEED)
    for kib in KIBIBYTES:
        lines = kib * 1024 // (8 * WORDS)
        with arena() as shared:
            table = shared.make("lines", lines * WORDS, np.uint64)
            link(table, rng)
            random, place = np.array([SEED, 0], np.uint64), np.zeros(1, np.uint64)

            def chained(table: Any = table, place: Any = place) -> list[float]:
                return [float(in_turn(table, place)) / LOADS]

            def many(table: Any = table, lines: int = lines, random: Any = random) -> list[float]:
                return [float(apart(table, u64(lines), random)) / LOADS]

            for run in (chained, many):
                found = session.measure(f"memory {kib} KiB", run, 2 * len(KIBIBYTES))
                yield row(
                    "memory", found, "clocks/line", vector=1, packets=LOADS, touched=0,
                    kibibytes=kib, chained=run is chained,
                )  # fmt: skip
