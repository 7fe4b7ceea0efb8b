# SPDX-License-Identifier: Apache-2.0
"""What a case is given: the gauge, its time, where its progress is shown and its plot goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gauge import Gauge
from benchmarks.harness import CHECKOUT, LIMIT_S, WANTED, Measured, measure
from vforward.memory.arena import Arena

PLOTS = CHECKOUT / "build" / "bench"


def _silent(_label: str, _done: int, _wanted: int) -> None:
    pass


@dataclass
class Session:
    """One call of the benchmark."""

    gauge: Gauge = field(default_factory=Gauge)
    limit_s: float = LIMIT_S
    wanted: int = WANTED
    plot: Path | None = None
    progress: Callable[[str, int, int], None] = _silent

    def measure(self, label: str, run: Callable[[], Sequence[float]], share: int = 1) -> Measured:
        """See harness.measure. share: how many measurements the case's time is for."""
        return measure(
            run,
            self.gauge,
            wanted=self.wanted,
            limit_s=self.limit_s / share,
            progress=lambda done, wanted: self.progress(label, done, wanted),
        )

    def plot_to(self, name: str) -> Path:
        """Where a plot goes; its directory exists."""
        path = self.plot or PLOTS / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@contextlib.contextmanager
def arena(part: str = "") -> Iterator[Arena]:
    """Shared memory for one measurement. part: what tells it from others at the same time."""
    with Arena.create(f"bench-{os.getpid()}{part}") as made:
        yield made
