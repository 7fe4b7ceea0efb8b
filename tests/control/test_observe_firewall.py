# SPDX-License-Identifier: Apache-2.0
"""The firewall of a running forwarder from outside, on an arena with known numbers."""

import subprocess
import sys

import numpy as np
import pytest

import fake_forwarder as fake
from vforward.control import observe, observe_firewall
from vforward.control.session_list import Filter
from vforward.errors import ArenaError
from vforward.memory.arena import Arena
from vforward.rings.spsc import Ring


@pytest.fixture
def view(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with fake.arena() as arena:
        fake.add_firewall(arena)
        with observe.attach("fake") as attached:
            yield attached


def test_rules(view):
    first, last = observe_firewall.rules(view).rows
    assert first == {
        "number": 0, "name": "web", "action": "permit", "match": "protocol tcp to_ports 80",
        "then": "police gold", "packets": 10, "bytes": 640,
    }  # fmt: skip
    assert (last["name"], last["action"], last["packets"], last["bytes"]) == (
        "(default)", "deny", 3, 180,
    )  # fmt: skip


def test_rules_that_are_not_shown_are_counted(view):
    found = view.arena.read_document("firewall")
    view.arena.write_document("firewall", {**found, "count": 5001})
    found = observe_firewall.rules(view)
    assert (found.count, len(found.rows)) == (5_001, 2)


def test_rules_after_clear(view):
    view.clear()
    assert [row["packets"] for row in observe_firewall.rules(view).rows] == [0, 0]


def test_clear_is_for_all_that_the_firewall_counts(view):
    view.clear()
    (nat,), (gold,) = observe_firewall.nat(view), observe_firewall.policers(view)
    assert (nat["sessions"], nat["allocated"], nat["exhausted"]) == (0, 0, 0)
    assert {
        gold[f"{c}_{key}"] for c in observe_firewall.COLOURS for key in ("packets", "bytes")
    } == {0}
    with Arena.attach("fake") as writer:
        writer.open("nat_pools", writable=True)[0]["allocated"] += 2
        policer = writer.open("policers", writable=True)[1]
        assert policer["packets"].tolist() == [5, 0, 2], "the worker's own words are left alone"
        policer["packets"] += np.array([0, 0, 3], np.uint64)
    assert observe_firewall.nat(view)[0]["allocated"] == 2
    assert observe_firewall.policers(view)[0]["red_packets"] == 3


def test_nat(view):
    assert observe_firewall.nat(view) == [
        {
            "number": 0, "name": "", "type": "masquerade", "match": "out wan", "new": "address of wan",
            "sessions": 4, "allocated": 4, "exhausted": 1,
        }
    ]  # fmt: skip


def test_policers(view):
    (row,) = observe_firewall.policers(view)
    assert (row["name"], row["what"]) == ("gold", "1M burst 1500 red drop")
    assert [row[f"{colour}_packets"] for colour in observe_firewall.COLOURS] == [5, 0, 2]
    assert [row[f"{colour}_bytes"] for colour in observe_firewall.COLOURS] == [500, 0, 200]


def test_sessions(view):
    (row,) = observe_firewall.sessions(view).rows()
    assert (row["from"], row["to"], row["in"], row["rule"]) == (
        "10.0.1.2:4000", "192.0.2.9:80", "lan", "web",
    )  # fmt: skip
    assert (row["nat_from"], row["vrf"]) == ("", "default")


def test_kill(view):
    assert observe_firewall.kill(view, Filter(port=81)) == 0
    assert observe_firewall.kill(view, Filter(port=80)) == 1
    ring = view.arena.open("session-kills-0").copy()
    assert Ring(ring).pop(9).tolist() == [3 << 32 | 1]


@pytest.mark.parametrize("what", ["rules", "nat", "policers", "sessions"])
def test_a_forwarder_without_one(tmp_path, monkeypatch, what):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with (
        fake.arena(),
        observe.attach("fake") as view,
        pytest.raises(ArenaError, match="forwarder 'fake' has no firewall"),
    ):
        getattr(observe_firewall, what)(view)


def test_rules_are_shown_without_numba():
    code = "import sys, vforward.control.show_firewall, vforward.control.observe_firewall; "
    code += "assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
