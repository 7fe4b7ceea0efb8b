# SPDX-License-Identifier: Apache-2.0
"""mapping: memory of a process's own; files in shared memory, mapped so that huge pages can carry them.

A page of 2 MiB can be used only where the file's and the address's distance to the next boundary of 2 MiB
are the same. Python's mmap(2) takes what address the kernel gives, 4 KiB apart; here a mapping of 2 MiB
and more begins on a boundary. See docs/adr/0025.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import weakref
from typing import Any

HUGE = 2 << 20
MADV_POPULATE_WRITE, MADV_COLLAPSE = 23, 25
"""Linux 5.14 and 6.1. The second makes huge pages whatever /sys/kernel/mm/transparent_hugepage says of
when the kernel should do that by itself, which is "never" for shared memory as it is delivered."""
_MAP_FIXED, _MAP_NORESERVE = 0x10, 0x4000
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def sealed_file(name: str, size: int, *, sparse: bool = False) -> int:
    """A file in memory, of zeros, to share with others: a descriptor. Its length is what it is for ever.

    None of them can make it shorter under the others, which would end these by SIGBUS. All its pages are
    there; of a sparse one those that were used. Raises OSError: there is not so much memory.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(descriptor, size)
        if not sparse:
            os.posix_fallocate(descriptor, 0, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def own_pages(size: int) -> mmap.mmap:
    """``size`` bytes of zeros of this process alone, unmapped when nobody refers to them anymore.

    A page takes memory when it is written to, which numpy.zeros promises nowhere: the C library also
    hands out what was used before, cleared by writing to it, and keeps what is given back. Raises OSError.
    """
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def map_file(descriptor: int, size: int, *, writable: bool) -> Any:
    """The first ``size`` bytes of a file, shared: a buffer, unmapped when nobody refers to it anymore.

    Raises OSError.
    """
    access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    if size < HUGE:
        at = _map(None, size, access, mmap.MAP_SHARED, descriptor)
    else:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        room = _map(None, size + HUGE, 0, private, -1)
        at = -(-room // HUGE) * HUGE
        try:
            _map(at, size, access, mmap.MAP_SHARED | _MAP_FIXED, descriptor)
        except OSError:
            _libc.munmap(room, size + HUGE)
            raise
        end = -(-(at + size) // mmap.PAGESIZE) * mmap.PAGESIZE
        if at > room:
            _libc.munmap(room, at - room)
        _libc.munmap(end, room + size + HUGE - end)
    buffer = (ctypes.c_ubyte * size).from_address(at)
    weakref.finalize(buffer, _libc.munmap, at, size).atexit = False  # workers may still run then
    return buffer if writable else memoryview(buffer).cast("B").toreadonly()


def populate(buffer: Any) -> None:
    """Have all pages of a writable mapping now, huge ones where the kernel gives them.

    Raises OSError ENOSPC where the file system has no room: a store would have been SIGBUS.
    """
    at, size = ctypes.addressof(buffer), len(buffer)
    make_huge(at, size, 0, size)
    _populate(at, size)


def have(at: int, size: int, first: int, last: int) -> int:
    """Have the pages of the bytes from first to last of such a mapping, huge ones if possible.

    Whole ones of 2 MiB: returns up to which byte, size at most. Raises OSError as populate does.
    """
    end = min(-(-last // HUGE) * HUGE, size)
    begin = first // HUGE * HUGE
    if begin < end:
        make_huge(at, size, first, last)
        _populate(at + begin, end - begin)
    return end


def make_huge(at: int, size: int, first: int, last: int) -> None:
    """Have huge pages under the bytes from first to last of a writable mapping of size bytes at an address.

    Those that lie in it whole; where the kernel has none, small pages stay. Costs 0.3 ms for each that
    had no page before, else about 2, in which a reader may wait. Raises OSError ENOSPC as populate does.
    """
    if at % HUGE:
        return
    begin = at + first // HUGE * HUGE
    end = at + min(-(-last // HUGE), size // HUGE) * HUGE
    for page in range(begin, end, HUGE):
        _populate(page, mmap.PAGESIZE)  # a range without any page is refused
    if begin < end:
        with contextlib.suppress(OSError):  # no huge page is free, or the kernel is older
            _advise(begin, end - begin, MADV_COLLAPSE)


def _populate(at: int, size: int) -> None:
    try:
        _advise(at, size, MADV_POPULATE_WRITE)
    except OSError as error:
        if error.errno == errno.EFAULT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        if error.errno != errno.EINVAL:  # else the kernel is older
            raise


def _map(at: int | None, size: int, access: int, flags: int, descriptor: int) -> int:
    found: int = _libc.mmap(at, size, access, flags, descriptor, 0)
    if found == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def _advise(at: int, size: int, advice: int) -> None:
    if _libc.madvise(at, size, advice):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
