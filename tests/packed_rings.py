"""A packed queue between the oracle's driver and the device's functions, in this process."""

import numpy as np

from oracles.packed import FIRST, Driver, step
from vforward.jit.kernel import kernel
from vforward.rings import guest_memory
from vforward.rings import packed as pk
from vforward.rings import virtqueue as vq

BASE = 1 << 32


class World:
    def __init__(self, size=8, *, event_idx=False, start=FIRST):
        self.bytes = np.zeros(1 << 16, np.uint8)
        self.driver = Driver(
            memoryview(self.bytes), BASE, 0, size, event_idx=event_idx, start=start
        )
        here = self.bytes.ctypes.data
        self.memory = guest_memory.new()
        guest_memory.fill(self.memory, [(BASE, self.bytes.size, here)])
        (self.queue,) = vq.new(1)
        parts = [here + where - BASE for where in self.driver.addresses()]
        self.queue[[vq.DESC, vq.AVAIL, vq.USED]] = parts
        self.queue[vq.SIZE] = size
        self.queue[vq.FEATURES] = vq.RING_PACKED | (vq.EVENT_IDX if event_idx else 0)
        pk.resume(self.queue, start)
        vq.start(self.queue)
        self.pieces = np.zeros((vq.PIECES_MAX, 2), np.int64)

    def look(self):
        return look(self.queue, int(self.queue[vq.NEXT]))

    def chain(self, token, writable=False):
        n = pk.read_chain(self.queue, self.memory, self.pieces, 0, token, writable)
        here = self.bytes.ctypes.data
        return [(int(a) - here + BASE, int(b)) for a, b in self.pieces[:n]] if n >= 0 else int(n)


@kernel
def look(queue, cursor):
    return pk.look(queue, cursor)


@kernel
def put(queue, k, token, length):
    pk.put_used(queue, k, token, length)


@kernel
def publish(queue, n):
    pk.publish(queue, n)


def tokens(world):
    """Of all that is available."""
    found, cursor = [], int(world.queue[vq.NEXT])
    while (token := int(look(world.queue, cursor)[0])) >= 0:
        found.append(token)
        cursor = step(cursor, token >> 16 & 0xFFFF, world.driver.size)
    return found, token
