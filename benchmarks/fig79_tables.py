# SPDX-License-Identifier: Apache-2.0
"""Tables for fig79: the IPv4 path over routes whose nodes fit L1, L2, L3, and no cache of less than 43 MiB.

Routes are /24s, half of the 256 in each of so many /16s side by side, drawn at random, each to another
neighbor than the one before it. Destinations are drawn evenly from the routes.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from benchmarks import caches, graphs
from benchmarks.frames import SEED
from benchmarks.without_prefetch import without_prefetch
from vforward.memory.arena import Arena
from vforward.nodes.ip4 import input as ip4_input
from vforward.nodes.ip4 import lookup as ip4_lookup
from vforward.nodes.ip4 import rewrite as ip4_rewrite
from vforward.tables import trie
from vforward.tables.fib import Fib4

ROUTES = 128
"""In a /16."""
BLOCK_BYTES = 1 << 10
"""About what a /16 of them takes."""
FIRST = 0x0B00
MOST = 0xE000 - FIRST - 0x100
"""/16s from 11.0 to 223.255 without 127. Their nodes take 43 MiB, and more of such routes there are not."""
PARTS = {"L1": 2, "L2": 2, "L3": 4}
"""A table takes this part of its cache: the packets are there as well, and L3 is shared."""
DESTINATIONS = 1 << 20


def blocks(level: str, sizes: dict[str, int]) -> int:
    """How many /16s make a table for a level."""
    if level == caches.MEMORY:
        return MOST
    return min(MOST, max(1, sizes[level] // PARTS[level] // BLOCK_BYTES))


def prefixes(n: int) -> NDArray[np.uint32]:
    """The routes of so many /16s, in order."""
    homes = np.arange(FIRST, 0xE000, dtype=np.uint32)
    homes = homes[homes >> 8 != 127][:n]
    rng = np.random.default_rng(SEED)
    chosen = np.argsort(rng.random((n, 256)), axis=1)[:, :ROUTES].astype(np.uint32)
    chosen.sort(axis=1)
    return (homes[:, None] << np.uint32(16) | chosen << np.uint32(8)).reshape(-1)


class Table:
    """Routes in a FIB, in an arena of its own, and the path over them with prefetch and without."""

    def __init__(self, memory: Arena, level: str, sizes: dict[str, int]) -> None:
        routes = prefixes(blocks(level, sizes))
        self.routes = len(routes)
        values = (1 + np.arange(self.routes) % graphs.ADJACENCIES).astype(np.uint32)
        self._fib = Fib4(memory)
        lengths = np.full(self.routes, 24, np.uint8)
        self._fib.add_many(routes, lengths, values, between=lambda _done: self._fib.reclaim())
        rng = np.random.default_rng(SEED + 1)
        drawn = routes[rng.integers(0, self.routes, DESTINATIONS)]
        self.destinations = drawn | rng.integers(0, 256, DESTINATIONS, np.uint32)
        self.bytes = int(self._fib.nodes[0]) * trie.WORDS * 4
        """Of the nodes that look-ups touch."""

    def bench(self, memory: Arena, *, prefetch: bool) -> graphs.Bench:
        """A path over the routes, in another arena."""
        looked_up = ip4_lookup.NODE if prefetch else without_prefetch(ip4_lookup.NODE)
        lookup = cast("ModuleType", SimpleNamespace(NODE=looked_up))
        names = [looked_up.name if n == "ip4-lookup" else n for n in graphs.IP4_PATH]
        graph = graphs.path(memory, self._fib, ip4_input, lookup, ip4_rewrite)
        return graphs.Listed(graph, names, self.destinations)
