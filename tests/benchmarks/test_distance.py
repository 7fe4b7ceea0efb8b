# SPDX-License-Identifier: Apache-2.0
"""How far apart two CPUs are, and which figures may be compared."""

import os
import subprocess
import sys

import numpy as np
import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.distance import Figure, Watch, ball, distance, steady, together
from benchmarks.session import Session
from benchmarks.vhost_cases import Contestant, Turn, rows


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU")
def test_a_line_takes_its_time():
    """Nobody's caches are nearer than ten clocks, nor farther than a page takes from a disk."""
    assert 10 < distance() < 100_000


def test_with_one_cpu_there_is_no_distance(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert distance() == 0
    assert steady([0.0, 0.0]) == 0


def test_a_look_ends_where_the_other_side_does_not_come():
    """Two processes that look at one time have a CPU each, for good: nobody else runs there."""
    found = np.full(2, np.inf)
    ball(np.zeros(8, np.uint64), 1, 50, found)
    assert np.isinf(found).all()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU")
def test_processes_may_look_at_one_time():
    code = "from vforward.control import bench_command; bench_command.report()\n"
    code += "from benchmarks.distance import distance\nfor _ in range(30): distance()"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(240) for process in processes] == [0, 0]


def test_a_distance_that_changed_is_none():
    assert steady([160, np.inf]) is None
    assert steady([np.inf, np.inf]) is None
    assert steady([150, 170, 160]) == 160
    assert steady([70, 160]) is None
    assert steady([]) is None


def test_a_watch_forgets(monkeypatch):
    from benchmarks import distance as module

    found = iter([70.0, 700.0, 710.0, 720.0])
    monkeypatch.setattr(module, "distance", lambda: next(found))
    watch = Watch(looks=3)
    assert watch.steady() is None
    watch.look(), watch.look(), watch.look()
    assert watch.steady() is None
    watch.look()
    assert watch.steady() == 710


def figures(*pairs):
    return [Figure(value, at) for value, at in pairs]


def test_only_what_was_measured_at_one_distance_is_compared():
    ours = figures(*[(10, 160)] * 4, *[(5, 770)] * 6, *[(1, None)] * 9, (20, 70))
    theirs = figures(*[(8, 165), (8, 158)] * 2, *[(5, 800)] * 3, *[(99, None)] * 9, *[(20, 71)] * 3)
    near, far = together(ours, theirs)
    assert near.distance == 160
    assert near.ratios == [10 / 8] * 4
    assert far.ours == [5] * 6
    assert far.theirs == [5] * 3
    assert far.ratios == [1] * 3  # pairs, as far as they go


def contestants(*names):
    return {name: Contestant(f"{name}, with words", 32, list) for name in names}


def turns(given, clocks=None):
    """All figures of a contestant as those of one turn."""
    return {k: [Turn(v, tuple(figures(*(clocks or {}).get(k, ()))))] for k, v in given.items()}


def test_rows_say_at_what_distance():
    near, far = [(10e6, 160.0)] * 12, [(5e6, 770.0)] * 5
    given = {
        "ours": figures(*near, *far, (1e6, None)),
        "theirs": figures(*[(5e6, 160.0)] * 12, *far),
    }
    clocks = {"ours": [(50.0, 160.0)] * 3, "theirs": [(80.0, 160.0)] * 3 + [(90.0, 770.0)]}
    ours, theirs, ratio = rows(
        Session(),
        "case",
        contestants("ours", "theirs"),
        turns(given, clocks),
        pages="",
        disturbed=False,
    )
    assert (ours["value"], theirs["value"], ratio["value"]) == (10, 5, 2)
    assert (ours["rejected"], theirs["rejected"], ratio["rejected"]) == (6, 5, 6)
    assert ratio["ratios"] == {"at 160 clocks": 2, "at 770 clocks": 1}
    assert ratio["runs"] == 12
    assert ratio["doubts"] == []
    assert ours["seconds"][-1] == (1, None)
    assert theirs["clocks"] == [*[(80, 160)] * 3, (90, 770)]
    assert ratio["clocks_ratio"] == {"at 160 clocks": 1.6}, "theirs over ours"


def test_ours_is_compared_with_the_one_that_it_does_worst_beside():
    given = {
        "ours": figures(*[(10e6, 160.0)] * 12),
        "slow": figures(*[(5e6, 160.0)] * 12),
        "quick": figures(*[(8e6, 160.0)] * 11, (8e6, None)),
    }
    names = contestants(*given)
    ours, slow, quick, ratio = rows(
        Session(), "case", names, turns(given), pages="ours 2 MiB", disturbed=False
    )
    assert ratio["pages"] == "ours 2 MiB"
    assert (ours["case"], slow["ratio"], quick["ratio"]) == ("case-ours", 2, 1.25)
    assert (ratio["value"], ratio["runs"]) == (1.25, 11)
    assert "ours, with words / quick, with words" in ratio["what"]
    assert (slow["vector"], slow["what"]) == (32, "slow, with words")


def test_where_there_was_no_one_distance_all_is_compared_and_said():
    given = {"ours": figures(*[(2e6, None)] * 3), "theirs": figures(*[(1e6, None)] * 3)}
    *_, ratio = rows(
        Session(), "case", contestants("ours", "theirs"), turns(given), pages="", disturbed=True
    )
    assert ratio["value"] == 2
    assert "nowhere long enough" in ratio["note"]
    assert "3 runs only" in ratio["doubts"]
