# SPDX-License-Identifier: Apache-2.0
"""A guest's memory mapped into this process, from the files that its regions lie in.

A region's file has to be of a kind that cannot make us wait for a page: shared memory (memfd, tmpfs)
or huge pages; another only for a peer that is trusted. It must be as long as its regions say. A
memfd sealed against shrinking stays so; where another is truncated all the same, csrc/vf_window.c
puts zeros in place of what is gone, and the table's word GONE becomes 1.

Each guest's regions lie in one window of address space, in which nothing else is.
"""

from __future__ import annotations

import fcntl
import os
import stat

import numpy as np
from numpy.typing import NDArray

from vforward.io import shim
from vforward.rings import guest_memory
from vforward.rings.vhost_device import Mapped
from vforward.rings.vhost_message import BadPeer, Region

TMPFS_MAGIC, HUGETLBFS_MAGIC = 0x01021994, 0x958458F6  # linux/magic.h
PAGE = 4096


class GuestMemory:
    """The memory of one peer at a time; table is rings.guest_memory's, for kernels."""

    def __init__(self, *, trusted: bool = False) -> None:
        self.table: NDArray[np.uint64] = guest_memory.new()
        self.sealed = True
        """Whether no region's file can become shorter."""
        self._trusted = trusted
        self._window = (0, 0)

    def map(self, wanted: list[Region], fds: list[int]) -> list[Mapped]:
        """Map regions, in place of what was; no worker may be using that. Raises BadPeer."""
        self.unmap()
        files = [self._check(region, fd) for region, fd in zip(wanted, fds, strict=True)]
        try:
            mapped = self._map(wanted, fds, files)
        except OSError as error:
            self.unmap()
            raise BadPeer("memory", f"a region cannot be mapped: {error.strerror}") from error
        self.sealed = all(_sealed(fd) for fd in fds)
        places = [(region.guest, region.size, here) for region, here in mapped]
        guest_memory.fill(self.table, places)
        return mapped

    def unmap(self) -> None:
        """There is no memory any more. Harmless when repeated."""
        self.table[guest_memory.REGIONS] = 0
        (start, size), self._window = self._window, (0, 0)
        if size:
            shim.lib.vf_window_close(start, size)
        self.table[guest_memory.GONE] = 0

    def _check(self, region: Region, fd: int) -> int:
        """The file's page size. Raises BadPeer when it is not what a region may lie in."""
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise BadPeer("memory", "a region's file is no regular file")
        kind = shim.lib.vf_file_system(fd)
        if kind not in (TMPFS_MAGIC, HUGETLBFS_MAGIC) and not self._trusted:
            text = "a region's file is no shared memory or huge pages; the peer is not trusted"
            raise BadPeer("memory", text)
        if not region.size or region.offset + region.size > found.st_size:
            text = f"a region of {region.size} bytes at {region.offset} in {found.st_size}"
            raise BadPeer("memory", text)
        return found.st_blksize if kind == HUGETLBFS_MAGIC else PAGE

    def _map(self, wanted: list[Region], fds: list[int], pages: list[int]) -> list[Mapped]:
        spans = []  # page size, first byte of the file, bytes
        for region, page in zip(wanted, pages, strict=True):
            first = region.offset // page * page
            end = -(-(region.offset + region.size) // page) * page
            spans.append((page, first, end - first))
        self._open(sum(size + page for page, _, size in spans) or PAGE)
        at, mapped = self._window[0], []
        for region, fd, (page, first, size) in zip(wanted, fds, spans, strict=True):
            at = -(-at // page) * page
            shim.check(shim.lib.vf_window_map(at, fd, size, first), "mmap")
            mapped.append(Mapped(region, at + region.offset - first))
            at += size
        return mapped

    def _open(self, size: int) -> None:
        if size > 1 << 46:  # half of what there is
            raise OSError(0, "too large")
        where = np.zeros(1, np.uint64)
        gone = self.table[guest_memory.GONE :]
        opened = shim.lib.vf_window_open(size, shim.pointer(gone), shim.pointer(where))
        shim.check(opened, "a window of address space")
        self._window = (int(where[0]), size)


def _sealed(fd: int) -> bool:
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    except OSError:
        return False
