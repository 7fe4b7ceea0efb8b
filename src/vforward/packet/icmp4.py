# SPDX-License-Identifier: Apache-2.0
"""ICMP for IPv4 (RFC 792): offsets from the message's start, types and codes, its checksum."""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.kernel import kernel
from vforward.layout import BUF_STRIDE, CHAINED
from vforward.packet.checksum import fold, sum_bytes

TYPE, CODE, CHECKSUM, REST = 0, 1, 2, 4
HEADER = 8

ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED = 0, 3, 8, 11
QUERIES = 1 << 0 | 1 << 8 | 1 << 13 | 1 << 14 | 1 << 15 | 1 << 16
"""Bit set of the types that an error may be about: RFC 1122 section 3.2.2."""

PROTOCOL_UNREACHABLE, PORT_UNREACHABLE = UNREACHABLE << 8 | 2, UNREACHABLE << 8 | 3
"""Type << 8 | code."""


@kernel
def message_sum(data: Any, meta: Any, row: Any, off: Any) -> Any:
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
