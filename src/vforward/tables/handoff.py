# SPDX-License-Identifier: Apache-2.0
"""handoff: by which rings workers hand packets to each other, and how who sleeps is woken.

    handoff  u64[8 * (1 + workers)]   one for each kind of ring, shared by all workers

    line 0       word 0   how many workers there are
    line 1 + w   of worker w: address and words of its ring (rings.mpsc), address of its word ASLEEP
                 (graph.control), its eventfd, address of write(2), and 1, which is written there

A worker that is about to sleep stores ASLEEP, then polls its rings once more; who hands it packets
pushes them, then looks at ASLEEP. Both have a fence in between, so one of them sees the other.

Owner       control, before the workers start.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import compare_swap64, fence, load_acquire64
from vforward.jit.intrinsics import address, call3, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings import mpsc

LINE = 8
RING, WORDS, ASLEEP, EVENTFD, WRITE, ONE = range(6)


@inline
def workers(handoff: Any) -> Any:
    """How many workers there are."""
    return i64(handoff[0])


@kernel
def give(handoff: Any, worker: int, rows: Any, n: int) -> int:
    """Hand the first n rows to a worker, or as many as fit; returns how many. Wakes it if it sleeps.

    Those rows are its own then, and nobody else's.
    """
    at = LINE * (1 + worker)
    ring = view(i64(handoff[at + RING]), i64(handoff[at + WORDS]), np.uint64)
    done = i64(mpsc.push(ring, rows, n))
    fence()
    asleep = i64(handoff[at + ASLEEP])
    if load_acquire64(asleep) and compare_swap64(asleep, u64(1), u64(0)):
        where = address(handoff) + 8 * (at + ONE)
        call3(i64(handoff[at + WRITE]), i64(handoff[at + EVENTFD]), where, 8)
    return done


def make(n_workers: int) -> NDArray[np.uint64]:
    """A table without rings yet."""
    table = np.zeros(LINE * (1 + n_workers), np.uint64)
    table[0] = n_workers
    return table


def set_ring(table: NDArray[np.uint64], worker: int, ring: NDArray[np.uint64]) -> None:
    """Tell a worker's ring."""
    at = LINE * (1 + worker)
    table[[at + RING, at + WORDS]] = ring.ctypes.data, ring.size


def set_bell(table: NDArray[np.uint64], worker: int, asleep: int, eventfd: int, write: int) -> None:
    """Tell how a worker is woken: addresses of its word ASLEEP and of write(2), and its eventfd."""
    at = LINE * (1 + worker)
    table[[at + ASLEEP, at + EVENTFD, at + WRITE, at + ONE]] = asleep, eventfd, write, 1
