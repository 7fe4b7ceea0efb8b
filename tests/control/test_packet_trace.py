"""Traces, with a worker that records what it is told to."""

import fcntl
import random
from types import SimpleNamespace

import numpy as np
import pytest

import fake_forwarder as fake
from vforward.control import observe
from vforward.control.packet_trace import (
    LATE_S,
    SETTLE_S,
    _clocks,
    _in_order,
    _settle_s,
    _Wish,
    collect,
)
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


NODES = RX, LOOKUP, GIVE, TAKE, TX = range(5)
NAMES = ["lan-rx", "ip4-lookup", "output-hand-off", "output-take-up", "wan-tx"]


def records(*rows):
    """A worker's: (packet, node, whether it went on, clock)."""
    made = np.zeros(len(rows), c.TRACE)
    for record, (packet, node, on, clock) in zip(made, rows, strict=True):
        record["packet"], record["node"], record["clock"] = packet, node, clock
        record["edge"] = 0 if on else EDGE_HELD
    return made


def way(found, packet=7):
    return found[found["packet"] == packet]


def test_who_gave_a_packet_away_comes_first_though_it_said_so_late():
    """Its record is made behind its node's call: here when the other worker was through with the packet."""
    one = records((7, RX, True, 10), (7, LOOKUP, True, 20), (7, GIVE, False, 900))
    other = records((7, TAKE, True, 30), (7, TX, False, 40))
    for workers in ([one, other], [other, one]):
        found = _in_order(workers)
        assert found["node"].tolist() == [RX, LOOKUP, GIVE, TAKE, TX]
        assert _clocks([*found]) == [0, 10, 20, 20, 30]


def test_pieces_of_a_packet_have_its_number():
    one = records((7, RX, True, 10), *[(7, LOOKUP, True, 20)] * 2, *[(7, GIVE, False, 900)] * 2)
    other = records(*[(7, TAKE, True, 30)] * 2, *[(7, TX, False, 40)] * 2)
    nodes = _in_order([other, one])["node"].tolist()
    assert nodes == [RX, LOOKUP, LOOKUP, GIVE, GIVE, TAKE, TAKE, TX, TX]


def test_ways_over_several_workers_whenever_records_are_made():
    """As it can be: a worker's clock grows, and only what is given away is noted late."""
    rng = random.Random(3)
    for _ in range(200):
        workers, ways, now = [[], [], []], {}, 0
        ready = [0, 0, 0]
        for packet in range(4):
            turns = [rng.randrange(3)]
            for _ in range(rng.randrange(4)):
                turns.append(rng.choice([n for n in range(3) if n != turns[-1]]))
            nodes = []
            for k, worker in enumerate(turns):
                now = max(now, ready[worker])
                for node in (TAKE if k else RX, *[LOOKUP] * rng.randrange(3)):
                    now += 1
                    workers[worker].append((packet, node, True, now))
                    nodes.append(node)
                last = k == len(turns) - 1
                nodes.append(TX if last else GIVE)
                ready[worker] = now + rng.choice([1, 30])
                workers[worker].append((packet, nodes[-1], False, ready[worker]))
            ways[packet] = nodes
        found = _in_order([records(*rows) for rows in workers])
        for packet, nodes in ways.items():
            assert way(found, packet)["node"].tolist() == nodes


def test_a_packet_is_through_when_it_is_on_all_workers():
    """And is waited for longer when one has yet to say that it gave it away."""
    view = SimpleNamespace(nodes=[{"name": name} for name in NAMES])
    one = records((7, RX, True, 10), (7, LOOKUP, True, 20), (7, GIVE, False, 900))
    other = records((7, TAKE, True, 30), (7, TX, False, 40))

    def settle_s(*workers, node="", marked=1):
        return _settle_s(view, workers, _in_order(workers), _Wish(marked, node, 1))

    assert settle_s(one, other) == SETTLE_S
    assert settle_s(one, other, node="lan-rx", marked=512) == SETTLE_S
    assert settle_s(one, other, node="output-take-up", marked=512) is None
    assert settle_s(one[:2], other) == LATE_S, "the one that gave it away has not said so yet"
    assert settle_s(one, other[:0]) is None, "the other one has yet to take it up"
    assert settle_s(one, other[:1]) is None
    assert settle_s(one[:0], other[:0]) is None
    assert settle_s(other, marked=512) == SETTLE_S, "one worker"
