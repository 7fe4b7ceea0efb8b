# SPDX-License-Identifier: Apache-2.0
"""A peer's memory as it speaks of it, and where that lies here.

    memory  u64[MEMORY_WORDS]
    word 0            regions
    word 1            GONE: the peer took memory away while it was in use (csrc/vf_window.c stores 1)
    words 2 + 3r..    region r: its first guest address, bytes, where it is mapped here

The control plane writes the table while no worker uses it. A range must lie in one region: two that
are side by side in the guest need not be so here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import load_acquire64
from vforward.jit.intrinsics import address
from vforward.jit.kernel import i64, inline

REGIONS, GONE, FIRST = 0, 1, 2
EACH = 3
REGIONS_MAX = 8
"""Of one peer, as many as a vhost-user message of file descriptors has."""
MEMORY_WORDS = FIRST + EACH * REGIONS_MAX


def new() -> NDArray[np.uint64]:
    """The table of a peer without memory."""
    return np.zeros(MEMORY_WORDS, np.uint64)


def fill(memory: NDArray[np.uint64], regions: list[tuple[int, int, int]]) -> None:
    """Make it the table of these regions: (guest address, bytes, address here)."""
    memory[FIRST : FIRST + EACH * len(regions)] = np.array(regions, np.uint64).reshape(-1)
    memory[REGIONS] = len(regions)


@inline
def locate(memory: Any, where: Any, n: Any) -> Any:
    """Where the n bytes (i64, at least 1) at guest address where (u64) lie here; 0: nowhere."""
    size = np.uint64(n)
    for r in range(i64(memory[REGIONS])):
        off = where - memory[FIRST + EACH * r]  # wraps, and is too much then
        room = memory[FIRST + EACH * r + 1]
        if off < room and size <= room - off:
            return i64(memory[FIRST + EACH * r + 2] + off)
    return i64(0)


@inline
def gone(memory: Any) -> bool:
    """Whether what was read from it of late may have been zeros in place of what was there."""
    return load_acquire64(address(memory) + 8 * GONE) != np.uint64(0)
