"""A vhost-user frontend with a driver, in plain Python: what a virtual machine is to a backend."""

import array
import mmap
import os
import socket
import struct
import time

from oracles import packed, virtqueue

BASE, USER = 0x1_0000_0000, 0x7F00_0000_0000
SIZE = 1 << 21
QUEUE = 64
SLOT = 2048
EVENT_IDX, RING_PACKED = 1 << 29, 1 << 34
INFLIGHT_SHMFD = 1 << 12
F_ADD_SEALS, SEALS = 1033, 2 | 4

(GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE) = (1, 2, 3, 4, 5)
(SET_NUM, SET_ADDR, SET_BASE, GET_BASE, SET_KICK, SET_CALL, SET_ERR) = (8, 9, 10, 11, 12, 13, 14)
(GET_PROTOCOL, SET_PROTOCOL, GET_QUEUES, ENABLE, GET_INFLIGHT, SET_INFLIGHT) = (
    15,
    16,
    17,
    18,
    31,
    32,
)


class Frontend:
    """One connection, and the guest's memory. Nothing is said yet."""

    def __init__(self, peer, pairs=1):
        self.pairs = pairs
        self.peer = peer
        peer.settimeout(5)
        self.memory_fd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.truncate(self.memory_fd, SIZE)
        self.memory = mmap.mmap(self.memory_fd, SIZE)
        self.kicks = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2 * pairs)]
        self.calls = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2 * pairs)]
        self.drivers = []
        self.features = 0
        self.waiting = [{} for _ in range(pairs)]  # head of a receive buffer -> its offset

    @classmethod
    def connect(cls, path, pairs=1):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.connect(str(path))
        return cls(peer, pairs)

    def say(self, request, payload=b"", fds=(), flags=1):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.peer.sendmsg([struct.pack("=III", request, flags, len(payload)) + payload], rights)

    def ask(self, request, payload=b"", fds=(), flags=1):
        """Say it and return the payload of the answer."""
        self.say(request, payload, fds, flags)
        header = self.peer.recv(12, socket.MSG_WAITALL)
        if len(header) < 12:
            raise ConnectionError("the backend has gone")
        answered, how, size = struct.unpack("=III", header)
        assert (answered, how) == (request, 1 | 4)
        return self.peer.recv(size, socket.MSG_WAITALL) if size else b""

    def number(self, request, payload=b"", **more):
        return struct.unpack("=Q", self.ask(request, payload, **more))[0]

    def negotiate(self, wanted=1 << 32 | 1 << 30 | 1 << 15):
        """Agree on features, among them reply-ack."""
        offered = self.number(GET_FEATURES)
        self.features = offered & wanted
        assert self.number(GET_PROTOCOL) & 9 == 9
        self.say(SET_PROTOCOL, struct.pack("=Q", 9 | INFLIGHT_SHMFD))
        self.say(SET_OWNER)
        self.say(SET_FEATURES, struct.pack("=Q", self.features))
        return offered

    def share(self, regions=None, fds=None):
        """The memory table. Returns the acknowledgement: 0."""
        regions = regions or [(BASE, SIZE, USER, 0)]
        table = b"".join(struct.pack("=QQQQ", *one) for one in regions)
        payload = struct.pack("=II", len(regions), 0) + table
        return self.number(SET_MEM_TABLE, payload, fds=fds or [self.memory_fd], flags=1 | 8)

    def keep(self, queues=2, size=QUEUE):
        """Have the backend make what it wants kept. Returns the file, and what was said of it."""
        self.say(GET_INFLIGHT, struct.pack("=QQHH4x", 0, 0, queues, size))
        answer, fds, _, _ = socket.recv_fds(self.peer, 12 + 24, 1)
        assert struct.unpack_from("=III", answer) == (GET_INFLIGHT, 1 | 4, 24)
        return fds[0], answer[12:]

    def return_kept(self, fd, said):
        self.say(SET_INFLIGHT, said, [fd])

    def set_up(self, index, at, start=0, size=QUEUE):
        """start: how many descriptors were ever used."""
        kind, event_idx = virtqueue.Driver, bool(self.features & EVENT_IDX)
        if self.features & RING_PACKED:
            kind, start = packed.Driver, packed.step(packed.FIRST, start % (2 * size), size)
        driver = kind(self.memory, BASE, at, size, event_idx=event_idx, start=start)
        self.drivers.append(driver)
        self.place(index, driver)

    def place(self, index, driver, base=None):
        """Say where a queue is. base: where to go on, if not where a packed one is, or at 0.

        Of a packed one twice: what the device is to look at next, and what it gives back next.
        """
        if base is None:
            base = driver.seen << 16 | driver.seen if self.features & RING_PACKED else 0
        desc, avail, used = (where - BASE + USER for where in driver.addresses())
        self.say(SET_NUM, struct.pack("=II", index, driver.size))
        self.say(SET_BASE, struct.pack("=II", index, base))
        self.say(SET_ADDR, struct.pack("=IIQQQQ", index, 0, desc, used, avail, 0))
        self.say(SET_CALL, struct.pack("=Q", index), [self.calls[index]])
        self.say(SET_KICK, struct.pack("=Q", index), [self.kicks[index]])

    def begin(self, wanted=1 << 32 | 1 << 30 | 1 << 15, start=0):
        """All of it, and buffers to receive."""
        self.negotiate(wanted)
        self.share()
        for index in range(2 * self.pairs):
            self.set_up(index, index * 4096, start)
        self.offer()
        return self.enable(range(self.pairs))

    def offer(self):
        """All buffers to receive."""
        for pair in range(self.pairs):
            for slot in range(QUEUE):
                self._offer(pair, self._slots(pair) + slot * SLOT)

    def enable(self, pairs, on=True):
        """Enable pairs of queues, or disable them. It is done when this returns."""
        for pair in pairs:
            for index in (2 * pair, 2 * pair + 1):
                self.say(ENABLE, struct.pack("=II", index, on))
        return self.ask(GET_QUEUES)  # done: all before it is

    def _slots(self, pair, way=0):
        """Offset of a queue's buffers: way is 0 to receive, 1 to send."""
        return 0x10000 + (2 * pair + way) * QUEUE * SLOT

    def _offer(self, pair, at):
        head = self.drivers[2 * pair].add([(BASE + at, SLOT)], write=True)
        self.waiting[pair][head] = at

    def send(self, frames, pair=0):
        """Send at most QUEUE frames; kick if that is wanted. Returns whether it was."""
        driver = self.drivers[2 * pair + 1]
        driver.take_used()
        old = driver.added
        for frame in frames:
            at = self._slots(pair, 1) + (driver.added % QUEUE) * SLOT
            data = bytes(12) + frame
            self.memory[at : at + len(data)] = data
            assert driver.add([(BASE + at, len(data))], write=False) is not None
        wanted = driver.must_kick(old)
        if wanted:
            os.eventfd_write(self.kicks[2 * pair + 1], 1)
        return wanted

    def receive(self, n, timeout_s=5.0, pair=0):
        """The next n frames, or as many as come in time."""
        found = []
        end = time.monotonic() + timeout_s
        while len(found) < n and time.monotonic() < end:
            taken = self.drivers[2 * pair].take_used()
            used = [(self.waiting[pair].pop(head), n) for head, n in taken]
            for at, length in used:
                found.append(bytes(self.memory[at + 12 : at + length]))
                self._offer(pair, at)
            time.sleep(0.0005)
        return found

    def close(self):
        self.peer.close()
        self.memory.close()
        for fd in (self.memory_fd, *self.kicks, *self.calls):
            os.close(fd)
