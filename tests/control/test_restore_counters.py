# SPDX-License-Identifier: Apache-2.0
"""Counters by name: nodes that moved, others that are gone, more and fewer workers, what was cleared."""

import numpy as np
import pytest

from restore_worlds import die, router, udp
from vforward.control.observe import View
from vforward.control.observe_firewall import nat, policers, rules
from vforward.control.restore_counters import nodes
from vforward.layout import EDGE_HELD
from vforward.memory.arena import Arena


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def node(name, edges=(), counters=(), at=0):
    return {
        "name": name,
        "edges": [{"edge": edge, "label": label} for edge, label in edges],
        "counters": [{"label": label} for label in counters],
        "counts_at": at,
    }


def test_nodes_are_found_by_their_names():
    old = [
        node("a", [(0, "next"), (1, "drop")], ["bytes", "bad"], 0),
        node("gone", [(0, "next")], ["bytes"], 2),
        node("b", [(0, "next")], ["x"], 3),
    ]
    new = [
        node("b", [(0, "other"), (3, "next")], ["y"], 0),
        node("new", [], ["bytes"], 1),
        node("a", [(1, "next")], ["bad", "more", "bytes"], 2),
    ]
    found = nodes(old, new)
    assert found.rows.tolist() == [[0, 2], [2, 0]]
    assert found.edges.tolist() == [
        [0, 0, 2, 1], [0, EDGE_HELD, 2, EDGE_HELD], [2, 0, 0, 3], [2, EDGE_HELD, 0, EDGE_HELD],
    ]  # fmt: skip
    assert found.counts.tolist() == [[0, 4], [1, 2]]
    assert nodes([], new).counts.shape == (0, 2)


@pytest.mark.parametrize(
    "odd", [[{}], [7], ["x"], [None], [{"name": []}], [{"name": "a"}], 7, None]
)
def test_odd_documents_raise_what_is_caught(odd):
    with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
        nodes(odd, [node("a", [(0, "next")], ["bytes"])])


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 2)])
def test_rules_nat_and_policers_go_on(before, after):
    with router(workers=before) as made:
        for port in range(5000, 5012):
            udp(made, port)
        seen = View(Arena.attach(made.name))
        wanted = (
            [(row["name"], row["packets"]) for row in rules(seen).rows],
            nat(seen),
            policers(seen),
        )
        die(made)
    assert wanted[0] == [("web", 0), ("", 12), ("(default)", 0)]
    assert wanted[1][0]["allocated"] == 12
    assert wanted[2][0]["green_packets"] == 12
    with router(workers=after) as made:
        seen = View(Arena.attach(made.name))
        again = (
            [(row["name"], row["packets"]) for row in rules(seen).rows],
            nat(seen),
            policers(seen),
        )
        assert again == wanted


def test_what_was_cleared_stays_cleared():
    with router() as made:
        for port in range(5000, 5010):
            udp(made, port)
        View(Arena.attach(made.name)).clear()
        udp(made, 5100)
        die(made)
    with router() as made:
        seen = View(Arena.attach(made.name))
        packets = {row.name: row.packets for row in seen.runtime().nodes}
        assert packets["lan-rx"] == 1
        assert rules(seen).rows[1]["packets"] == 1
        raw = View(Arena.attach(made.name), heeds_clear=False)
        assert {row.name: row.packets for row in raw.runtime().nodes}["lan-rx"] == 11


def test_seconds_are_those_of_both():
    """A rate is not of all packets in the time of the last few."""
    with router() as made:
        made.start()
        made.stop()
        control = made.arena.open("control")
        lasted = int(control[15]) - int(control[14])
        die(made)
    with router() as made:
        made.start()
        made.stop()
        seconds = View(Arena.attach(made.name)).runtime().seconds
        assert seconds >= lasted / made.hz


def test_drops_of_ports_go_on():
    with router() as made:
        labels = list(made.lan.statistics())
        if not labels:
            pytest.skip("a memory port counts nothing outside of the graph")
        made._publisher.drops_before[1, 0] = 7
        made._publisher.refresh("drops")
        die(made)
    with router(ports=("third", "lan")) as made:
        number = made.interfaces.by_name["lan"].number
        assert made._publisher.drops_before[number, 0] == 7
        assert np.count_nonzero(made._publisher.drops_before) == 1
