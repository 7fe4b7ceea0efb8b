# SPDX-License-Identifier: Apache-2.0
"""The cases on veth pairs: live frames are what is said of them, and what is counted was forwarded."""

import re
import shutil

import pytest

from gauges import Quiet
from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session

from benchmarks import peer_lab, veth_cases, veth_lab, xdp_flood
from oracles import checksum


@pytest.fixture
def session():
    return Session(gauge=Quiet(), limit_s=4)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(veth_cases, "ROUNDS", 1)
    monkeypatch.setattr(veth_cases, "TRIES", 1)


def flow(frame, n):
    """The frame as the XDP program leaves it for flow n."""
    made = bytearray(frame)
    made[xdp_flood.SRC] = made[xdp_flood.DST] = made[xdp_flood.SRC_PORT] = n
    made[xdp_flood.DST - 1] = n & 15
    made[xdp_flood.IDENT : xdp_flood.IDENT + 2] = xdp_flood.ident(n).to_bytes(2, "big")
    return bytes(made)


def test_every_flow_has_a_right_header():
    frame = veth_lab.frame()
    flows = {flow(frame, n) for n in range(xdp_flood.FLOWS)}
    assert len(flows) == xdp_flood.FLOWS
    assert {len(each) for each in flows} == {peer_lab.SIZE}
    assert all(checksum.verifies(each[14:34]) for each in flows)
    assert all(each[40:42] == b"\0\0" for each in flows)  # no UDP checksum: RFC 768


@pytest.mark.root
@pytest.mark.skipif(bool(xdp_flood.available()), reason="no XDP here")
def test_live_frames_arrive_as_they_are_meant():
    frame = veth_lab.frame()
    flows = {flow(frame, n) for n in range(xdp_flood.FLOWS)}
    seen = []
    with veth_cases.routed_lab() as where:
        file = where.directory / "frame"
        file.write_bytes(frame)
        command = xdp_flood.command("eth0", file, where.sender_cpu)
        with where.bridge(), where._packet_socket(where.h2) as receiver:
            receiver.settimeout(5)
            where.during(
                command, lambda: seen.extend(peer_lab._datagram(receiver) for _ in range(2000))
            )
    assert set(seen) <= flows
    assert len(set(seen)) > xdp_flood.FLOWS // 2


@pytest.mark.root
@pytest.mark.skipif(bool(xdp_flood.available()), reason="no XDP here")
@pytest.mark.parametrize(
    ("case", "cases", "peer"),
    [
        ("veth-pps-bridge", veth_cases.veth_pps_bridge, "bridge"),
        ("veth-pps-raw", veth_cases.veth_pps_raw, "ring"),
        ("veth-pps-xdp-rx", veth_cases.veth_pps_xdp_rx, "ring"),
    ],
)
def test_the_ratio_is_of_what_was_forwarded(session, short, case, cases, peer):
    rows = {row["case"]: row for row in cases(session)}
    ours, theirs = rows[f"{case}-vforward"], rows[f"{case}-{peer}"]
    assert 0 < ours["value"] <= 1.5 * ours["offered"]  # both are of a moment, not the same one
    assert 0 < theirs["value"] <= 1.5 * theirs["offered"]
    ratio = rows[case]
    linux = peer == "bridge"
    assert [row.get("peer", "").startswith("Linux ") for row in (ours, theirs, ratio)] == [
        False, linux, linux,
    ]  # fmt: skip
    assert (ratio["unit"], ratio["note"]) == ("x", f"vforward / {peer}")
    assert ratio["value"] == pytest.approx(ours["value"] / theirs["value"], rel=0.01)


@pytest.mark.root
@pytest.mark.skipif(shutil.which("iperf3") is None, reason="no iperf3")
def test_a_stream_passes_both_ways_of_forwarding(session, short):
    rows = {row["case"]: row for row in veth_cases.veth_tcp_off(session)}
    assert rows["veth-tcp-off-vforward"]["value"] > 0
    assert rows["veth-tcp-off-bridge"]["value"] > 0
    assert rows["veth-tcp-off"]["value"] > 0
    assert re.search(r"Linux .* \(bridge\), load: iperf3 \d", rows["veth-tcp-off"]["peer"])


@pytest.mark.parametrize(
    ("case", "rows"),
    [("veth-pps", veth_cases.veth_pps), ("veth-tcp", veth_cases.veth_tcp),
     ("syscalls", veth_cases.syscalls), ("veth-rtt", veth_cases.veth_rtt)],
)  # fmt: skip
def test_without_root_there_is_no_figure(case, rows, session, monkeypatch):
    monkeypatch.setattr(veth_cases, "may_use_interfaces", lambda: False)
    (row,) = rows(session)
    assert (row["case"], row["value"]) == (case, None)
    assert row["missing"].startswith("needs root")


def test_what_is_not_installed_is_named(session, monkeypatch):
    monkeypatch.setattr(veth_cases, "may_use_interfaces", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    (row,) = veth_cases.veth_pps(session)
    assert row["missing"] == "dpdk-testpmd: not installed (Debian's package dpdk-dev)"


@pytest.mark.parametrize(("part", "figure"), [(50, 2.0), (99, 4.0), (25, 1.0), (26, 2.0)])
def test_percentiles(part, figure):
    assert veth_lab.percentile([1.0, 2.0, 3.0, 4.0], part) == figure
