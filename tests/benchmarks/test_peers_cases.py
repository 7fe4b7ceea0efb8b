# SPDX-License-Identifier: Apache-2.0
"""Everybody in one run: who is there has a ratio and a rate, who is not is named; nothing is guessed."""

import contextlib
import re
import shutil
import socket

import pytest

from gauges import Quiet
from vforward.control import bench_command, config
from vforward.control.demo_world import Failed, may_use_interfaces

bench_command.report()  # makes `benchmarks` importable

from benchmarks.dpdk_cases import NoFigureError
from benchmarks.loads import KEYS
from benchmarks.session import Session

from benchmarks import (
    acl_peers,
    dpdk_cases,
    harness,
    hash_peers,
    peers_cases,
    ring_cases,
    veth_cases,
    veth_lab,
    veth_peers,
    xdp_flood,
)


@pytest.fixture
def session():
    return Session(gauge=Quiet(), limit_s=2)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(veth_cases, "ROUNDS", 1)
    monkeypatch.setattr(veth_cases, "TRIES", 1)
    monkeypatch.setattr(peers_cases, "MEMORY", ())


def test_the_firewalls_configuration_is_good():
    wanted = config.parse(peers_cases.FIREWALL, "peers.toml")
    assert list(wanted.ports) == ["lan", "wan"]
    assert wanted.firewall is not None


def test_everybody_is_asked():
    assert set(peers_cases.PEERS) >= {"bridge", "router", "nftables", "testpmd", "ovs"}
    assert [case for case, _ in peers_cases.MEMORY] == [
        ring_cases.spsc,
        hash_peers.hash_peers,
        dpdk_cases.fib_peers,
        acl_peers.acl_peers,
    ]


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(bool(xdp_flood.available()), reason="no XDP here")
def test_who_is_installed_is_measured_and_who_is_not_is_named(session, short):
    rows = {row["case"]: row for row in peers_cases.peers(session)}
    least = None
    for name, peer in peers_cases.PEERS.items():
        row = rows[f"peers-{name}"]
        if peer.absent():
            assert row["value"] is None
            assert "not installed" in row["missing"] or "not there" in row["missing"]
        elif row["value"] is None:
            assert row["missing"].startswith("does not forward here: ")
        else:
            rates = {name + way: rows[f"peers-{name}{way}-pps"] for way in peer.ways}
            ours = rows[f"peers-{peer.ours}-pps"]["value"]
            came = {way: each["value"] for way, each in rates.items() if each["value"]}
            assert row["value"] == pytest.approx(ours / max(came.values()), rel=0.01)
            assert list(row.get("ratios", [name])) == list(came)
            assert row["note"].startswith(f"{peer.ours} / ")
            assert row["peer"] == rates[name]["peer"]
            assert re.search(r"\d", row["peer"])
            least = min(least or row["value"], row["value"])
    assert rows["peers"]["value"] == least
    assert rows["peers-bridge"]["value"] > 0
    assert rows["peers-router"]["value"] > 0


class Wires:
    """Veth pairs on which all is forwarded. steers: whether Linux can be told where."""

    def __init__(self, *, steers):
        self.steers, self.said = steers, []

    @contextlib.contextmanager
    def bridge(self):
        self.said.append("bridge")
        yield

    @contextlib.contextmanager
    def steered(self, forwarder):
        if not self.steers:
            raise RuntimeError("no sysfs")
        self.said.append("steered")
        with forwarder():
            yield

    def probe(self, *_):
        pass


@pytest.fixture
def bridges(session, short, monkeypatch):
    """The rows of peers with Linux's bridge alone. rates: of each contender, by what its row calls it."""

    def rows(rates, *, steers=True):
        wires = Wires(steers=steers)
        monkeypatch.setattr(peers_cases, "PEERS", {"bridge": peers_cases.PEERS["bridge"]})
        ours = veth_cases.Contender(lambda _: contextlib.nullcontext(), [], "ours")
        monkeypatch.setattr(peers_cases, "OURS", {"vforward-bridge": ours})
        monkeypatch.setattr(peers_cases, "impossible", lambda **_: "")
        monkeypatch.setattr(peers_cases, "routed_lab", lambda: contextlib.nullcontext(wires))

        def flooded(_session, _where, contender):
            return veth_cases.Figure(rates[contender.what], 1e6, 0.0)

        monkeypatch.setattr(peers_cases, "flooded", flooded)
        made = {row["case"]: row for row in peers_cases.peers(session)}
        return made, wires.said

    return rows


