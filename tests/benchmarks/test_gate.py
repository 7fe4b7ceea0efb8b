# SPDX-License-Identifier: Apache-2.0
"""The gate against noise that is known: it sees a tenth, and raises no alarm where there is nothing."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks import compare, gate, report

ROOT = Path(__file__).resolve().parents[2]
PAIRS = 30
"""Comparisons of a commit with itself."""


class Machine:
    """Two programs whose runs take 100 clocks, B's factor times more, and a machine that disturbs.

    run: of single runs, lognormal. process: by how much a process differs for as long as it lives.
    drift: a random walk of the machine's speed, a step for each turn. lost: how many turns see
    nothing but disturbed runs. odd: how many processes are half as slow again.
    """

    def __init__(self, seed, factor, *, run=0.02, process=0.01, drift=0.0, lost=0.0, odd=0.0):
        self.random = np.random.default_rng(seed)
        self.factor, self.run, self.process = factor, run, process
        self.drift, self.lost, self.odd = drift, lost, odd
        self.speed = 0.0

    def launch(self):
        return gate.launch(self._program(1.0), self._program(self.factor))

    def _program(self, factor):
        own = factor * math.exp(self.random.normal(0, self.process))
        own *= 1.5 if self.random.random() < self.odd else 1.0

        def turn():
            self.speed += self.random.normal(0, self.drift)
            if self.random.random() < self.lost:
                return []
            noise = np.exp(self.random.normal(self.speed, self.run, gate.RUNS))
            return (100 * own * noise).tolist()

        return turn

    def judge(self):
        first = [self.launch() for _ in range(gate.LAUNCHES)]
        if not gate.suspect(first):
            return gate.judge(first)
        return gate.judge_twice(first, [self.launch() for _ in range(gate.LAUNCHES)])


NOISES = {
    "quiet": {},
    "processes differ": {"process": 0.03},
    "runs differ": {"run": 0.15},
    "the machine drifts": {"drift": 0.03},
    "half of the turns are lost": {"lost": 0.5},
    "some processes are odd": {"odd": 0.03},
    "all at once": {"run": 0.1, "process": 0.02, "drift": 0.01, "lost": 0.3, "odd": 0.03},
}


@pytest.mark.parametrize("noise", NOISES)
def test_no_alarm_over_thirty_pairs_of_one_commit(noise):
    said = [Machine(seed, 1.0, **NOISES[noise]).judge() for seed in range(PAIRS)]
    assert not any(each.regression for each in said)


@pytest.mark.parametrize("noise", NOISES)
def test_a_tenth_is_seen(noise):
    said = [Machine(seed, 1.1, **NOISES[noise]).judge() for seed in range(PAIRS)]
    assert all(each.regression for each in said)
    assert np.median([each.change for each in said]) == pytest.approx(0.1, abs=0.02)


def test_what_is_faster_is_no_regression():
    said = Machine(1, 0.8).judge()
    assert (said.says, said.regression) == ("faster", False)
    assert said.change == pytest.approx(-0.2, abs=0.02)
    assert (said.a, said.b) == (pytest.approx(100, rel=0.05), pytest.approx(80, rel=0.05))


def test_a_little_slower_is_the_same():
    assert Machine(1, 1.03).judge().says == "same"


def test_without_enough_quiet_launches_nothing_is_said():
    said = Machine(1, 2.0, lost=1.0).judge()
    assert (said.says, said.regression, said.launches) == ("noisy", False, 0)
    launches = [gate.Launch(0.7, 1.0, 2.0)] * (gate.LEAST_LAUNCHES - 1) + [None] * 5
    assert gate.judge(launches).says == "noisy"


def test_what_lies_far_apart_is_noisy():
    changes = [-0.5, -0.4, -0.3, -0.2, 0.0, 0.01, 0.2, 0.3, 0.4, 0.5]
    said = gate.judge([gate.Launch(change, 1.0, 1.0) for change in changes])
    assert (said.says, said.regression) == ("noisy", False)
    assert said.low == pytest.approx(math.expm1(-0.4))
    assert said.high == pytest.approx(math.expm1(0.4))


def test_a_change_counts_only_when_it_is_more_than_the_noise():
    changes = [-0.02, -0.01, 0.05, 0.06, 0.08, 0.1, 0.1, 0.1, 0.1, 0.1]
    said = gate.judge([gate.Launch(change, 1.0, 1.0) for change in changes])
    assert said.change > gate.LIMIT
    assert not said.regression
    assert gate.judge([gate.Launch(abs(c), 1.0, 1.0) for c in changes]).regression


def test_what_is_found_once_and_not_again_does_not_count():
    slower, same = [gate.Launch(0.2, 1.0, 1.2)] * 10, [gate.Launch(0.0, 1.0, 1.0)] * 10
    assert gate.suspect(slower)
    assert not gate.suspect(same)
    assert not gate.judge_twice(slower, same).regression
    assert gate.judge_twice(slower, slower).regression
    assert gate.judge_twice(slower, [gate.Launch(0.04, 1.0, 1.0)] * 10).says == "noisy"
    assert not gate.suspect([None] * 10)


def test_the_two_take_turns_and_each_begins_as_often():
    said = []
    gate.launch(
        lambda: said.append("a") or [1.0] * gate.RUNS, lambda: said.append("b") or [1.0] * gate.RUNS
    )
    assert "".join(said[:8]) == "abbaabba"
    assert said.count("a") == said.count("b") == gate.PAIRS


@pytest.mark.parametrize(("n", "k"), [(6, 0), (9, 1), (10, 1), (12, 2), (20, 4)])
def test_bounds_are_where_a_fair_coin_puts_them(n, k):
    assert gate.rank(n) == k
    below = [sum(math.comb(n, i) for i in range(m + 1)) / 2**n for m in (k, k + 1)]
    assert below[0] <= gate.TAIL < below[1]


def test_make_gate_names_cases_that_are_gated():
    text = (ROOT / "Makefile").read_text()
    (names,) = re.findall(r'bench compare "\$\$release" \. (.+)$', text, re.M)
    assert names.split()
    compare.check(names.split())
    assert report.unknown(names.split()) == []
