# SPDX-License-Identifier: Apache-2.0
"""What DPDK's programs say, as recorded of 22.11.11 on Debian 12, and what is made of it."""

import shutil
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from vforward.control import bench_command
from vforward.memory.arena import Arena
from vforward.tables.fib import Fib6

bench_command.report()  # makes `benchmarks` importable

from benchmarks.dpdk_cases import (
    BULK_SAYS,
    FIB_SAYS,
    LPM_SAYS,
    PEERS,
    NoFigureError,
    command,
    figure,
    huge_pages,
    write_files,
)  # fmt: skip
from benchmarks.session import Session

from benchmarks import dpdk_cases, report, tables

FIB_TEXT = """\
EAL: Detected CPU lcores: 2
EAL: Selected IOVA mode 'VA'
Routes total: 200000
Routes distribution:
depth /1:0\tdepth /2:0\tdepth /3:0\tdepth /4:0
Lookup tuples: 1048576
Random lookup ips: 0
AVG FIB add 7967
AVG LPM add 3640
AVG FIB lookup 122.8
AVG LPM lookup 124.6
FIB and LPM lookup returns same values
AVG FIB delete 10723
AVG LPM delete 8232
"""
NO_ROOM = """\
Lookup tuples: 1048576
AVG FIB add 25857
Can not add a route to FIB, err -28
"""
PERF_TEXT = """\
RTE>>fib_perf_autotest
32            984 (0.09)

Unique added entries = 1076806
Average FIB Add: 2106.78 cycles
BULK FIB Lookup: 64.7 cycles (fails = 12.5%)
Average FIB Delete: 3372.05 cycles
Test OK
RTE>>quit
"""
LPM6_PERF_TEXT = """\
Average LPM Add: 791573 cycles
Average LPM Lookup: 63.2 cycles (fails = 0.0%)
BULK LPM Lookup: 58.6 cycles (fails = 0.0%)
"""
FEW = 2 * 16 * 256
"""Destinations: of two runs."""


class Still:
    """A gauge of a core that nobody else uses."""

    best = 1.0

    def read(self):
        return 1.0

    def disturbed(self, _reading):
        return False


@pytest.mark.parametrize(
    ("text", "says", "clocks"),
    [
        (FIB_TEXT, FIB_SAYS, 122.8),
        (FIB_TEXT, LPM_SAYS, 124.6),
        (PERF_TEXT, BULK_SAYS, 64.7),
        (LPM6_PERF_TEXT, BULK_SAYS, 58.6),
    ],
)
def test_the_figure_of_a_look_up_is_found(text, says, clocks):
    assert figure(text, says) == clocks


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (NO_ROOM, "Can not add a route to FIB, err -28"),
        ("Can not init lookup function\n\n", "Can not init lookup function"),
        ("depth /1:0\n", "said nothing"),
        ("", "said nothing"),
    ],
)
def test_without_a_figure_the_last_line_is_told(text, why):
    with pytest.raises(NoFigureError, match=f"^{why}$"):
        figure(text, FIB_SAYS)


def test_routes_and_destinations_are_written_as_dpdk_reads_them(tmp_path):
    lengths, values = np.array([24, 8], np.uint8), np.array([3, 7], np.uint32)
    prefixes = [IPv4Address("192.0.2.0"), IPv4Address("10.0.0.0")]
    write_files(tmp_path, 4, prefixes, lengths, values, [IPv4Address("10.1.2.3")])
    said = command(PEERS[0], tmp_path, huge=False)
    routes, asked = said[said.index("-f") + 1], said[said.index("-t") + 1]
    assert Path(routes).read_text() == "192.0.2.0/24 3\n10.0.0.0/8 7\n"
    assert Path(asked).read_text() == "10.1.2.3\n"


def test_only_what_asks_for_wide_vectors_may_use_them(tmp_path):
    for peer in PEERS:
        said = command(peer, tmp_path, huge=True)
        assert ("--force-max-simd-bitwidth=512" in said) == peer.wide
        assert ("-6" in said) == (peer.family == 6)
        assert ("-f" in said) == bool(peer.family) == (not peer.typed)
        assert "--no-huge" not in said
        assert "--no-huge" in command(peer, tmp_path, huge=False)


