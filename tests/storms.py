# SPDX-License-Identifier: Apache-2.0
"""Random numbers and packets for fuzzers that run in kernels."""

import contextlib
import threading

import numpy as np

from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import CHAINED, HEADROOM, NIL
from vforward.memory.chain import LONGEST, begin_chain
from vforward.memory.pool import put_one, put_rest, take_one


@contextlib.contextmanager
def hailed(hail, *what):
    """In the block another thread is in hail(cases, state, *what, stop). Gives the other side's state."""
    stop = np.zeros(1, np.uint64)
    mine, its = (np.array([seed], np.uint64) for seed in (1 << 40, 3 << 50))
    hail(1, its, *what, stop)  # compiled before
    writer = threading.Thread(target=hail, args=(1 << 40, its, *what, stop))
    writer.start()
    try:
        yield mine
    finally:
        stop[0] = 1
        writer.join()


@kernel
def draw(state, n):
    """A number below n (xorshift64)."""
    x = state[0]
    x ^= x << u64(13)
    x ^= x >> u64(7)
    x ^= x << u64(17)
    state[0] = x
    return i64((x >> u64(11)) % u64(n))


@kernel
def give_back(meta, pool, row):
    if meta[row].flags & CHAINED:
        put_rest(pool, meta, row)
    put_one(pool, row)


@kernel
def packets(state, meta, pool, idx):
    """Packets to send, of any length and with any fields. Returns how many."""
    n = 1 + draw(state, 8)
    for i in range(n):
        row = take_one(pool)
        if row == NIL:
            return i
        length = draw(state, 2000) if draw(state, 8) else draw(state, LONGEST)
        if not begin_chain(meta, pool, row, length, 1):
            put_one(pool, row)
            return i
        if draw(state, 4) == 0:
            meta[row].flags |= np.uint32(draw(state, 128)) & ~np.uint32(CHAINED)
            meta[row].gso_type = draw(state, 6)
            meta[row].csum_start = HEADROOM + draw(state, 2100)
            meta[row].csum_off = draw(state, 64)
        idx[i] = row
    return n
