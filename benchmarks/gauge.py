# SPDX-License-Identifier: Apache-2.0
"""The gauge: is this core ours alone just now?

A virtual CPU is one hyperthread of a core. When the other one works, for whomever, every program
here takes up to twice the clocks, and nothing in this machine says so. The gauge is a loop whose
cost is known: six integer chains, coupled so that no compiler can fold them, with enough
independent work to use every issue slot of the core. Shared, it takes 1.4 to 1.7 times the clocks
of a quiet core.

The quiet value is the best ever seen. It is kept from run to run, for as long as the machine is
up: so a process that never sees a quiet moment knows that it did not.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numba
import numpy as np

from vforward.jit import cache
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import kernel

DISTURBED = 1.1
"""A reading above this many times the best one: somebody else was on the core."""
ROUNDS = 20_000
CALIBRATION = 2_000
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@kernel
def spin(rounds, sink):
    """Clocks per round of the loop. sink u64[1]: takes the result, lest the work be dropped."""
    a, b, c = np.uint64(1), np.uint64(2), np.uint64(3)
    d, e, f = np.uint64(4), np.uint64(5), np.uint64(6)
    start = cycles()
    for _ in range(rounds):
        a += b
        b ^= c
        c += d
        d ^= e
        e += f
        f ^= a
    sink[0] = a ^ b ^ c ^ d ^ e ^ f
    return np.float64(cycles() - start) / rounds


class Gauge:
    """Readings of the loop, and the best of them (clocks per round)."""

    def __init__(self, memory: Path | None = None) -> None:
        self._sink = np.zeros(1, np.uint64)
        self._memory = memory or _memory()
        self.best = self._remembered()
        self.read()
        for _ in range(CALIBRATION):
            self.read(ROUNDS // 20)

    def read(self, rounds: int = ROUNDS) -> float:
        """Clocks per round now; some 10 microseconds."""
        value = spin(rounds, self._sink)
        if rounds == ROUNDS:
            self.best = min(self.best, value)
        return value

    def disturbed(self, reading: float) -> bool:
        """Whether somebody else was on the core at that reading."""
        return reading > DISTURBED * self.best

    def remember(self) -> None:
        """Keep the best value for later processes."""
        if self.best < self._remembered():
            aside = self._memory.with_suffix(f".{os.getpid()}")
            aside.write_text(repr(self.best))
            aside.replace(self._memory)

    def _remembered(self) -> float:
        try:
            return float(self._memory.read_text())
        except (OSError, ValueError):
            return float("inf")


def _memory() -> Path:
    """The file of this boot's best value of this very loop, beside the caches of compiled code."""
    boot = BOOT_ID.read_bytes() if BOOT_ID.exists() else b""
    loop = Path(__file__).read_bytes() + numba.__version__.encode()
    cache.directory()
    return cache.root() / f"gauge-{hashlib.sha256(boot + loop).hexdigest()[:16]}"
