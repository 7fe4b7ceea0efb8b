# SPDX-License-Identifier: Apache-2.0
"""IPv6 (RFC 8200): offsets in bytes from the header's start, next headers, addresses, pseudo-header.

In kernels an address is two u64 halves (high, low) in host order, as in tables.addresses.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.be import load16, load64, store64
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


HEADERS_MAX = 8
"""Most extension headers of a packet that are walked; RFC 8504 section 5.3 allows such limits."""
FRAGMENT_OFFSET = 0xFFF8
"""Of the fragment header's word at 2: the offset, in bytes. Bit 0 of it: more fragments."""


@kernel
def upper(data: Any, row: Any, l3: Any, end: Any) -> Any:
    """The upper-layer protocol of a packet, and where its header begins: (protocol, offset).

    An extension header's number and offset where no more can be said: it is cut off by end, the
    packet is a fragment other than the first, or there are more than HEADERS_MAX.
    """
    protocol = i64(data[row, l3 + NEXT_HEADER])
    at = i64(l3 + HEADER)
    for _ in range(HEADERS_MAX):
        if at + 8 > end:
            break
        size = (i64(data[row, at + 1]) + 1) * 8
        if protocol == FRAGMENT:
            if load16(data, row, at + 2) & FRAGMENT_OFFSET:
                break
            size = i64(8)
        elif protocol == AUTHENTICATION:
            size = (i64(data[row, at + 1]) + 2) * 4  # RFC 4302 section 2.2
        elif protocol != HOP_BY_HOP and protocol != ROUTING and protocol != DESTINATION:
            break
        if at + size > end:
            break
        protocol = i64(data[row, at])
        at += size
    return protocol, at
