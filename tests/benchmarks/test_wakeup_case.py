# SPDX-License-Identifier: Apache-2.0
"""The wakeup case: every packet comes to a process that slept, and takes time."""

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session

from benchmarks import wakeup_case


def test_each_packet_is_timed(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(wakeup_case, "PACKETS", 20)
    monkeypatch.setattr(wakeup_case, "TIMES", 1)
    (row,) = wakeup_case.wakeup(Session())
    assert (row["case"], row["unit"], row["packets"]) == ("wakeup", "us", 20)
    assert row["value"] >= row["median_us"] > 0
    assert list(tmp_path.iterdir()) == []
