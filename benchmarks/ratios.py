# SPDX-License-Identifier: Apache-2.0
"""Figures that are made of others: of several turns, and of two that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.harness import Measured, Reading, whole


def of_turns(turns: Sequence[Measured], gauge: Reading) -> Measured:
    """The median of turns that were each measured by many runs, and the spread of the turns."""
    made = whole(
        [each.value for each in turns], gauge, disturbed=any(each.disturbed for each in turns)
    )
    return replace(made, rejected=sum(each.rejected for each in turns))


def by_turns(
    ones: Sequence[float], others: Sequence[float], gauge: Reading, *, disturbed: bool
) -> Measured:
    """One over the other: the median of the turns' ratios, and the spread of these.

    Who took part in fewer turns was there in the first.
    """
    ratios = [one / other for one, other in zip(ones, others, strict=False)]
    return whole(ratios, gauge, disturbed=disturbed)


def of_medians(one: Measured, other: Measured) -> Measured:
    """One over the other where both were measured one after the other: of their medians.

    Its spread is the sum of theirs, and so the most that it can be; its runs are the fewer.
    """
    ratio = one.value / other.value
    return replace(
        one, value=ratio, parts=[ratio], spread=one.spread + other.spread,
        runs=min(one.runs, other.runs), rejected=one.rejected + other.rejected,
        disturbed=one.disturbed or other.disturbed,
    )  # fmt: skip
