# SPDX-License-Identifier: Apache-2.0
"""The packet that an ICMP error is about: its beginning stands behind the error's 8 bytes.

RFC 792 (the header and at least 8 bytes), RFC 1812 section 4.3.2.3 (as much as fits in 576 bytes),
RFC 4443 section 2.4(c) (as fits in 1280), RFC 4884 section 4 (the quote's length, where something
follows it), RFC 5508 section 4.1 (what a NAT checks).

Nothing of it can be taken for granted: it has been quoted by whom it may concern, and whoever sent the
error may have made it up. Lengths are checked against meta.end, so of a chain only the first buffer is
looked at. The quoted total length is not: hosts are known that quote it changed.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.be import load16, load32
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import BUF_STRIDE
from vforward.packet import icmp4, icmp6, ip4, ip6, ports
from vforward.packet.checksum import sum_bytes

REFUSED = -1
"""In place of the quote's offset."""

PARAMETER_PROBLEM = 12
LENGTH4, LENGTH6 = 5, 4
"""Where the quote's length is, from the message's start: in words of 4 bytes, and of 8. 0: not said."""
_HAVE_LENGTH4 = 1 << icmp4.UNREACHABLE | 1 << icmp4.TIME_EXCEEDED | 1 << PARAMETER_PROBLEM
_HAVE_LENGTH6 = 1 << icmp6.UNREACHABLE | 1 << icmp6.TIME_EXCEEDED


@inline
def _limit(data: Any, row: Any, at: Any, end: Any, have: Any, where: Any, unit: Any) -> Any:
    """Just behind the quote in the error at at. The message's header is there."""
    kind, length = i64(data[row, at]), i64(data[row, at + where])
    if kind < 32 and have >> (kind & 31) & 1 and length != 0:
        return min(end, at + icmp4.HEADER + unit * length)
    return end


@inline
def _none4() -> Any:
    return i64(REFUSED), i64(0), i64(0), i64(0), i64(0), i64(0)


@kernel
def quoted4(data: Any, meta: Any, row: Any, l3: Any) -> Any:
    """The packet that the ICMP error in the IPv4 packet at l3 quotes.

    Returns (offset of its header, of the one behind that, just behind the quote, protocol, source and
    destination endpoint: address << 16 | port, as packet.ports has ports). The offset is REFUSED if the
    quote is none of IPv4, is cut off before its ports, has a wrong header checksum, is of a fragment
    other than the first, or is an ICMP message that is no echo.
    """
    end: Any = min(i64(meta[row].end), BUF_STRIDE)
    at = l3 + (i64(data[row, l3]) & 15) * 4
    inner = at + icmp4.HEADER
    if inner + ip4.HEADER > end:
        return _none4()
    end = _limit(data, row, at, end, _HAVE_LENGTH4, LENGTH4, 4)
    size = (i64(data[row, inner]) & 15) * 4
    if data[row, inner] >> 4 != 4 or size < ip4.HEADER or inner + size > end:
        return _none4()
    if sum_bytes(data, row, inner, size) != 0xFFFF:
        return _none4()
    if load16(data, row, inner + ip4.FRAGMENT) & ip4.OFFSET_MASK:
        return _none4()
    protocol = i64(data[row, inner + ip4.PROTOCOL])
    both = ports.load(data, row, inner + size, protocol, end)
    if protocol == ports.ICMP6 or both == ports.NONE:
        return _none4()
    src = load32(data, row, inner + ip4.SRC) << 16 | both >> 16
    dst = load32(data, row, inner + ip4.DST) << 16 | both & 0xFFFF
    return i64(inner), i64(inner + size), i64(end), protocol, src, dst


@inline
def _none6() -> Any:
    return i64(REFUSED), i64(0), i64(0), i64(0), u64(0), u64(0), u64(0), u64(0), i64(0)


@kernel
def quoted6(data: Any, meta: Any, row: Any, l4: Any) -> Any:
    """The packet that the ICMPv6 error at l4 quotes.

    Returns (offset of its header, of its upper layer's, just behind the quote, protocol, source high,
    source low, destination high, destination low, ports: source << 16 | destination). The offset is
    REFUSED if the quote is none of IPv6, is cut off before its ports, is of a fragment other than the
    first, or is an ICMPv6 message that is no echo.
    """
    end: Any = min(i64(meta[row].end), BUF_STRIDE)
    inner = l4 + icmp6.HEADER
    if inner + ip6.HEADER > end:
        return _none6()
    end = _limit(data, row, l4, end, _HAVE_LENGTH6, LENGTH6, 8)
    if data[row, inner] >> 4 != 6 or inner + ip6.HEADER > end:
        return _none6()
    protocol, upper = ip6.upper(data, row, inner, end)
    unfinished = (protocol == ip6.HOP_BY_HOP) | (protocol == ip6.ROUTING)
    unfinished |= (protocol == ip6.FRAGMENT) | (protocol == ip6.AUTHENTICATION)
    both = ports.load(data, row, upper, protocol, end)
    if unfinished | (protocol == ip6.DESTINATION) | (protocol == ports.ICMP) | (both == ports.NONE):
        return _none6()
    src_high, src_low = ip6.load_address(data, row, inner + ip6.SRC)
    dst_high, dst_low = ip6.load_address(data, row, inner + ip6.DST)
    return i64(inner), upper, i64(end), protocol, src_high, src_low, dst_high, dst_low, both
