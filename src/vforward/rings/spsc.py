# SPDX-License-Identifier: Apache-2.0
"""A ring of numbers (u32 or u64) from one producer to one consumer: threads or processes.

    bytes 0-7      tail: items ever pushed    (p) release-stored    (c) acquire-loaded
    bytes 8-15     the head that the producer saw last    (p) only
    bytes 16-23    written by the consumer when it has seen a new tail, read by nobody (see below)
    bytes 64-71    head: items ever popped    (c) release-stored    (p) acquire-loaded
    bytes 72-79    the tail that the consumer saw last    (c) only
    bytes 128..    slots, a power of two of them; item k lies in slot k mod slots

    (p) the producer owns the slots of items [tail, head + slots), to write
    (c) the consumer owns the slots of items [head, tail), to read

All of it is one array of items, zeros at first, naturally aligned: part of an arena, or any array. It
should begin a cache line, as those of an arena and of Ring.make do: else each burst touches a line more,
of which the other side has the rest (bursts of 8 and 32 between two cores: 1.7 and 1.4 times the clocks).
The words only grow (2**64 items are never reached) and have a cache line each. Whoever writes a
word hands slots over by it: a release, which the other side's acquire pairs with. What a side saw last
is looked at first: it can only be too old, and then too little is free or used. So the other side's
cache line is asked for when that does not suffice, and not with every call.

Word 16 is there for its line. A line that the other side has read is dearer to write again than one that
it has written to, and can give away (docs/adr/0021): bursts of 32 between two cores take 5 % less.

A bad peer can make the words say anything: used and free are bounded and slots are masked, so that
nothing out of the array is touched and nonsense reads as an empty and a full ring. What the
items mean is for the reader to check.

Sources: Lamport, "Proving the correctness of multiprocess programs", 1977 (one writer per word, no
lock); ISO C11 section 7.17.3 (acquire and release); Lee and others, "MCRingBuffer", 2010 (indices
seen last).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vforward.jit.atomics import load_acquire64, store_release64
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import inline, kernel

LINE = 64
TAIL = 0
HEAD = LINE
HEADER = 128
"""Bytes before the first slot."""
FEW = 8
"""Items up to which a loop is quicker than memcpy."""
SEEN = 8
"""Bytes from a side's own word to what it saw last of the other's."""
TOUCHED = 16


@inline
def slots(ring: Any) -> Any:
    """How many items the ring holds at most."""
    return np.int64(ring.size - HEADER // ring.itemsize)


@kernel
def used_slots(ring: Any) -> Any:
    """Items that wait. For the producer an upper bound, for the consumer a lower one."""
    head = load_acquire64(address(ring) + HEAD)
    used = load_acquire64(address(ring) + TAIL) - head
    return np.int64(used) if used <= np.uint64(slots(ring)) else 0


@kernel
def free_slots(ring: Any) -> Any:
    """Items that still fit. For the producer a lower bound, for the consumer an upper one."""
    tail = load_acquire64(address(ring) + TAIL)
    used = tail - load_acquire64(address(ring) + HEAD)
    return slots(ring) - np.int64(used) if used <= np.uint64(slots(ring)) else 0


@inline
def _room(ring: Any, tail: Any, wanted: Any) -> Any:
    """Free slots for the producer whose word is tail; exact when they are fewer than wanted."""
    used = tail - load_acquire64(address(ring) + TAIL + SEEN)
    if used > np.uint64(slots(ring)) or slots(ring) - np.int64(used) < wanted:
        head = load_acquire64(address(ring) + HEAD)
        store_release64(address(ring) + TAIL + SEEN, head)
        used = tail - head
    return slots(ring) - np.int64(used) if used <= np.uint64(slots(ring)) else 0


@inline
def _waiting(ring: Any, head: Any, wanted: Any) -> Any:
    """Items that wait, for the consumer whose word is head; exact when they are fewer than wanted."""
    seen = load_acquire64(address(ring) + HEAD + SEEN)
    used = seen - head
    if used > np.uint64(slots(ring)) or np.int64(used) < wanted:
        tail = load_acquire64(address(ring) + TAIL)
        if tail != seen:
            store_release64(address(ring) + HEAD + SEEN, tail)
            store_release64(address(ring) + TOUCHED, tail)
        used = tail - head
    return np.int64(used) if used <= np.uint64(slots(ring)) else 0


@inline
def _first(ring: Any, k: Any) -> Any:
    """Index of the slot of item k."""
    return HEADER // ring.itemsize + np.int64(k & np.uint64(slots(ring) - 1))


@inline
def _move(to: Any, at: Any, source: Any, start: Any, n: Any) -> None:
    """to[at : at + n] = source[start : start + n]; both of one dtype."""
    if n <= FEW:
        for i in range(n):
            to[at + i] = source[start + i]
    else:
        size = to.itemsize
        copy(address(to) + at * size, address(source) + start * size, n * size)


@inline
def _put(ring: Any, tail: Any, items: Any, n: Any) -> None:
    """Append n items, for which there is room, n > 0."""
    at = _first(ring, tail)
    part = min(n, ring.size - at)  # up to the last slot; the others lie at the start
    _move(ring, at, items, 0, part)
    if part < n:
        _move(ring, HEADER // ring.itemsize, items, part, n - part)
    store_release64(address(ring) + TAIL, tail + np.uint64(n))


@inline
def _take(ring: Any, head: Any, items: Any, n: Any) -> None:
    """Move n items, which wait, to the start of items, n > 0."""
    at = _first(ring, head)
    part = min(n, ring.size - at)
    _move(items, 0, ring, at, part)
    if part < n:
        _move(items, part, ring, HEADER // ring.itemsize, n - part)
    store_release64(address(ring) + HEAD, head + np.uint64(n))


@inline
def push(ring: Any, items: Any, n: Any) -> Any:
    """Append the first n items, or as many as fit; returns how many. The producer only.

    items: of the ring's dtype.
    """
    tail = load_acquire64(address(ring) + TAIL)
    n = max(0, min(n, _room(ring, tail, n)))
    if n > 0:
        _put(ring, tail, items, n)
    return n


@inline
def push_all(ring: Any, items: Any, n: Any) -> Any:
    """Append the first n > 0 items if there is room for all of them; returns whether. The producer only."""
    tail = load_acquire64(address(ring) + TAIL)
    if _room(ring, tail, n) < n:
        return False
    _put(ring, tail, items, n)
    return True


@inline
def pop(ring: Any, items: Any, wanted: Any) -> Any:
    """Move up to wanted items to the start of items; returns how many. The consumer only.

    items: of the ring's dtype.
    """
    head = load_acquire64(address(ring) + HEAD)
    n = max(0, min(wanted, _waiting(ring, head, wanted)))
    if n > 0:
        _take(ring, head, items, n)
    return n


@inline
def pop_all(ring: Any, items: Any, n: Any) -> Any:
    """Move n > 0 items to the start of items if so many wait; returns whether. The consumer only."""
    head = load_acquire64(address(ring) + HEAD)
    if _waiting(ring, head, n) < n:
        return False
    _take(ring, head, items, n)
    return True


def zeros(n: int, dtype: Any) -> NDArray[Any]:
    """n zeros that begin a cache line, which numpy.zeros does not promise."""
    size = n * int(np.dtype(dtype).itemsize)
    room = np.zeros(size + LINE, np.uint8)
    at = -room.ctypes.data % LINE
    return room[at : at + size].view(dtype)


def items_for(n_slots: int, dtype: Any = np.uint32) -> int:
    """Length of the array of a ring of at least n_slots slots: what to ask an arena for."""
    if n_slots < 1:
        msg = f"a ring of {n_slots} slots: at least 1"
        raise ValueError(msg)
    return HEADER // int(np.dtype(dtype).itemsize) + (1 << (n_slots - 1).bit_length())


class Ring:
    """A ring for Python programs: one end, or both. One thread at each end at a time.

    >>> ring = Ring.make(4)
    >>> ring.push([7, 8, 9])
    3
    >>> ring.pop(2).tolist(), ring.free_slots()
    ([7, 8], 3)
    """

    def __init__(self, array: NDArray[Any]) -> None:
        """The ring in an array (items_for says how long). Raises ValueError if it cannot be one."""
        n = array.size - HEADER // array.itemsize if array.dtype in (np.uint32, np.uint64) else 0
        if n < 1 or n & (n - 1) or array.ndim != 1 or not array.flags.c_contiguous:
            msg = f"{array.dtype}{list(array.shape)} is no ring; see items_for"
            raise ValueError(msg)
        if array.ctypes.data % 8:
            msg = "a ring must begin at a multiple of 8 bytes"
            raise ValueError(msg)
        self.array = array
        self.slots = n

    @classmethod
    def make(cls, n_slots: int, dtype: Any = np.uint32) -> Ring:
        """A ring in memory of this process, of at least n_slots slots."""
        return cls(zeros(items_for(n_slots, dtype), dtype))

    def push(self, items: ArrayLike) -> int:
        """Append items, or as many of them as fit; returns how many."""
        given = np.ascontiguousarray(items, self.array.dtype)
        return int(push(self.array, given, given.size))

    def pop(self, wanted: int) -> NDArray[Any]:
        """Up to wanted items, oldest first."""
        items = np.empty(max(0, min(wanted, self.slots)), self.array.dtype)
        return items[: int(pop(self.array, items, items.size))]

    def used_slots(self) -> int:
        """Items that wait."""
        return int(used_slots(self.array))

    def free_slots(self) -> int:
        """Items that still fit."""
        return int(free_slots(self.array))

    def check(self) -> None:
        """Assert that the words make sense. Only while neither end moves."""
        words = self.array[: HEADER // self.array.itemsize].view(np.uint64)
        tail, head = int(words[TAIL // 8]), int(words[HEAD // 8])
        assert 0 <= tail - head <= self.slots, f"{tail} pushed, {head} popped, {self.slots} slots"
