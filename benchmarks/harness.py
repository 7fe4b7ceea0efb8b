# SPDX-License-Identifier: Apache-2.0
"""How everything here is measured: many short runs, the disturbed ones set aside, the median kept.

The machine that this is developed on has two virtual CPUs whose cores are shared with strangers,
and a busy neighbor doubles all clocks. So a gauge (benchmarks.gauge) is read right before and
right after each run, and a reading above 1.1 times the gauge's best is a *disturbance*. A run
counts when there was none at it, nor at the three runs before and the three after: a lull between
two readings of a busy core would pass otherwise (such runs took 15 to 40 % more). What does not
count is set aside, and repeated, until there are as many undisturbed runs as wanted or the case's
time is over (20 s). With fewer than LEAST of them the row says ``"disturbed": true`` and its value
is the median of all. Filtered so, medians repeat to 1 %.

Every row tells how many runs it rests on, how many were set aside, and the spread of the others:
the distance between their quartiles over their median. What a reader should hold against it stands in
its ``doubts``: a shared core, a spread beyond WIDE, fewer runs than LEAST.
"""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import llvmlite
import numba
import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import kernel

CHECKOUT = Path(__file__).resolve().parents[1]
MEASURED = ("src", "csrc", "benchmarks")
"""What figures are of: in these nothing may differ from the commit that a row names."""
WANTED = 300
"""Undisturbed runs, after which a measurement ends."""
LEAST = 10
"""Fewer undisturbed runs than this are none; and what is set nothing aside from has as many, or its
row says that it has not."""
WIDE = 0.25
"""A spread from which on a figure is doubtful."""
STREAK = 7
"""Runs in a row without a disturbance, of which the middle one counts."""
LIMIT_S = 20.0
WARM_UP = 5
"""Runs before the first that counts: caches, branch predictors, pages."""


class Reading(Protocol):
    """What the harness asks of a gauge."""

    best: float

    def read(self) -> float:
        """Clocks per round now."""

    def disturbed(self, reading: float) -> bool:
        """Whether that reading was of a shared core."""


@dataclass(frozen=True)
class Measured:
    """The outcome. A run gives one figure per part (a node, say); their sum is the run's value."""

    value: float
    parts: list[float]
    """The median of each part. They need not add up to the median of the sums."""
    spread: float
    runs: int
    """Runs that value rests on."""
    rejected: int
    disturbed: bool
    gauge: float
    """The gauge's best value, clocks per round."""

    def inverted(self, of: float) -> Measured:
        """How often per second, from clocks and how many of those a second has. parts: as before."""
        return replace(self, value=of / self.value)


def measure(
    run: Callable[[], Sequence[float]],
    gauge: Reading,
    *,
    wanted: int = WANTED,
    limit_s: float = LIMIT_S,
    progress: Callable[[int, int], None] = lambda _done, _wanted: None,
) -> Measured:
    """Repeat run, which returns a figure per part, until enough of it was undisturbed.

    progress is called with the number of undisturbed runs and the number wanted.
    """
    for _ in range(WARM_UP):
        run()
    readings: list[float] = []
    figures: list[Sequence[float]] = []
    good = streak = 0
    end = time.monotonic() + limit_s
    while good < wanted and (time.monotonic() < end or len(figures) < LEAST):
        before = gauge.read()
        figures.append(run())
        readings.append(max(before, gauge.read()))
        streak = 0 if gauge.disturbed(readings[-1]) else streak + 1
        good += streak >= STREAK
        progress(good, wanted)
    return _evaluate(np.array(figures, float), np.array(readings), gauge)


def repeat(
    run: Callable[[], Sequence[float]],
    gauge: Reading,
    times: int,
    progress: Callable[[int], None] = lambda _done: None,
) -> Measured:
    """Run so many times, and set nothing aside: for what takes too long to be undisturbed.

    disturbed tells whether the core was shared right before or after one of them.
    """
    figures = []
    disturbed = False
    for done in range(times):
        before = gauge.read()
        figures.append(run())
        disturbed |= gauge.disturbed(max(before, gauge.read()))
        progress(done + 1)
    return _summary(np.array(figures, float), gauge, rejected=0, disturbed=disturbed)


