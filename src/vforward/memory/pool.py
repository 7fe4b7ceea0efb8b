# SPDX-License-Identifier: Apache-2.0
"""The buffer pool: packets' bytes, their meta records, and who may use which row.

    stack    u32[4 + n] in the arena, shared by all users
             words 0-1  head: tag << 32 | row (NIL: empty), one u64, changed by compare-and-swap
             words 2-3  rows in the stack, one u64 (exact when nobody is taking or putting)
             word 4 + r the row below row r

    cache    u64[3 + CACHE_ROOM], private to one worker
             word 0  rows cached      words 1-2  address and words of the stack
             words 3.. the cached rows

The tag grows with every change of the head, so a chain read while others changed it is noticed (the
ABA problem; Treiber, "Systems programming: coping with parallelism", 1986). A process that dies
between any two instructions leaves the stack whole; it takes with it the rows that it held.

Invariant, tested: every row is in exactly one place, and the free count returns to its start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import compare_swap64, fetch_add64, load_acquire64
from vforward.jit.intrinsics import view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import BUF_STRIDE, CHAINED, META, NIL
from vforward.memory.arena import Arena

BATCH = 256
CACHE_ROOM = 2 * BATCH
HEADER_WORDS = 4
CACHE_HEADER = 3


@kernel
def pop_batch(stack: Any, rows: Any, wanted: int) -> int:
    """Take up to wanted rows off the shared stack into rows; returns how many. Any thread."""
    links = stack[HEADER_WORDS:]
    head = stack.ctypes.data
    while True:
        old = load_acquire64(head)
        row = i64(old & u64(0xFFFFFFFF))
        got = 0
        while got < wanted and row < links.size:
            rows[got] = row
            got += 1
            row = i64(links[row])
        if got == 0:
            return 0
        new = ((old >> u64(32)) + u64(1)) << u64(32) | u64(row)
        if compare_swap64(head, old, new):
            fetch_add64(head + 8, u64(-got))
            return got


@kernel
def push_batch(stack: Any, rows: Any, n: int) -> None:
    """Give n rows back to the shared stack. Any thread."""
    if n == 0:
        return
    links = stack[HEADER_WORDS:]
    head = stack.ctypes.data
    for i in range(n - 1):
        links[i64(rows[i])] = rows[i + 1]
    while True:
        old = load_acquire64(head)
        links[i64(rows[n - 1])] = old & u64(0xFFFFFFFF)
        new = ((old >> u64(32)) + u64(1)) << u64(32) | u64(rows[0])
        if compare_swap64(head, old, new):
            fetch_add64(head + 8, u64(n))
            return


@kernel
def _refill(pool: Any) -> int:
    stack = view(i64(pool[1]), i64(pool[2]), np.uint32)
    got = pop_batch(stack, pool[CACHE_HEADER : CACHE_HEADER + BATCH], BATCH)
    pool[0] = u64(got)
    return got


@kernel
def _spill(pool: Any) -> None:
    stack = view(i64(pool[1]), i64(pool[2]), np.uint32)
    n = i64(pool[0]) - BATCH
    push_batch(stack, pool[CACHE_HEADER + n :], BATCH)
    pool[0] = u64(n)


@inline
def take(pool: Any, rows: Any, wanted: int) -> int:
    """Take up to wanted (at most VECTOR_MAX) rows from the worker's cache into rows.

    Returns how many: fewer only when no buffer is free anywhere.
    """
    got = 0
    while got < wanted:
        cached = i64(pool[0])
        if cached == 0:
            cached = _refill(pool)
            if cached == 0:
                break
        n = min(cached, wanted - got)
        for i in range(n):
            rows[got + i] = pool[CACHE_HEADER + cached - n + i]
        pool[0] = u64(cached - n)
        got += n
    return got


@inline
def take_one(pool: Any) -> int:
    """Take one row, or NIL when no buffer is free."""
    cached = i64(pool[0])
    if cached == 0:
        cached = _refill(pool)
        if cached == 0:
            return i64(NIL)
    pool[0] = u64(cached - 1)
    return i64(pool[CACHE_HEADER + cached - 1])


@inline
def put_one(pool: Any, row: int) -> None:
    """Give one row back (that buffer alone, not its chain)."""
    cached = i64(pool[0])
    if cached == CACHE_ROOM:
        _spill(pool)
        cached = i64(pool[0])
    pool[CACHE_HEADER + cached] = u64(row)
    pool[0] = u64(cached + 1)


@kernel
def put_rest(pool: Any, meta: Any, row: int) -> None:
    """Give back the buffers that follow row in its chain, and end the chain at row."""
    following = i64(meta[row].next)
    meta[row].next = NIL
    meta[row].rest = 0
    meta[row].flags = meta[row].flags & ~np.uint32(CHAINED)
    for _ in range(meta.size):  # a chain longer than the pool would be a loop
        if following >= meta.size:
            return
        after = i64(meta[following].next)
        put_one(pool, following)
        following = after


@inline
def put(pool: Any, meta: Any, rows: Any, n: int) -> None:
    """Give back n packets: the rows and all that is chained to them."""
    for i in range(n):
        row = i64(rows[i])
        if meta[row].flags & CHAINED:
            put_rest(pool, meta, row)
        put_one(pool, row)


@kernel
def drain_cache(pool: Any) -> None:
    """Give all rows of a cache to the shared stack: a thread that keeps none between calls."""
    stack = view(i64(pool[1]), i64(pool[2]), np.uint32)
    push_batch(stack, pool[CACHE_HEADER:], i64(pool[0]))
    pool[0] = u64(0)


@kernel
def give_back(pool: Any, meta: Any, rows: Any) -> None:
    """Give packets back, chains included, to the shared stack."""
    put(pool, meta, rows, rows.size)
    drain_cache(pool)


class Pool:
    """All buffers of a forwarder: ``data u8[n, BUF_STRIDE]``, ``meta META[n]`` and the free stack.

    Limits: n below 2**32 - 1 buffers.
    """

    def __init__(self, arena: Arena, n: int) -> None:
        self.arena = arena
        self.data: NDArray[np.uint8] = arena.make("data", (n, BUF_STRIDE), np.uint8)
        self.meta: NDArray[Any] = arena.make("meta", n, META)
        self.stack: NDArray[np.uint32] = arena.make("stack", HEADER_WORDS + n, np.uint32)
        self.size = n
        self.caches: list[NDArray[np.uint64]] = []
        self.stack[HEADER_WORDS:-1] = np.arange(1, n, dtype=np.uint32)
        self.stack[-1] = NIL
        self.stack[:HEADER_WORDS].view(np.uint64)[:] = (0 if n else NIL, n)
        self.meta["next"] = NIL
        self._own = self.cache()

    def cache(self) -> NDArray[np.uint64]:
        """A new cache, for one worker or thread: the ``pool`` argument of kernels."""
        cache = np.zeros(CACHE_HEADER + CACHE_ROOM, np.uint64)
        cache[1:3] = self.stack.ctypes.data, self.stack.size
        self.caches.append(cache)
        return cache

    @property
    def free(self) -> int:
        """Rows free in the stack and the caches. Exact while no worker runs."""
        shared = int(self.stack[:HEADER_WORDS].view(np.uint64)[1])
        return shared + sum(int(cache[0]) for cache in self.caches)

    def take(self, n: int) -> NDArray[np.uint32]:
        """Take n rows for the control plane (one thread). Fewer when the pool is short."""
        rows = np.zeros(n, np.uint32)
        rows = rows[: _take(self._own, rows, n)]
        self.meta["flags"][rows] = 0  # else an earlier packet's chain would be given back with them
        self.meta["next"][rows] = NIL
        return rows

    def put(self, rows: NDArray[np.uint32]) -> None:
        """Give packets back from the control plane, their chains included."""
        _put(self._own, self.meta, np.asarray(rows, np.uint32), len(rows))

    def check(self, held: Iterable[int] = ()) -> None:
        """Assert the invariant: every row is in the stack, a cache, or held (given with its chain).

        Only while no worker runs.
        """
        places = np.zeros(self.size, np.int64)
        row = int(self.stack[:2].view(np.uint64)[0]) & NIL
        while row != NIL:
            places[row] += 1
            assert places[row] == 1, f"buffer {row} is twice in the stack"
            row = int(self.stack[HEADER_WORDS + row])
        for cache in self.caches:
            np.add.at(places, cache[CACHE_HEADER : CACHE_HEADER + int(cache[0])].astype(int), 1)
        for first in held:
            row = int(first)
            while row != NIL:
                places[row] += 1
                row = int(self.meta[row]["next"])
        wrong = np.flatnonzero(places != 1)
        assert not wrong.size, (
            f"buffers lost or doubled: {wrong[:8]} are in {places[wrong[:8]]} places"
        )


@kernel
def _take(pool: Any, rows: Any, n: int) -> int:
    return take(pool, rows, n)


@kernel
def _put(pool: Any, meta: Any, rows: Any, n: int) -> None:
    put(pool, meta, rows, n)
