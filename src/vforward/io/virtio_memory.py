# SPDX-License-Identifier: Apache-2.0
"""The memory that a virtio driver of ours shares with its device: queues and their buffers, a memfd.

    for each queue    desc  avail  used  buffers        (rings.virtqueue, rings.virtqueue_driver)
                      avail and used of a packed one: event suppression, 4 bytes each

It is sealed: neither side can make it shorter, so no access fails. Nothing else of ours lies in it.
The indices of avail and used end a cache line, so that the rings themselves begin one: a side that
polls an index does not take the line that the other one fills. A packed queue needs less, and lies alike.
So do headers, and frames begin lines: a header says the same for each frame that has nothing left to do,
and its line need not go to and fro. (Its words are not aligned then; x86 reads them whole within a line.)

The device is told addresses from GUEST on, which say nothing of where things lie here.
"""

from __future__ import annotations

import mmap
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.memory.mapping import sealed_file
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings import vring_driver
from vforward.rings.net_features import HEADER_BYTES
from vforward.rings.vhost_message import Region

GUEST = 1 << 32
LINE = 64
INDEX = 4
"""Bytes of flags and index, before the ring itself."""


class Parts(NamedTuple):
    """Where a queue's parts lie, in bytes from the memory's start."""

    desc: int
    avail: int
    used: int
    buffers: int
    end: int


def parts(start: int, size: int) -> Parts:
    """Lay out a queue of so many descriptors at start, which begins a cache line."""
    avail = _line(start + vq.part_bytes(vq.DESC, size, 0) + INDEX) - INDEX
    used = _line(avail + vq.part_bytes(vq.AVAIL, size, vq.EVENT_IDX) + INDEX) - INDEX
    buffers = _line(used + vq.part_bytes(vq.USED, size, vq.EVENT_IDX) + HEADER_BYTES) - HEADER_BYTES
    return Parts(start, avail, used, buffers, _line(buffers + size * driver.STRIDE))


def _line(at: int) -> int:
    return -(-at // LINE) * LINE


class DriverMemory:
    """Memory for queues of size descriptors, all zeros. Raises OSError: there is not so much.

    fd: its file. close gives it back, when no worker uses it any more.
    """

    def __init__(self, queues: int, size: int) -> None:
        self.parts: list[Parts] = []
        at = 0
        for _ in range(queues):
            self.parts.append(parts(at, size))
            at = self.parts[-1].end
        self._bytes = -(-at // mmap.PAGESIZE) * mmap.PAGESIZE
        self.fd = sealed_file("vforward-virtio", self._bytes)
        try:
            self._map = mmap.mmap(self.fd, self._bytes)
        except BaseException:
            os.close(self.fd)
            raise
        self._here = int(np.frombuffer(self._map, np.uint8).ctypes.data)

    @property
    def region(self) -> Region:
        """What the device is told of it."""
        return Region(GUEST, self._bytes, GUEST, 0)

    def begin(self, k: int, queue: NDArray[np.uint64], *, receives: bool) -> None:
        """Make queue, whose FEATURES are set, the driver's side of the k-th. receives: lend buffers."""
        where = self.parts[k]
        queue[[vq.DESC, vq.AVAIL, vq.USED, driver.BUFFERS]] = [self._here + at for at in where[:4]]
        queue[driver.WHERE] = GUEST + where.buffers
        vring_driver.begin(queue, receives)

    def close(self) -> None:
        """Give its pages back at once: the device may keep the file open as long as it likes."""
        self._map.madvise(mmap.MADV_REMOVE)
        self._map.close()
        os.close(self.fd)
