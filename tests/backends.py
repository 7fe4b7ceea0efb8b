"""A vhost-user backend with a device, in plain Python: what DPDK's net_vhost is to a frontend."""

import array
import mmap
import os
import socket
import struct
import time

from oracles import packed_device, virtqueue_device

VERSION_1, PROTOCOL, MERGED, EVENT_IDX, IN_ORDER = (1 << bit for bit in (32, 30, 15, 29, 35))
RING_PACKED, MANY = 1 << 34, 1 << 22
SEVERAL, ACK = 1 << 0, 1 << 3
(GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE) = (1, 2, 3, 5)
(SET_NUM, SET_ADDR, SET_BASE, SET_KICK, SET_CALL) = (8, 9, 10, 12, 13)
(GET_PROTOCOL, SET_PROTOCOL, GET_QUEUES, ENABLE) = (15, 16, 17, 18)
HEADER = bytes(10) + b"\x01\x00"


class Backend:
    """One connection. It offers features; protocol: these protocol features, None: none.

    pairs: how many it has, all of which it waits for. Queue 2k is the driver's k-th to receive by.
    """

    def __init__(self, peer, offered=VERSION_1 | PROTOCOL | MERGED, protocol=ACK, pairs=1):
        peer.settimeout(5)
        self.pairs = pairs
        self.peer, self.offered, self.protocol = peer, offered, protocol
        self.features = 0
        self.said = []  # requests, in their order
        self.sizes, self.kicks, self.calls, self.places = {}, {}, {}, {}
        self.enabled = set()
        self.acknowledges = self.several = False
        self.memory = None
        self.queues = [[] for _ in range(pairs)]  # receive buffers of the driver: (head, pieces)

    @classmethod
    def connect(cls, path, *what, **more):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(path))
        return cls(peer, *what, **more)

    def hear(self):
        """The next message: (request, payload, descriptors); answered if it has to be."""
        header, fds = self._receive(12)
        request, flags, size = struct.unpack("=III", header)
        payload, more = self._receive(size) if size else (b"", [])
        assert flags & ~8 == 1
        self.said.append(request)
        answer = self._do(request, payload, fds + more)
        if answer is None and flags & 8:
            assert self.acknowledges
            answer = 0
        if answer is not None:
            self.reply(request, answer)
        return request

    def reply(self, request, number, flags=1 | 4, size=8, fds=()):
        payload = struct.pack("=Q", number)[:size]
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.peer.sendmsg([struct.pack("=III", request, flags, size) + payload], rights)

    def begin(self):
        """All of it: until all queues run."""
        n = 2 * self.pairs
        last = n if self.features & PROTOCOL or self.offered & PROTOCOL else 0
        while len(self.kicks) < n or len(self.enabled) < last:
            self.hear()
        self.devices = []
        kind = packed_device if self.features & RING_PACKED else virtqueue_device
        for index in range(n):
            desc, used, avail = self.places[index]
            self.devices.append(
                kind.Device(
                    self.memory, self.base, self.sizes[index], desc, avail, used,
                    event_idx=bool(self.features & EVENT_IDX),
                )
            )  # fmt: skip
            assert os.eventfd_read(self.kicks[index]) == 1  # it has been kicked: go
        return self

    def send(self, frames, call=True, pair=0):
        """Give the driver frames, each in as many of its buffers as it takes."""
        device, buffers = self.devices[2 * pair], self.queues[pair]
        old = device.given
        for frame in frames:
            data = HEADER + frame
            buffers += device.take()
            each = buffers[0][1][0][1]
            parts = [data[at : at + each] for at in range(0, len(data), each)]
            parts[0] = parts[0][:10] + len(parts).to_bytes(2, "little") + parts[0][12:]
            assert len(parts) <= len(buffers)
            for part in parts:
                head, pieces = buffers.pop(0)
                device.write(pieces, part)
                device.use(head, len(part))
        wanted = device.must_call(old)
        if wanted and call:
            os.eventfd_write(self.calls[2 * pair], 1)
        return wanted

    def receive(self, n, timeout_s=5.0, pair=0):
        """The next n frames of the driver, or as many as come in time."""
        found, device = [], self.devices[2 * pair + 1]
        end = time.monotonic() + timeout_s
        while len(found) < n and time.monotonic() < end:
            for head, pieces in device.take():
                data = device.read(pieces)
                assert data[:12] == bytes(12)
                found.append(data[12:])
                device.use(head, 0)
            time.sleep(0.0005)
        return found

    def close(self):
        self.peer.close()
        if self.memory is not None:
            self.memory.close()
        for fd in [*self.kicks.values(), *self.calls.values()]:
            os.close(fd)

    def _do(self, request, payload, fds):
        if request == GET_FEATURES:
            return self.offered
        if request == GET_PROTOCOL:
            return self.protocol
        if request == GET_QUEUES:
            assert self.several
            return self.pairs
        if request == SET_PROTOCOL:
            (found,) = struct.unpack("=Q", payload)
            assert found & ~self.protocol == 0
            self.acknowledges, self.several = bool(found & ACK), bool(found & SEVERAL)
        elif request == SET_FEATURES:
            (self.features,) = struct.unpack("=Q", payload)
            assert self.features & ~self.offered == 0
        elif request == SET_MEM_TABLE:
            n, _, self.base, size, self.user, offset = struct.unpack("=IIQQQQ", payload)
            assert (n, offset, len(fds)) == (1, 0, 1)
            self.memory = mmap.mmap(fds[0], size)
            os.close(fds.pop())
        elif request == SET_NUM:
            index, self.sizes[index] = struct.unpack("=II", payload)
        elif request == SET_BASE:
            first = 0x80008000 if self.features & RING_PACKED else 0
            assert struct.unpack("=II", payload)[1] == first
        elif request == SET_ADDR:
            index, _, desc, used, avail, _ = struct.unpack("=IIQQQQ", payload)
            self.places[index] = [at - self.user + self.base for at in (desc, used, avail)]
        elif request in (SET_KICK, SET_CALL):
            where = self.kicks if request == SET_KICK else self.calls
            where[struct.unpack("=Q", payload)[0]] = fds.pop()
        elif request == ENABLE:
            index, on = struct.unpack("=II", payload)
            assert self.features & PROTOCOL
            assert on
            self.enabled.add(index)
        else:
            assert request == SET_OWNER
        assert not fds
        return None

    def _receive(self, n):
        data, ancillary, _, _ = self.peer.recvmsg(n, socket.CMSG_SPACE(32), socket.MSG_WAITALL)
        fds = array.array("i")
        for _, _, body in ancillary:
            fds.frombytes(body)
        if len(data) < n:
            raise ConnectionError("the frontend has gone")
        return data, list(fds)
