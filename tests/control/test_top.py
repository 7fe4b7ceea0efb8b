# SPDX-License-Identifier: Apache-2.0
"""Rates between two looks, on an arena with known numbers."""

import pytest

import fake_forwarder as fake
from vforward.control import observe
from vforward.control.top import Look, PortRate, between
from vforward.graph import control as c


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with fake.arena() as made:
        yield made


def look():
    with observe.attach() as view:
        return Look(view.runtime(), view.ports())


def test_rates(arena):
    before = look()
    fake.work(arena)
    control = arena.open("control")
    control[c.NOW] += 2 * fake.HZ
    control[c.SLEEPS] += 6
    top = between(before, look())
    assert (top.name, top.state, top.seconds, top.sleeps) == ("fake", "running", 2.0, 3.0)
    assert (top.packets, top.clocks_per_packet) == (50.0, 40.0)
    assert top.load == pytest.approx(4000 / (2 * fake.HZ))
    assert top.ports == [PortRate("lan", 50.0, 8 * 3200.0, 5.5, 43.5, 8 * 2784.0, 1.5)]
    assert [node.name for node in top.nodes] == ["ethernet-input", "lan-rx", "lan-tx", "drop"]
    first = top.nodes[0]
    assert (first.packets, first.clocks_per_packet, first.packets_per_call) == (50.0, 20.0, 25.0)
    assert sum(node.share for node in top.nodes) == pytest.approx(1.0)


def test_nothing_happened(arena):
    now = look()
    top = between(now, now)
    assert (top.packets, top.clocks_per_packet, top.load, top.nodes) == (0.0, 0.0, 0.0, [])


def test_cleared_in_between(arena):
    before = look()
    with observe.attach() as view:
        view.clear()
    fake.work(arena)
    arena.open("control")[c.NOW] += fake.HZ
    top = between(before, look())
    assert (top.seconds, top.packets) == (1.0, 100.0)
    assert top.ports[0].rx_packets == 100.0
