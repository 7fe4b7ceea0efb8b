"""A guest in this process: memory with guard pages, a driver from the oracles, our two nodes."""

import mmap
import os

import numpy as np

from oracles import packed, virtqueue
from vforward.io import shim, vhost_rx, vhost_steer, vhost_tx
from vforward.io.libc import libc_address
from vforward.layout import VECTOR_MAX
from vforward.memory.chain import fill
from vforward.rings import guest_memory
from vforward.rings import packed as pk
from vforward.rings import virtqueue as vq
from vforward.testing.run_node import heap_pool

BASE = 0x4000_0000
SIZE = 1 << 22
ROOM_AT = 0x1_0000
"""Offset of what is not queues."""
HEADER = 12
FEATURES = 1 << 32 | vhost_tx.MRG_RXBUF
PACKED = FEATURES | vq.RING_PACKED


class Memory:
    """SIZE bytes of a memfd in a window; an access outside of them is a SIGSEGV, or ends in gone."""

    def __init__(self, size=SIZE):
        self.table = guest_memory.new()
        self.fd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.truncate(self.fd, size)
        self.bytes = mmap.mmap(self.fd, size)
        where = np.zeros(1, np.uint64)
        gone = shim.pointer(self.table[guest_memory.GONE :])
        self.span = size + 2 * mmap.PAGESIZE
        shim.check(shim.lib.vf_window_open(self.span, gone, shim.pointer(where)), "window")
        self.window = int(where[0])
        self.here = self.window + mmap.PAGESIZE
        shim.check(shim.lib.vf_window_map(self.here, self.fd, size, 0), "map")
        guest_memory.fill(self.table, [(BASE, size, self.here)])

    def close(self):
        shim.lib.vf_window_close(self.window, self.span)
        os.close(self.fd)


class Guest:
    """Queues of size descriptors, of which start were ever used, and the device's state for them."""

    def __init__(
        self, size=256, *, features=FEATURES, start=0, buffers=1024, header=HEADER, pairs=1
    ):
        self.memory = Memory()
        self.pool = heap_pool(buffers)
        self.cache = self.pool.cache()
        self.header, self.at = header, ROOM_AT
        kind, event_idx = virtqueue.Driver, bool(features & vq.EVENT_IDX)
        if features & vq.RING_PACKED:
            kind, start = packed.Driver, packed.step(packed.FIRST, start % (2 * size), size)
        part = ROOM_AT // (2 * pairs)
        self.drivers = [
            kind(self.memory.bytes, BASE, at, size, event_idx=event_idx, start=start)
            for at in range(0, ROOM_AT, part)
        ]
        self.call = os.eventfd(0, os.EFD_NONBLOCK)
        self.queues = vq.new(len(self.drivers))
        for queue, driver in zip(self.queues, self.drivers, strict=True):
            self._start(queue, driver, features)
        self.flows = vhost_steer.new()
        self.port = np.zeros(vhost_rx.PORT_WORDS, np.uint64)
        self.events = np.zeros(2 * vhost_rx.EPOLL_EVENTS, np.uint64)
        self.port[vhost_rx.NUMBER] = 3
        self.port[vhost_rx.RING] = shim.address("vf_bell_ring")
        self.bell = shim.pointer(self.port[vhost_rx.BELL : vhost_rx.BELL + 3])
        shim.check(shim.lib.vf_bell_open(self.bell), "bell")
        self.port[vhost_rx.EPOLL_WAIT] = libc_address("epoll_wait")
        self.port[vhost_rx.EPOLL] = np.int64(-1).view(np.uint64)
        self.port[vhost_rx.EVENTS] = self.events.ctypes.data
        self.work = np.zeros(32 * VECTOR_MAX, np.uint64)
        self.counts = {node.name: np.zeros(8, np.uint64) for node in (vhost_rx.NODE, vhost_tx.NODE)}

    def _start(self, queue, driver, features):
        here = self.memory.here - BASE
        queue[[vq.DESC, vq.AVAIL, vq.USED]] = [here + where for where in driver.addresses()]
        queue[vq.SIZE], queue[vq.FEATURES], queue[vq.HEADER] = driver.size, features, self.header
        queue[vq.CALL] = self.call
        if features & vq.RING_PACKED:
            pk.resume(queue, driver.added)
        else:
            vq.resume(queue)
        vq.start(queue)

    def room(self, n):
        """Guest address of n bytes that nothing else uses."""
        where, self.at = BASE + self.at, self.at + n
        assert self.at <= SIZE
        return where

    def lay(self, data, cuts):
        """Put bytes into memory in pieces that end at cuts. Returns (address, bytes) of each."""
        ends = sorted({cut for cut in cuts if 0 < cut < len(data)}) + [len(data)]
        pieces, at = [], 0
        for end in ends:
            where = self.room(end - at + 3)
            self.memory.bytes[where - BASE : where - BASE + end - at] = data[at:end]
            pieces.append((where, end - at))
            at = end
        return pieces

    def read(self, pieces):
        return b"".join(bytes(self.memory.bytes[w - BASE : w - BASE + n]) for w, n in pieces)

    def calls(self):
        """How often the device has called since."""
        try:
            return os.eventfd_read(self.call)
        except BlockingIOError:
            return 0

    def receive(self, vector=VECTOR_MAX):
        """Call vhost-rx. Returns the rows of what it received, still held."""
        idx, edge = np.zeros(vector, np.uint32), np.zeros(vector, np.uint8)
        n = vhost_rx.rx(
            self.pool.data, self.pool.meta, idx, edge, self.counts["vhost-rx"], self.cache,
            self.queues, self.flows, self.memory.table, self.port, self.work,
        )  # fmt: skip
        assert not edge[:n].any()
        return idx[:n]

    def packets(self, vector=VECTOR_MAX):
        """What vhost-rx receives, as bytes."""
        rows = self.receive(vector)
        frames = [self.frame(int(row)) for row in rows]
        assert (self.pool.meta["rx_port"][rows] == 3).all()
        self.pool.put(rows)
        return frames

    def frame(self, row):
        parts = []
        while row != 0xFFFFFFFF:
            record = self.pool.meta[row]
            parts.append(self.pool.data[row, int(record["off"]) : int(record["end"])].tobytes())
            row = int(record["next"])
        return b"".join(parts)

    def packet(self, frame, **fields):
        """A packet to send. Returns its row."""
        (row,) = self.pool.take(1)
        blob = np.frombuffer(frame, np.uint8)
        done = fill(self.pool.data, self.pool.meta, self.cache, row, blob.ctypes.data, blob.size, 1)
        assert done
        for name, value in fields.items():
            self.pool.meta[name][row] |= value
        return row

    def send(self, rows):
        """Call vhost-tx. Returns for each row whether it was sent; the others are freed here."""
        rows = np.array(rows, np.uint32)
        edge = np.zeros(rows.size, np.uint8)
        vhost_tx.tx(
            self.pool.data, self.pool.meta, rows, edge, self.counts["vhost-tx"], self.cache,
            self.queues, self.flows, self.memory.table, self.port, self.work,
        )  # fmt: skip
        sent = edge == 255
        self.pool.put(rows[~sent])
        return sent.tolist()

    def count(self, node):
        labels = node.counter_labels
        return {k: int(v) for k, v in zip(labels, self.counts[node.name], strict=False) if v}

    def close(self):
        """No buffer is lost, and the words before and after the memory were not reached."""
        self.pool.check()
        shim.lib.vf_bell_close(self.bell)
        os.close(self.call)
        self.memory.close()
