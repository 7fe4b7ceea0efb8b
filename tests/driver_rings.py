"""A queue between our driver's functions, of either layout, and the oracles' device, in this process."""

import numpy as np

from oracles import packed_device, virtqueue_device
from vforward.jit.kernel import i64, kernel
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings import vring, vring_driver
from vforward.rings.virtqueue import RING_PACKED
from vforward.rings.virtqueue_driver import Fault

BASE = 1 << 32
NOWHERE = BASE + (1 << 20)
"""Where buffers are told to be: nobody looks there."""


class World:
    def __init__(self, size=8, *, features=0, receives=False):
        self.bytes = np.zeros(1 << 12, np.uint8)
        self.packed = bool(features & RING_PACKED)
        self.queue = driver.new(size)
        at = [0, 1024, 2048 + 4]  # so that used elements are whole words
        self.queue[[vq.DESC, vq.AVAIL, vq.USED]] = [self.bytes.ctypes.data + part for part in at]
        self.queue[vq.FEATURES] = features
        self.queue[driver.WHERE] = NOWHERE
        vring_driver.begin(self.queue, receives)
        kind = packed_device if self.packed else virtqueue_device
        self.device = kind.Device(
            memoryview(self.bytes), BASE, size, *(BASE + part for part in at),
            event_idx=bool(features & vq.EVENT_IDX),
        )  # fmt: skip

    @property
    def free(self):
        return int(self.queue[driver.FREE])

    def add(self, *lengths):
        """Make a buffer available. Returns whether the device is to be kicked."""
        return bool(add(self.queue, lay(lengths), len(lengths), self.packed))

    def reclaim(self):
        return int(reclaim(self.queue, self.packed))

    def received(self, limit=256):
        """What was given back, and is lent again: (number, bytes) of each. Or -Fault."""
        found = np.zeros((256, 2), np.int64)
        n = receive(self.queue, limit, found, self.packed)
        return [tuple(pair) for pair in found[:n].tolist()] if n >= 0 else int(n)


def lay(lengths):
    return np.array([(0, length) for length in lengths], np.int64)


@kernel
def add(queue, pieces, n, packed):
    since = i64(queue[driver.ADDED])
    if packed:
        _add(queue, pieces, n, True)
    else:
        _add(queue, pieces, n, False)
    driver.gone(queue, n)
    return vring_driver.wants_kick(queue, since, packed)


@kernel
def _add(queue, pieces, n, packed):
    if n == 1:
        vring_driver.add(queue, 0, 0, pieces[0, 1], packed)
    else:
        vring_driver.add_chain(queue, 0, 0, pieces, n, packed)
    vring_driver.publish(queue, 1, n, packed)


@kernel
def add_many(queue, counts, pieces, packed):
    """Add buffers of so many descriptors, not to be seen yet. Returns how many descriptors that is."""
    at = i64(0)
    for k in range(counts.size):
        if counts[k] == 1:
            vring_driver.add(queue, k, at, pieces[0, 1], packed)
        else:
            vring_driver.add_chain(queue, k, at, pieces, counts[k], packed)
        at += counts[k]
    return at


@kernel
def show(queue, n, descriptors, packed):
    vring_driver.publish(queue, n, descriptors, packed)
    driver.gone(queue, descriptors)


@kernel
def reclaim(queue, packed):
    return vring_driver.reclaim(queue, packed)


@kernel
def receive(queue, limit, found, packed):
    """Take at most limit buffers back and lend them again. Returns how many, or -Fault."""
    waiting = vring_driver.waiting(queue, packed)
    batch = i64(queue[driver.BATCH])
    n = i64(min(waiting, limit))
    for k in range(n):
        number, length, after = vring_driver.returned(queue, k, waiting, batch, packed)
        if number == vring.NONE:
            n = i64(k)
            break
        if number < 0:
            return -i64(Fault.NUMBER)
        batch = after
        found[k, 0], found[k, 1] = number, length
        vring_driver.offer(queue, k, number, packed)
    if n > 0:
        queue[driver.BATCH] = np.uint64(batch)
        vring_driver.publish(queue, n, n, packed)
        vring_driver.took(queue, n, packed)
    return n
