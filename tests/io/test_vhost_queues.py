# SPDX-License-Identifier: Apache-2.0
"""The vhost-user port with several pairs of queues: who is served when, and pairs that come and go."""

import struct
import time

import pytest

from frontends import BASE, ENABLE, GET_FEATURES, QUEUE, SIZE, Frontend
from guests import Guest
from vforward.graph import control
from vforward.io import vhost_peers
from vforward.io.vhost_rx import NODE
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.rings import virtqueue as vq
from vhost_worlds import World

MQ = 1 << 22
WANTED = 1 << 32 | 1 << 30 | 1 << 15 | MQ


def frame(pair, flow, number=0):
    """From a guest: UDP of a flow, of which the first payload says by which pair it was sent."""
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, 17, 0, b"\x0a\0\0\2", b"\x0a\0\0\1")
    ports = struct.pack(">HHHHII", 1000 + flow, 53, 26, 0, pair, number)
    return b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + head + ports + bytes(10)


# vhost-rx, called by hand.


def flood(guest, pair, n, number=0):
    """Have n frames wait in a pair's queue."""
    driver = guest.drivers[2 * pair + 1]
    driver.take_used()
    for i in range(n):
        data = bytes(12) + frame(pair, pair, number + i)
        pieces = guest.lay(data, [])
        assert driver.add(pieces, write=False) is not None


def pairs_of(frames):
    """How many frames came by each pair."""
    found = [one[45] for one in frames]
    return [found.count(pair) for pair in range(4)]


@pytest.fixture
def guest():
    made = Guest(256, pairs=4)
    yield made
    made.close()


def test_who_fills_the_vector_is_last_in_the_next(guest):
    flood(guest, 1, 250)
    flood(guest, 3, 250)
    flood(guest, 2, 3)
    got = [pairs_of(guest.packets(100)) for _ in range(6)]
    assert got == [
        *([0, 100, 0, 0], [0, 0, 3, 97], [0, 100, 0, 0], [0, 0, 0, 100], [0, 50, 0, 50]),
        [0, 0, 0, 3],
    ]
    assert guest.queues[1::2, vq.MOVED].tolist() == [0, 250, 3, 250]


def test_queues_that_are_never_empty_have_as_much_each(guest):
    total = [0, 0, 0, 0]
    for _ in range(8):
        for pair in (0, 1, 3):
            flood(guest, pair, 256 - vq.waiting(guest.queues[2 * pair + 1]))
        for n in [pairs_of(guest.packets(60)) for _ in range(3)]:
            total = [a + b for a, b in zip(total, n, strict=True)]
    assert total == [480, 480, 0, 480]


def test_without_buffers_the_next_queue_has_those_that_come_free():
    guest = Guest(buffers=4, pairs=2)
    flood(guest, 0, 6)
    flood(guest, 1, 6)
    guest.pool._own, guest.cache = guest.cache, guest.cache
    got = []
    for _ in range(3):
        rows = guest.receive()
        got.append(pairs_of([guest.frame(int(row)) for row in rows])[:2])
        guest.pool.put(rows)
    assert got == [[4, 0], [0, 4], [2, 2]]
    assert guest.count(NODE)["no-buffer"] == 2
    guest.close()


def test_a_queue_that_is_off_keeps_what_it_has(guest):
    flood(guest, 0, 5)
    flood(guest, 2, 7)
    guest.queues[5, vq.STATE] = vq.OFF
    assert pairs_of(guest.packets()) == [5, 0, 0, 0]
    guest.queues[5, vq.STATE] = vq.READY
    assert pairs_of(guest.packets()) == [0, 0, 7, 0]


def test_a_fault_of_one_queue_leaves_the_others_their_frames(guest):
    flood(guest, 0, 5)
    flood(guest, 1, 5)
    guest.drivers[3].add([(1, 100)], write=False)
    flood(guest, 2, 5)
    assert pairs_of(guest.packets(VECTOR_MAX)) == [5, 5, 0, 0]
    assert pairs_of(guest.packets(VECTOR_MAX)) == [0, 0, 5, 0]
    assert int(guest.queues[3, vq.STATE]) == vq.BROKEN


# The port, between a worker and a frontend.


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(vhost_peers, "BAD_PEER_S", 0.01)
    with Arena.create("queues") as made:
        yield made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vhost.sock"


@pytest.fixture
def echo(arena, path):
    with World(arena, path, queues=4) as made:
        yield made


@pytest.fixture
def frontend(echo, path):
    made = Frontend.connect(path, 4)
    yield made
    made.close()


