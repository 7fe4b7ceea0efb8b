# SPDX-License-Identifier: Apache-2.0
"""The kernel's bridge and router beside ours: what is counted was forwarded, and nothing is left."""

import contextlib

import pytest

from gauges import Quiet
from vforward.control import bench_command
from vforward.control.demo_world import Failed, identity, processes_in

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session

from benchmarks import peer_cases, peer_lab, report

STRAY = 16
"""Frames at most that others send meanwhile: ARP."""
CONTENDERS = ("kernel", "kernel-rps", "vforward")


@pytest.fixture
def session():
    return Session(gauge=Quiet(), limit_s=3)


@pytest.fixture
def spaces(monkeypatch):
    """The namespaces of the lab that is made."""
    kept = []

    @contextlib.contextmanager
    def lab():
        with peer_lab.lab() as made:
            kept.extend(identity(space) for space in (made.h1, made.m, made.h2))
            yield made

    monkeypatch.setattr(peer_cases, "lab", lab)
    return kept


@pytest.mark.root
@pytest.mark.parametrize("case", ["bridge-peers", "router-peers"])
def test_the_counted_packets_are_real(case, session, spaces, monkeypatch):
    monkeypatch.setattr(peer_cases, "ROUNDS", 2)
    monkeypatch.setattr(peer_lab, "RISE_S", 0.05)
    run = {"bridge-peers": peer_cases.bridge_peers, "router-peers": peer_cases.router_peers}[case]
    listed = list(run(session))
    rows = {row["case"]: row for row in listed}
    assert len(rows) == len(listed)
    assert listed[-1]["case"] == case
    rates, bits = {}, {}
    for name in CONTENDERS:
        row = rows[f"{case}-{name}"]
        if "missing" in row:
            assert name == "kernel-rps"  # where sysfs cannot be mounted
            continue
        turns = list(zip(row["sent"], row["taken"], row["arrived"], strict=True))
        assert len(turns) == row["runs"] == 2
        for sent, taken, arrived in turns:
            assert 0 < arrived <= taken + STRAY
            assert abs(taken - sent) <= STRAY
            # The kernel loses nothing while the sender does its work.
            assert name != "kernel" or abs(arrived - sent) <= STRAY
        assert 0 < row["value"] <= 1.1 * row["offered"]
        rates[name], bits[name] = row["value"], rows[f"{case}-{name}-tcp"]["value"]
        assert bits[name] > 0
    for suffix, found in (("", rates), ("-tcp", bits)):
        row = rows[case + suffix]
        best = max((name for name in found if name != "vforward"), key=found.get)
        assert (row["unit"], row["note"]) == ("x", f"vforward / {best}")
        assert row["peer"].startswith("Linux ")
        assert row["peer"] == rows[f"{case}-kernel"]["peer"]
        assert row["value"] > 0
    assert rows[f"{case}-sender"]["arrived"] == [0, 0]
    assert rows[f"{case}-sender"]["value"] > 0
    assert len(spaces) == 3
    assert processes_in(spaces) == []


@pytest.mark.root
def test_a_probe_notices_what_is_wrong(monkeypatch):
    monkeypatch.setattr(peer_lab, "WAIT_S", 0.3)
    near, far = bytes.fromhex("020000010000"), bytes.fromhex("020000020000")
    sent = [peer_lab.frame(n, far, near) for n in range(4)]
    with peer_lab.lab() as where:
        with pytest.raises(Failed, match="nothing is forwarded"):
            where.probe(sent, sent, [])
        with where.bridge():
            where.probe(sent, sent, [])
            with pytest.raises(Failed, match="of frame 0 came"):
                where.probe(sent, sent[1:] + sent[:1], [])
        with pytest.raises(Failed, match="does not forward"), where.ours("nonsense = 1\n"):
            pass


def test_without_root_there_is_no_figure(session, monkeypatch, capsys):
    monkeypatch.setattr(peer_cases, "may_use_interfaces", lambda: False)
    monkeypatch.setattr(report, "Session", lambda **_: session)
    (row,) = peer_cases.bridge_peers(session)
    assert (row["case"], row["value"], row["unit"]) == ("bridge-peers", None, "x")
    assert row["missing"].startswith("needs root")
    bench_command.bench(["router-peers"])
    assert "router-peers: needs root" in capsys.readouterr().out


def test_frames_are_as_long_as_said_and_all_different():
    near, far = bytes.fromhex("020000010000"), bytes.fromhex("020000020000")
    frames = {peer_lab.frame(n, far, near) for n in range(peer_lab.FLOWS)}
    assert len(frames) == peer_lab.FLOWS
    assert {len(frame) for frame in frames} == {peer_lab.SIZE}
