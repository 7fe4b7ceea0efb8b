"""The VALE switch against its oracle; frames of many slots; ports that lie."""

import contextlib

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from oracles.vale import Switch as Oracle
from rings.vale_ports import attach, frame, mac, put, shut
from vforward.rings.netmap_layout import NS_INDIRECT, NS_NO_LEARN
from vforward.rings.vale import COUNTERS
from vforward.rings.vale_macs import lookup
from vforward.rings.vale_switch import Switch

SLOTS = 16
MACS = [*(mac(i) for i in range(5)), bytes(6), b"\xff" * 6, mac(9, first=1)]
SIZES = [0, 1, 12, 13, 14, 31, 32, 33, 60, 63, 64, 65, 2047, 2048, 2049]


class Life(RuleBasedStateMachine):
    """Frames go in one by one; what comes out, in order, and all counters are the oracle's."""

    @initialize(n=st.integers(2, 4))
    def begin(self, n):
        self.switch = Switch("t")
        self.opened = 0
        self.ports = dict(attach(self.switch, f"p{i}", SLOTS, SLOTS) for i in range(n))
        self.model = Oracle(dict.fromkeys(range(n), SLOTS - 1))

    @rule(
        at=st.integers(0, 3),
        dst=st.sampled_from(MACS),
        src=st.sampled_from(MACS),
        sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=3),
        learn=st.booleans(),
    )
    def send(self, at, dst, src, sizes, learn):
        port = self.ports.get(at)
        if port is None:
            return
        parts = [frame(dst, src, size) for size in sizes]
        assert put(port, parts, 0 if learn else NS_NO_LEARN)
        port.txsync()
        self.switch.forward()
        port.txsync()
        assert port.tx.space() == SLOTS - 1  # it takes all, whatever becomes of it
        self.model.frame(at, parts, learn)

    @rule(at=st.integers(0, 3), n=st.integers(0, 9))
    def receive(self, at, n):
        port = self.ports.get(at)
        if port is None:
            return
        port.rxsync()
        for _ in range(n):
            before = port.rx.space()
            first = port.rx.head
            got = port.next_packet()
            if got is None:
                break
            assert got == self.model.got[at].pop(0)
            frags = before - port.rx.space()
            self.model.room[at] += frags
            assert {
                int(port.rx.slots[(first + i) % SLOTS]["flags"]) >> 8 for i in range(frags)
            } == {frags}
        port.rxsync()

    @rule(ticks=st.sampled_from([1, 8, 16, 17]))
    def time_passes(self, ticks):
        for _ in range(ticks):
            self.switch._next_tick = 0
            self.switch.forward()
            self.model.tick()

    @rule(at=st.integers(0, 3))
    def close_and_open(self, at):
        if self.ports.get(at):
            shut(self.ports.pop(at))
            self.switch.detach(at)
            self.model.gone(at)
        else:
            self.opened += 1
            number, port = attach(self.switch, f"q{self.opened}", SLOTS, SLOTS)
            self.ports[number] = port  # the lowest number that is free
            self.model.room[number], self.model.got[number] = SLOTS - 1, []
            self.model.count[number] = dict.fromkeys(COUNTERS, 0)

    @invariant()
    def counts(self):
        for number in self.ports:
            record = self.switch.ports[number]
            assert {c: int(record[c]) for c in COUNTERS} == self.model.count[number]

    @invariant()
    def knows_the_same_stations(self):
        for station in MACS[:5]:
            expected = self.model.stations.get(station, (-1, 0))[0]
            assert lookup(self.switch.macs, int.from_bytes(station, "little")) == expected

    def teardown(self):
        for port in getattr(self, "ports", {}).values():
            shut(port)
        if hasattr(self, "switch"):
            self.switch.close()


TestLife = Life.TestCase


@pytest.fixture
def three():
    switch = Switch("t")
    ports = [attach(switch, f"p{i}", 128, 128)[1] for i in range(3)]
    yield switch, ports
    switch.close()
    for port in ports:
        shut(port)


def send(switch, port, *frames, flags=0):
    for parts in frames:
        assert put(port, parts if isinstance(parts, list) else [parts], flags)
    port.txsync()
    switch.forward()


def received(port):
    port.rxsync()
    found = []
    port.dispatch(found.append)
    port.rxsync()
    return found


