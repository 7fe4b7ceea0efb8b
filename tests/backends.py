"""A vhost-user backend with a device, in plain Python: what DPDK's net_vhost is to a frontend."""

import array
import mmap
import os
import socket
import struct
import time

from oracles.virtqueue_device import Device

VERSION_1, PROTOCOL, MERGED, EVENT_IDX, IN_ORDER = (1 << bit for bit in (32, 30, 15, 29, 35))
ACK = 1 << 3
(GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE) = (1, 2, 3, 5)
(SET_NUM, SET_ADDR, SET_BASE, SET_KICK, SET_CALL) = (8, 9, 10, 12, 13)
(GET_PROTOCOL, SET_PROTOCOL, ENABLE) = (15, 16, 18)
HEADER = bytes(10) + b"\x01\x00"


class Backend:
    """One connection. It offers features; protocol: these protocol features, None: none."""

    def __init__(self, peer, offered=VERSION_1 | PROTOCOL | MERGED, protocol=ACK):
        peer.settimeout(5)
        self.peer, self.offered, self.protocol = peer, offered, protocol
        self.features = 0
        self.said = []  # requests, in their order
        self.sizes, self.kicks, self.calls, self.places = {}, {}, {}, {}
        self.enabled = set()
        self.acknowledges = False
        self.memory = None
        self.queue = []  # receive buffers of the driver: (head, pieces)

    @classmethod
    def connect(cls, path, **more):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(path))
        return cls(peer, **more)

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
        """All of it: until both queues run."""
        last = 2 if self.features & PROTOCOL or self.offered & PROTOCOL else 0
        while len(self.kicks) < 2 or len(self.enabled) < last:
            self.hear()
        self.devices = []
        for index in range(2):
            desc, used, avail = self.places[index]
            self.devices.append(
                Device(
                    self.memory, self.base, self.sizes[index], desc, avail, used,
                    event_idx=bool(self.features & EVENT_IDX),
                )
            )  # fmt: skip
            assert os.eventfd_read(self.kicks[index]) == 1  # it has been kicked: go
        return self

    def send(self, frames, call=True):
        """Give the driver frames, each in as many of its buffers as it takes."""
        device = self.devices[0]
        old = device.given
        for frame in frames:
            data = HEADER + frame
            self._fetch()
            each = self.queue[0][1][0][1]
            parts = [data[at : at + each] for at in range(0, len(data), each)]
            parts[0] = parts[0][:10] + len(parts).to_bytes(2, "little") + parts[0][12:]
            assert len(parts) <= len(self.queue)
            for part in parts:
                head, pieces = self.queue.pop(0)
                device.write(pieces, part)
                device.use(head, len(part))
        wanted = device.must_call(old)
        if wanted and call:
            os.eventfd_write(self.calls[0], 1)
        return wanted

    def receive(self, n, timeout_s=5.0):
        """The next n frames of the driver, or as many as come in time."""
        found = []
        end = time.monotonic() + timeout_s
        while len(found) < n and time.monotonic() < end:
            for head, pieces in self.devices[1].take():
                assert self.devices[1].read(pieces)[:12] == bytes(12)
                found.append(self.devices[1].read(pieces)[12:])
                self.devices[1].use(head, 0)
            time.sleep(0.0005)
        return found

    def close(self):
        self.peer.close()
        if self.memory is not None:
            self.memory.close()
        for fd in [*self.kicks.values(), *self.calls.values()]:
            os.close(fd)

    def _fetch(self):
        self.queue += self.devices[0].take()

    def _do(self, request, payload, fds):
        if request == GET_FEATURES:
            return self.offered
        if request == GET_PROTOCOL:
            return self.protocol
        if request == SET_PROTOCOL:
            (found,) = struct.unpack("=Q", payload)
            assert found & ~self.protocol == 0
            self.acknowledges = bool(found & ACK)
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
            assert struct.unpack("=II", payload)[1] == 0
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
