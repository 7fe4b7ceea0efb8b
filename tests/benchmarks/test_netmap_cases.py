# SPDX-License-Identifier: Apache-2.0
"""The cases of netmap move all frames, whole and in order: they end with an error where not."""

import numpy as np
import pytest

from gauges import Quiet
from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session

from benchmarks import netmap_cases


@pytest.mark.parametrize(
    ("case", "rows"), [("netmap-pipe", netmap_cases.netmap_pipe), ("vale", netmap_cases.vale)]
)
def test_frames_go_through(tmp_path, monkeypatch, case, rows):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(netmap_cases, "COUNT", 4096)
    (row,) = rows(Session(gauge=Quiet(), wanted=3, limit_s=0.1))
    assert (row["case"], row["unit"]) == (case, "Mpps")
    assert row["value"] > 0
    assert row["packets"] == 4096 * row["runs"]
    assert row["touched"] == netmap_cases.SIZE
    assert row["slots"] == netmap_cases.RING_SLOTS


@pytest.mark.parametrize(("odd", "total"), [([1], [9, 0]), ([0], [9, 1]), ([0], [0, 0])])
def test_a_frame_that_came_wrong_ends_the_case(odd, total):
    netmap_cases._check([0], np.array([9, 0], np.uint64))
    with pytest.raises(AssertionError, match="frames came wrong"):
        netmap_cases._check(odd, np.array(total, np.uint64))
