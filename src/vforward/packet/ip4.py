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

GROUPS = 0xE0000000
"""From here on an address is not one host's: 224/4 (RFC 5771), 240/4 (RFC 1112 section 4)."""
LINK_GROUPS = GROUPS >> 8
"""The first 24 bits of 224.0.0/24: groups that never leave their link (RFC 5771 section 4)."""
BROADCAST = 0xFFFFFFFF

_INVERSE_65535 = np.uint64(0xFFFEFFFEFFFEFFFF)
_LARGEST_QUOTIENT = np.uint64(0xFFFFFFFFFFFFFFFF // 0xFFFF)


@inline
def header_words(data: Any, row: Any, off: Any) -> Any:
    """The 20 bytes at off as three u64 in the processor's order: 8, 8 and 4 bytes."""
    last = np.uint64(raw_load32(data, row, off + 16))
    return raw_load64(data, row, off), raw_load64(data, row, off + 8), last


@inline
def checksum_right(a: Any, b: Any, c: Any) -> Any:
    """Whether the ones-complement sum of a header of 20 bytes is 0xFFFF, given its header_words.

    The sum does not depend on byte order (RFC 1071 section 2B), and 65535 divides 2**64 - 1, so the
    words are added with the carry brought around, and the question is whether 65535 divides the sum:
    one multiplication by its inverse modulo 2**64 (Granlund and Montgomery 1994, section 9). A header
    of zeros, divisible too, has no version 4.
    """
    first = a + b
    second = first + c + np.uint64(first < a)
    total = second + np.uint64(second < c)
    return total * _INVERSE_65535 <= _LARGEST_QUOTIENT
