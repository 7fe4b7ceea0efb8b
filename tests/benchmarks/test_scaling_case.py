# SPDX-License-Identifier: Apache-2.0
"""The case of two workers against one forwards with both, and its row is a ratio of what they did."""

import os

import pytest

from gauges import Quiet
from vforward.control import bench_command
from vforward.graph.workers import available

bench_command.report()  # makes `benchmarks` importable

from benchmarks.cases import CASES
from benchmarks.session import Session

from benchmarks import cores, scaling_case


@pytest.mark.skipif(len(available()) < scaling_case.WORKERS, reason="one CPU only")
def test_both_forward_and_the_row_is_their_ratio(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(scaling_case, "TIMES", 2)
    monkeypatch.setattr(scaling_case, "SECONDS", 0.05)
    monkeypatch.setattr(cores, "ROUNDS", 100_000)
    before = os.sched_getaffinity(0)
    (row,) = CASES["scaling"].run(Session(gauge=Quiet()))
    assert (row["case"], row["unit"], row["clock"]) == ("scaling", "x", "CLOCK_MONOTONIC")
    assert row["value"] > 0
    assert row["one_mpps"] > 0
    assert row["two_mpps"] > 0
    assert 0 < row["cores"] < 4
    assert 1 <= row["runs"] <= 2
    assert any("only" in doubt for doubt in row["doubts"])
    assert os.sched_getaffinity(0) == before


def test_one_cpu_is_too_few(monkeypatch):
    monkeypatch.setattr(scaling_case, "available", lambda: [0])
    with pytest.raises(RuntimeError, match="need 2 CPUs"):
        next(scaling_case.scaling(Session(gauge=Quiet())))
