# SPDX-License-Identifier: Apache-2.0
"""The vhost-user port between a worker and a frontend: both ways round, and peers that are bad or die."""

import logging
import os
import socket
import struct
import time

import pytest

from descriptors import SELECT_MAX, beyond
from frontends import BASE, ENABLE, GET_BASE, GET_QUEUES, SET_CALL, SIZE, USER, Frontend
from fuzzing import kinds_open
from oracles.virtqueue import INDIRECT
from vforward.errors import PortError
from vforward.graph import control
from vforward.graph.worker import PROFILES
from vforward.io import vhost_peers
from vforward.io.vhost import VhostUserPort
from vforward.memory.arena import Arena
from vforward.rings import virtqueue as vq
from vhost_worlds import World, let_go

FRAMES = [bytes([n]) * (60 + 100 * n) for n in range(8)]


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(vhost_peers, "BAD_PEER_S", 0.01)
    before = kinds_open()
    with Arena.create("vhost") as made:
        yield made
    assert kinds_open() <= before


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vhost.sock"


@pytest.fixture
def echo(arena, path):
    with World(arena, path) as made:
        yield made


def until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def dial(server):
    """A frontend on the next connection to our listening socket."""
    server.settimeout(5)
    return Frontend(server.accept()[0])


def bounce(frontend, frames=FRAMES):
    frontend.send(frames)
    assert frontend.receive(len(frames)) == frames


PACKED, PACKED_EVENT_IDX = 0x540008000, 0x570008000


@pytest.mark.parametrize(
    "wanted",
    [
        0x140008000,
        1 << 32 | 1 << 30,
        0x170008000,
        PACKED,
        1 << 34 | 1 << 32 | 1 << 30,
        PACKED_EVENT_IDX,
    ],
)
@pytest.mark.parametrize("start", [0, 65500])
def test_frames_there_and_back(echo, path, wanted, start):
    frontend = Frontend.connect(path)
    frontend.begin(wanted, start)
    for _ in range(5):
        bounce(frontend)
    assert echo.port.ready
    frontend.close()
    until(lambda: not echo.port.ready)
    total = 5 * sum(map(len, FRAMES))
    assert echo.counts("rx")["bytes"] == echo.counts("tx")["bytes"] == total
    assert echo.port.peers == 1
    assert not echo.port.peer_faults


def test_one_peer_after_the_other(echo, path):
    for _ in range(3):
        frontend = Frontend.connect(path)
        frontend.begin()
        bounce(frontend)
        frontend.close()
    until(lambda: not echo.port.ready)
    assert echo.port.peers == 3