BY_ITSELF = "the Linux bridge, on the sender's CPU"
STEERED = "the Linux bridge, steered to the last CPU"


@pytest.mark.parametrize(("one", "other"), [(250.0, 400.0), (400.0, 250.0)])
def test_linux_takes_part_twice_and_the_faster_counts(bridges, one, other):
    rows, said = bridges({"ours": 500.0, BY_ITSELF: one, STEERED: other})
    assert said == ["bridge", "steered", "bridge"] * 2, "a trial, and a turn"
    row = rows["peers-bridge"]
    assert (row["value"], row["unit"]) == (1.25, "x")
    assert row["ratios"] == {"bridge": 500 / one, "bridge-rps": 500 / other}
    assert row["note"] == f"vforward-bridge / {STEERED if other > one else BY_ITSELF}"
    assert rows["peers-bridge-pps"]["value"] == one
    assert rows["peers-bridge-rps-pps"]["value"] == other
    assert rows["peers"]["value"] == 1.25


def test_where_linux_cannot_be_steered_a_row_says_so(bridges):
    rows, said = bridges({"ours": 500.0, BY_ITSELF: 250.0}, steers=False)
    assert said == ["bridge"] * 2
    assert rows["peers-bridge"]["value"] == 2.0
    assert rows["peers-bridge-rps-pps"]["value"] is None
    assert rows["peers-bridge-rps-pps"]["missing"] == "does not forward here: no sysfs"


def udp_socket(host, address, port):
    with host.inside():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    made.settimeout(10)
    return made


def came_back(where, port):
    """What comes to h1 after it has asked h2: all of one path, and in the order in which it was sent.

    First what nobody has asked for, from another port than was asked; then the answer.
    """
    one, other = "10.1.0.2", "10.2.0.2"
    with (
        udp_socket(where.h1, one, port) as asks,
        udp_socket(where.h2, other, port) as answers,
        udp_socket(where.h2, other, port + 1) as unasked,
    ):
        asks.sendto(b"question", (other, port))
        assert answers.recv(64) == b"question"
        unasked.sendto(b"unasked", (one, port))
        for said in (b"answer", b"end"):
            answers.sendto(said, (one, port))
        came = [asks.recv(64)]
        while came[-1] != b"end":
            came.append(asks.recv(64))
        return came


@pytest.mark.root
def test_nftables_remembers_and_leaves_nothing():
    if not may_use_interfaces() or veth_peers.missing_nftables():
        pytest.skip("no interfaces, or no nftables")
    with veth_cases.routed_lab() as where:
        try:
            with veth_peers.nftables(where):
                where.probe(veth_cases.THERE, veth_cases.ROUTED, [])
                said = where.m.run("nft", "list", "ruleset")
                assert "policy drop" in said
                assert came_back(where, 7000) == [b"answer", b"end"]
        except RuntimeError as error:
            pytest.skip(f"this kernel has no nftables: {error}")
        with where.router():
            assert came_back(where, 7100) == [b"unasked", b"answer", b"end"]
        assert "vforward_bench" not in where.m.run("nft", "list", "ruleset")
        with pytest.raises(Failed, match="nothing is forwarded"):
            where.probe(veth_cases.THERE, veth_cases.ROUTED, [])


def test_programs_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert veth_peers.missing_nftables() == "nft: not installed (Debian's package nftables)"
    assert "Debian's package openvswitch-switch" in veth_peers.missing_open_vswitch()
    assert peers_cases.PEERS["testpmd"].absent()


