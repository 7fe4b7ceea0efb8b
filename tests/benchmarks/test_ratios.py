# SPDX-License-Identifier: Apache-2.0
"""Figures made of others: the median of turns' ratios is not the ratio of medians."""

import pytest

from gauges import Quiet
from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.harness import Measured
from benchmarks.ratios import by_turns, of_medians, of_turns


def measured(value, spread=0.1, runs=50, rejected=3, *, disturbed=False):
    return Measured(value, [value], spread, runs, rejected, disturbed=disturbed, gauge=1.0)


def test_a_ratio_is_of_turns():
    found = by_turns([10.0, 40.0, 90.0], [10.0, 20.0, 30.0], Quiet(), disturbed=False)
    assert (found.value, found.runs, found.spread) == (2.0, 3, 0.5)
    assert by_turns([10.0, 40.0], [5.0], Quiet(), disturbed=True).value == 2.0


def test_turns_have_a_median_and_a_spread():
    found = of_turns([measured(1.0), measured(2.0), measured(3.0, disturbed=True)], Quiet())
    assert (found.value, found.runs, found.spread) == (2.0, 3, 0.5)
    assert (found.rejected, found.disturbed) == (9, True)


def test_a_ratio_of_medians_is_no_surer_than_both():
    found = of_medians(measured(6.0, 0.1, 50), measured(2.0, 0.2, 9, disturbed=True))
    assert (found.value, found.runs) == (3.0, 9)
    assert found.spread == pytest.approx(0.3)
    assert found.disturbed