def test_we_connect_and_their_memory_says_where_to_go_on(arena, path):
    """Their server outlives us: the second of us finds queues that the first one used."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with World(arena, path, server=False):
            frontend = dial(server)
            frontend.begin()
            bounce(frontend)
        assert frontend.peer.recv(1) == b""
        frontend.peer.close()
        frontend.send(FRAMES[:2])  # while nobody is there
        with Arena.create("second") as other, World(other, path, server=False):
            frontend.peer = server.accept()[0]
            frontend.peer.settimeout(5)
            for index in range(2):  # what DPDK's begins with
                frontend.say(ENABLE, struct.pack("=II", index, 0))
                frontend.ask(GET_BASE, struct.pack("=II", index, 0))
            frontend.negotiate()
            frontend.share()
            for index in range(2):
                frontend.place(index, frontend.drivers[index])
                frontend.say(ENABLE, struct.pack("=II", index, 1))
            assert frontend.receive(2) == FRAMES[:2]
            bounce(frontend)
        frontend.close()


def test_we_try_until_somebody_listens(arena, path):
    with World(arena, path, server=False):
        time.sleep(0.05)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            frontend = dial(server)
            frontend.begin()
            bounce(frontend)
            frontend.close()


@pytest.mark.parametrize("wanted", [0x140008000, 0x170008000, PACKED, PACKED_EVENT_IDX])
def test_a_sleeping_worker_is_kicked_awake(echo, path, wanted):
    frontend = Frontend.connect(path)
    frontend.begin(wanted)
    words = echo.worker.plan.control
    kicked = 0
    for frame in FRAMES * 3:
        before = int(words[control.SLEEPS])
        until(lambda before=before: int(words[control.SLEEPS]) > before)
        kicked += frontend.send([frame])
        assert frontend.receive(1) == [frame]
    # A kick is not wanted where the worker, between two sleeps of 20 ms, has seen the frame already.
    assert kicked > 2 * len(FRAMES)
    assert all(profile.patience > vq.IDLE_POLLS for profile in PROFILES.values())
    frontend.close()


def test_an_idle_worker_sleeps_although_it_was_kicked_for_nothing(echo, path):
    frontend = Frontend.connect(path)
    frontend.begin()
    words = echo.worker.plan.control
    until(lambda: int(words[control.SLEEPS]) > 0)
    rounds = []
    for _ in range(3):
        os.eventfd_write(frontend.kicks[1], 1)
        before = int(words[control.ROUNDS])
        time.sleep(0.1)
        rounds.append(int(words[control.ROUNDS]) - before)
    assert min(rounds) < 1000  # a spinning worker has a hundred times more
    frontend.close()


def test_interrupts(echo, path):
    frontend = Frontend.connect(path)
    frontend.begin()
    assert [os.eventfd_read(call) > 0 for call in frontend.calls] == [True, True]  # at the start
    for driver in frontend.drivers:
        driver.no_interrupts()
    bounce(frontend)
    for call in frontend.calls:
        with pytest.raises(BlockingIOError):
            os.eventfd_read(call)
    for driver in frontend.drivers:
        driver.no_interrupts(0)
    bounce(frontend)
    assert [os.eventfd_read(call) > 0 for call in frontend.calls] == [True, True]
    frontend.close()


def test_the_driver_is_called_when_queues_start_and_by_a_new_descriptor(echo, path):
    """What it has back since before is looked at then."""
    frontend = Frontend.connect(path)
    frontend.begin()
    for _ in range(3):
        assert [os.eventfd_read(call) > 0 for call in frontend.calls] == [True, True]
        for on in (False, True):
            frontend.enable([0], on=on)
    new = os.eventfd(0, os.EFD_NONBLOCK)
    frontend.say(SET_CALL, struct.pack("=Q", 0), [new])
    frontend.ask(GET_QUEUES)
    assert os.eventfd_read(new) > 0
    os.close(new)
    bounce(frontend)
    frontend.close()


def test_a_call_descriptor_that_is_full_and_blocks_stops_nobody(echo, path):
    frontend = Frontend.connect(path)
    frontend.begin()
    for call in frontend.calls:
        os.eventfd_read(call)
        os.set_blocking(call, True)
        os.eventfd_write(call, 2**64 - 2)  # who writes one more waits
    for on in (False, True):
        frontend.enable([0], on=on)
    frontend.say(SET_CALL, struct.pack("=Q", 1), [frontend.calls[0]])
    frontend.ask(GET_QUEUES)
    bounce(frontend)
    assert not echo.port.peer_faults
    frontend.close()


def test_descriptors_of_any_number(arena, path):
    with beyond(), World(arena, path) as echo:
        for _ in range(2):
            frontend = Frontend.connect(path)
            assert frontend.kicks[0] >= SELECT_MAX
            frontend.begin()
            bounce(frontend)
            frontend.close()
            until(lambda: not echo.port.ready)
        assert not echo.port.peer_faults


def test_a_peer_without_mergeable_buffers_drops_what_is_too_long(echo, path):
    frontend = Frontend.connect(path)
    frontend.begin(1 << 32 | 1 << 30)
    frontend.send([bytes(60), bytes(2048 - 11), bytes(61)])
    assert frontend.receive(2) == [bytes(60), bytes(61)]
    assert echo.counts("tx")["too-long"] == 1
    frontend.close()


def bad_ring(frontend):
    frontend.drivers[1].add([(BASE + SIZE - 10, 100)], write=False)


def bad_table(frontend):
    driver = frontend.drivers[1]
    head = driver.free[-1]
    driver._descriptor(driver.desc, head, BASE + SIZE, 16, INDIRECT, 0)
    driver._store("<H", driver.avail + 4 + 2 * (driver.added % driver.size), head)
    driver._store("<H", driver.avail + 2, driver.added + 1)


def bad_buffer(frontend):
    driver = frontend.drivers[0]
    for number in range(driver.size):
        driver._descriptor(driver.desc, number, 1, 2048, 2, 0)
    frontend.send(FRAMES[:1])


def truncated(frontend):
    os.truncate(frontend.memory_fd, 0)


def truncated_kept(frontend):
    """What it keeps for us is in a file of its own making, and goes away."""
    fd = os.memfd_create("kept")
    os.truncate(fd, 1 << 16)
    frontend.return_kept(fd, struct.pack("=QQHH4x", 1 << 16, 0, 2, 64))
    frontend.ask(GET_QUEUES)
    os.truncate(fd, 0)
    os.close(fd)
    frontend.send(FRAMES[:2])


def too_little_kept(frontend):
    frontend.return_kept(frontend.memory_fd, struct.pack("=QQHH4x", 4096, 0, 2, 64))


def bad_place(frontend):
    frontend.place(1, frontend.drivers[1], 64 << 16 | 64)


def bad_message(frontend):
    frontend.say(77)


def wrong_kick(frontend):
    frontend.say(12, struct.pack("=Q", 1), [frontend.memory_fd])


def half_a_message(frontend):
    frontend.peer.sendall(b"half")
    frontend.peer.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (bad_ring, "queue-address"),
        (bad_table, "queue-address"),
        (bad_buffer, "queue-address"),
        (truncated, "memory"),
        (bad_message, "request"),
        (wrong_kick, "descriptor"),
        (half_a_message, "length"),
    ],
)
def test_a_bad_peer_loses_its_connection_and_nothing_else(echo, path, harm, reason, caplog):
    caplog.set_level(logging.WARNING)
    frontend = Frontend.connect(path)
    frontend.begin()
    bounce(frontend)
    harm(frontend)
    until(lambda: echo.port.peer_faults)
    assert echo.port.peer_faults == {reason: 1}
    until(lambda: let_go(echo) == {reason: 1})
    assert "the peer is let go" in caplog.text
    frontend.close()
    again = Frontend.connect(path)
    again.begin()
    bounce(again)
    again.close()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (bad_ring, "queue-address"),
        (truncated, "memory"),
        (truncated_kept, "memory"),
        (too_little_kept, "memory"),
        (bad_place, "queue"),
    ],
)
def test_nor_does_one_with_packed_queues(echo, path, harm, reason):
    frontend = Frontend.connect(path)
    frontend.begin(PACKED)
    bounce(frontend)
    harm(frontend)
    until(lambda: echo.port.peer_faults)
    assert echo.port.peer_faults == {reason: 1}
    frontend.close()
    again = Frontend.connect(path)
    again.begin()
    bounce(again)
    again.close()


def test_a_packed_queue_is_told_where_to_go_on(echo, path):
    """Its position is returned when it is stopped, twice, and sent back."""
    frontend = Frontend.connect(path)
    frontend.begin(PACKED, 100)
    for _ in range(20):
        bounce(frontend)
        frontend.drivers[1].take_used()
        for index, driver in enumerate(frontend.drivers):
            answer = frontend.ask(GET_BASE, struct.pack("=II", index, 0))
            position = driver.seen
            assert answer == struct.pack("=II", index, position | position << 16)
            frontend.place(index, driver)
        frontend.ask(GET_QUEUES)
    frontend.close()


@pytest.mark.parametrize("done", range(5))
def test_a_peer_that_dies_at_any_step(echo, path, done):
    frontend = Frontend.connect(path)
    steps = [
        lambda: frontend.negotiate(),
        lambda: frontend.share(),
        lambda: frontend.set_up(0, 0),
        lambda: frontend.set_up(1, 4096),
    ]
    for step in steps[:done]:
        step()
    frontend.close()
    again = Frontend.connect(path)
    again.begin()
    bounce(again)
    again.close()


def test_new_memory_while_frames_come(echo, path):
    """As QEMU does when memory is plugged in: the queues go on where they are."""
    frontend = Frontend.connect(path)
    frontend.begin()
    for n in range(10):
        frontend.send(FRAMES)
        regions = [(BASE, SIZE, USER, 0), (1 << 40, 4096 * (1 + n), 1 << 45, 0)]
        assert frontend.share(regions, [frontend.memory_fd] * 2) == 0
        assert frontend.receive(len(FRAMES)) == FRAMES
    frontend.close()


def test_the_path_is_in_use(echo, arena, path):
    other = VhostUserPort(str(path))
    with pytest.raises(PortError, match="another process listens"):
        other.open(2, echo.pool)
    other.close()


@pytest.mark.parametrize("offloads", [True, False])
def test_offloads_are_offered_or_not(arena, path, offloads):
    with World(arena, path, offloads=offloads):
        frontend = Frontend.connect(path)
        assert bool(frontend.negotiate() & 1 << 11) == offloads
        frontend.close()
