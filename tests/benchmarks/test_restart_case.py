# SPDX-License-Identifier: Apache-2.0
"""A daemon that is killed comes back and forwards, with and without one that stands by."""

import pytest

from gauges import Quiet
from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session

from benchmarks import restart_case


@pytest.mark.root
@pytest.mark.slow
def test_it_forwards_again_after_each_kill(monkeypatch):
    monkeypatch.setattr(restart_case, "KILLS", 2)
    rows = list(restart_case.restart_warm(Session(gauge=Quiet())))
    assert [row["case"] for row in rows] == ["restart-standby", "restart-warm"]
    for row in rows:
        assert row["unit"] == "s"
        assert row["runs"] == row["packets"] == 2
        assert 0 < row["median_s"] <= row["value"] <= row["longest_s"] * 1.001 + 0.001
        assert row["nat_ports"] == 1  # the session went on
        assert "2 runs only" in row["doubts"]


def test_without_root_there_is_no_figure(monkeypatch):
    monkeypatch.setattr(restart_case, "may_use_interfaces", lambda: False)
    (row,) = restart_case.restart_warm(Session(gauge=Quiet()))
    assert (row["case"], row["value"]) == ("restart-warm", None)
    assert "root" in row["missing"]
