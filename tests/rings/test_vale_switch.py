"""The switch's thread: it sleeps and wakes, ages, lets ports come and go, and none can stop it."""

import contextlib
import os
import time

import numpy as np
import pytest

from netmap_worlds import until
from rings.vale_ports import attach, frame, mac, put, shut
from vforward.errors import PortError
from vforward.rings import netmap
from vforward.rings.netmap_sync import SWITCH_SLEEPS
from vforward.rings.vale import PORTS_MAX
from vforward.rings.vale_macs import lookup
from vforward.rings.vale_switch import Switch


@pytest.fixture
def switch():
    made = Switch("t")
    yield made
    made.close()


@pytest.fixture
def three(switch):
    ports = [attach(switch, f"p{i}")[1] for i in range(3)]
    switch.start()
    yield switch, ports
    for port in ports:
        shut(port)


def asleep(port):
    return port.memory[SWITCH_SLEEPS] == 1


def send(port, dst, src):
    assert put(port, [frame(mac(dst), mac(src), 60)])
    port.txsync()


def test_it_wakes_and_is_woken(three):
    _, (a, b, c) = three
    for _ in range(3):
        until(lambda: asleep(a))
        send(a, 2, 1)
        for port in (b, c):
            assert port.poll(netmap.READ, 20) == netmap.READ
            assert port.next_packet() == frame(mac(2), mac(1), 60)


def test_an_idle_switch_takes_no_time(three):
    _, (a, _, _) = three
    until(lambda: asleep(a))
    before = time.process_time()
    time.sleep(0.2)
    assert asleep(a)
    assert time.process_time() - before < 0.2


def test_stations_are_forgotten_in_time():
    with contextlib.closing(Switch("t", max_age_s=1.6)) as switch:
        _, port = attach(switch, "a")
        key = int.from_bytes(mac(1), "little")
        assert lookup(switch.macs, key) == -1
        switch.start()
        send(port, 2, 1)
        until(lambda: lookup(switch.macs, key) == 0)
        until(lambda: lookup(switch.macs, key) == -1)
        shut(port)


def test_ports_come_and_go_under_traffic(three):
    switch, (a, b, _) = three
    for i in range(20):
        number, port = attach(switch, f"new{i}")
        assert number == 3
        send(a, 9, 1)
        assert port.poll(netmap.READ, 20) == netmap.READ
        switch.detach(number)
        shut(port)
        b.poll(netmap.READ, 0)
        b.dispatch(len)
    assert set(switch.statistics()) == {"p0", "p1", "p2"}


def test_what_was_sent_before_a_port_is_closed_arrives(switch):
    """As with netmap, where a sync of a switch forwards at once. The thread does not run here."""
    (number, a), (_, b) = (attach(switch, name, 1024, 1024) for name in "ab")
    for _ in range(1000):
        assert put(a, [frame(mac(2), mac(1), 60)])
    a.txsync()
    switch.detach(number)
    assert b.poll(netmap.READ, 0) == netmap.READ
    assert b.dispatch(len) == 1000
    shut(a)
    shut(b)


def test_a_port_that_never_reads_its_wakeups_stops_nobody(three):
    """Its socket fills up; the switch does not wait for it."""
    switch, (a, b, c) = three
    for member in switch.members.values():
        member.theirs.setblocking(True)
        member.ours.setblocking(True)  # as the port can make it: it shares the file, not the flags
    for _ in range(300):
        for _ in range(3):
            switch.members[2].wake()
        c._waits(netmap.RX, True)
        send(a, 2, 1)
        assert b.poll(netmap.READ, 20) == netmap.READ
        b.dispatch(len)


def test_a_port_that_floods_with_wakeups_stops_nobody(three):
    switch, (a, b, c) = three
    for _ in range(50):
        try:
            c._connection.setblocking(False)
            switch.members[2].theirs.send(bytes(4096), 0x40)
        except BlockingIOError:
            pass
        send(a, 2, 1)
        assert b.poll(netmap.READ, 20) == netmap.READ
        b.dispatch(len)


def test_names_and_numbers(switch):
    first = attach(switch, "a", 2, 2)
    with pytest.raises(PortError, match="in use"):
        attach(switch, "a")
    with pytest.raises(PortError, match="slots"):
        attach(switch, "b", 1)
    others = [attach(switch, f"p{i}", 2, 2)[1] for i in range(PORTS_MAX - 1)]
    with pytest.raises(PortError, match="254"):
        attach(switch, "more")
    for port in (first[1], *others):
        shut(port)


def test_each_port_has_memory_of_its_own(switch):
    files = []
    for name in "ab":
        _, reply, (memory, _) = switch.attach(name, 8, 8, 0)
        found = os.fstat(memory)
        assert found.st_size == reply.size
        files.append((found.st_dev, found.st_ino))
    assert files[0] != files[1]
    (_, c), (_, d) = (attach(switch, name) for name in "cd")
    before = d.memory.copy()
    c.memory[:] = 0xA5
    assert np.array_equal(d.memory, before)
    shut(c)
    shut(d)


def test_extra_buffers(switch):
    _, port = attach(switch, "a", extra=3)
    slots = [*port.tx.slots["buf_idx"].tolist(), *port.rx.slots["buf_idx"].tolist()]
    assert sorted(slots + port.extra) == list(range(2, 2 + 32 + 3))
    shut(port)
