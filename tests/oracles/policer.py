# SPDX-License-Identifier: Apache-2.0
"""Meters in exact fractions: RFC 2697 section 3 (srTCM), RFC 2698 section 3 (trTCM), colour-blind."""

from fractions import Fraction

GREEN, YELLOW, RED = "green", "yellow", "red"


class OneRate:
    """srTCM. rate: bytes per clock. With an excess burst of 0 it has two colours."""

    def __init__(self, rate: Fraction, committed: int, excess: int, now: int) -> None:
        self.rate, self.committed, self.excess, self.now = rate, committed, excess, now
        self.tc, self.te = Fraction(committed), Fraction(excess)  # both are full at time 0

    def colour(self, size: int, now: int) -> str:
        """Tc grows; when it is CBS, Te does, up to EBS. Then the packet is held against both."""
        earned = self.rate * max(now - self.now, 0)
        self.now = max(self.now, now)
        over = max(self.tc + earned - self.committed, Fraction(0))
        self.tc = min(self.tc + earned, Fraction(self.committed))
        self.te = min(self.te + over, Fraction(self.excess))
        if self.tc - size >= 0:
            self.tc -= size
            return GREEN
        if self.te - size >= 0:
            self.te -= size
            return YELLOW
        return RED


class TwoRates:
    """trTCM. Rates in bytes per clock."""

    def __init__(
        self, rate: Fraction, committed: int, peak_rate: Fraction, peak: int, now: int
    ) -> None:
        self.rate, self.committed, self.peak_rate, self.peak = rate, committed, peak_rate, peak
        self.now = now
        self.tc, self.tp = Fraction(committed), Fraction(peak)

    def colour(self, size: int, now: int) -> str:
        passed = max(now - self.now, 0)
        self.now = max(self.now, now)
        self.tc = min(self.tc + self.rate * passed, Fraction(self.committed))
        self.tp = min(self.tp + self.peak_rate * passed, Fraction(self.peak))
        if self.tp - size < 0:
            return RED
        self.tp -= size
        if self.tc - size < 0:
            return YELLOW
        self.tc -= size
        return GREEN
