# SPDX-License-Identifier: Apache-2.0
"""Token buckets for ICMP errors: RFC 1812 section 4.3.2.8, RFC 4443 section 2.4(f)."""

from collections.abc import Hashable
from fractions import Fraction


class Bucket:
    """It holds up to burst tokens, gets one every step clocks, and is full at first."""

    def __init__(self, step: int, burst: int) -> None:
        self.step, self.burst = step, burst
        self.tokens, self.then = Fraction(burst), 0

    def has(self, now: int) -> bool:
        if not self.step:  # no limit
            return True
        self.tokens = min(Fraction(self.burst), self.tokens + Fraction(now - self.then, self.step))
        self.then = now
        return self.tokens >= 1

    def take(self) -> None:
        self.tokens -= 1


class Limits:
    """One bucket for all errors, and one for each destination: an error needs a token of both."""

    def __init__(self, step: int, burst: int, each_step: int, each_burst: int) -> None:
        self.total = Bucket(step, burst)
        self.each_step, self.each_burst = each_step, each_burst
        self.each: dict[Hashable, Bucket] = {}

    def allow(self, destination: Hashable, now: int) -> bool:
        each = self.each.setdefault(destination, Bucket(self.each_step, self.each_burst))
        if not (each.has(now) and self.total.has(now)):
            return False
        each.take()
        self.total.take()
        return True
