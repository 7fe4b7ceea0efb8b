# SPDX-License-Identifier: Apache-2.0
"""Route tables with the lengths and the clusters of the Internet's, and destinations in them.

Drawn, not recorded: a table of today may not be copied here, and one drawn is the same everywhere.

Lengths   The shares of the IPv4 and the IPv6 table as the CIDR report, bgp.potaroo.net and RIPE
          RIS give them for 2023 to 2025, rounded; what they leave over is the longest common one's.
Clusters  IPv4: prefixes longer than /16 lie in 40 000 of the 56 800 /16s that may hold any, in each
          as many as a lognormal weight (sigma 1) gives it. IPv6: prefixes longer than /32 lie in
          25 000 allocations of /32, weighted alike, and those in 120 blocks of /20, as registries
          hand them out. Both come in groups of siblings side by side, 4 on average (geometric), as
          who splits an allocation announces them.
Values    One of 8 next hops for each prefix, whatever its sibling has: so nothing folds together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 20261123
NEXT_HOPS = 8
LENGTHS4 = {
    8: 0.002, 9: 0.002, 10: 0.005, 11: 0.01, 12: 0.03, 13: 0.06, 14: 0.12, 15: 0.2, 16: 1.4,
    17: 0.85, 18: 1.4, 19: 2.6, 20: 4.5, 21: 5.2, 22: 11.0, 23: 10.0, 24: 0.0,
}  # fmt: skip
"""Percent of all prefixes; /24 has the rest, 62.6."""
LENGTHS6 = {
    20: 0.01, 22: 0.02, 24: 0.03, 26: 0.03, 27: 0.03, 28: 0.2, 29: 2.5, 30: 0.5, 31: 0.3, 32: 12.0,
    33: 1.9, 34: 1.3, 35: 0.8, 36: 4.5, 37: 0.5, 38: 1.2, 39: 0.9, 40: 8.0, 41: 0.8, 42: 2.5,
    43: 0.8, 44: 9.0, 45: 1.2, 46: 4.0, 47: 3.0, 48: 0.0,
}  # fmt: skip
"""Percent; /48 has the rest, 43.9."""
GROUP = 4.0
DESTINATIONS = 1 << 20


def bgp4(n: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Prefixes and lengths of an IPv4 table of n routes, in random order."""
    rng = np.random.default_rng(SEED)
    unicast = np.arange(1 << 8, 224 << 8)
    unicast = unicast[unicast >> 8 != 127]
    homes = rng.choice(unicast, 40_000, replace=False) << 16
    short = unicast << 16
    drawn = [
        _draw(rng, length, count, homes if length > 16 else short, 16 if length > 16 else 8, 32)
        for length, count in _counts(LENGTHS4, n).items()
    ]
    return _shuffled(rng, drawn, np.uint32)


def bgp6(n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """High halves and lengths of an IPv6 table of n routes, in random order; low halves are 0."""
    rng = np.random.default_rng(SEED + 1)
    tops = [0x2001, 0x2003, *range(0x2400, 0x240F), *range(0x2600, 0x2608), *range(0x2800, 0x2804)]
    tops += [*range(0x2A00, 0x2A10), 0x2C0F]
    blocks = np.array(tops)[rng.integers(0, len(tops), 120)] << 16 | rng.integers(0, 16, 120) << 12
    homes = np.unique(blocks[rng.integers(0, 120, 40_000)] | rng.integers(0, 1 << 12, 40_000))
    homes = rng.choice(homes, 25_000, replace=False)
    drawn = []
    for length, count in _counts(LENGTHS6, n).items():
        within, size = (homes, 32) if length > 32 else (np.unique(blocks), 20)
        drawn.append(_draw(rng, length, count, within << (48 - 32), min(size, length), 48))
    prefixes, lengths = _shuffled(rng, drawn, np.uint64)
    return prefixes << np.uint64(16), lengths


def values(n: int) -> NDArray[np.uint32]:
    """The next hops of n routes."""
    return np.random.default_rng(SEED + 2).integers(1, NEXT_HOPS + 1, n).astype(np.uint32)


def destinations4(
    prefixes: NDArray[np.uint32], lengths: NDArray[np.uint8], n: int = DESTINATIONS
) -> NDArray[np.uint32]:
    """n addresses: each in a prefix drawn evenly from all, anywhere in it."""
    rng = np.random.default_rng(SEED + 3)
    which = rng.integers(0, len(prefixes), n)
    host = rng.integers(0, 1 << 32, n) & (1 << 32 - lengths[which].astype(np.int64)) - 1
    return (prefixes[which] | host).astype(np.uint32)


def destinations6(
    prefixes: NDArray[np.uint64], lengths: NDArray[np.uint8], n: int = DESTINATIONS
) -> NDArray[np.uint64]:
    """The same, n pairs of halves, one after the other. Lengths are at most 64."""
    rng = np.random.default_rng(SEED + 4)
    which = rng.integers(0, len(prefixes), n)
    host = rng.integers(0, 1 << 64, n, np.uint64) >> lengths[which].astype(np.uint64)
    pairs = np.stack([prefixes[which] | host, rng.integers(0, 1 << 64, n, np.uint64)], axis=1)
    return np.ascontiguousarray(pairs.reshape(-1))


def _counts(shares: dict[int, float], n: int) -> dict[int, int]:
    """How many of each length; the last has what the others leave."""
    counts = {length: max(1, round(n * share / 100)) for length, share in shares.items()}
    last = max(shares)
    counts[last] = n - sum(count for length, count in counts.items() if length != last)
    return counts


def _draw(
    rng: np.random.Generator, length: int, n: int, homes: NDArray[Any], within: int, bits: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """n distinct prefixes of a length in homes (prefixes of ``within`` bits, left-aligned in bits)."""
    weights = rng.lognormal(0, 1, len(homes))
    weights /= weights.sum()
    found = np.empty(0, np.int64)
    inner = length - within
    while len(found) < n:
        groups = int(n / GROUP) + 16
        sizes = rng.geometric(1 / GROUP, groups) if inner > 0 else np.ones(groups, np.int64)
        home = np.repeat(rng.choice(homes, groups, p=weights), sizes)
        begin = np.repeat(rng.integers(0, 1 << max(inner, 0), groups), sizes)
        step = np.arange(len(home)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        slot = begin + step & (1 << max(inner, 0)) - 1
        made = home >> bits - length << bits - length | slot << bits - length
        found = np.unique(np.concatenate([found, made]))
    return rng.choice(found, n, replace=False), np.full(n, length, np.uint8)


def _shuffled(
    rng: np.random.Generator, drawn: list[tuple[NDArray[Any], NDArray[Any]]], kind: Any
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    prefixes = np.concatenate([prefix for prefix, _ in drawn]).astype(kind)
    lengths = np.concatenate([length for _, length in drawn])
    order = rng.permutation(len(prefixes))
    return prefixes[order], lengths[order]
