"""A netmap port with a worker, a memory port behind it, and a peer that talks to it."""

import contextlib
import time

from vforward.graph.worker import Worker
from vforward.io import shim
from vforward.io.libc import libc_address
from vforward.io.memory import MemoryPort
from vforward.io.netmap import NetmapPort
from vforward.memory.arena import Arena
from vforward.rings import netmap
from wire import Wire

FRAME = b"\xff" * 6 + b"\2\0\0\0\0\1" + bytes(48)


class World:
    """A netmap port and a memory port behind it, with a worker at work."""

    def __init__(self, arena, name):
        self.wire = Wire(arena, NetmapPort(name), MemoryPort())
        self.port, self.far = self.wire.ports
        self.worker = Worker(
            self.wire.plan,
            descriptors=self.port.descriptors(),
            poll=shim.address("vf_ppoll"),
            read=libc_address("read"),
        )
        self.worker.prepare()
        self.port.attach(self.worker.quiesce)
        self.worker.start()

    def received(self):
        """Frames that came out behind the port, and how many there are now."""
        return self.wire.counts("rx0")["bytes"] // len(FRAME)

    def close(self):
        self.worker.close()
        self.wire.close()


@contextlib.contextmanager
def world(name):
    with Arena.create("netmap") as arena:
        made = World(arena, name)
        try:
            yield made
        finally:
            made.close()


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def received(port, n):
    """The next n frames. Their slots are given back."""
    got = []
    while len(got) < n:
        assert port.poll(netmap.READ, 20) == netmap.READ
        port.dispatch(got.append)
    port.rxsync()
    return got


def works(ours, peer):
    """Whether frames cross, both ways, for a worker that may sleep."""
    until(lambda: ours.port.peer() == "at its server")
    with netmap.open(peer) as other:
        before = ours.received()
        until(lambda: other.inject(FRAME) and ours.worker.running)
        other.txsync()
        until(lambda: ours.received() > before)  # what was under way may come as well
        ours.far.send([FRAME])
        ours.worker.wake()
        until(lambda: other.poll(netmap.READ, 0.05) and other.next_packet() == FRAME)
