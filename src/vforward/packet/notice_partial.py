# SPDX-License-Identifier: Apache-2.0
"""notice_partial: recognise a checksum that is still to be completed where nothing else tells of it.

A stack on this machine leaves checksums to the interface (CHECKSUM_PARTIAL, Linux checksum-offloads.rst):
in the field is the sum of the pseudo-header, the rest is to be added. An AF_XDP socket is given such
frames as they are, and not told. So:

    TCP, UDP    the field is the pseudo-header's sum, not yet its complement: RFC 9293 section 3.1, RFC 768,
                RFC 8200 section 8.1

A whole TCP or UDP packet may hold that by chance, one in 65536. To complete it changes nothing: its
checksum c is ~(pseudo + rest), and what completes it writes ~(rest + c), which with c = pseudo is the same.
Of packets that were damaged on their way as many more pass as pass any checksum of 16 bits.

Limits: not of SCTP, whose CRC nobody here completes; not behind IPv6 extension headers, in a fragment
(Linux completes what it cuts), or in a tunnel's inner packet; nor where anything follows the packet,
since no stack pads what it sends.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.be import load16, load32
from vforward.jit.kernel import i64, inline
from vforward.layout import BUF_STRIDE, CSUM_PARTIAL
from vforward.packet import ethernet, ip4, ip6
from vforward.packet.checksum import fold, sum_bytes
from vforward.packet.flow_hash import TCP, UDP
from vforward.packet.partial import TCP_CHECKSUM, UDP_CHECKSUM

UDP_LENGTH = 4
LEAST = 8
"""Bytes of the shortest of these headers."""


@inline
def _transport4(data: Any, row: Any, l3: Any, end: Any) -> Any:
    """(protocol or -1, where its header begins, where the packet ends, sum of the addresses)."""
    if l3 + ip4.HEADER > end or i64(data[row, l3]) < 0x45 or i64(data[row, l3]) > 0x4F:
        return i64(-1), i64(0), i64(0), i64(0)
    if load16(data, row, l3 + ip4.FRAGMENT) & (ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK):
        return i64(-1), i64(0), i64(0), i64(0)
    l4 = l3 + ((i64(data[row, l3]) & 15) << 2)
    total = load32(data, row, l3 + ip4.SRC) + load32(data, row, l3 + ip4.DST)
    return i64(data[row, l3 + ip4.PROTOCOL]), l4, l3 + load16(data, row, l3 + ip4.LENGTH), total


@inline
def _transport6(data: Any, row: Any, l3: Any, end: Any) -> Any:
    """As _transport4."""
    if l3 + ip6.HEADER > end or i64(data[row, l3]) >> 4 != 6:
        return i64(-1), i64(0), i64(0), i64(0)
    l4 = l3 + ip6.HEADER
    total = i64(sum_bytes(data, row, l3 + ip6.SRC, 32))
    return i64(data[row, l3 + ip6.NEXT_HEADER]), l4, l4 + load16(data, row, l3 + ip6.LENGTH), total


@inline
def _field(data: Any, row: Any, protocol: Any, l4: Any, length: Any, total: Any) -> Any:
    """Where the checksum is that is still to be completed, bytes from l4; -1 if none is.

    length: of the transport header and what it carries, of which the checksum's field is there.
    """
    field = i64(TCP_CHECKSUM if protocol == TCP else UDP_CHECKSUM)
    if protocol == UDP and load16(data, row, l4 + UDP_LENGTH) != length:
        return i64(-1)
    right = load16(data, row, l4 + field) == fold(total + length + protocol)
    return field if right else i64(-1)


@inline
def notice(data: Any, meta: Any, row: Any) -> bool:
    """Set CSUM_PARTIAL, csum_start and csum_off of a received frame if it needs that; whether it did.

    The frame begins with its Ethernet header, at off.
    """
    off, end = i64(meta[row].off), min(i64(meta[row].end), BUF_STRIDE)
    l3, kind = ethernet.behind_tags(data, row, off, end)
    if kind == ethernet.IP4:
        protocol, l4, last, total = _transport4(data, row, l3, end)
    elif kind == ethernet.IP6:
        protocol, l4, last, total = _transport6(data, row, l3, end)
    else:
        return False
    if protocol != TCP and protocol != UDP:
        return False
    least = TCP_CHECKSUM + 2 if protocol == TCP else LEAST
    if l4 + least > end or l4 + least > last or last != end + i64(meta[row].rest):
        return False
    field = _field(data, row, protocol, l4, last - l4, total)
    if field < 0:
        return False
    meta[row].csum_start = l4
    meta[row].csum_off = field
    meta[row].flags = meta[row].flags | np.uint32(CSUM_PARTIAL)
    return True
