# SPDX-License-Identifier: Apache-2.0
"""Cases of single structures: the route table, the buffer pool."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.frames import random_slash24s
from benchmarks.graph_cases import MANY
from benchmarks.harness import row
from benchmarks.session import Session, arena
from vforward.jit.intrinsics import cycles, prefetch
from vforward.jit.kernel import i64, kernel
from vforward.layout import VECTOR_MAX
from vforward.memory import pool as pools
from vforward.tables import trie
from vforward.tables.fib import Fib4

BUFFERS = 4096
VECTORS = 16


@kernel
def look_up(root, nodes, addresses, found):
    """Clocks for the addresses, u32[n, vector], a vector at a time in three passes."""
    spent = np.uint64(0)
    for k in range(addresses.shape[0]):
        start = cycles()
        for i in range(addresses.shape[1]):
            entry = trie.first(root, 0, i64(addresses[k, i]) >> 16)
            trie.fetch(nodes, entry)
            found[i] = entry
        for i in range(addresses.shape[1]):
            if found[i] & trie.CHILD:
                slot = i64(addresses[k, i]) >> 8 & 0xFF
                found[i] = trie.CHILD | trie.place(nodes, i64(found[i]), slot)
                prefetch(nodes, i64(found[i]) & trie.CHILD - 1)
        for i in range(addresses.shape[1]):
            if found[i] & trie.CHILD:
                found[i] = trie.at(nodes, i64(found[i]) & trie.CHILD - 1)
            found[i] = trie.value(i64(found[i]))
        spent += cycles() - start
    return np.float64(spent)


@kernel
def take_and_put(pool, meta, rows, times):
    """Clocks to take rows.size buffers and put them back, so many times."""
    start = cycles()
    for _ in range(times):
        pools.put(pool, meta, rows, pools.take(pool, rows, rows.size))
    return np.float64(cycles() - start)


def fib4_lookup(session: Session) -> Iterator[dict[str, Any]]:
    """Random destinations over 512 000 random /24 routes, new ones for each vector."""
    prefixes = random_slash24s(MANY)
    rng = np.random.default_rng(2)
    found = np.zeros(VECTOR_MAX, np.uint32)
    with arena() as memory:
        table = Fib4(memory)
        values = 1 + np.arange(MANY, dtype=np.uint32)
        table.add_many(
            prefixes, np.full(MANY, 24, np.uint8), values, between=lambda _done: table.reclaim()
        )

        def run() -> list[float]:
            which = rng.integers(0, MANY, (VECTORS, VECTOR_MAX))
            addresses = prefixes[which] + rng.integers(0, 256, which.shape, np.uint32)
            clocks = look_up(table.root, table.nodes, addresses, found)
            if (found != 1 + which[-1]).any():
                msg = "fib4 found a wrong route"
                raise AssertionError(msg)
            return [clocks / addresses.size]

        measured = session.measure("fib4-lookup", run)
        mebibytes = round(table.memory() / (1 << 20), 1)
    yield row(
        "fib4-lookup",
        measured,
        "clocks/lookup",
        vector=VECTOR_MAX,
        packets=VECTORS * VECTOR_MAX,
        touched=0,
        routes=MANY,
        flows="random destinations, new ones each run",
        mebibytes=mebibytes,
    )


def pool(session: Session) -> Iterator[dict[str, Any]]:
    """A vector of buffers out of the worker's cache and back into it."""
    rows = np.zeros(VECTOR_MAX, np.uint32)
    with arena() as memory:
        made = pools.Pool(memory, BUFFERS)
        cache = made.cache()

        def run() -> list[float]:
            return [take_and_put(cache, made.meta, rows, VECTORS) / (VECTORS * VECTOR_MAX)]

        measured = session.measure("pool", run)
        made.check()
    packets = VECTORS * VECTOR_MAX
    yield row("pool", measured, "clocks/buffer", vector=VECTOR_MAX, packets=packets, touched=0)
