# SPDX-License-Identifier: Apache-2.0
"""What rules ask about a packet, as u32 words: the fields that tables.acl classifies by.

    IPv4   8 words: 0 source, 1 destination, then COMMON from 2 on
    IPv6  16 words: 0-3 source, 4-7 destination, then COMMON from 8 on

    COMMON  0  source port << 16 | destination port; of ICMP: type << 8 | code
            1  protocol << 24 | TCP flags << 16 | DSCP << 8 | FRAGMENT, LATER
            2  port it came by << 16 | port it will leave by
            3  VLAN id of the port it came by

A later piece of a datagram has its datagram's ports where they are known (meta.hash, PORTS_KNOWN), no
TCP flags, and, of ICMP, the type and code UNKNOWN_TYPE, which no rule names. All values are in host
order; words that are not named are 0.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.be import load16, load32
from vforward.jit.kernel import i64, inline
from vforward.layout import PORTS_KNOWN
from vforward.packet import ip4, ip6, ports

WORDS4, WORDS6 = 8, 16
COMMON4, COMMON6 = 2, 8
PORTS, KIND, PLACE, VLAN = 0, 1, 2, 3
"""Words of COMMON."""
FRAGMENT, LATER = 1, 2
"""Bits of KIND: a piece of a datagram; one other than the first."""
UNKNOWN_TYPE = 0xFFFF
TRUNCATED = -2
"""In place of ports: the packet ends before the header that its protocol has."""
TCP_HEADER, TCP_FLAGS = 20, 13


@inline
def _common(data: Any, row: Any, l4: Any, end: Any, protocol: Any, icmp: Any, alien: Any) -> Any:
    """(ports of rules, TCP flags, ports of sessions or NONE or TRUNCATED) of a message that is whole.

    icmp: the family's; alien: the other family's, which means nothing here.
    """
    flow = ports.load(data, row, l4, protocol, end)
    asked = max(flow, 0)
    flags = i64(0)
    if protocol == alien:
        asked, flow = i64(0), i64(ports.NONE)
    elif protocol == icmp:
        if l4 + 8 <= end:
            asked = load16(data, row, l4)
        else:
            flow = i64(TRUNCATED)
    elif flow < 0 or (protocol == ip4.TCP and l4 + TCP_HEADER > end):
        flow = i64(TRUNCATED)
    elif protocol == ip4.TCP:
        flags = i64(data[row, l4 + TCP_FLAGS])
    return asked, flags, flow


@inline
def _later(meta: Any, row: Any, protocol: Any, icmp: Any) -> Any:
    """The same of a later piece, of which only meta knows."""
    flow = i64(meta[row].hash) if meta[row].flags & PORTS_KNOWN else i64(ports.NONE)
    return (i64(UNKNOWN_TYPE) if protocol == icmp else max(flow, 0)), i64(0), flow


@inline
def load4(data: Any, meta: Any, row: Any, fields: Any, at: Any, place: Any, vlan: Any) -> Any:
    """Note the fields of an IPv4 packet (valid, by ip4-input) from fields[at] on, and meta.l4.

    Returns the ports by which its session is found, or NONE: it has no session, or TRUNCATED.
    """
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    l4 = l3 + ((i64(data[row, l3]) & 15) << 2)
    piece = load16(data, row, l3 + ip4.FRAGMENT) & (ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK)
    protocol = i64(data[row, l3 + ip4.PROTOCOL])
    meta[row].l4 = l4
    later = piece & ip4.OFFSET_MASK != 0
    if later:
        asked, flags, flow = _later(meta, row, protocol, ip4.ICMP)
    else:
        asked, flags, flow = _common(data, row, l4, end, protocol, ip4.ICMP, ip6.ICMP6)
    fields[at] = load32(data, row, l3 + ip4.SRC)
    fields[at + 1] = load32(data, row, l3 + ip4.DST)
    dscp = i64(data[row, l3 + ip4.TOS]) >> 2
    pieces = i64(piece != 0) | i64(later) << 1
    fields[at + COMMON4 + PORTS] = asked
    fields[at + COMMON4 + KIND] = protocol << 24 | flags << 16 | dscp << 8 | pieces
    fields[at + COMMON4 + PLACE] = place
    fields[at + COMMON4 + VLAN] = vlan
    fields[at + 6] = 0
    fields[at + 7] = 0
    return flow


@inline
def load6(data: Any, meta: Any, row: Any, fields: Any, at: Any, place: Any, vlan: Any) -> Any:
    """The same of an IPv6 packet. meta.l4 is behind the extension headers that could be walked.

    A packet whose extension headers end beyond its first buffer, or are too many, is TRUNCATED.
    """
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    protocol, l4 = ip6.upper(data, row, l3, end)
    meta[row].l4 = l4
    later = protocol == ip6.FRAGMENT and l4 + 8 <= end
    later = later and load16(data, row, l4 + 2) & ip6.FRAGMENT_OFFSET != 0
    if later:
        protocol = i64(data[row, l4])
        asked, flags, flow = _later(meta, row, protocol, ip6.ICMP6)
    else:
        asked, flags, flow = _common(data, row, l4, end, protocol, ip6.ICMP6, ip4.ICMP)
        if is_extension(protocol):
            flow = i64(TRUNCATED)
    for k in range(8):
        fields[at + k] = load32(data, row, l3 + ip6.SRC + 4 * k)
    dscp = load16(data, row, l3) >> 6 & 0x3F
    pieces = i64(later or meta[row].flags & PORTS_KNOWN != 0) | i64(later) << 1
    fields[at + COMMON6 + PORTS] = asked
    fields[at + COMMON6 + KIND] = protocol << 24 | flags << 16 | dscp << 8 | pieces
    fields[at + COMMON6 + PLACE] = place
    fields[at + COMMON6 + VLAN] = vlan
    for k in range(4):
        fields[at + COMMON6 + 4 + k] = 0
    return flow


@inline
def is_extension(protocol: Any) -> Any:
    """Whether a next header is an extension header that ip6.upper would have gone past."""
    return (
        (protocol == ip6.HOP_BY_HOP)
        | (protocol == ip6.ROUTING)
        | (protocol == ip6.DESTINATION)
        | (protocol == ip6.AUTHENTICATION)
        | (protocol == ip6.FRAGMENT)
    )
