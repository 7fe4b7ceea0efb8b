# SPDX-License-Identifier: Apache-2.0
"""strays: directions of sessions that another worker has than the one that their hash names (adr/0028).

    strays  u64[8 + 8 * lines]   one that all workers share, lines a power of two

    line 0     word 0   how many there are
    line 1..   entries: 56 bits of a direction's hash (tables.flow_home), and worker + 1; 0: free

A hash has two lines, side by side. An entry is entered and taken out by compare and swap, and changes
whole. Its hash has a secret, so nobody can choose two flows with the same 56 bits, and by chance that comes
once in 2**56 for each pair: then a flow goes to the wrong worker until the other one's session ends.

Owner       the worker that has the session enters its entry, and takes it out
Complexity  one cache line or two
Limits      at four entries for a session, one in some 10**6 finds its lines full
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import compare_swap64, fence, fetch_add64, load_acquire64
from vforward.jit.intrinsics import address, prefetch2
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.memory.arena import Arena

LINE = 8
PER_SESSION = 4
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio
_WORKER = np.uint64(0xFF)


@inline
def is_empty(strays: Any) -> Any:
    """Whether there is none: asked before a look-up."""
    return load_acquire64(address(strays)) == u64(0)


@inline
def _first(strays: Any, mixed: Any) -> Any:
    """The first word of a hash's pair of lines."""
    pairs = u64(strays.size // (2 * LINE))
    return LINE + i64(((mixed * _SPREAD) >> u64(32)) & (pairs - u64(1))) * 2 * LINE


@inline
def ask_for(strays: Any, mixed: Any) -> None:
    """Ask for the lines of a hash."""
    prefetch2(strays, _first(strays, mixed))


@kernel
def _entry(strays: Any, mixed: Any, but: Any) -> Any:
    """An entry of the hash, other than that at a place; 0: there is none.

    Each word is read once: what is there may be gone at a second look.
    """
    first = _first(strays, mixed)
    for at in range(first, first + 2 * LINE):
        word = load_acquire64(address(strays) + 8 * at)
        if word != u64(0) and (word ^ mixed) <= _WORKER and at != but:
            return word
    return u64(0)


@kernel
def find(strays: Any, mixed: Any) -> Any:
    """The worker that has it, or -1."""
    return i64(_entry(strays, mixed, -1) & _WORKER) - 1


@kernel
def leave(strays: Any, mixed: Any, worker: Any) -> None:
    """Take out a worker's entry, if it is there."""
    mine = mixed & ~_WORKER | u64(worker + 1)
    first = _first(strays, mixed)
    for at in range(first, first + 2 * LINE):
        if compare_swap64(address(strays) + 8 * at, mine, u64(0)):
            fetch_add64(address(strays), u64(-1))
            return


@kernel
def enter(strays: Any, mixed: Any, worker: Any) -> bool:
    """Say that a worker has a direction. False: somebody has it already, or there is no room.

    Of two who enter one at once, both see the other's and at most one stays; who looks for it meanwhile
    may find the other.
    """
    mine = mixed & ~_WORKER | u64(worker + 1)
    if _entry(strays, mixed, -1) != u64(0):
        return False
    first = _first(strays, mixed)
    for at in range(first, first + 2 * LINE):
        if compare_swap64(address(strays) + 8 * at, u64(0), mine):
            fetch_add64(address(strays), u64(1))
            fence()
            if _entry(strays, mixed, at) == u64(0):
                return True
            if compare_swap64(address(strays) + 8 * at, mine, u64(0)):
                fetch_add64(address(strays), u64(-1))
            return False
    return False


def make(arena: Arena, sessions: int) -> NDArray[np.uint64]:
    """An empty table for so many sessions. All of its memory is there: workers store without asking."""
    lines = 1 << (max(2 * LINE, sessions * PER_SESSION) // LINE - 1).bit_length()
    return arena.make("strays", LINE * (1 + lines), np.uint64)


def check(strays: NDArray[np.uint64]) -> None:
    """Assert that the count is right: while no worker runs."""
    assert int(strays[0]) == np.count_nonzero(strays[LINE:]), "strays are counted wrong"
