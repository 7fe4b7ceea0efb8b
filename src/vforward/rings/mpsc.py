# SPDX-License-Identifier: Apache-2.0
"""A ring of u32 numbers from many producers to one consumer: threads or processes.

    word 0       tail: slots ever reserved   (p) compare-and-swap      (c) never looks
    word 8       head: items ever popped     (c) release-stored        (p) acquire-loaded
    words 16..   slots, a power of two of them; item k lies in slot k mod slots:
                 lap << 32 | item, where lap = k / slots + 1, its low 32 bits

    (p) a producer owns the slots that it has reserved, until it has written each, once
    (c) the consumer owns slot k from when its lap is that of k until head is beyond it

All words are u64, zeros at first, in an arena or any array; tail and head have a cache line each. A
slot says by its lap that it was written, so a producer waits for no other one, and items of one
producer stay in order, a batch side by side.

Full is exact: what is reserved counts. Empty is exact: what is not yet written is not there. A
producer that dies between reserving and writing (some nanoseconds) leaves a hole, at which the
consumer stops for good; ``hole`` tells. What is reserved is never taken back, since another producer
may have written behind it: who owns the ring empties and begins it anew.

A bad peer can make the words say anything: free is bounded and slots are masked, nothing out of the
array is touched. What the items mean is for the reader to check.

Source: Vyukov, "Bounded MPMC queue", 2010 (a sequence number in each slot), with one consumer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vforward.jit.atomics import compare_swap64, load_acquire64, store_release64
from vforward.jit.intrinsics import address, ctz
from vforward.jit.kernel import inline, kernel

TAIL = 0
HEAD = 8
HEADER = 16
"""Words before the first slot."""


@inline
def _slots(ring: Any) -> Any:
    return np.int64(ring.size - HEADER)


@inline
def _where(ring: Any, k: Any) -> Any:
    """Address of the slot of item k."""
    return address(ring) + 8 * (HEADER + np.int64(k & np.uint64(_slots(ring) - 1)))


@inline
def _lap(ring: Any, k: Any) -> Any:
    turns = k >> np.uint64(ctz(np.uint64(_slots(ring))))
    return (turns + np.uint64(1)) & np.uint64(0xFFFFFFFF)


@kernel
def free_slots(ring: Any) -> Any:
    """Slots that are not reserved. For a producer only a hint, since there are others."""
    head = load_acquire64(address(ring) + 8 * HEAD)
    used = load_acquire64(address(ring) + 8 * TAIL) - head
    return _slots(ring) - np.int64(used) if used <= np.uint64(_slots(ring)) else 0


@kernel
def push(ring: Any, items: Any, n: Any) -> Any:
    """Append the first n items, or as many as fit, side by side; returns how many. Any thread."""
    while True:
        head = load_acquire64(address(ring) + 8 * HEAD)  # first: it only grows, so full is full
        tail = load_acquire64(address(ring) + 8 * TAIL)
        used = tail - head
        if used > np.uint64(_slots(ring)):
            # Others took slots that were popped after head was read; or the words are nonsense.
            if load_acquire64(address(ring) + 8 * HEAD) == head:
                return 0
            continue
        fit = max(0, min(n, _slots(ring) - np.int64(used)))
        if fit == 0:
            return 0
        if compare_swap64(address(ring) + 8 * TAIL, tail, tail + np.uint64(fit)):
            for i in range(fit):
                k = tail + np.uint64(i)
                word = _lap(ring, k) << np.uint64(32) | np.uint64(items[i]) & np.uint64(0xFFFFFFFF)
                store_release64(_where(ring, k), word)
            return fit


@kernel
def pop(ring: Any, items: Any, wanted: Any) -> Any:
    """Move up to wanted items to the start of items; returns how many. The consumer only."""
    head = load_acquire64(address(ring) + 8 * HEAD)
    n = 0
    while n < min(wanted, _slots(ring)):
        k = head + np.uint64(n)
        word = load_acquire64(_where(ring, k))
        if word >> np.uint64(32) != _lap(ring, k):
            break
        items[n] = word & np.uint64(0xFFFFFFFF)
        n += 1
    if n > 0:
        store_release64(address(ring) + 8 * HEAD, head + np.uint64(n))
    return n


@kernel
def hole(ring: Any) -> Any:
    """Whether the next item is reserved and not written: soon, or never if its producer is dead."""
    head = load_acquire64(address(ring) + 8 * HEAD)
    if load_acquire64(address(ring) + 8 * TAIL) == head:
        return False
    return load_acquire64(_where(ring, head)) >> np.uint64(32) != _lap(ring, head)


def words_for(n_slots: int) -> int:
    """Length of the u64 array of a ring of at least n_slots slots: what to ask an arena for."""
    if n_slots < 1:
        msg = f"a ring of {n_slots} slots: at least 1"
        raise ValueError(msg)
    return HEADER + (1 << (n_slots - 1).bit_length())


class Ring:
    """A ring for Python programs: the consumer's end, and as many producers' as there are.

    >>> ring = Ring.make(4)
    >>> ring.push([7, 8, 9])
    3
    >>> ring.pop(2).tolist(), ring.free_slots()
    ([7, 8], 3)
    """

    def __init__(self, array: NDArray[np.uint64]) -> None:
        """The ring in an array (see words_for). Raises ValueError if it cannot be one."""
        n = array.size - HEADER if array.dtype == np.uint64 else 0
        if n < 1 or n & (n - 1) or array.ndim != 1 or not array.flags.c_contiguous:
            msg = f"{array.dtype}{list(array.shape)} is no ring; see words_for"
            raise ValueError(msg)
        self.array = array
        self.slots = n

    @classmethod
    def make(cls, n_slots: int) -> Ring:
        """A ring in memory of this process, of at least n_slots slots."""
        return cls(np.zeros(words_for(n_slots), np.uint64))

    def push(self, items: ArrayLike) -> int:
        """Append items, or as many of them as fit; returns how many. Any thread or process."""
        given = np.ascontiguousarray(items, np.uint32)
        return int(push(self.array, given, given.size))

    def pop(self, wanted: int) -> NDArray[np.uint32]:
        """Up to wanted items, oldest first. The consumer only."""
        items = np.empty(max(0, min(wanted, self.slots)), np.uint32)
        return items[: int(pop(self.array, items, items.size))]

    def free_slots(self) -> int:
        """Slots that are not reserved."""
        return int(free_slots(self.array))

    def hole(self) -> bool:
        """Whether the next item is reserved and not written."""
        return bool(hole(self.array))

    def check(self) -> None:
        """Assert that all that is reserved is written. Only while no end moves."""
        tail, head = int(self.array[TAIL]), int(self.array[HEAD])
        assert 0 <= tail - head <= self.slots, f"{tail} reserved, {head} popped, {self.slots} slots"
        for k in range(head, tail):
            lap = int(self.array[HEADER + k % self.slots]) >> 32
            assert lap == (k // self.slots + 1) & 0xFFFFFFFF, f"item {k} is reserved, not written"
