# SPDX-License-Identifier: Apache-2.0
"""netmap's regions between pages without access, and kernels that write into them as hostile programs."""

import contextlib
import ctypes
import os

import numpy as np
import pytest

from guests import Memory
from storms import draw
from vforward.jit.intrinsics import view
from vforward.jit.kernel import i64, kernel, u64
from vforward.rings import guest_memory, netmap, netmap_region
from vforward.rings.netmap_layout import BUF_SIZE, FIRST_BUF, NS_MOREFRAG


@contextlib.contextmanager
def guarded_regions():
    """Regions that are made meanwhile: an access before or behind one is a SIGSEGV.

    Their last buffer ends where they do. Who maps one in this process shares that mapping.
    """
    made = {}

    def file(_, size):
        memory = Memory(size)
        made[os.fstat(memory.fd).st_ino] = memory
        return os.dup(memory.fd)

    def mapped(descriptor, size):
        return bytes_at(made[os.fstat(descriptor).st_ino].here, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(netmap_region, "sealed_file", file)
        patch.setattr(netmap_region, "map_shared", mapped)
        patch.setattr(netmap, "map_shared", mapped)
        try:
            yield
        finally:
            for memory in made.values():
                assert not guest_memory.gone(memory.table)
                memory.close()


def bytes_at(where, size):
    """Memory at an address, as an array."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(where))


@kernel
def any_word(state):
    """What 32 bits may be."""
    kind = draw(state, 4)
    if kind == 0:
        return draw(state, 256)
    if kind == 1:
        return i64(0xFFFFFFFF) - draw(state, 256)
    if kind == 2:
        return i64(1) << 31
    return draw(state, 1 << 32)


@kernel
def any_place(state, n, likely):
    """A word for a position in a ring of n slots: mostly the likely one, or one that is none."""
    if draw(state, 8):
        return likely
    return draw(state, n) if draw(state, 4) else any_word(state)


@kernel
def write_slot(state, slot, bufs, more):
    """A slot that is mostly good. more: with NS_MOREFRAG."""
    buf, size = FIRST_BUF + draw(state, bufs - FIRST_BUF), draw(state, 200)
    if draw(state, 16) == 0:
        buf = bufs - 2 + draw(state, 4) if draw(state, 2) else any_word(state)
    if draw(state, 16) == 0:
        size = BUF_SIZE - 8 + draw(state, 16) if draw(state, 4) else draw(state, 65536)
    flags = NS_MOREFRAG if more or draw(state, 8) == 0 else 0
    if draw(state, 32) == 0:
        flags = draw(state, 65536)
    words = view(slot, 2, np.uint32)
    words[0], words[1] = buf, size | flags << 16


@kernel
def write_anywhere(state, where, size):
    """Any eight bytes there, now and then."""
    if draw(state, 8) == 0:
        words = view(where + 8 * draw(state, size // 8), 1, np.uint64)
        words[0] = u64(any_word(state)) << u64(32) | u64(any_word(state))
