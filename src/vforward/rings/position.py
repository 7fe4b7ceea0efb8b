# SPDX-License-Identifier: Apache-2.0
"""Positions in a packed virtqueue: a descriptor's number and, in bit 15, a wrap counter.

VIRTIO 1.2, section 2.8.1, and 2.8.10 for the bits.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, inline
from vforward.rings.virtqueue import SIZE

WRAP, NUMBER = 1 << 15, (1 << 15) - 1
START = WRAP
"""Where a queue begins that nobody has used."""
F_AVAIL, F_USED = 1 << 7, 1 << 15
F_LAPS = F_AVAIL | F_USED


@inline
def advance(queue: Any, position: Any, n: Any) -> Any:
    """The position n descriptors on, 0 <= n <= SIZE."""
    number, wrap, size = (position & NUMBER) + n, position & WRAP, i64(queue[SIZE])
    if number >= size:
        number -= size
        wrap ^= WRAP
    return number | wrap


@inline
def available_flags(position: Any) -> Any:
    """What F_LAPS of an available descriptor are there."""
    return i64(F_AVAIL) if position & WRAP else i64(F_USED)


@inline
def used_flags(position: Any) -> Any:
    """What they are of a used one."""
    return i64(F_LAPS) if position & WRAP else i64(0)


@inline
def between(queue: Any, first: Any, last: Any) -> Any:
    """How many descriptors it is from one position to another, less than two laps."""
    size = i64(queue[SIZE])
    n = (last & NUMBER) - (first & NUMBER) + (size if (first ^ last) & WRAP else i64(0))
    return n if n >= 0 else n + 2 * size
