# SPDX-License-Identifier: Apache-2.0
"""related: ICMP errors belong to the session of the packet that they quote, and are translated with it.

RFC 792, RFC 4443 section 3 (errors), RFC 5508 sections 4 and 5 (NAT), RFC 5927 section 4.1 (made-up
errors).

Believed is an error whose checksum is right, that goes to the source of what it quotes, and that quotes
what its session may have sent: of TCP a sequence number that may be in flight. Nothing else is known of
who sends errors: any router may. An error neither opens, refreshes nor ends a session (RFC 5508 section
4.3, REQ-6).

A session with NAT has two pairs of endpoints, and its packets go in by the one and out by the other:

                      in by              out by           and an error about it comes back with
    initiator's       original key       reply key        the reply key, quoting the initiator
    responder's       reply key          original key     the original key, quoting the responder

so the quoted packet is given back the endpoints of the other key. What quotes a packet as it had been
before it came here (a router's on the way to here, or this one's that has refused it) goes on as it is.

    quoted packet     endpoints, its header's checksum, its message's if the quote is long enough
    outer destination the quoted packet's source, as it then is (RFC 5508 section 4.2, REQ-4 and REQ-5)
    outer source      the quoted destination, if NAT has changed that: what is behind NAT must not show;
                      else it stays: a router on the way has an address of its own
    ICMP checksum     by what has changed in the quote (RFC 1624)

Errors that this router makes itself (about what it has translated) come this way too, from again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.be import load16, load32, store16
from vforward.jit.kernel import i64, inline, kernel
from vforward.layout import CSUM_PARTIAL, TRANSLATED
from vforward.packet import icmp4, icmp6, ip4, ip6, ports
from vforward.packet.checksum import sum_bytes, sum_to_end, update16
from vforward.packet.flow_hash import TCP
from vforward.packet.quoted import REFUSED, quoted4, quoted6
from vforward.packet.translate import TCP_HEADER, rewrite4, translate_addresses4
from vforward.tables.session_follow import belongs, new_ends4
from vforward.tables.session_index import find4, find6
from vforward.tables.session_tcp import after, scale

NOT_AN_ERROR, BAD_CHECKSUM, BAD_QUOTE, NO_SESSION, MISDIRECTED, IMPLAUSIBLE = range(6)
"""Why an error is not believed. NOT_AN_ERROR: it is too short, a fragment, or of another type (a
redirect is the next router's to say, and not of a flow). NO_SESSION: where there is NAT, such errors go
no further (RFC 5508 section 4.2, REQ-4 and REQ-5). MISDIRECTED: it does not go to who has sent the quoted
packet. IMPLAUSIBLE: the session has not sent that."""

SOURCE_QUENCH, PARAMETER_PROBLEM = 4, 12
ERRORS = (
    1 << icmp4.UNREACHABLE | 1 << SOURCE_QUENCH | 1 << icmp4.TIME_EXCEEDED | 1 << PARAMETER_PROBLEM
)
"""Bit set of the types that are about a packet of a flow."""

IN_FLIGHT = 0xFFFF
"""Bytes back from the highest that was sent that an error may be about, at least; RFC 5927 section 4.1
has what is not acknowledged, and that is not known from between."""
SEQUENCE = 4
"""Of TCP's header."""


@inline
def is_error4(kind: Any) -> Any:
    """Whether an ICMP type is one of ERRORS."""
    return (kind < 32) & (ERRORS >> (kind & 31) & 1 != 0)


@inline
def _plausible(s: Any, data: Any, row: Any, found: Any, protocol: Any, l4: Any) -> Any:
    """Whether a session (as find4 says it) may have sent the quoted packet."""
    if protocol != TCP:
        return True
    record = s.hot[found >> 2]
    d = 1 - (found & 1)
    window = max(i64(record.maxwin[1 - d]) << scale(record, 1 - d), i64(IN_FLIGHT))
    back = after(i64(record.end[d]), load32(data, row, l4 + SEQUENCE))
    return (back >= 0) & (back <= window)


@kernel
def _give_back(
    s: Any, data: Any, meta: Any, row: Any, l3: Any, at: Any, found: Any, quote: Any
) -> None:
    """Translate an error that quotes a packet of the session found. quote: what quoted4 says."""
    inner, l4, limit, protocol, _, was = quote
    src, dst = new_ends4(s, found)
    size = min(limit, l4 + TCP_HEADER) - inner
    before = sum_bytes(data, row, inner, size)
    rewrite4(data, row, inner, l4, protocol, src, dst, limit, False)
    now = sum_bytes(data, row, inner, size)
    checksum = load16(data, row, at + icmp4.CHECKSUM)
    store16(data, row, at + icmp4.CHECKSUM, update16(checksum, before, now))
    sender = load32(data, row, l3 + ip4.SRC)
    if dst >> 16 != was >> 16:
        sender = dst >> 16
    translate_addresses4(data, row, l3, sender, src >> 16)
    meta[row].flags = meta[row].flags | np.uint32(TRANSLATED)


@kernel
def related4(s: Any, data: Any, meta: Any, row: Any, l3: Any, zone: Any) -> Any:
    """The session that the ICMP error in the IPv4 packet at l3 is about, or ~ a reason.

    If that has NAT the error is then translated; otherwise, or if it is refused, it is as it was.
    """
    at = l3 + (i64(data[row, l3]) & 15) * 4
    cut = load16(data, row, l3 + ip4.FRAGMENT) & (ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK)
    if at + icmp4.HEADER > i64(meta[row].end) or cut or not is_error4(i64(data[row, at])):
        return ~i64(NOT_AN_ERROR)
    if meta[row].flags & CSUM_PARTIAL or sum_to_end(data, meta, row, at) != 0xFFFF:
        return ~i64(BAD_CHECKSUM)
    quote = quoted4(data, meta, row, l3)
    inner, l4, _, protocol, src, dst = quote
    if inner == REFUSED:
        return ~i64(BAD_QUOTE)
    found = find4(s, src, dst, protocol, zone)
    if found < 0:
        return ~i64(NO_SESSION)
    if load32(data, row, l3 + ip4.DST) != src >> 16:
        return ~i64(MISDIRECTED)
    if not _plausible(s, data, row, found, protocol, l4):
        return ~i64(IMPLAUSIBLE)
    if not belongs(s, found):  # it is as it left
        _give_back(s, data, meta, row, l3, at, found, quote)
    return found >> 2


@kernel
def related6(s: Any, data: Any, meta: Any, row: Any, l3: Any, l4: Any, zone: Any) -> Any:
    """The session that the ICMPv6 error at l4 is about, or ~ a reason. The packet is no fragment."""
    if l4 + icmp6.HEADER > i64(meta[row].end) or data[row, l4] >= icmp6.INFORMATIONAL:
        return ~i64(NOT_AN_ERROR)
    if meta[row].flags & CSUM_PARTIAL or icmp6.message_sum(data, meta, row, l3, l4) != 0xFFFF:
        return ~i64(BAD_CHECKSUM)
    inner, upper, _, protocol, src_high, src_low, dst_high, dst_low, both = quoted6(
        data, meta, row, l4
    )
    if inner == REFUSED:
        return ~i64(BAD_QUOTE)
    found = find6(
        s, src_high, src_low, both >> 16, dst_high, dst_low, both & 0xFFFF, protocol, zone
    )
    if found < 0:
        return ~i64(NO_SESSION)
    high, low = ip6.load_address(data, row, l3 + ip6.DST)
    if high != src_high or low != src_low:
        return ~i64(MISDIRECTED)
    if not _plausible(s, data, row, found, protocol, upper):
        return ~i64(IMPLAUSIBLE)
    return found >> 2


@kernel
def sender4(s: Any, data: Any, meta: Any, row: Any, l3: Any, zone: Any) -> Any:
    """The address that has sent the packet at l3, which NAT has changed: its source as it came in.

    As its session says; where that is gone, the source that the packet has. It is no later fragment.
    """
    l4 = l3 + (i64(data[row, l3]) & 15) * 4
    protocol = i64(data[row, l3 + ip4.PROTOCOL])
    both = ports.load(data, row, l4, protocol, i64(meta[row].end))
    source = load32(data, row, l3 + ip4.SRC)
    if both == ports.NONE:
        return source
    dst = load32(data, row, l3 + ip4.DST) << 16 | both & 0xFFFF
    found = find4(s, source << 16 | both >> 16, dst, protocol, zone)
    if found < 0 or belongs(s, found):
        return source
    return new_ends4(s, found)[0] >> 16
