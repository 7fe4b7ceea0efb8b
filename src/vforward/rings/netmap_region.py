# SPDX-License-Identifier: Apache-2.0
"""Regions: anonymous memory that is handed from process to process by descriptor (memfd).

A memfd has no name that could be left over or guessed, its pages go with the last process that has
it, and it is sealed: no program can shrink it under the others, which would end them by SIGBUS.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os

import numpy as np
from numpy.typing import NDArray

from vforward.errors import PortError
from vforward.memory.mapping import sealed_file
from vforward.rings.netmap_layout import Geometry, format_end, geometry, slots_at

_ids = itertools.count(2)  # 1 is netmap's global memory


def map_shared(descriptor: int, size: int) -> NDArray[np.uint8]:
    """Map a region. Its pages are given back when the last array of it is gone."""
    memory = mmap.mmap(descriptor, size)
    with contextlib.suppress(OSError, AttributeError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


class Region:
    """A region of ours: its geometry, its memory, its descriptor, its free buffers."""

    def __init__(self, name: str, slots: tuple[tuple[int, int], ...], bufs: int) -> None:
        """One (tx slots, rx slots) for each end, and so many buffers. Raises PortError."""
        self.where: Geometry = geometry(slots, bufs)
        self.mem_id = next(_ids) & 0xFFFF
        self.descriptor = -1
        try:
            self.descriptor = sealed_file(f"netmap-{name}", self.where.size)
            self.memory = map_shared(self.descriptor, self.where.size)
        except OSError as error:
            self.close()
            raise PortError(
                f"netmap port {name}: {self.where.size} bytes: {error.strerror}"
            ) from error
        self.free = list(range(self.where.bufs - 1, 1, -1))

    def give(self, ring_at: int, n: int) -> None:
        """Put a free buffer into each slot of a ring."""
        slots_at(self.memory, ring_at, n)["buf_idx"] = [self.free.pop() for _ in range(n)]

    def format(self, end: int, name: str) -> None:
        """Write an end's headers."""
        format_end(self.memory, self.where, end, name)

    def close(self) -> None:
        """Give the memory back, as far as it is ours. Nothing may use its address any more."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            self.memory = np.zeros(0, np.uint8)
