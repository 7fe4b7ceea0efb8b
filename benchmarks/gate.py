# SPDX-License-Identifier: Apache-2.0
"""Is B slower than A? What is said of two programs that were run by turns, and what is not said.

Two processes of one commit may differ by some percent for as long as they live, by how their memory
happens to lie. So they are started anew LAUNCHES times. In a launch the two take turns, A B B A ...,
of some runs each, and the launch's *change* is the median of log(B / A) over pairs of turns that
are next to each other: what slows the machine for a while slows both. The launches' changes are what is
judged:

    change   their median
    low, high   an interval of confidence for it, by order statistics: no distribution is assumed

B is slower when change is above LIMIT and low is above 0: more than LIMIT, and more than the noise. Where
it looks slower, as many launches are added: it counts when it is slower by all of them, and looks so by the
added ones alone. So 30 comparisons of a commit with itself raise no alarm, and a tenth more is seen
(tests/benchmarks/test_gate.py, with noise of several kinds).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

LIMIT = 0.05
"""A change above which B is slower."""
LAUNCHES = 10
PAIRS, TRIED = 12, 48
"""Pairs of turns in a launch that count, and how many are tried for that."""
RUNS, WARM = 24, 4
"""Timed runs of a turn, and runs before them that do not count."""
LEAST_RUNS = 6
"""A turn of which fewer runs were undisturbed does not count."""
LEAST_PAIRS = 4
"""Nor does a launch with fewer pairs."""
LEAST_LAUNCHES = 6
"""With fewer launches that count nothing is said: of 6, the least is a bound with 98 %."""
TAIL = 0.02
"""How likely the median is to lie below low, or above high."""

Turn = Callable[[], Sequence[float]]
"""Runs a turn. Returns its undisturbed figures, all above 0."""


class Launch(NamedTuple):
    """What came of one: log(B / A), and the medians of both, in the figures' unit."""

    change: float
    a: float
    b: float


@dataclass(frozen=True)
class Judgement:
    """What is said of a measurement. Changes are parts: 0.1 is a tenth slower."""

    change: float
    low: float
    high: float
    a: float
    b: float
    launches: int
    """That count."""
    says: str
    """slower, faster, same, or noisy: too few launches counted, or the interval is wider than LIMIT to
    either side."""

    @property
    def regression(self) -> bool:
        """Whether B is slower."""
        return self.says == "slower"


def orders() -> Iterator[tuple[bool, bool]]:
    """Whether it is B's turn, for each pair: A B, B A, A B ..."""
    for k in range(TRIED):
        yield (bool(k & 1), not k & 1)


def launch(a: Turn, b: Turn) -> Launch | None:
    """Have the two take turns. Returns None when too little was undisturbed."""
    changes, of_a, of_b = [], [], []
    for order in orders():
        found: dict[bool, float] = {}
        for is_b in order:
            figures = (b if is_b else a)()
            if len(figures) >= LEAST_RUNS:
                found[is_b] = float(np.median(figures))
        if len(found) == 2 and min(found.values()) > 0:
            changes.append(math.log(found[True] / found[False]))
            of_a.append(found[False])
            of_b.append(found[True])
        if len(changes) == PAIRS:
            break
    if len(changes) < LEAST_PAIRS:
        return None
    return Launch(*(float(np.median(each)) for each in (changes, of_a, of_b)))


def judge(launches: Sequence[Launch | None]) -> Judgement:
    """What the launches say together."""
    good = [each for each in launches if each is not None]
    if len(good) < LEAST_LAUNCHES:
        return Judgement(math.nan, math.nan, math.nan, math.nan, math.nan, len(good), "noisy")
    changes = np.sort([each.change for each in good])
    at = rank(len(good))
    middle = float(np.median(changes))
    low, high = float(changes[at]), float(changes[-1 - at])
    limit = math.log1p(LIMIT)
    if middle > limit and low > 0:
        says = "slower"
    elif middle < -limit and high < 0:
        says = "faster"
    elif abs(middle) > limit or min(middle - low, high - middle) > limit:
        says = "noisy"
    else:
        says = "same"
    a, b = (float(np.median([getattr(each, side) for each in good])) for side in ("a", "b"))
    change, low, high = (math.expm1(value) for value in (middle, low, high))
    return Judgement(change, low, high, a, b, len(good), says)


def rank(n: int) -> int:
    """The largest k for which the k-th of n sorted figures (from 0) lies above their median, were
    they drawn from it, in at most TAIL of all cases."""
    below, k = 0.0, -1
    while True:
        below += math.comb(n, k + 1) / 2**n
        if below > TAIL:
            return max(k, 0)
        k += 1


def suspect(launches: Sequence[Launch | None]) -> bool:
    """Whether B looks slower, so that it has to be looked at once more."""
    return judge(launches).change > LIMIT


def judge_twice(first: Sequence[Launch | None], again: Sequence[Launch | None]) -> Judgement:
    """What is said when B looked slower at first: slower, if it is by all launches together, and looks
    so by the second ones alone."""
    said = judge([*first, *again])
    if said.regression and not suspect(again):
        return replace(said, says="noisy")
    return said
