# SPDX-License-Identifier: Apache-2.0
"""rate_limit: how many ICMP errors may be sent, in all and to each destination.

RFC 1812 section 4.3.2.8, RFC 4443 section 2.4(f). Token buckets, each one word: the time at which it
will be full again (the generic cell rate algorithm, ITU-T I.371 annex A, "virtual scheduling"). So
nothing has to be refilled, and however long it was idle nothing overflows.

    limits  u64[8 + 2 * n]   n a power of two

    word 0, 1   in all: step, cycles that one error costs; slack, cycles that may be owed: (burst - 1)
                steps. All 0: no limit
    word 2, 3   the same of each destination
    word 4      in all: when the bucket is full again
    word 5      salt: odd, random
    word 8..    n slots of two words: key of a destination, when its bucket is full again

A key lies in one of the WINDOW slots, a cache line, that its hash names. A new one takes the slot
whose bucket is the fullest. If none is full it inherits what is owed, so that who sends from many
addresses gains nothing by pushing out his own.

Owner       The control plane writes words 0 to 3 and 5; a worker the others. Workers that share it
            may lose each other's steps: then a few errors more are sent.
Complexity  WINDOW comparisons.
Limits      n destinations that have been told of errors of late; times in TSC cycles, 2**63 of them.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, inline, kernel, u64

RATE, BURST = 1000, 50
"""Errors per second in all, and at once: Linux's icmp_msgs_per_sec and icmp_msgs_burst."""
EACH_RATE, EACH_BURST = 10, 10
"""To each destination: the example of RFC 4443 section 2.4(f). A traceroute is not slowed down."""
DESTINATIONS = 4096
"""The usual n."""

STEP, SLACK, EACH_STEP, EACH_SLACK, FULL_AT, SALT = range(6)
HEADER = 8
WINDOW = 4

_UNLIMITED = 1 << 62
_HASH = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio (Knuth, TAOCP 6.4)


@inline
def key_of(high: Any, low: Any) -> Any:
    """The key of a destination: an address in two halves, see tables.addresses."""
    return u64(high) * _HASH ^ u64(low)


@inline
def _slot(limits: Any, key: Any) -> Any:
    """Where the key's slot is: its own, or else the one of its window that is full the soonest."""
    windows = (limits.size - HEADER) // (2 * WINDOW)
    home = i64((key * limits[SALT]) >> u64(32)) & (windows - 1)
    first = HEADER + home * 2 * WINDOW
    best = first
    for k in range(first, first + 2 * WINDOW, 2):
        if limits[k] == key:
            return k
        if limits[k + 1] < limits[best + 1]:
            best = k
    return best


@kernel
def allow(limits: Any, key: Any, now: Any) -> bool:
    """Whether an error may be sent to a destination at a time (u64, cycles); if so it is counted.

    What one bucket refuses the other does not pay for.
    """
    slot = _slot(limits, key)
    each, total = limits[slot + 1], limits[FULL_AT]
    if each > now + limits[EACH_SLACK] or total > now + limits[SLACK]:
        return False
    limits[slot] = key
    limits[slot + 1] = max(each, now) + limits[EACH_STEP]
    limits[FULL_AT] = max(total, now) + limits[STEP]
    return True


def items_for(destinations: int = DESTINATIONS) -> int:
    """Items of the array for this many destinations, rounded up to a power of two."""
    return HEADER + 2 * (1 << (max(destinations, WINDOW) - 1).bit_length())


def prepare(
    limits: NDArray[np.uint64],
    hz: int,
    *,
    rate: int = RATE,
    burst: int = BURST,
    each_rate: int = EACH_RATE,
    each_burst: int = EACH_BURST,
) -> NDArray[np.uint64]:
    """Set the rates (errors per second, 0: no limit) and bursts (1 at least). Returns the array.

    hz: cycles per second. A worker may be running; a salt that is there stays.
    """
    if not limits[SALT]:
        limits[SALT] = secrets.randbits(64) | 1
    limits[STEP], limits[SLACK] = _bucket(hz, rate, burst)
    limits[EACH_STEP], limits[EACH_SLACK] = _bucket(hz, each_rate, each_burst)
    return limits


def _bucket(hz: int, rate: int, burst: int) -> tuple[int, int]:
    """Step and slack."""
    if not rate:
        return 0, _UNLIMITED
    step = max(1, hz // rate)
    return step, (burst - 1) * step
