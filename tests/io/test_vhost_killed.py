# SPDX-License-Identifier: Apache-2.0
"""A backend is killed with -9 under traffic, at any time, and the next one goes on: no buffer is lost in
a queue, none is used twice, and no frame comes twice. VHOST_KILLS=1000 kills so many.
"""

import collections
import os
import random
import signal
import socket
import struct
import time

import pytest

from frontends import BASE, ENABLE, EVENT_IDX, GET_QUEUES, QUEUE, RING_PACKED, SLOT, Frontend
from vforward.memory.arena import Arena
from vhost_worlds import World

KILLS = int(os.environ.get("VHOST_KILLS", "25"))
SPLIT = 1 << 32 | 1 << 30 | 1 << 28 | 1 << 15
SENT_AT, RECEIVED_AT, ROOM = 0x80000, 0x10000, 5120
LENGTHS = [60, 60, 60, 1500, 5000]
LIFE = 4 * QUEUE
"""Fewer frames than that come back before a backend is killed."""
PATIENCE_S = 0.01
"""How long to wait for what it is to be killed at, at most."""


class Peer:
    """A driver that knows which buffers are the device's, and which frames have to come back."""

    def __init__(self, server, features, seed):
        self.server, self.features = server, features
        self.source = random.Random(seed)
        self.frontend = self.kept = None
        self.rooms, self.slots = list(range(QUEUE)), list(range(QUEUE))  # free: to send, to receive
        self.sent, self.offered = collections.deque(), collections.deque()  # ids, and where
        self.flying = collections.deque()  # frames: number, buffers to receive that it takes
        self.number = self.received = self.died = self.lives = 0

    def meet(self):
        """The next backend: tell it all, and wait until it is done."""
        peer = self.server.accept()[0]
        self.lives += 1
        if self.frontend is None:
            self.frontend = Frontend(peer)
        else:
            self.frontend.peer.close()
        self.frontend.peer = peer
        peer.settimeout(20)
        self.frontend.negotiate(self.features)
        if self.kept is None:
            self.kept = self.frontend.keep()
        self.frontend.return_kept(*self.kept)
        self.frontend.share()
        for index in range(2):
            if self.lives == 1:
                self.frontend.set_up(index, 4096 * index, start=100)
            else:
                self.frontend.place(index, self.frontend.drivers[index], 0)  # nobody knows where
            self.frontend.say(ENABLE, struct.pack("=II", index, 1))
        self.frontend.ask(GET_QUEUES)

    def offer(self):
        """Buffers to receive, of one descriptor or two, as many as there is room for."""
        driver = self.frontend.drivers[0]
        while self.slots:
            at = RECEIVED_AT + self.slots[-1] * SLOT
            where = BASE + at
            shape = self.source.choice([[(where, SLOT)], [(where, 100), (where + 100, SLOT - 100)]])
            number = driver.add(shape, write=True)
            if number is None:
                return
            self.offered.append((number, at))
            self.slots.pop()

    def send(self):
        """A frame, if there is room for it both ways. Returns whether there was."""
        length = self.source.choice(LENGTHS)
        need = -(-(12 + length) // SLOT)
        if not self.rooms or sum(n for _, n in self.flying) + need > len(self.offered):
            return False
        at = SENT_AT + self.rooms[-1] * ROOM
        data = bytes(12) + frame(self.number, length)
        self.frontend.memory[at : at + len(data)] = data
        cuts = sorted({0, *self.source.sample(range(1, len(data)), self.source.randrange(3))})
        ends = [*cuts[1:], len(data)]
        pieces = [(BASE + at + a, b - a) for a, b in zip(cuts, ends, strict=True)]
        number = self.frontend.drivers[1].add(pieces, write=False)
        if number is None:
            return False
        self.sent.append((number, self.rooms.pop()))
        self.flying.append((self.number, need))
        self.number += 1
        return True

    def send_all(self, last=1 << 60):
        """What there is room for, until that many were sent ever."""
        driver = self.frontend.drivers[1]
        self.offer()
        old = driver.added
        while self.number < last and self.send():
            pass
        self.kick(old)

    def live(self, n):
        """Send and collect until n frames have come back."""
        wanted, end = self.received + n, time.monotonic() + 60
        while self.received < wanted:
            assert time.monotonic() < end, f"{wanted - self.received} of {n} do not come"
            self.send_all()
            self.collect()

    def kick(self, old):
        if self.frontend.drivers[1].must_kick(old):
            os.eventfd_write(self.frontend.kicks[1], 1)

    def kill_amidst(self, child):
        """Send many frames at once, and kill the device when it has used some buffer of either queue,
        or is about to say so.
        """
        driver = self.frontend.drivers[1]
        self.offer()
        old = driver.added
        driver.hold()
        while self.send():
            pass
        way = self.source.randrange(2)
        outstanding = len((self.offered, self.sent)[way])
        at = self.frontend.drivers[way].cell(self.source.randrange(max(1, outstanding // 2)))
        memory, end = self.frontend.memory, time.monotonic() + PATIENCE_S
        before = memory[at : at + 8]
        driver.show()
        self.kick(old)
        while memory[at : at + 8] == before and time.monotonic() < end:
            pass
        os.kill(child, signal.SIGKILL)

    def collect(self):
        """What the device has used: in order, each once, and of a frame all or nothing."""
        for number, _ in self.frontend.drivers[1].take_used():
            expected, room = self.sent.popleft()
            assert number == expected
            self.rooms.append(room)
        used = collections.deque(self.frontend.drivers[0].take_used())
        while used:
            data = self.buffer(used)
            n = struct.unpack_from("<H", data, 10)[0]
            for _ in range(n - 1):
                data += self.buffer(used)
            number, need = self.flying.popleft()
            assert (data[12:], n) == (frame(number, len(data) - 12), need)
            self.received += 1

    def buffer(self, used):
        number, length = used.popleft()
        expected, at = self.offered.popleft()
        assert number == expected
        self.slots.append((at - RECEIVED_AT) // SLOT)
        return bytes(self.frontend.memory[at : at + length])

    def mourn(self):
        """Frames that the device has taken and not sent have died with it; nothing else has.

        It sends all that it took before it takes more, and at once it takes no more than a queue has.
        """
        self.collect()
        dead = len(self.flying) - len(self.sent)
        assert 0 <= dead <= QUEUE
        for _ in range(dead):
            self.flying.popleft()
        self.died += dead


def frame(number, length):
    return (struct.pack("<Q", number) * (length // 8 + 1))[:length]


def backend(path):
    """A process with an echo. Returns its number."""
    child = os.fork()
    if child:
        return child
    try:
        with Arena.create("life") as arena:
            _world = World(arena, path, server=False)  # as long as it lives
            signal.pause()
    finally:
        os._exit(1)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    with Arena.create("warm") as arena:
        World(arena, tmp_path / "nobody", server=False).close()  # compiled once, not in each life
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "sock"))
        made.listen()
        made.settimeout(60)
        yield made


@pytest.mark.parametrize(
    "features",
    [SPLIT, SPLIT | RING_PACKED, SPLIT | RING_PACKED | EVENT_IDX],
    ids=["split", "packed", "packed-event-idx"],
)
def test_nothing_is_lost_or_done_twice(server, features, tmp_path):
    peer = Peer(server, features, seed=features % 1000)
    child = 0
    try:
        for _ in range(KILLS):
            child = backend(tmp_path / "sock")
            peer.meet()
            peer.live(peer.source.randrange(LIFE))
            peer.kill_amidst(child)
            os.waitpid(child, 0)
            child = 0
            peer.mourn()
        child = backend(tmp_path / "sock")
        peer.meet()
        end, last = time.monotonic() + 20, peer.number + 500
        while (peer.number < last or peer.flying or peer.sent) and time.monotonic() < end:
            peer.send_all(last)
            peer.collect()
        assert (peer.number, len(peer.flying), len(peer.sent)) == (last, 0, 0)
        assert peer.received + peer.died == last
        assert peer.received > peer.died
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    peer.frontend.close()
    os.close(peer.kept[0])
