# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum over buffers: RFC 1071 (whole sums), RFC 1624 (incremental update).

Sums and checksums are i64 values of 16 bits, in host order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.be import load16, load32, load64, store16
from vforward.jit.kernel import inline, kernel
from vforward.layout import BUF_STRIDE, CHAINED, CSUM_PARTIAL


@inline
def fold(total: Any) -> Any:
    """The 16-bit ones-complement sum of what was added up in total (not negative, i64)."""
    total = (total & 0xFFFFFFFF) + (total >> 32)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@kernel
def sum_bytes(data: Any, row: Any, off: Any, n: Any) -> Any:
    """The ones-complement sum of n bytes at data[row, off], folded to 16 bits.

    An odd last byte counts as the high byte of a word (RFC 1071 section 4.1). 0 comes out only of
    zeros; any other zero is 0xffff.
    """
    total = np.int64(0)
    at = np.int64(off)
    for _ in range(n >> 3):
        word = load64(data, row, at)
        total += np.int64(word >> np.uint64(32)) + np.int64(word & np.uint64(0xFFFFFFFF))
        at += 8
    if n & 4:
        total += load32(data, row, at)
        at += 4
    if n & 2:
        total += load16(data, row, at)
        at += 2
    if n & 1:
        total += np.int64(data[row, at]) << 8
    return fold(total)


@kernel
def sum_to_end(data: Any, meta: Any, row: Any, off: Any) -> Any:
    """The ones-complement sum from data[row, off] to the packet's end, over all of its buffers."""
    n: Any = max(0, min(np.int64(meta[row].end), BUF_STRIDE) - off)
    total = sum_bytes(data, row, off, n)
    odd = n & 1
    buffer = np.int64(row)
    for _ in range(meta.size):  # a chain longer than the pool would be a loop
        if not meta[buffer].flags & CHAINED or meta[buffer].next >= meta.size:
            break
        buffer = np.int64(meta[buffer].next)
        start: Any = min(np.int64(meta[buffer].off), BUF_STRIDE)
        n = max(0, min(np.int64(meta[buffer].end), BUF_STRIDE) - start)
        part = sum_bytes(data, buffer, start, n)
        # behind an odd number of bytes, high and low change places: RFC 1071 section 2 (B)
        total += (part & 0xFF) << 8 | part >> 8 if odd else part
        odd ^= n & 1
    return fold(total)


@inline
def update16(checksum: Any, old: Any, new: Any) -> Any:
    """The checksum after one 16-bit word changed from old to new: RFC 1624 section 3, equation 3.

    As there, the result is what a fresh sum gives, unless all that is summed has become zero.
    """
    total = (np.int64(checksum) ^ 0xFFFF) + (np.int64(old) ^ 0xFFFF) + np.int64(new)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@kernel
def complete(data: Any, meta: Any, row: Any) -> bool:
    """Finish a packet's CSUM_PARTIAL checksum, if it has one, over all of its buffers.

    The sum runs from csum_start to the packet's end, over what the checksum's field already holds
    (the pseudo-header's sum); a result of 0 is stored as 0xffff, and the flag is cleared. This is
    Linux's skb_checksum_help. Returns False, with the flag cleared and the packet untouched, when
    csum_start and csum_off do not lie in the first buffer: they may come from a virtual machine.
    """
    if not meta[row].flags & CSUM_PARTIAL:
        return True
    meta[row].flags = meta[row].flags & ~np.uint32(CSUM_PARTIAL)
    start = np.int64(meta[row].csum_start)
    field = start + np.int64(meta[row].csum_off)
    end = np.int64(meta[row].end)
    if start < np.int64(meta[row].off) or field + 2 > end or end > BUF_STRIDE:
        return False
    checksum = sum_to_end(data, meta, row, start) ^ 0xFFFF
    store16(data, row, field, checksum if checksum else 0xFFFF)
    return True
