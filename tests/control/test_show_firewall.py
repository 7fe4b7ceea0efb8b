# SPDX-License-Identifier: Apache-2.0
"""The firewall's rows on the terminal."""

import pytest

import fake_forwarder as fake
from vforward.control import observe, observe_firewall, show_firewall


@pytest.fixture
def view(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with fake.arena() as arena:
        fake.add_firewall(arena)
        with observe.attach("fake") as attached:
            yield attached


def cells(capsys):
    """The printed lines, each as the list of its cells."""
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def line_of(text):
    return text.split()


def test_rules(view, capsys):
    show_firewall.rules(observe_firewall.rules(view).rows)
    _, first, last = cells(capsys)
    assert first == line_of("0 web permit protocol tcp to_ports 80 police gold 10 640")
    assert last == ["(default)", "deny", "3", "180"]


def test_nat(view, capsys):
    show_firewall.nat(observe_firewall.nat(view))
    assert cells(capsys)[1] == line_of("0 masquerade out wan address of wan 4 4 1")


def test_policers(view, capsys):
    show_firewall.policers(observe_firewall.policers(view))
    assert cells(capsys)[1] == line_of("gold 1M burst 1500 red drop 5 500 0 0 2 200")


def test_sessions(view, capsys):
    rows = observe_firewall.sessions(view).rows()
    show_firewall.sessions(rows)
    head, row = cells(capsys)
    assert "becomes" not in head
    assert "Vrf" not in head
    assert row[:4] == line_of("tcp 10.0.1.2:4000 192.0.2.9:80 established")


def test_columns_that_are_not_always_there(view, capsys):
    (row,) = observe_firewall.sessions(view).rows()
    show_firewall.sessions([{**row, "nat_from": "203.0.113.1:1", "vrf": "red"}])
    head, line = cells(capsys)
    assert head[3:5] == ["From", "becomes"]
    assert "203.0.113.1:1" in line
    assert line[-1] == "red"


def test_counts(capsys):
    show_firewall.counts({"established": 1200, "replied": 3})
    lines = cells(capsys)
    assert ["established", "1,200"] in lines
    assert ["all", "1,203"] in lines


def test_nothing(capsys):
    for show in (show_firewall.nat, show_firewall.policers, show_firewall.sessions):
        show([])
    assert capsys.readouterr().out == "no NAT\nno policers\nno sessions\n"
