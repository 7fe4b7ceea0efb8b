# SPDX-License-Identifier: Apache-2.0
"""The frontend's case: which rows it has, and that its own is the worse direction's."""

import shutil
from contextlib import nullcontext

import pytest

from gauges import Quiet
from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.distance import Figure
from benchmarks.session import Session
from benchmarks.vhost_cases import Turn
from benchmarks.virtio_case import DRIVERS, WAYS, virtio_frontend

from benchmarks import vhost_cases, virtio_case


def test_without_dpdk_there_is_a_row_that_says_so(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    rows = list(virtio_frontend(Session()))
    assert [made["case"] for made in rows][-1] == "virtio-frontend"
    assert all(made["value"] is None and "dpdk-dev" in made["missing"] for made in rows)


def _turn_of(figures):
    return lambda way, driver, _huge: Turn([Figure(figures[way, driver], 160.0)])


def test_the_lower_ratio_counts(monkeypatch):
    tx, rx = WAYS["tx"], WAYS["rx"]
    figures = {(way, driver): 7e6 for way in WAYS.values() for driver in DRIVERS}
    figures |= {(tx, "ours"): 9e6, (tx, "virtio_user-packed"): 10e6, (rx, "ours"): 14e6}
    monkeypatch.setattr(virtio_case, "_turn", _turn_of(figures))
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/dpdk-testpmd")
    monkeypatch.setattr(vhost_cases, "reserved", lambda _mebibytes: nullcontext(True))
    monkeypatch.setattr(vhost_cases, "_pages_of_ours", lambda: "2 MiB")
    made = list(virtio_frontend(Session()))
    assert made[-1]["pages"] == "ours 2 MiB (queues and their buffers 4 KiB), DPDK 2 MiB"
    assert all(row["peer"].startswith("DPDK ") for row in made)
    rows = {row["case"]: row["value"] for row in made}
    assert rows["virtio-frontend-tx-ours"] == pytest.approx(9)
    assert rows["virtio-frontend-tx"] == pytest.approx(0.9)
    assert rows["virtio-frontend-rx"] == pytest.approx(2)
    assert rows["virtio-frontend"] == pytest.approx(0.9)
    assert "virtio-frontend-tx" in made[-1]["what"]
    assert DRIVERS["virtio_user-packed"].what in made[-1]["what"]


@pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="no dpdk-testpmd")
def test_all_contestants_move_packets(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(vhost_cases, "TIMES", 1)
    monkeypatch.setattr(vhost_cases, "SECONDS", 1)
    monkeypatch.setattr(virtio_case, "WAYS", {"rx": WAYS["rx"]})
    *each, _, ratio = virtio_frontend(Session(gauge=Quiet()))
    assert [row["case"] for row in each] == [f"virtio-frontend-rx-{who}" for who in DRIVERS]
    assert all(row["value"] > 0 for row in [*each, ratio])


def test_the_case_is_in_the_catalogue():
    from benchmarks.cases import CASES

    assert "virtio-frontend" in CASES
