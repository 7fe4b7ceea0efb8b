# SPDX-License-Identifier: Apache-2.0
"""vhost-user, virtio, memif, netmap and memring ports under two workers: each port's queue on another one.

Two ports of a kind are cross-connected, so that every frame is handed from the worker that received it to
the one that sends it. Peers are those of the ports' own tests. What holds: each frame arrives once, whole
and in order, while queues move between the workers and peers go and come, and no buffer is lost.
"""

import contextlib
import time

import numpy as np
import pytest

from frontends import Frontend
from memif_worlds import End
from vforward import Forwarder, attach
from vforward.errors import VforwardError
from vforward.io.memif import MemifPort
from vforward.io.memring import MemringPort
from vforward.io.netmap import NetmapPort
from vforward.io.vhost import VhostUserPort
from vforward.memory.arena import Arena
from vforward.rings import memif_ring, netmap
from vforward.rings.netmap_server import Server

HEADER = b"\2\0\0\0\0\2\2\0\0\0\0\1\x88\xb5"
BATCH = 32
LONG = 60


def until(true, what="it does not come true"):
    end = time.monotonic() + LONG
    while not (found := true()):
        assert time.monotonic() < end, what
        time.sleep(0.001)
    return found


class Vhost:
    """A driver in plain Python, as a guest has it."""

    reads_when_it_sends = False

    def __init__(self, place, name):
        self.path = place / f"{name}.sock"

    def port(self):
        return VhostUserPort(str(self.path))

    def come(self, _forwarder, _name):
        self.frontend = Frontend.connect(self.path)
        self.frontend.begin()

    def send(self, frames):
        free = self.frontend.drivers[1].free
        until(lambda: len(free) >= len(frames) or self.frontend.drivers[1].take_used())
        self.frontend.send(frames)

    def take(self):
        return self.frontend.receive(1, 0.01)

    def go(self):
        self.frontend.close()


class Memif:
    """A client: a port of ours in a graph of its own."""

    reads_when_it_sends = True

    def __init__(self, place, name):
        self.path, self.name = place / f"{name}.sock", name
        self.stack = contextlib.ExitStack()

    def port(self):
        return MemifPort(self.path)

    def come(self, _forwarder, _name):
        arena = self.stack.enter_context(Arena.create(f"memif-{self.name}"))
        self.end = End(arena, self.path, role="client")
        self.stack.callback(self.end.close)
        until(lambda: self.end.run() or self.end.turn == memif_ring.LIVE)

    def send(self, frames):
        self.end.far.send(frames)
        self.end.run()

    def take(self):
        self.end.run()
        return self.end.far.received()

    def go(self):
        self.stack.close()


class Netmap:
    """The other end of a pipe."""

    reads_when_it_sends = False

    def __init__(self, _place, name):
        self.name = f"netmap:{name}"

    def port(self):
        return NetmapPort(self.name + "{1")

    def come(self, _forwarder, _name):
        self.pipe = netmap.open(self.name + "}1")

    def send(self, frames):
        for frame in frames:
            until(lambda frame=frame: self.pipe.inject(frame) or self.pipe.txsync())
        self.pipe.txsync()

    def take(self):
        found = []
        if self.pipe.poll(netmap.READ, 0.01):
            self.pipe.dispatch(found.append)
            self.pipe.rxsync()
        return found

    def go(self):
        self.pipe.close()


class Memring:
    """A program that has the pool's own buffers."""

    reads_when_it_sends = False

    def __init__(self, _place, _name):
        pass

    def port(self):
        return MemringPort()

    def come(self, forwarder, name):
        def attached():
            with contextlib.suppress(VforwardError):  # the last program's buffers come back first
                return attach(forwarder.name, name)

        self.app = until(attached)

    def send(self, frames):
        packets = until(lambda: self.app.new([len(frame) for frame in frames]))
        for view, frame in zip(packets, frames, strict=True):
            view[:] = np.frombuffer(frame, np.uint8)
        sent = self.app.send(packets)
        assert sent == len(frames)

    def take(self):
        packets = self.app.receive()
        found = [packets.copy(i) for i in range(len(packets))]
        self.app.free(packets)
        return found

    def go(self):
        self.app.close()


