# SPDX-License-Identifier: Apache-2.0
"""IPv4 (RFC 791): offsets in bytes from the header's start, protocol numbers, the header checksum."""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.be import raw_load32, raw_load64
from vforward.jit.kernel import inline

VERSION_IHL, TOS, LENGTH, IDENT, FRAGMENT, TTL, PROTOCOL, CHECKSUM, SRC, DST = (
    0, 1, 2, 4, 6, 8, 9, 10, 12, 16,
)  # fmt: skip
HEADER = 20
"""Bytes of a header without options."""

DONT_FRAGMENT, MORE_FRAGMENTS, OFFSET_MASK = 0x4000, 0x2000, 0x1FFF
ICMP, TCP, UDP = 1, 6, 17

_LOW32 = np.uint64(0xFFFFFFFF)
_LOW16 = np.uint64(0xFFFF)


@inline
def header_sum(data: Any, row: Any, off: Any) -> Any:
    """The ones-complement sum of the 20 bytes at off, in the processor's byte order, u64.

    0xFFFF says that the checksum in it is right (RFC 1071 section 1: the sum does not depend on
    byte order, so nothing is swapped).
    """
    a, b = raw_load64(data, row, off), raw_load64(data, row, off + 8)
    c = np.uint64(raw_load32(data, row, off + 16))
    total = (a & _LOW32) + (a >> np.uint64(32)) + (b & _LOW32) + (b >> np.uint64(32)) + c
    total = (total & _LOW16) + ((total >> np.uint64(16)) & _LOW16) + (total >> np.uint64(32))
    total = (total & _LOW16) + (total >> np.uint64(16))
    return (total & _LOW16) + (total >> np.uint64(16))
