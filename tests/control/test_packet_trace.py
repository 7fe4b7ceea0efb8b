"""Traces, with a worker that records what it is told to."""

import fcntl

import pytest

import fake_forwarder as fake
from vforward.control import observe
from vforward.control.packet_trace import collect
from vforward.errors import ArenaError, ConfigError
from vforward.graph import control as c
from vforward.layout import EDGE_HELD
from vforward.testing import packets

IP = packets.ip4("10.0.1.2", "10.0.2.2", 47, b"")
FRAME = packets.eth("02:00:00:00:00:01", "02:00:00:00:00:02", 0x0800, IP)
SENT = [(fake.INPUT, 0, 0, FRAME), (fake.ETHERNET, 0, 0, IP), (fake.OUT, EDGE_HELD, 0, FRAME)]
DROPPED = [(fake.INPUT, 0, 0, FRAME), (fake.ETHERNET, 1, 1, IP), (fake.DROP, EDGE_HELD, 1, IP)]
UNDER_WAY = [(fake.INPUT, 0, 0, FRAME)]
ELSEWHERE = [(fake.ETHERNET, 1, 1, IP), (fake.DROP, EDGE_HELD, 1, IP)]


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with fake.arena() as made:
        yield made


@pytest.fixture
def view(arena):
    with observe.attach("fake") as attached:
        yield attached


def test_a_packet_node_by_node(arena, view):
    with fake.Worker(arena, [SENT]):
        (packet,) = collect(view, 1)
    assert packet.port == "lan"
    assert [(s.node, s.edge, s.to, s.end, s.reason) for s in packet.steps] == [
        ("lan-rx", "next", "ethernet-input", "", ""),
        ("ethernet-input", "output", "lan-tx", "", ""),
        ("lan-tx", "", "", "sent", ""),
    ]
    assert [s.microseconds for s in packet.steps] == [0, 2, 4]
    assert [s.bytes for s in packet.steps] == [len(FRAME), len(IP), len(FRAME)]
    assert packet.steps[0].text.startswith("02:00:00:00:00:02 > 02:00:00:00:00:01 IPv4 10.0.1.2")
    assert packet.steps[1].text == "IPv4 10.0.1.2 > 10.0.2.2 ttl 64 GRE"


def test_a_dropped_packet_says_why(arena, view):
    with fake.Worker(arena, [DROPPED]):
        (packet,) = collect(view, 1)
    assert packet.steps[1].reason == "not-for-us"
    assert (packet.steps[2].reason, packet.steps[2].end) == ("", "freed")


def test_a_packet_that_waits_is_kept(arena, view):
    with fake.Worker(arena, [[(fake.INPUT, 0, 0, FRAME), (fake.ETHERNET, EDGE_HELD, 0, IP)]]):
        (packet,) = collect(view, 1)
    assert packet.steps[1].end == "kept"


def test_more_than_a_batch(arena, view):
    with fake.Worker(arena, [SENT] * 64):
        found = collect(view, 600)
    assert len(found) == 600
    assert all(len(packet.steps) == 3 for packet in found)
    assert len({packet.number for packet in found}) == 600


def test_numbers_wrap(arena, view):
    arena.open("control")[c.TRACE_NEXT] = 0xFFFE
    with fake.Worker(arena, [SENT]):
        found = collect(view, 4)
    assert [packet.number for packet in found] == [0xFFFE, 0xFFFF, 0, 1]


def test_only_packets_of_one_input(arena, view):
    with fake.Worker(arena, [ELSEWHERE, SENT]):
        found = collect(view, 3, "lan-rx")
    assert len(found) == 3
    assert all(packet.steps[0].node == "lan-rx" for packet in found)


def test_an_unknown_input_is_told(view):
    with pytest.raises(ConfigError, match="no input node 'drop'; there are: lan-rx"):
        collect(view, 1, "drop")


def test_gives_what_came_in_time(arena, view):
    with fake.Worker(arena, [SENT], packets=2):
        assert len(collect(view, 5, timeout_s=0.5)) == 2


def test_waits_for_a_packet_under_way_until_time_is_up(arena, view):
    with fake.Worker(arena, [UNDER_WAY], packets=1):
        (packet,) = collect(view, 1, timeout_s=0.3)
    assert [step.node for step in packet.steps] == ["lan-rx"]


def test_leaves_out_what_an_earlier_trace_has_marked(arena, view):
    control, trace = arena.open("control"), arena.open("trace")
    control[c.TRACE_NEXT] = 100

    class Late(fake.Worker):
        def _record(self, path):
            at = int(control[c.TRACED_ROWS])
            trace[at]["packet"], trace[at]["edge"] = 99, 0
            control[c.TRACED_ROWS] = at + 1
            super()._record(path)

    with Late(arena, [SENT]):
        assert [packet.number for packet in collect(view, 2)] == [100, 101]


def test_a_full_trace_ends_the_wait(arena, view):
    with fake.Worker(arena, [[(fake.INPUT, 0, 0, FRAME)] * 600], packets=14):
        found = collect(view, 14, timeout_s=60)
    assert sum(len(packet.steps) for packet in found) == c.TRACE_ROOM


@pytest.mark.parametrize("paths", [[SENT], []])
def test_switches_off_behind_itself(arena, view, paths):
    control = arena.open("control")
    with fake.Worker(arena, paths):
        collect(view, 1, timeout_s=0.2)
        assert [int(control[w]) for w in (c.TRACING, c.TRACE_WANTED, c.TRACED_ROWS)] == [0, 0, 0]


def test_one_at_a_time(arena, view):
    with (arena.path / "control").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ArenaError, match="'fake' is traced by another process already"):
            collect(view, 1)
    assert not arena.open("control")[c.TRACING]


def test_a_worker_that_does_not_answer_is_told(view, monkeypatch):
    monkeypatch.setattr("vforward.control.packet_trace.PATIENCE_S", 0.05)
    with pytest.raises(ArenaError, match="the worker has done no round"):
        collect(view, 1)


def test_a_worker_that_has_stopped_is_not_waited_for(arena, view):
    arena.open("control")[c.STATE] = c.STOPPED
    assert collect(view, 1, timeout_s=0.1) == []