def until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def bounce(frontend, pair, frames):
    """What is sent by a pair is sent back by it."""
    frontend.send(frames, pair)
    assert frontend.receive(len(frames), pair=pair) == frames


def test_what_is_offered(arena, path):
    for name, queues in (("one", 1), ("three", 3)):
        with Arena.create(name) as other, World(other, path, queues=queues):
            frontend = Frontend.connect(path)
            assert bool(frontend.number(GET_FEATURES) & MQ) == (queues > 1)
            assert frontend.begin() == struct.pack("=Q", queues)
            frontend.send([frame(0, 1)])
            assert frontend.receive(1) == [frame(0, 1)]  # MQ need not be taken up
            frontend.close()


def test_each_pair_has_its_own_back(echo, frontend):
    assert frontend.begin(WANTED) == struct.pack("=Q", 4)
    for number in range(3):
        for pair in range(4):
            bounce(frontend, pair, [frame(pair, 10 * pair + k, number) for k in range(8)])
    until(
        lambda: echo.port.queues[:, vq.MOVED].tolist() == [24] * 8
    )  # counted behind the last copy
    assert echo.port.peer().endswith(
        "pairs of queues: " + ", ".join(f"{k} on (from the guest 24, to it 24)" for k in range(4))
    )
    frontend.peer.close()
    until(lambda: not echo.port.ready)
    assert "0 off (from the guest 24, to it 24)" in echo.port.peer()


def test_pairs_come_and_go_and_nothing_is_lost(echo, frontend):
    """As `ethtool -L eth0 combined N` does, while frames are on their way."""
    frontend.begin(WANTED)
    frontend.enable([1, 2, 3], on=False)
    sent, number = 0, 0
    for combined in (1, 4, 2, 3, 1, 4):
        frontend.enable(range(combined), on=True)
        for pair in range(combined):
            frames = [frame(pair, 16 * pair + k, number) for k in range(16)]
            number += 1
            frontend.send(frames, pair)
            sent += 16
        frontend.enable(range(1, combined), on=False)  # at once: taken all the same
        until(lambda sent=sent: echo.moved("tx") == sent)
        assert echo.moved("rx") == sent
        came = [one for pair in range(4) for one in frontend.receive(16 * combined, 0.3, pair)]
        assert len(came) == 16 * combined
    assert not echo.port.peer_faults


def test_what_is_sent_by_a_disabled_pair_waits_for_it(echo, frontend):
    frontend.begin(WANTED)
    frontend.enable([2], on=False)
    frames = [frame(2, k) for k in range(5)]
    frontend.send(frames, 2)
    bounce(frontend, 1, [frame(1, 77)])
    assert echo.moved("rx") == 1
    frontend.enable([2])
    assert frontend.receive(5, pair=2) == frames


def test_a_full_queue_that_is_disabled_is_emptied_first(echo, frontend):
    frontend.begin(WANTED)
    frontend.send([frame(3, k) for k in range(QUEUE)], 3)
    frontend.enable([3], on=False)
    assert echo.moved("rx") == QUEUE
    # It is disabled to receive as well, and before it is to send: what was answered until then is there.
    until(lambda: echo.moved("tx") == QUEUE)
    assert sum(len(frontend.receive(QUEUE, 0.3, pair)) for pair in range(4)) == QUEUE


@pytest.mark.parametrize("index", [1, 3, 7])
def test_a_fault_of_any_queue_costs_the_connection(echo, path, frontend, index):
    frontend.begin(WANTED)
    frontend.drivers[index].add([(BASE + SIZE - 10, 100)], write=False)
    until(lambda: echo.port.peer_faults)
    assert echo.port.peer_faults == {"queue-address": 1}
    assert not echo.port.ready
    again = Frontend.connect(path, 4)
    again.begin(WANTED)
    for pair in range(4):
        bounce(again, pair, [frame(pair, pair)])
    again.close()


def test_a_queue_beyond_the_last_is_refused(echo, frontend):
    frontend.begin(WANTED)
    frontend.say(ENABLE, struct.pack("=II", 8, 1))
    until(lambda: echo.port.peer_faults)
    assert echo.port.peer_faults == {"queue": 1}


def test_a_sleeping_worker_is_kicked_awake_by_any_queue(echo, frontend):
    frontend.begin(WANTED)
    words = echo.worker.plan.control
    kicked = 0
    for number in range(6):
        for pair in range(4):
            before = int(words[control.SLEEPS])
            until(lambda before=before: int(words[control.SLEEPS]) > before)
            kicked += frontend.send([frame(pair, pair, number)], pair)
            assert frontend.receive(1, pair=pair) == [frame(pair, pair, number)]
    assert kicked > 12