@pytest.fixture(params=[Vhost, Memif, Netmap, Memring], ids=lambda kind: kind.__name__.lower())
def world(request, tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("VFORWARD_NETMAP", str(tmp_path / "netmap" / "socket"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(Server())
        forwarder = stack.enter_context(Forwarder("rings", workers=2, buffers=8192))
        forwarder.ends = {name: request.param(tmp_path, name) for name in ("one", "two")}
        for name, end in forwarder.ends.items():
            forwarder.add_port(name, end.port())
        forwarder.cross_connect("one", "two")
        forwarder.build()
        forwarder.start()
        for name, end in forwarder.ends.items():
            end.come(forwarder, name)
        yield forwarder
        for end in forwarder.ends.values():
            end.go()
        until(lambda: _idle(forwarder), "buffers are not given back")
        forwarder.stop()


def _idle(forwarder):
    """Whether nobody has a buffer but the pool and the workers' caches."""
    return forwarder._hand_off.waiting() == 0


def frames_of(first, n=BATCH):
    sizes = (46, 200, 1400)
    return [HEADER + k.to_bytes(4, "big") + bytes(sizes[k % 3]) for k in range(first, first + n)]


def cross(one, other, frames):
    """Send by one; assert that the same frames come by the other."""
    one.send(frames)
    got = []
    end = time.monotonic() + LONG
    while len(got) < len(frames):
        assert time.monotonic() < end, f"{len(got)} of {len(frames)} came"
        got += other.take()
    assert got == frames


def packets_of(forwarder, node, worker):
    at = forwarder.graph.members[node].number
    return int(forwarder.graph.plans[worker].stats.reshape(-1, 8)[at, 1])


def test_frames_are_handed_over_both_ways(world):
    one, two = world.ends.values()
    for n in range(20):
        cross(one, two, frames_of(n * BATCH))
        cross(two, one, frames_of(n * BATCH))
    assert sorted(world.placement.owners.values()) == [0, 1]
    for port, owner in world.placement.owners.items():
        for node in (f"{port}-rx", f"{port}-tx"):  # a call is counted when its frames are there
            until(lambda node=node, owner=owner: packets_of(world, node, owner) >= 20 * BATCH)
            assert packets_of(world, node, 1 - owner) == 0


def test_queues_move_meanwhile(world):
    one, two = world.ends.values()
    for n in range(24):
        world.move_queue(("one", "two")[n % 2], n // 2 % 2)
        cross(one, two, frames_of(n * BATCH))
        cross(two, one, frames_of(n * BATCH))
    for node in ("one-rx", "one-tx", "two-rx", "two-tx"):
        until(lambda node=node: all(packets_of(world, node, worker) for worker in range(2)))


def test_peers_go_and_come(world):
    one, two = world.ends.values()
    for n in range(4):
        cross(one, two, frames_of(n * BATCH))
        two.go()
        one.send(frames_of(1000))  # for nobody
        if n % 2:
            world.move_queue("two", n // 2)
        two.come(world, "two")
        arrive(one, two, n)
        arrive(two, one, n)


def drops(forwarder, node):
    member = forwarder.graph.members[node]
    return sum(int(member.counts[c]) for c in sorted(member.node.counters) if c.drop)


def test_a_peer_that_stops_reading_loses_its_own_packets_only(world):
    """What it has no room for is dropped and counted; it goes on where it reads again."""
    one, two = world.ends.values()
    cross(one, two, frames_of(0))
    n = 0
    while not drops(world, "two-tx"):
        n += 1
        assert n < 1000, "all of it has room somewhere"
        one.send(frames_of(n * BATCH))
        if not two.reads_when_it_sends:
            cross(two, one, frames_of(n))  # the other way goes on
    assert drops(world, "one-tx") == 0
    arrive(one, two, 1)
    cross(one, two, frames_of(0))
    cross(two, one, frames_of(0))


def arrive(one, other, n):
    """Send until the last one sent comes: what was for nobody may still come before it, or be dropped."""
    end, attempt = time.monotonic() + LONG, 0
    while True:
        assert time.monotonic() < end, "nothing comes any more"
        attempt += 1
        wanted = HEADER + b"again" + bytes([n]) + attempt.to_bytes(4, "big") + bytes(50)
        one.send([wanted])
        stop = time.monotonic() + 1
        while time.monotonic() < stop:
            if wanted in other.take():
                return