def test_without_root_all_is_missing(session, monkeypatch):
    monkeypatch.setattr(peers_cases, "impossible", lambda **_: "needs root")
    memory = harness.missing("spsc", "x", Quiet(), "dpdk-test: not installed")
    monkeypatch.setattr(peers_cases, "MEMORY", ((lambda _session: iter([memory]), KEYS),))
    rows = list(peers_cases.peers(session))
    assert [row["case"] for row in rows] == ["peers-veth", "spsc", "peers"]
    assert all(row["value"] is None for row in rows)
    assert veth_lab.PROGRAM


TEXT = """\
Results (in CPU cycles/operation)
-----------------------------------

 Operations without data

Without pre-computed hash values

Keysize           Add               Lookup            Lookup_bulk       Delete
8                 101               91                12                61
16                100               90                70                60

With pre-computed hash values

Keysize           Add               Lookup            Lookup_bulk       Delete
16                100               90                50                60

 Operations with 8-byte data

Without pre-computed hash values

Keysize           Add               Lookup            Lookup_bulk       Delete
16                100               90                60                60
"""


def test_dpdks_figure_is_the_least_for_our_keys():
    assert hash_peers.theirs(TEXT) == 60
    with pytest.raises(NoFigureError, match="EAL: no memory"):
        hash_peers.theirs("EAL: no memory\n\n")
    with pytest.raises(NoFigureError, match="said nothing"):
        hash_peers.theirs("")


def test_the_program_is_ended_when_it_has_said_enough(tmp_path, monkeypatch):
    whole = TEXT + "\nWith pre-computed hash values\n16 100 90 40 60\n"
    program = tmp_path / "program"
    program.write_text(
        f"#!/bin/sh\nread typed\necho $typed\ncat <<'EOF'\n{whole}EOF\nexec sleep 600\n"
    )
    program.chmod(0o755)
    text = hash_peers.said([str(program)])
    assert text.startswith("hash_perf_autotest\n")
    assert hash_peers.theirs(text) == 60
    program.write_text("#!/bin/sh\necho EAL: no memory\n")
    with pytest.raises(NoFigureError, match="EAL: no memory"):
        hash_peers.theirs(hash_peers.said([str(program)]))
    monkeypatch.setattr(hash_peers, "LIMIT_S", 0.2)
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(NoFigureError, match=r"not done after 0\.2 s"):
        hash_peers.said([str(program)])
    with pytest.raises(NoFigureError, match="not installed"):
        hash_peers.said(["no-such-program"])


@pytest.mark.slow
def test_our_flow_table_is_beside_dpdks(monkeypatch, tmp_path):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(hash_peers, "FLOWS", 5_000)
    said = iter([TEXT, TEXT.replace("60\n", "30\n").replace("60  ", "30  "), *[TEXT] * 20])
    monkeypatch.setattr(hash_peers, "said", lambda *_: next(said))
    session = Session(gauge=Quiet(), limit_s=0.1, wanted=3)
    rows = {row["case"]: row for row in hash_peers.hash_peers(session)}
    ours, both = rows["hash-peers-ours"], rows["hash-peers"]
    theirs = rows["hash-peers-rte-hash"]
    assert (theirs["value"], theirs["least"]) == (60, 30)
    assert ours["flows"] == theirs["flows"] == both["flows"] == 5_000
    assert both["runs"] == ours["runs"] == theirs["runs"] == harness.LEAST
    assert 0.5 < both["value"] / (ours["value"] / 60) < 2
    assert both["spread"] > 0
    assert both["peer"].startswith("DPDK ")
    monkeypatch.setattr(hash_peers, "BUDGET_S", 0.0)
    *_, both = hash_peers.hash_peers(session)
    assert both["runs"] == 1
    assert "one run only" in both["doubts"]

    def absent(*_):
        raise NoFigureError("not installed")

    monkeypatch.setattr(hash_peers, "said", absent)
    *_, last = hash_peers.hash_peers(session)
    assert last["value"] is None
    assert "dpdk-test: not installed" in last["missing"]
