# SPDX-License-Identifier: Apache-2.0
"""Put a policy together as tables.policy says, and put it in force under traffic by one store."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import store_release64
from vforward.jit.intrinsics import address
from vforward.jit.kernel import kernel, u64
from vforward.memory.mapping import own_pages
from vforward.tables import policy

HEAD_WORDS = 16
LINE_WORDS = 8
"""Parts begin on a cache line."""
HUGE_WORDS = (2 << 20) // 8
LARGE = HUGE_WORDS // 4
"""Words of a bundle from which on it lies on pages of 2 MiB: a look-up goes all over it (adr/0014)."""
NOTHING = np.zeros(0, np.uint64)


class Parts(NamedTuple):
    """What a policy consists of; images are those of tables.acl, of no words where there is no rule."""

    actions: NDArray[Any]
    rewrites: NDArray[Any]
    filter4: NDArray[np.uint64] = NOTHING
    filter6: NDArray[np.uint64] = NOTHING
    source4: NDArray[np.uint64] = NOTHING
    destination4: NDArray[np.uint64] = NOTHING
    flags: int = 0


def assemble(parts: Parts) -> NDArray[np.uint64]:
    """The bundle of a policy, on cache lines."""
    placed = {
        policy.FILTER4: parts.filter4,
        policy.FILTER6: parts.filter6,
        policy.SOURCE4: parts.source4,
        policy.DESTINATION4: parts.destination4,
        policy.ACTIONS: parts.actions.view(np.uint64),
        policy.REWRITES: parts.rewrites.view(np.uint64),
    }
    size = HEAD_WORDS + sum(_rounded(words.size) for words in placed.values())
    bundle = _aligned(size)
    at = HEAD_WORDS
    for part, words in placed.items():
        bundle[2 * part], bundle[2 * part + 1] = at, words.size
        bundle[at : at + words.size] = words
        at += _rounded(words.size)
    bundle[policy.FLAGS] = parts.flags
    return bundle


def _rounded(words: int) -> int:
    return -(-words // LINE_WORDS) * LINE_WORDS


def _aligned(size: int) -> NDArray[np.uint64]:
    """Zeros from a cache line on; many of them from a huge page on, where the kernel gives such."""
    if size < LARGE:
        room, boundary = np.zeros(size + LINE_WORDS, np.uint64), LINE_WORDS
    else:
        rounded = 8 * (-(-size // HUGE_WORDS) + 1) * HUGE_WORDS
        memory = own_pages(rounded)
        with contextlib.suppress(OSError, AttributeError):
            memory.madvise(mmap.MADV_HUGEPAGE)
        room, boundary = np.frombuffer(memory, np.uint64), HUGE_WORDS
    first = -(room.ctypes.data // 8) % boundary
    return room[first : first + size]


@kernel
def _put_in_force(words: Any, where: Any) -> None:
    store_release64(address(words), u64(where))


class Policy:
    """The policy in force. words: the table that nodes know as ``policy``.

    quiesce: returns whether no worker uses anymore what it read before.
    """

    def __init__(self) -> None:
        self.words: NDArray[np.uint64] = np.zeros(policy.POLICY_WORDS, np.uint64)
        self.quiesce: Callable[[], bool] = lambda: True
        self._kept: list[
            NDArray[np.uint64]
        ] = []  # the one in force last; before it, what may be in use
        self._out: NDArray[np.uint64] | None = None  # taken back, and perhaps in use

    @property
    def bundle(self) -> NDArray[np.uint64] | None:
        """What is in force."""
        return self._kept[-1] if self._kept else None

    def put(self, bundle: NDArray[np.uint64]) -> None:
        """Put a policy in force. What was before stays, since it may be in use: see settle."""
        self._kept.append(bundle)
        _put_in_force(self.words, bundle.ctypes.data)

    def take_back(self) -> None:
        """Have the policy in force again that was before."""
        before = self._kept[-2].ctypes.data if len(self._kept) > 1 else 0
        _put_in_force(self.words, before)
        self._out = self._kept.pop()

    def settle(self) -> bool:
        """Forget older policies. Returns whether no worker uses one; else they go with the next one."""
        if not self.quiesce():
            return False
        del self._kept[:-1]
        self._out = None
        return True
