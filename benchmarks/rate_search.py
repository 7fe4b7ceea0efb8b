# SPDX-License-Identifier: Apache-2.0
"""Searches for the highest rate at which no more than some part of the packets is lost (RFC 2544, 26.1).

A trial sends at a rate for a while and counts. The search halves the interval between a rate that was
good and one that was not, from the highest one on that the sender reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

STEPS = 6
"""Halvings after the first trial: 1/64 of the highest rate is as fine as it gets."""


@dataclass(frozen=True)
class Trial:
    """What became of one. Rates are packets per second."""

    offered: float
    """At which it was sent: the sender may be slower than it was told."""
    sent: int
    received: int
    """That came whole, each once."""
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    overrun: int = 0
    """Lost by the receiver: its own ring was full."""
    waits: list[float] = field(default_factory=list)
    """Microseconds, sorted, from the sender's stamp to the receiver's look; or nothing."""

    @property
    def lost(self) -> int:
        """By who forwards."""
        return max(0, self.sent - self.received - self.overrun)

    @property
    def loss(self) -> float:
        """The part that was lost."""
        return self.lost / self.sent if self.sent else 1.0


def search(
    trial: Callable[[float], Trial], highest: float, tolerated: float, steps: int = STEPS
) -> float:
    """The highest rate, as it was offered, of those tried whose loss was at most what is tolerated.

    highest: the first that is tried. Returns 0 when none was good.
    """
    low, high, best = 0.0, highest, 0.0
    rate = highest
    for _ in range(1 + steps):
        found = trial(rate)
        if found.loss <= tolerated:
            low, best = rate, max(best, found.offered)
            if rate == highest:
                break
        else:
            high = rate
        rate = (low + high) / 2
    return best
