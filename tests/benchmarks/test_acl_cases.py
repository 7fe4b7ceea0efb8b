# SPDX-License-Identifier: Apache-2.0
"""Rule sets and their packets; the cases of the classifier, run small; what DPDK's program is given."""

import shutil
from itertools import count

import numpy as np
import pytest

from vforward.control import bench_command
from vforward.tables import acl, acl_check

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session

from benchmarks import acl_cases, acl_peers, rule_sets

SAID = (
    "search_ip5tuples_once(1, 256, avx2) returns 65536\n"
    "search_ip5tuples  @lcore 1: 20 iterations, 1310720 pkts, 1 categories, 219938570 cycles "
    "(0.08 sec), {}.80 cycles/pkt, 15494653.80 pkt/sec\n"
)


class Still:
    """A gauge of a core that nobody else uses."""

    best = 1.0

    def read(self):
        return 1.0

    def disturbed(self, _reading):
        return False


@pytest.fixture
def small(monkeypatch):
    """Few rules and packets, on a core that is quiet."""
    drawn = rule_sets.rules
    monkeypatch.setattr(rule_sets, "rules", lambda n, family=4: drawn(min(n, 60), family))
    monkeypatch.setattr(acl_cases, "PACKETS", 2 * 16 * 256)
    monkeypatch.setattr(acl_peers, "PACKETS", 2 * 16 * 256)
    return Session(gauge=Still(), wanted=2, limit_s=0.1)


@pytest.mark.parametrize("family", [4, 6])
def test_rules_are_as_many_as_asked_all_different_and_always_the_same(family):
    rows = rule_sets.rules(500, family)
    assert len(rows) == 500
    assert rows["rule"].tolist() == list(range(500))
    rest = rows.copy()
    rest["rule"] = 0
    assert len(np.unique(rest)) == 500
    assert (rule_sets.rules(500, family) == rows).all()
    for name in ("sport", "dport"):
        assert (rows[name + "_low"] <= rows[name + "_high"]).all()


def test_shares_are_as_said():
    rows = rule_sets.rules(5000)
    for name, share in rule_sets.WILD.items():
        assert (rows[name + "_mask"] == 0).mean() == pytest.approx(share, abs=0.03)
    assert (rows["dport_low"] == rows["dport_high"]).mean() == pytest.approx(0.85 * 0.55, abs=0.04)


@pytest.mark.parametrize("family", [4, 6])
def test_most_packets_match_a_rule(family):
    rows = rule_sets.rules(100, family)
    found = acl_check.walk(rows, rule_sets.trace(rows, 500))
    assert 0.8 < (found < 100).mean() < 1
    assert len(np.unique(found)) > 60


def test_all_sizes_have_a_row(small):
    rows = list(acl_cases.acl_lookup(small))
    assert len(rows) == 2 * len(acl_cases.SIZES)
    assert rows[-1]["case"] == "acl-lookup"
    assert rows[-1]["rules"] == 1000
    assert all(row["value"] > 0 for row in rows)


def test_the_attack_has_a_ratio(small):
    *rows, last = acl_cases.acl_attack(small)
    assert last["value"] == max(row["ratio"] for row in rows)
    worst = max(rows, key=lambda row: row["ratio"])
    assert last["spread"] >= worst["spread"]
    assert last["runs"] <= worst["runs"]
    assert last["flows"] in {row["flows"] for row in rows}
    for row in rows:
        assert 0 < row["flows"] <= acl_cases.MANY
        assert row["nodes_mean"] <= row["nodes"]
        assert row["rows_mean"] <= row["rows"]


def test_building_has_seconds_and_size(small):
    *_, last = acl_cases.acl_build(small)
    assert last["case"] == "acl-build"
    assert last["unit"] == "s"
    assert last["mebibytes"] > 0


def test_a_wrong_rule_stops_the_case(small):
    rows, image = acl_cases.compiled(50, 4)
    rows["rule"] += 1
    with pytest.raises(AssertionError, match="another rule"):
        acl_cases.clocks(small, "name", rows, image, rule_sets.trace(rows, 16 * 256), 1)


def test_rules_and_packets_are_written_as_dpdk_reads_them():
    rows = acl.wildcards(2)
    rows["src"][0], rows["src_mask"][0] = 0x0A010200, 0xFFFFFF00
    rows["dport_low"][0] = rows["dport_high"][0] = 80
    rows["kind"][0], rows["kind_mask"][0] = 6 << 24, 0xFF << 24
    assert acl_peers.rules_text(rows) == (
        "@10.1.2.0/24\t0.0.0.0/0\t0 : 65535\t80 : 80\t0x06/0xff\n"
        "@0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x00/0x00\n"
    )
    packet = np.array([[0x0A010203, 1, 1024 << 16 | 80, 6 << 24 | 2, 9, 9, 0, 0]], np.uint32)
    assert acl_peers.packets_text(packet) == "167838211\t1\t1024\t80\t6\n"


def test_what_is_not_installed_is_named(small, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    rows = list(acl_peers.acl_peers(small))
    assert rows[-1]["value"] is None
    assert sum(row["value"] is not None for row in rows) == len(acl_peers.SIZES)
    assert rows[1]["missing"].endswith("not installed (Debian's package dpdk-dev)")


def test_the_ratio_is_of_turns_with_the_fastest(small, monkeypatch):
    clocks = count(100)
    monkeypatch.setattr(acl_peers, "say", lambda *_: SAID.format(next(clocks)))
    monkeypatch.setattr(acl_peers, "TIMES", 3)
    rows = {row["case"]: row for row in acl_peers.acl_peers(small)}
    last, ours = rows["acl-peers"], rows["acl-peers-1000-ours"]
    theirs = rows["acl-peers-1000-scalar"]
    assert rows["acl-peers-10000-scalar"]["least"] == 100.8
    assert last["runs"] == ours["runs"] == theirs["runs"] == 3
    assert "3 runs only" in last["doubts"]
    assert last["spread"] > 0
    assert last["least"] <= 1.01 * ours["value"] / theirs["least"]
    assert set(last["ratios"]) == set(acl_peers.ALGORITHMS)
    assert max(last["ratios"].values()) == pytest.approx(last["value"], abs=0.006)
    assert last["peer"] == theirs["peer"]
    assert last["peer"].startswith("DPDK ")
