"""A virtio-net device in this process: memory with guard pages, the oracles' device, our two nodes."""

import os

import numpy as np

from guests import BASE, Guest, Memory
from oracles import packed, packed_device, virtqueue_device
from vforward.io import shim, vhost_rx, virtio_rx, virtio_tx
from vforward.io.libc import libc_address
from vforward.io.vhost_header import mirrored
from vforward.io.virtio_memory import parts
from vforward.jit.kernel import i64, kernel
from vforward.layout import VECTOR_MAX
from vforward.rings import net_features, packed_driver, vhost_frontend, vring_driver
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.testing.run_node import heap_pool

SIZE = 64
HEADER = 12
FEATURES = vhost_frontend.VERSION_1 | net_features.MRG_RXBUF
NOTHING = bytes(10) + b"\x01\x00"
"""A header that leaves nothing to the driver, of a frame in one buffer."""


@kernel
def lend_all(queue):
    """All buffers of a packed queue, each at its own descriptor."""
    first, size = i64(queue[driver.ADDED]) & 0x7FFF, i64(queue[vq.SIZE])
    for k in range(size):
        packed_driver.offer(queue, k, (first + k) % size)
    packed_driver.publish(queue, size)


class Net(Guest):
    """A device with these features, and a driver of ours on it. (Of Guest: what packets are.)

    Queues 2k and 2k + 1 are a pair: to receive, and to send. start: of how many buffers were used before.
    """

    def __init__(self, size=SIZE, *, features=FEATURES, buffers=1024, start=0, pairs=1):
        self.memory = Memory()
        self.pool = heap_pool(buffers)
        self.cache = self.pool.cache()
        self.kicks = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2 * pairs)]
        self.queues, self.devices = [], []
        at, event_idx = 0, bool(features & vq.EVENT_IDX)
        kind = packed_device if features & vq.RING_PACKED else virtqueue_device
        for k in range(2 * pairs):
            where = parts(at, size)
            at = where.end
            queue = driver.new(size)
            here = self.memory.here
            queue[[vq.DESC, vq.AVAIL, vq.USED, driver.BUFFERS]] = [
                here + part for part in where[:4]
            ]
            queue[driver.WHERE] = BASE + where.buffers
            queue[vq.FEATURES] = mirrored(features)
            queue[vq.CALL] = self.kicks[k]
            vring_driver.begin(queue, k % 2 == 0)
            vq.start(queue)
            self.queues.append(queue)
            told = (BASE + part for part in where[:3])
            device = kind.Device(self.memory.bytes, BASE, size, *told, event_idx=event_idx)
            self.devices.append(device)
            if start and kind is packed_device:
                self._begin_in_lap(start, queue, device, k % 2 == 0)
            elif start:
                self._begin_at(start, queue, device)
        assert at <= self.memory.bytes.size()
        self.sending = np.array([queue.ctypes.data for queue in self.queues[1::2]], np.uint64)
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
        self.counts = {
            node.name: np.zeros(8, np.uint64) for node in (virtio_rx.NODE, virtio_tx.NODE)
        }
        self.buffers = []  # of the receive queue, that the device has: (head, pieces)

    @staticmethod
    def _begin_at(start, queue, device):
        """As if so many buffers had been used already, modulo 2**16."""
        queue[vq.NEXT] = device.taken = device.given = start
        queue[driver.ADDED] = (start + int(queue[driver.ADDED])) % 65536
        device._store("<H", device.avail + 2, int(queue[driver.ADDED]))
        device._store("<H", device.used + 2, start)

    @staticmethod
    def _begin_in_lap(start, queue, device, receives):
        """The same, modulo two laps."""
        position = packed.step(packed.FIRST, start % (2 * device.size), device.size)
        queue[vq.NEXT] = queue[driver.ADDED] = device.taken = device.given = position
        queue[driver.TAKEN] = position % packed.WRAP
        for number in range(device.size):
            lap = (position if number < position % packed.WRAP else ~position) & packed.WRAP
            flags = packed.AVAIL | packed.USED if lap else 0
            device._store("<H", device.desc + 16 * number + 14, flags)
        if receives:
            lend_all(queue)

    def deliver(self, frame, header=NOTHING, spread=1):
        """The device gives a frame to the driver, in as many buffers as it takes, and about spread.

        The header is whole in the first one, as it has to be. Returns whether there were so many.
        """
        device = self.devices[0]
        self.buffers += device.take()
        data = header + frame
        each = min(driver.STRIDE, max(HEADER, -(-len(data) // spread)))
        cuts = [data[at : at + each] for at in range(0, len(data), each)]
        if len(cuts) > len(self.buffers):
            return False
        cuts[0] = cuts[0][:10] + len(cuts).to_bytes(2, "little") + cuts[0][12:]
        for cut in cuts:
            head, pieces = self.buffers.pop(0)
            device.write(pieces, cut)
            device.use(head, len(cut))
        return True

    def sent(self, pair=0):
        """What the device is sent by a pair: (header, frame) of each, given back at once."""
        found, device = [], self.devices[2 * pair + 1]
        for head, pieces in device.take():
            assert not any(writable for _, _, writable in pieces)
            data = device.read(pieces)
            device.use(head, 0)
            found.append((data[:HEADER], data[HEADER:]))
        return found

    def receive(self, vector=VECTOR_MAX):
        """Call virtio-rx. Returns the rows of what it received, still held."""
        idx, edge = np.zeros(vector, np.uint32), np.zeros(vector, np.uint8)
        n = virtio_rx.rx(
            self.pool.data, self.pool.meta, idx, edge, self.counts["virtio-rx"], self.cache,
            self.queues[0], self.port, self.work,
        )  # fmt: skip
        assert not edge[:n].any()
        return idx[:n]

    def send(self, rows):
        """Call virtio-tx. Returns for each row whether it was sent; the others are freed here."""
        rows = np.array(rows, np.uint32)
        edge = np.zeros(rows.size, np.uint8)
        virtio_tx.tx(
            self.pool.data, self.pool.meta, rows, edge, self.counts["virtio-tx"], self.cache,
            self.sending, self.port, self.work,
        )  # fmt: skip
        sent = edge == 255
        self.pool.put(rows[~sent])
        return sent.tolist()

    def kicked(self, k):
        """How often the driver has kicked a queue since."""
        try:
            return os.eventfd_read(self.kicks[k])
        except BlockingIOError:
            return 0

    def fault(self, k):
        """Why the driver has given a queue up, or 0."""
        broken = int(self.queues[k][vq.STATE]) == vq.BROKEN
        return int(self.queues[k][vq.FAULT]) if broken else 0

    def close(self):
        """No buffer is lost, and the words before and after the memory were not reached."""
        self.pool.check()
        shim.lib.vf_bell_close(self.bell)
        for fd in self.kicks:
            os.close(fd)
        self.memory.close()