def test_it_learns(three):
    """netmap's own test 007: unknown to all, known to one."""
    switch, (a, b, c) = three
    send(switch, a, frame(mac(2), mac(1), 60))
    assert [len(received(port)) for port in (a, b, c)] == [0, 1, 1]
    send(switch, b, frame(mac(1), mac(2), 61))
    assert [len(received(port)) for port in (a, b, c)] == [1, 0, 0]
    send(switch, a, frame(mac(2), mac(1), 62))
    assert [len(received(port)) for port in (a, b, c)] == [0, 1, 0]


@pytest.mark.parametrize(("parts", "good"), [(63, True), (64, True), (65, False)])
def test_a_frame_has_at_most_64_slots(three, parts, good):
    switch, (a, b, _) = three
    send(switch, a, [frame(mac(2), mac(1), 20), *[b"x" * 9] * (parts - 1)])
    assert received(b) == ([frame(mac(2), mac(1), 20) + b"x" * 9 * (parts - 1)] if good else [])
    assert switch.ports[0]["bad"] == (not good)


def test_a_frame_waits_for_its_last_slot(three):
    switch, (a, b, _) = three
    put(a, [frame(mac(2), mac(1), 60), b"tail"])
    a.tx.move(head=1, cur=1)  # the first of two
    a.txsync()
    switch.forward()
    assert received(b) == []
    a.tx.move(head=2, cur=2)
    a.txsync()
    switch.forward()
    assert received(b) == [frame(mac(2), mac(1), 60) + b"tail"]


def test_a_full_receiver_stops_nobody(three):
    switch, (a, b, c) = three
    for i in range(300):
        send(switch, a, frame(mac(2), mac(1), 14 + i))
        if len(received(c)) != 1:
            pytest.fail(f"frame {i}")
    assert switch.ports[1]["full"] == 300 - 127
    assert [len(f) for f in received(b)] == [14 + i for i in range(127)]


def test_no_byte_behind_a_frame_is_copied(three):
    switch, (a, b, _) = three
    for size in (14, 31, 32, 33, 60, 64, 65, 100):
        at = a.tx.head
        a.buffer(int(a.tx.slots[at]["buf_idx"]))[:] = 0xEE
        send(switch, a, frame(mac(2), mac(1), size))
        b.rxsync()
        slot = b.rx.slots[b.rx.head]
        assert int(slot["len"]) == size
        assert not b.buffer(int(slot["buf_idx"]))[size:].any()
        assert received(b) == [frame(mac(2), mac(1), size)]


def test_pointers_are_refused(three):
    switch, (a, b, _) = three
    send(switch, a, frame(mac(2), mac(1), 60), flags=NS_INDIRECT)
    assert (received(b), switch.ports[0]["bad"]) == ([], 1)


LIES = [0, 1, 2**31, 2**32 - 1]


@pytest.mark.parametrize("buf", LIES)
def test_slots_without_a_buffer_cost_their_own_frame_only(three, buf):
    switch, (a, b, c) = three
    put(a, [frame(mac(2), mac(1), 60)])
    a.tx.slots["buf_idx"][0] = buf
    c.rx.slots["buf_idx"][0] = buf
    words = a.memory[:128].view(np.uint32)
    words[1] = words[0] = 1  # past the library's own check
    switch.forward()
    assert (switch.ports[0]["bad"], switch.ports[0]["received"]) == (1, 0)
    send(switch, b, frame(mac(5), mac(6), 60))
    assert (len(received(a)), len(received(c)), switch.ports[2]["bad"]) == (1, 0, 1)


@pytest.mark.parametrize("head", [128, 2**31, 2**32 - 1])
def test_heads_that_make_no_sense_are_counted_once(three, head):
    switch, (a, b, c) = three
    a.memory[:4].view(np.uint32)[0] = head
    c.memory[128:132].view(np.uint32)[0] = head
    for _ in range(3):
        switch.forward()
    send(switch, b, frame(mac(5), mac(6), 60))
    assert [len(received(port)) for port in (a, c)] == [1, 1]
    assert switch.ports[0]["bad"] == 1


def test_random_memory_harms_nobody(three):
    """A port writes anything anywhere, again and again: the others' frames arrive."""
    switch, (a, b, c) = three
    rng = np.random.default_rng(1)
    for i in range(300):
        end = int(rng.choice([256, 4096, 12000]))
        a.memory[:end] = rng.integers(0, 256, end, np.uint8)
        if i % 2:
            a.memory[:4096].view(np.uint32)[:64] %= 128
        switch.forward(4)
        received(b), received(c)
        send(switch, b, frame(mac(0x70), mac(0x71), 60))
        assert frame(mac(0x70), mac(0x71), 60) in received(c)
    with contextlib.suppress(Exception):
        a.txsync()
