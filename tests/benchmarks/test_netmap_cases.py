# SPDX-License-Identifier: Apache-2.0
"""The cases of netmap move all frames, whole and in order: they end with an error where not."""

import os

import numpy as np
import pytest

from gauges import Quiet
from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.distance import Figure
from benchmarks.harness import whole
from benchmarks.session import Session

from benchmarks import netmap_cases


@pytest.mark.parametrize(
    ("case", "rows"), [("netmap-pipe", netmap_cases.netmap_pipe), ("vale", netmap_cases.vale)]
)
def test_frames_go_through(tmp_path, monkeypatch, case, rows):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(netmap_cases, "COUNT", 4096)
    monkeypatch.setattr(netmap_cases, "TURNS", 3)
    (row,) = rows(Session(gauge=Quiet(), wanted=3, limit_s=0.1))
    assert (row["case"], row["unit"]) == (case, "Mpps")
    assert row["value"] > 0
    assert row["packets"] >= 4096 * row["runs"]  # a turn is of some runs
    assert row["touched"] == netmap_cases.SIZE
    assert row["slots"] == netmap_cases.RING_SLOTS
    assert row["rejected"] == netmap_cases.TURNS - row["runs"]


def test_each_side_runs_on_a_cpu_of_its_own():
    cpus, found = sorted(os.sched_getaffinity(0)), []
    sides = [lambda: found.append(os.sched_getaffinity(0)) for _ in range(2)]
    assert netmap_cases._rate(*sides) > 0
    assert sorted(map(sorted, found)) == sorted([[cpus[0]], [cpus[-1]]])
    assert sorted(os.sched_getaffinity(0)) == cpus


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_side_that_fails_ends_the_case():
    with pytest.raises(AssertionError, match="has failed"):
        netmap_cases._rate(lambda: None, lambda: 1 // 0)


def test_turns_at_one_distance_count():
    """Those of a disturbed turn, and of one in which the CPUs were moved, have no distance."""
    figures = [Figure(70.0, 160.0)] * 12 + [Figure(30.0, 770.0)] * 5 + [Figure(1.0, None)] * 3
    turns = [whole([each.value], Quiet(), disturbed=False) for each in figures]
    row = netmap_cases._row(Session(gauge=Quiet()), "vale", figures, turns)
    assert (row["value"], row["runs"], row["rejected"], row["round_trip"]) == (70, 12, 8, 160)
    assert row["rates"] == {"at 160 clocks": 70, "at 770 clocks": 30}
    assert "note" not in row


def test_where_no_turn_has_a_distance_all_count_and_the_row_says_so():
    figures = [Figure(70.0, None)] * 12
    turns = [whole([70.0], Quiet(), disturbed=True)] * 12
    row = netmap_cases._row(Session(gauge=Quiet()), "vale", figures, turns)
    assert (row["value"], row["disturbed"], row["rates"]) == (70, True, {})
    assert "nowhere long enough" in row["note"]


@pytest.mark.parametrize(("odd", "total"), [([1], [9, 0]), ([0], [9, 1]), ([0], [0, 0])])
def test_a_frame_that_came_wrong_ends_the_case(odd, total):
    netmap_cases._check([0], np.array([9, 0], np.uint64))
    with pytest.raises(AssertionError, match="frames came wrong"):
        netmap_cases._check(odd, np.array(total, np.uint64))
