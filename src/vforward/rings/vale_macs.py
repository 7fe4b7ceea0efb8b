# SPDX-License-Identifier: Apache-2.0
"""The MAC table of a VALE switch: which port a station was last heard at.

    macs  u64[8 * 2**12]   buckets of one cache line, 8 entries each
    entry  63        16 15      8 7    0
           MAC          port + 1  tick       0: empty

Age is counted in ticks, modulo 256, PER_AGE of them in the time that an entry lives. (netmap's VALE
forgets nothing.) A bucket that is full loses the entry that was silent longest: whose frames are flooded
until it speaks. MACs stand as in memory, lowest byte first.

Owner: the switch's thread alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.jit.vector import any_near, near

WAYS = 8
BUCKETS = 1 << 12
TICKS = 256
PER_AGE = 16
"""Ticks that an entry lives."""
NOBODY = -1

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio (Knuth, TAOCP 6.4)
_LIMIT = 1 << 16


def make_macs() -> NDArray[np.uint64]:
    """An empty table."""
    return np.zeros(WAYS * BUCKETS, np.uint64)


@inline
def _bucket(mac: Any) -> Any:
    """Index of the first entry of a MAC's bucket, u64."""
    return ((mac * _MULTIPLIER) >> u64(52)) << u64(3)


@inline
def _entry(macs: Any, mac: Any) -> Any:
    """The MAC's entry, or 0."""
    tag = mac << u64(16)
    entry = near(macs, _bucket(mac), tag, u64(_LIMIT))
    return entry if (entry ^ tag) < u64(_LIMIT) else u64(0)


@inline
def find(macs: Any, mac: Any) -> Any:
    """The port of a MAC (u64), or NOBODY."""
    return (i64(_entry(macs, mac) >> u64(8)) & 0xFF) - 1


@inline
def learn(macs: Any, mac: Any, port: Any, now: Any) -> None:
    """A frame of a MAC (u64, no group's) came in by port, at this tick."""
    new = mac << u64(16) | u64((port + 1) << 8 | now)
    if not any_near(macs, _bucket(mac), new, u64(1)) and mac != u64(0):
        _put(macs, mac, new, now)


@kernel
def _put(macs: Any, mac: Any, new: Any, now: Any) -> None:
    """Write an entry: over its old one, into an empty one, or over the oldest."""
    first = i64(_bucket(mac))
    place, silent = first, i64(-1)
    for at in range(first, first + WAYS):
        entry = macs[at]
        if (entry ^ new) < u64(_LIMIT):
            place = at
            break
        age = i64(TICKS) if entry == u64(0) else (now - i64(entry & u64(0xFF))) & (TICKS - 1)
        if age > silent:
            place, silent = at, age
    macs[place] = new


@kernel
def age_out(macs: Any, now: Any) -> Any:
    """Remove what was silent for more than PER_AGE ticks. Returns how many."""
    gone = i64(0)
    for at in range(macs.size):
        entry = macs[at]
        if entry != u64(0) and (now - i64(entry & u64(0xFF))) & (TICKS - 1) > PER_AGE:
            macs[at] = u64(0)
            gone += 1
    return gone


@kernel
def forget(macs: Any, port: Any) -> None:
    """Remove what was learned at a port."""
    for at in range(macs.size):
        if i64(macs[at] >> u64(8)) & 0xFF == port + 1:
            macs[at] = u64(0)


@kernel
def lookup(macs: Any, mac: Any) -> Any:
    """As find, for Python code."""
    return find(macs, u64(mac))


@kernel
def heard(macs: Any, mac: Any, port: Any, now: Any) -> None:
    """As learn, for Python code."""
    learn(macs, u64(mac), i64(port), i64(now))
