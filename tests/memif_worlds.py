"""memif ports with a graph around them, and clients of theirs that are made by hand."""

import contextlib
import fcntl
import mmap
import os
import socket
import time

import numpy as np

from vforward.io import unix
from vforward.io.memif import MemifPort
from vforward.io.memory import MemoryPort
from vforward.memory.arena import Arena
from vforward.rings import memif, memif_ring
from wire import Wire


class End:
    """A memif port wired to a memory port, with buffers of its own."""

    def __init__(self, arena, path, **settings):
        arena.make(f"mark-{len(arena._arrays)}", 1, np.uint8)
        self.port = MemifPort(path, **settings)
        self.wire = Wire(arena, self.port, MemoryPort())
        self.far = self.wire.ports[1]
        self.run, self.counts, self.close = self.wire.run, self.wire.counts, self.wire.close

    @property
    def turn(self):
        return memif_ring.turn_of(self.port._state)


@contextlib.contextmanager
def ends_in(directory):
    """Makes ends at directory/memif.sock, each in an arena of its own, and closes them."""
    with contextlib.ExitStack() as stack:
        made = []

        def make(**settings):
            arena = stack.enter_context(Arena.create(f"memif{len(made)}"))
            end = End(arena, directory / "memif.sock", **settings)
            stack.callback(end.close)
            end.run()  # compiles, if need be, before anybody waits
            made.append(end)
            return end

        yield make


def until(condition, *ends, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        for one in ends:
            one.run()
        time.sleep(0.002)


class Peer:
    """A client by hand."""

    def __init__(self, path):
        self.socket = unix.connect(path)
        self.socket.settimeout(10)
        self.hello = self.socket.recv(memif.MESSAGE)
        self.memory, self.fds, self.events = None, [], []

    def say(self, message, *fds):
        socket.send_fds(self.socket, [message], list(fds))

    def answer(self):
        """The type of what the server says, and its text if that is a farewell."""
        message = self.socket.recv(memif.MESSAGE)
        kind = int.from_bytes(message[:2], "little")
        return kind, message[6:].split(b"\0")[0].decode() if kind == memif.DISCONNECT else ""

    def init(self, **changes):
        given = {"version": memif.VERSION, "id": 0, "mode": 0, "secret": b"", "name": b"by hand"}
        self.say(memif.pack(memif.INIT, *(given | changes).values()))
        return self.answer()

    def region(self, size=1 << 16, seals=fcntl.F_SEAL_SHRINK, declared=None, index=0):
        fd = os.memfd_create("peer", os.MFD_ALLOW_SEALING)
        self.fds.append(fd)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        declared = size if declared is None else declared
        self.say(memif.pack(memif.ADD_REGION, index, declared), fd)
        return self.answer()

    def ring(self, to_server, offset, log2=5, region=0, index=0, private=0, fd=None):
        event = os.eventfd(0) if fd is None else os.dup(fd)
        self.fds.append(event)
        self.events.append(event)
        flags = int(to_server)
        said = memif.pack(memif.ADD_RING, flags, index, region, offset, log2, private)
        self.say(said, event)
        return self.answer()

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def connect(self):
        self.say(memif.pack(memif.CONNECT, b"peer0"))
        return self.answer()

    def all(self):
        """Everything as it should be: rings of 32 slots at 0 and 4096, buffers behind."""
        assert self.init()[0] == memif.ACK
        assert self.region()[0] == memif.ACK
        self.memory = mmap.mmap(self.fds[0], 1 << 16)
        self.words = np.frombuffer(self.memory, np.uint16)
        for offset in (0, 4096):
            self.memory[offset : offset + 4] = memif.COOKIE.to_bytes(4, "little")
        assert self.ring(True, 0)[0] == memif.ACK
        assert self.ring(False, 4096)[0] == memif.ACK
        assert self.connect()[0] == memif.CONNECTED
        return self

    def describe(self, ring, slot, flags, region, length, offset):
        at = ring + 128 + 16 * slot
        words = [flags & 0xFFFF, region & 0xFFFF]
        self.memory[at : at + 16] = np.array(
            [words[0] | words[1] << 16, length, offset, 0], np.uint32
        ).tobytes()

    def head(self, ring, value):
        self.words[(ring + 6) // 2] = value
