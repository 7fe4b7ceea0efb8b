# SPDX-License-Identifier: Apache-2.0
"""resident: memory that is there for nothing any more: the code of a library that only the start needed,
and blocks that were given back to the C library.

Sources: madvise(2), mallopt(3), malloc_trim(3), proc(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from pathlib import Path

MAPS = Path("/proc/self/maps")
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE = 256 << 10
"""Bytes of a block from which it has pages of its own."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def forget_code(name: str) -> int:
    """Give back the pages of the code of libraries with that in their files' names. Returns bytes of code.

    What is needed again comes back by itself, from the page cache, where other processes have it too. Code
    is never written to, so nothing is lost; data, which the loader may have written, stays. Nothing happens
    where the kernel does not tell or do that.
    """
    size = 0
    with contextlib.suppress(OSError):
        for line in MAPS.read_text().splitlines():
            where, access, _, _, _, *path = line.split(maxsplit=5)
            if access == "r-xp" and path and name in Path(path[0]).name:
                begin, end = (int(address, 16) for address in where.split("-"))
                if _libc.madvise(begin, end - begin, mmap.MADV_DONTNEED) == 0:
                    size += end - begin
    return size


def one_heap() -> bool:
    """Have threads take memory from one heap: what one has freed serves the others. Before there are any.

    The C library has one for each of some threads, so that they need not wait for each other, and each is
    as large as it ever had to be. Python's threads wait for each other anyway; workers allocate nothing.
    In 30 minutes of `vforward bench soak` a forwarder grew by 10.9 MiB an hour before, and by 2.1 since.
    Returns whether it was done: other C libraries know nothing of it.
    """
    return _set(M_ARENA_MAX, 1)


def own_pages_for_large() -> bool:
    """Have blocks of LARGE bytes and more go back to the system when they are freed, from now on.

    The C library has that limit too, but moves it up to the largest block that was ever freed; then a block
    that lives long and comes to lie behind a large one keeps its pages: steps of 2 MiB in a forwarder that
    is changed all the time. Returns whether it was done: other C libraries know nothing of it.
    """
    return _set(M_MMAP_THRESHOLD, LARGE)


def _set(option: int, value: int) -> bool:
    """One of the C library's options for memory."""
    try:
        return bool(_libc.mallopt(option, value))
    except AttributeError:
        return False


def give_back() -> bool:
    """Give back the pages that lie free between the C library's blocks, in some 0.5 ms.

    By itself it gives back only what is free behind a thread's last block. What threads of the API leave
    before that was 10 MiB an hour in a forwarder that is changed all the time (`bench soak`). Returns
    whether it was done: other C libraries know nothing of it.
    """
    try:
        _libc.malloc_trim(0)
    except AttributeError:
        return False
    return True
