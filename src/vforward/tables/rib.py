# SPDX-License-Identifier: Apache-2.0
"""All routes of a table, of all its VRFs: ``RIB[2**k]``, a hash table with open addressing.

A prefix is 128 bits in two halves, its first bit the highest of ``high``; IPv4 has 32 of them, and
zeros. Bits behind the prefix are zeros. A route is found by VRF, prefix and length; ``leaf`` is what
the trie has for it (tables.trie), never 0: that is an empty slot.

Owner       The control plane's, in its own memory: workers do not see it.
Complexity  Linear probing at a load of at most a half: some 1.5 slots for a route that is there, 2.5
            for one that is not (Knuth, TAOCP 6.4). ``cover`` asks once for each shorter length in use.
Limits      The caller makes a larger array before it is half full (``copied``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import prefetch
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.tables.trie import LENGTH

RIB = np.dtype(
    [
        ("high", np.uint64),
        ("low", np.uint64),
        ("leaf", np.uint32),  # prefix length + 1, and the value
        ("vrf", np.uint32),
    ]
)
assert RIB.itemsize == 24

RIB_MIN = 1024
LENGTHS = 129
"""Prefix lengths there are."""

ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio
OTHER = np.uint64(0xC2B2AE3D27D4EB4F)


@inline
def upper_mask(length: Any) -> Any:
    """The mask of a prefix in the high half, u64."""
    if length >= 64:
        return ~u64(0)
    return ~(~u64(0) >> u64(length))


@inline
def lower_mask(length: Any) -> Any:
    """The mask of a prefix in the low half, u64."""
    if length >= 128:
        return ~u64(0)
    if length <= 64:
        return u64(0)
    return ~(~u64(0) >> u64(length - 64))


@inline
def _home(rib: Any, vrf: Any, high: Any, low: Any, length: Any) -> Any:
    mixed = (high ^ u64(vrf << 8 | length) * OTHER) * ODD
    mixed = (mixed ^ mixed >> u64(32) ^ low) * OTHER
    return i64((mixed ^ mixed >> u64(29)) * ODD >> u64(24)) & (rib.size - 1)


@inline
def find(rib: Any, vrf: Any, high: Any, low: Any, length: Any) -> Any:
    """Where a route is, or the empty slot it would take. The prefix is masked."""
    at = _home(rib, vrf, high, low, length)
    while rib[at].leaf != 0:
        if rib[at].high == high and rib[at].low == low:
            if rib[at].vrf == vrf and i64(rib[at].leaf) >> LENGTH == length + 1:
                break
        at = at + 1 & (rib.size - 1)
    return at


@inline
def put(rib: Any, at: Any, vrf: Any, high: Any, low: Any, leaf: Any) -> None:
    """Write a route to the slot that find gave."""
    rib[at].high, rib[at].low, rib[at].leaf, rib[at].vrf = high, low, leaf, vrf


@inline
def _move(rib: Any, source: Any, to: Any) -> None:
    put(rib, to, rib[source].vrf, rib[source].high, rib[source].low, rib[source].leaf)


@inline
def _home_of(rib: Any, at: Any) -> Any:
    length = (i64(rib[at].leaf) >> LENGTH) - 1
    return _home(rib, i64(rib[at].vrf), rib[at].high, rib[at].low, length)


@inline
def remove(rib: Any, hole: Any) -> None:
    """Empty a slot, and move back into it what only lies behind because it was taken."""
    mask = rib.size - 1
    at = hole + 1 & mask
    while rib[at].leaf != 0:
        if (at - _home_of(rib, at) & mask) >= (at - hole & mask):
            _move(rib, at, hole)
            hole = at
        at = at + 1 & mask
    rib[hole].leaf = 0


@inline
def cover(rib: Any, counts: Any, vrf: Any, high: Any, low: Any, length: Any) -> Any:
    """The leaf of the longest route that covers a prefix but is shorter, or 0.

    counts: routes of a VRF by length.
    """
    for shorter in range(length - 1, -1, -1):  # the misses of all of them at once
        if counts[vrf, shorter] != 0:
            upper, lower = high & upper_mask(shorter), low & lower_mask(shorter)
            prefetch(rib, _home(rib, vrf, upper, lower, shorter))
    for shorter in range(length - 1, -1, -1):
        if counts[vrf, shorter] != 0:
            upper, lower = high & upper_mask(shorter), low & lower_mask(shorter)
            at = find(rib, vrf, upper, lower, shorter)
            if rib[at].leaf != 0:
                return i64(rib[at].leaf)
    return i64(0)


@kernel
def find_one(rib: Any, vrf: Any, high: Any, low: Any, length: Any) -> Any:
    """find, for Python."""
    return find(rib, vrf, high, low, length)


@kernel
def _rehash(old: Any, new: Any) -> None:
    for i in range(old.size):
        if old[i].leaf != 0:
            length = (i64(old[i].leaf) >> LENGTH) - 1
            vrf = i64(old[i].vrf)
            at = find(new, vrf, old[i].high, old[i].low, length)
            put(new, at, vrf, old[i].high, old[i].low, i64(old[i].leaf))


def empty(slots: int = RIB_MIN) -> NDArray[Any]:
    """A table of so many slots, a power of two."""
    return np.zeros(slots, RIB)


def copied(rib: NDArray[Any], slots: int) -> NDArray[Any]:
    """The same routes in a table of another size."""
    new = empty(slots)
    _rehash(rib, new)
    return new
