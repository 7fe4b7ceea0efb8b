# SPDX-License-Identifier: Apache-2.0
"""IPv6 (RFC 8200): offsets in bytes from the header's start, next headers, addresses, pseudo-header.

In kernels an address is two u64 halves (high, low) in host order, as in tables.addresses.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.be import load64, store64
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.packet.checksum import fold, sum_bytes

VERSION_CLASS_FLOW, LENGTH, NEXT_HEADER, HOP_LIMIT, SRC, DST = 0, 4, 6, 7, 8, 24
HEADER = 40
MIN_MTU = 1280
"""RFC 8200 section 5: what every link carries."""
HOPS = 64
"""Hop limit of what the router sends itself, but for ND."""

HOP_BY_HOP, TCP, UDP, ROUTING, FRAGMENT, ESP, AUTHENTICATION, ICMP6, NO_NEXT, DESTINATION = (
    0, 6, 17, 43, 44, 50, 51, 58, 59, 60,
)  # fmt: skip
"""Next headers."""

LINK_LOCAL, LINK_LOCAL_SHIFT = 0xFE80 >> 6, 54
"""fe80::/10: the upper half shifted by that is this (RFC 4291 section 2.5.6)."""


@inline
def load_address(data: Any, row: Any, off: Any) -> Any:
    """The address at data[row, off]: its high and its low half."""
    return load64(data, row, off), load64(data, row, off + 8)


@inline
def store_address(data: Any, row: Any, off: Any, high: Any, low: Any) -> None:
    """Write an address at data[row, off]."""
    store64(data, row, off, high)
    store64(data, row, off + 8, low)


@inline
def is_link_local(high: Any) -> Any:
    """Whether an address is in fe80::/10, by its high half."""
    return high >> u64(LINK_LOCAL_SHIFT) == u64(LINK_LOCAL)


@inline
def is_multicast(high: Any) -> Any:
    """Whether an address is in ff00::/8, by its high half (RFC 4291 section 2.7)."""
    return high >> u64(56) == u64(0xFF)


@inline
def is_zero(high: Any, low: Any) -> Any:
    """Whether an address is :: (RFC 4291 section 2.5.2)."""
    return high | low == u64(0)


@kernel
def pseudo_sum(data: Any, row: Any, l3: Any, length: Any, protocol: Any) -> Any:
    """The sum of the pseudo-header of an upper-layer packet of length bytes: RFC 8200 section 8.1.

    Its addresses are those of the header at l3, so no routing header may have segments left.
    """
    return fold(sum_bytes(data, row, l3 + SRC, 32) + i64(length) + i64(protocol))
