"""Rows on the terminal and as JSON."""

import dataclasses
import json

import pytest

import fake_forwarder as fake
from vforward.control import observe, show
from vforward.control.packet_trace import Step, TracedPacket


@pytest.fixture
def view(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with fake.arena(), observe.attach("fake") as attached:
        yield attached


def cells(text):
    """The printed lines, each as the list of its cells."""
    return [line.split() for line in text.splitlines()]


def test_runtime(view, capsys):
    show.runtime(view.runtime())
    text = capsys.readouterr().out
    assert text.startswith("fake: running, pid ")
    assert "2.0 s: 100 packets in, 50 packets/s" in text
    lines = cells(text)
    assert ["lan-rx", "input", "4", "100", "10.0", "25.0", "25.0%"] in lines
    assert ["sum,", "per", "packet", "in", "100", "40.0"] in lines
    assert ["lan-rx", "50", "100.0"] in lines


def test_runtime_leaves_out_nodes_that_have_done_nothing(view, capsys):
    view.clear()
    show.runtime(view.runtime())
    assert "ethernet-input" not in capsys.readouterr().out


def test_ports(view, capsys):
    show.ports(view.ports())
    lines = cells(capsys.readouterr().out)
    mac = "02:00:00:00:00:01"
    assert ["1", "lan", "af_packet", mac, "1500", "10.0.1.1/24"] in lines
    both = ["10.0.7.1/24", "10.0.8.1/24"]
    assert ["2", "seven", "vlan", mac, "1400", *both, "lan", "vlan", "7"] in lines
    assert ["lan", "100", "6,400", "11", "87", "5,568", "3"] in lines
    assert ["seven", "-", "-", "-", "-", "-", "-"] in lines


def test_who_is_at_the_other_end_is_below_the_ports(view, capsys):
    show.ports(view.ports())
    assert capsys.readouterr().out.splitlines()[-1] == "lan: nobody there"


def test_what_a_port_writes_is_below_the_ports(view, capsys):
    lan, seven = view.ports()
    show.ports([dataclasses.replace(lan, touched="the first [42] bytes", other_end=""), seven])
    assert capsys.readouterr().out.splitlines()[-1] == "lan: the first [42] bytes"


def test_errors(view, capsys):
    show.errors(view.errors())
    text = capsys.readouterr().out
    assert ["ethernet-input", "truncated", "4", "too", "short"] in cells(text)
    assert "bytes sent" not in text
    show.errors(view.errors(), everything=True)
    assert ["lan-tx", "bytes", "5,568", "bytes", "sent"] in cells(capsys.readouterr().out)


def test_no_errors(view, capsys):
    view.clear()
    show.errors(view.errors())
    assert capsys.readouterr().out == "nothing was dropped\n"


def test_graph(view, capsys):
    show.graph(view.graph())
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    at = lines.index("ethernet-input  (inner, 100 packets)")
    assert lines[at + 1].split() == ["├─", "output", "->", "lan-tx", "90"]
    assert lines[at + 2].split() == ["└─", "drop", "->", "drop", "10"]
    assert lines[-1].split() == ["└─", "(sent,", "freed", "or", "held)", "87"]


def test_routes_and_neighbors(view, capsys, monkeypatch):
    monkeypatch.setattr(observe.time, "monotonic", lambda: 1002.5)
    show.routes(view.routes().rows)
    assert ["10.0.1.0/24", "connected", "lan"] in cells(capsys.readouterr().out)
    show.neighbors(view.neighbors().rows)
    neighbor = ["10.0.1.2", "02:00:00:00:00:02", "lan", "reachable", "2.5"]
    assert neighbor in cells(capsys.readouterr().out)
    show.neighbors([])
    assert capsys.readouterr().out == "no neighbors\n"


def test_trace(capsys):
    steps = [
        Step("lan-rx", "next", "ethernet-input", "", "", 0.0, 60, "a > b [IPv4]"),
        Step("ethernet-input", "drop", "drop", "", "not-for-us", 1.234, 60, "x" * 150),
        Step("drop", "", "", "freed", "", 2.0, 60, "x"),
    ]
    show.trace([TracedPacket(5, "lan", steps), TracedPacket(6, "", steps)])
    text = capsys.readouterr().out
    assert "packet 5 from lan\n" in text
    assert "packet 6 from lan-rx\n" in text
    assert ["0.00", "lan-rx", "next", "60", "a", ">", "b", "[IPv4]"] in cells(text)
    assert ["1.23", "ethernet-input", "drop", "(not-for-us)", "60", "x" * 150] in cells(text)
    assert ["2.00", "drop", "(freed)", "60", "x"] in cells(text)


@pytest.mark.parametrize(
    "what", ["runtime", "ports", "errors", "graph", "routes", "neighbors"]
)  # fmt: skip
def test_json(view, capsys, what):
    show.as_json(getattr(view, what)())
    read = json.loads(capsys.readouterr().out)
    if what == "runtime":
        assert read["nodes"][0]["packets"] == read["packets"] == 100
    if what == "ports":
        assert read[0]["rx"] == {"packets": 100, "bytes": 6400, "drops": 11}
