# SPDX-License-Identifier: Apache-2.0
"""pieces: which parts of a datagram have been seen, as ranges of units of eight bytes.

RFC 815 keeps holes; here it is what is between them. A record has ``ranges u16[2 * RANGES_MAX]``, pairs
of where a range begins and where it ends, in no order; ``n_ranges``; ``highest``, the end of what
reaches the farthest; ``total``, where the datagram ends, or 0 while its last piece is missing. Ranges
that touch become one, so what comes in order takes one.

Only the last piece may end inside of a unit, and nothing begins there: so whole units find every
overlap of bytes (RFC 5722: such a datagram is not to be put together; RFC 3128).

Complexity  RANGES_MAX comparisons.
Limits      RANGES_MAX ranges at a time.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, kernel

UNIT = 8
RANGES_MAX = 16
UNITS_MAX = 65536 // UNIT

FITS, OVERLAPS, BEYOND, TOO_MANY, COPY = 0, 1, 2, 3, 4
"""What fits says. COPY: all of it has been seen. OVERLAPS: a part has. BEYOND: behind the last piece, or a
last piece that is not behind all others."""


@kernel
def fits(record: Any, start: Any, end: Any, more: Any) -> Any:
    """Whether a piece from unit start to unit end, not empty, may be added; or why not. i64."""
    n = i64(record.n_ranges)
    neighbors = i64(0)
    for k in range(n):
        first, last = i64(record.ranges[2 * k]), i64(record.ranges[2 * k + 1])
        if start < last and first < end:
            return i64(COPY) if first <= start and end <= last else i64(OVERLAPS)
        neighbors += (first == end) + (last == start)
    total = i64(record.total)
    if total != 0 and (end > total or not more):
        return i64(BEYOND)
    if not more and end < i64(record.highest):
        return i64(BEYOND)
    if neighbors == 0 and n == RANGES_MAX:
        return i64(TOO_MANY)
    return i64(FITS)


@kernel
def add(record: Any, start: Any, end: Any, more: Any) -> None:
    """Add a piece that fits."""
    if not more:
        record.total = end
    record.highest = max(end, i64(record.highest))
    k = i64(0)
    while k < i64(record.n_ranges):
        first, last = i64(record.ranges[2 * k]), i64(record.ranges[2 * k + 1])
        if first == end or last == start:  # take it out, and put in the two as one
            start, end = min(first, start), max(last, end)
            record.n_ranges -= 1
            n = i64(record.n_ranges)
            record.ranges[2 * k] = record.ranges[2 * n]
            record.ranges[2 * k + 1] = record.ranges[2 * n + 1]
        else:
            k += 1
    n = i64(record.n_ranges)
    record.ranges[2 * n] = start
    record.ranges[2 * n + 1] = end
    record.n_ranges = n + 1


@kernel
def is_whole(record: Any) -> bool:
    """Whether all pieces have been seen."""
    return (
        record.n_ranges == 1
        and record.total != 0
        and record.ranges[0] == 0
        and record.ranges[1] == record.total
    )
