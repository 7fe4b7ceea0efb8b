# SPDX-License-Identifier: Apache-2.0
"""The IPv6 fragment header: RFC 8200 section 4.5. Offsets in bytes from its start."""

from __future__ import annotations

from typing import Any

from vforward.jit.be import load16
from vforward.jit.kernel import i64, kernel
from vforward.packet import ip6

NEXT_HEADER, OFFSET, IDENT = 0, 2, 4
HEADER = 8
MORE = 1
"""In the word at OFFSET; its other bits: ip6.FRAGMENT_OFFSET and two that are reserved."""
NONE = -1

WALKED = (
    1 << ip6.HOP_BY_HOP | 1 << ip6.ROUTING | 1 << ip6.AUTHENTICATION | 1 << ip6.DESTINATION
)  # fmt: skip
"""Bit set of the headers that may stand in front of a fragment header, all below 64."""


@kernel
def find(data: Any, row: Any, l3: Any, end: Any) -> Any:
    """Where the packet's first fragment header begins, or NONE.

    NONE too where it does not lie before end, whole, or behind more than ip6.HEADERS_MAX others.
    """
    protocol = i64(data[row, l3 + ip6.NEXT_HEADER])
    at = i64(l3 + ip6.HEADER)
    for _ in range(ip6.HEADERS_MAX + 1):
        if at + HEADER > end:
            break
        if protocol == ip6.FRAGMENT:
            return at
        if protocol > 63 or not WALKED >> protocol & 1:
            break
        size = (i64(data[row, at + 1]) + 1) * 8
        if protocol == ip6.AUTHENTICATION:
            size = (i64(data[row, at + 1]) + 2) * 4  # RFC 4302 section 2.2
        protocol = i64(data[row, at])
        at += size
    return i64(NONE)


@kernel
def is_piece(data: Any, row: Any, at: Any) -> bool:
    """Whether the fragment header at at is that of a piece, and not of a whole packet (RFC 6946)."""
    return load16(data, row, at + OFFSET) & (ip6.FRAGMENT_OFFSET | MORE) != 0