def whole(figures: Sequence[float], gauge: Reading, *, disturbed: bool) -> Measured:
    """Figures that were measured elsewhere, none set aside."""
    return _summary(np.array(figures, float)[:, None], gauge, rejected=0, disturbed=disturbed)


def _evaluate(figures: NDArray[Any], readings: NDArray[Any], gauge: Reading) -> Measured:
    quiet = np.array([not gauge.disturbed(r) for r in readings])  # by the best value of the end
    quiet = np.convolve(quiet, np.ones(STREAK), "same") == STREAK
    disturbed = int(quiet.sum()) < LEAST
    used = figures if disturbed else figures[quiet]
    rejected = len(figures) - len(used)
    return _summary(used, gauge, rejected=rejected, disturbed=disturbed)


def _summary(used: NDArray[Any], gauge: Reading, *, rejected: int, disturbed: bool) -> Measured:
    low, middle, high = np.percentile(used.sum(axis=1), [25, 50, 75])
    return Measured(
        value=float(middle),
        parts=[float(part) for part in np.median(used, axis=0)],
        spread=float((high - low) / middle) if middle else 0.0,
        runs=len(used),
        rejected=rejected,
        disturbed=disturbed,
        gauge=gauge.best,
    )


def row(
    case: str,
    measured: Measured,
    unit: str,
    *,
    vector: int,
    packets: int,
    touched: int,
    timed: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """A row of results. packets: per run. touched: bytes of each that are written afresh.

    timed: False for what is counted and comes out the same each time.
    """
    return {
        "case": case,
        "value": _rounded(measured.value),
        "unit": unit,
        "vector": vector,
        "packets": packets * measured.runs,
        "touched": touched,
        "spread": round(measured.spread, 4),
        "runs": measured.runs,
        "rejected": measured.rejected,
        "disturbed": measured.disturbed,
        "doubts": _doubts(measured) if timed else [],
        "gauge": round(measured.gauge, 3),
        **more,
        **machine(),
    }


def _doubts(measured: Measured) -> list[str]:
    """What speaks against a figure, in words; nothing when it can be trusted."""
    found = []
    if measured.disturbed:
        found.append("DISTURBED: the core was shared")
    if measured.spread > WIDE:
        found.append(f"NOISY: half of the runs lie {measured.spread:.0%} apart")
    if measured.runs < LEAST:
        found.append(f"{measured.runs} runs only" if measured.runs != 1 else "one run only")
    return found


def missing(case: str, unit: str, gauge: Reading, why: str) -> dict[str, Any]:
    """A row without a figure, for what cannot be measured here."""
    nothing = Measured(0.0, [], 0.0, 0, 0, disturbed=False, gauge=gauge.best)
    made = row(case, nothing, unit, vector=0, packets=0, touched=0, timed=False, missing=why)
    return {**made, "value": None}


def _rounded(value: float) -> float:
    return round(value, 2) if value >= 1 else round(value, 4)


def parts(names: Sequence[str], measured: Measured) -> dict[str, float]:
    """The figures of a measurement's parts by name."""
    return {name: _rounded(part) for name, part in zip(names, measured.parts, strict=True)}


@cache
def machine() -> dict[str, Any]:
    """What the figures hold for: processor, clock, kernel, versions, commit."""
    return {
        "tsc_hz": tsc_hz(),
        "cpu": _cpu(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
        "commit": _commit(),
    }


@kernel
def clock():
    """The time stamp counter, for Python code."""
    return cycles()


@cache
def tsc_hz() -> int:
    """Clocks of the time stamp counter per second, to about 0.01 %."""
    clock()
    first, start = clock(), time.perf_counter_ns()
    time.sleep(0.1)
    last, end = clock(), time.perf_counter_ns()
    return round(int(last - first) * 1e9 / (end - start) / 1e5) * 100_000


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """The checkout's commit, with + when files of MEASURED differ from it, or are not in it."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=all", "--", *MEASURED)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + "+" if changed else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