@pytest.mark.parametrize(
    ("meminfo", "enough"),
    [
        ("HugePages_Total:    1024\nHugePages_Free:     1024\nHugepagesize:       2048 kB\n", True),
        (
            "HugePages_Total:    1024\nHugePages_Free:     1023\nHugepagesize:       2048 kB\n",
            False,
        ),
        ("MemTotal: 5 kB\n", False),
    ],
)
def test_huge_pages_are_used_where_enough_are_free(meminfo, enough):
    assert huge_pages(meminfo, 2048) == enough


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The case with few routes, on a core that is quiet."""
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(dpdk_cases, "ROUTES4", 2_000)
    monkeypatch.setattr(dpdk_cases, "ROUTES6", 2_000)
    for name in ("destinations4", "destinations6"):
        drawn = getattr(tables, name)
        monkeypatch.setattr(tables, name, lambda p, n, drawn=drawn: drawn(p, n, FEW))
    return Session(gauge=Still(), wanted=2, limit_s=0.1)


def test_what_is_not_installed_is_named_and_nothing_is_made_up(small, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setenv("COLUMNS", "300")
    rows = list(dpdk_cases.fib_peers(small))
    names = [f"fib-peers-{peer.name}" for peer in PEERS]
    assert [row["case"] for row in rows[2:]] == [*names, "fib-peers"]
    for row in rows[:2]:
        assert row["value"] > 0
    for row in rows[2:-1]:
        assert row["value"] is None
        assert row["missing"].endswith("not installed (Debian's package dpdk-dev)")
    assert rows[-1]["value"] is None
    report._show([("fib-peers", rows)])
    assert ": dpdk-test-fib: not installed" in capsys.readouterr().out


def test_the_ratio_is_of_turns_with_the_fastest(small, monkeypatch):
    clocks = count(100)
    monkeypatch.setattr(dpdk_cases, "TIMES", 3)
    monkeypatch.setattr(dpdk_cases.Ours, "figures", property(lambda _: [200.0, 50.0, 100.0]))
    text = "AVG FIB lookup {0}.0\nAVG LPM lookup 50.0\nBULK FIB Lookup: 1.0 cycles\n"
    monkeypatch.setattr(dpdk_cases, "say", lambda *_: text.format(next(clocks)))
    rows = {row["case"]: row for row in dpdk_cases.fib_peers(small)}
    four, last = rows["fib-peers-4-ours"], rows["fib-peers"]
    assert (four["runs"], four["value"] > 0) == (3, True)
    theirs = rows["fib-peers-4-dir24-8"]  # asked first in each turn
    each = [100.0, 109.0, 117.0]  # all nine are asked in the first turn, then eight
    assert theirs["least"] == 100
    assert theirs["runs"] == last["runs"] == 3
    turns = sorted(one / other for one, other in zip([200.0, 50.0, 100.0], each, strict=True))
    assert last["value"] == pytest.approx(turns[1], abs=0.006)
    assert last["spread"] == pytest.approx((turns[2] - turns[0]) / 2 / turns[1], abs=0.001)
    assert last["least"] == 0.5
    assert "3 runs only" in last["doubts"]
    assert last["what"] == "clocks of ours / clocks of 4-dir24-8, turn by turn"
    assert last["ratios"]["6-lpm"] == 2.0
    assert last["flows"] == four["flows"] == theirs["flows"] == FEW
    assert rows["fib-peers-4-own-table"]["flows"] == "of its own"
    assert set(last["ratios"]) == {peer.name for peer in PEERS if peer.family}
    assert "ratio" not in rows["fib-peers-4-own-table"]
    assert rows["fib-peers-4-lpm-own-table"]["doubts"] == ["one run only"]
    assert last["peer"].startswith("DPDK ")
    assert "peer" not in four


def test_level_by_level_finds_what_one_look_up_finds(monkeypatch, tmp_path):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    prefixes, lengths = tables.bgp6(2_000)
    asked = tables.destinations6(prefixes, lengths, 4 * 64)
    with Arena.create("test-dpdk-cases") as memory:
        fib = Fib6(memory)
        halves = np.stack([prefixes, np.zeros_like(prefixes)], axis=1)
        fib.add_many(halves, lengths, np.arange(1, 2_001, dtype=np.uint32))
        octets = asked.byteswap().view(np.uint8).reshape(4, 64, 16)
        found, on = np.zeros(64, np.uint32), np.zeros(64, np.uint16)
        for k in range(4):
            dpdk_cases.look_up6(fib.root, fib.nodes, octets[k : k + 1], found, on)
            wanted = [fib.lookup(int.from_bytes(a.tobytes(), "big")) for a in octets[k]]
            assert found.tolist() == wanted
        assert min(found) > 0
