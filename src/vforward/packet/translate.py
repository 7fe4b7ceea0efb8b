# SPDX-License-Identifier: Apache-2.0
"""Change the endpoints of an IPv4 packet, and what depends on them, without a look at its payload.

RFC 3022 section 4 (what a NAT changes), RFC 1624 section 3 (incremental checksums). An endpoint is
address << 16 | port, 48 bits in an i64.

           ports                             checksum, and where it is
    TCP    changed                           16, covers the addresses     RFC 9293 section 3.1
    UDP    changed                           6, covers the addresses      RFC 768; 0: there is none
    UDP-Lite, DCCP   changed                 6, covers the addresses      RFC 3828 section 3.1, RFC 4340
                                                                          section 5.1 (both: the ports
                                                                          are always covered)
    ICMP   echo: the identifier is changed   2, does not                  RFC 792; RFC 5508 section 3.1
    SCTP   stay as they are                  a CRC over all of the packet and not the addresses (RFC 9260
                                             section 6.8): so who chooses endpoints keeps its ports
    others have none                         none: only addresses are changed

A checksum of 0 becomes 0xffff where 0 means that there is none (UDP), and stays 0 where it was. A
fragment other than the first has neither ports nor a checksum.

A checksum that is still to be completed (CSUM_PARTIAL) holds the sum of the pseudo-header, so only
addresses change it. It stands where packet.partial lets it, or ip4-input has dropped the packet; one of
a packet in the packet (a tunnel) is not looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.be import (
    load16,
    load32,
    load64,
    store16,
    store32,
    store64,
)
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import CSUM_PARTIAL, TRANSLATED
from vforward.packet import icmp4, ip4
from vforward.packet.flow_hash import DCCP, TCP, UDP, UDP_LITE
from vforward.packet.partial import (
    NONE,
    TCP_CHECKSUM,
    UDP_CHECKSUM,
    checksum_of,
    is_partial_at,
)

TCP_HEADER, SHORTEST_HEADER = 20, 8
ECHO_IDENT = 4


@inline
def ports_change(protocol: Any) -> Any:
    """Whether a protocol's ports may be changed. Its checksum then covers the addresses, too."""
    return (
        (protocol == TCP) | (protocol == UDP) | (protocol == UDP_LITE) | (protocol == DCCP)
    )  # fmt: skip


@inline
def growth64(old: Any, new: Any) -> Any:
    """By how much the sum of the 16-bit words of new is more than that of old: 18 bits.

    Never negative: the complement of what was there, and what is there.
    """
    half = u64(0xFFFFFFFF)
    old = ~old
    return _shorter(i64((old >> u64(32)) + (old & half) + (new >> u64(32)) + (new & half)))


@inline
def ports4(data: Any, row: Any, l4: Any, src: Any, dst: Any) -> Any:
    """Set both ports, those of two endpoints. Returns the growth: 18 bits."""
    new = (src & 0xFFFF) << 16 | dst & 0xFFFF
    grown = _shorter((load32(data, row, l4) ^ 0xFFFFFFFF) + new)
    store32(data, row, l4, new)
    return grown


@inline
def _shorter(total: Any) -> Any:
    """34 bits folded to 18 bits or a little more."""
    return (total & 0xFFFF) + (total >> 16)


@inline
def fold20(total: Any) -> Any:
    """The 16-bit ones-complement sum of up to 20 bits."""
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@inline
def follow(data: Any, row: Any, at: Any, growth: Any) -> None:
    """Let the checksum at an offset follow a growth."""
    checksum = load16(data, row, at) ^ 0xFFFF
    store16(data, row, at, fold20(checksum + growth) ^ 0xFFFF)


@inline
def follow_optional(data: Any, row: Any, at: Any, growth: Any) -> None:
    """The same of one where 0 means that there is none."""
    checksum = load16(data, row, at)
    new = fold20((checksum ^ 0xFFFF) + growth) ^ 0xFFFF
    new = new if new else i64(0xFFFF)
    store16(data, row, at, new if checksum else i64(0))


@inline
def translate_addresses4(data: Any, row: Any, l3: Any, src: Any, dst: Any) -> Any:
    """Set both addresses (32 bits each), and the header's checksum. Returns the growth."""
    new = u64(src) << u64(32) | u64(dst)
    grown = growth64(load64(data, row, l3 + ip4.SRC), new)
    store64(data, row, l3 + ip4.SRC, new)
    follow(data, row, l3 + ip4.CHECKSUM, grown)
    return grown


@kernel
def rewrite4(
    data: Any, row: Any, l3: Any, l4: Any, protocol: Any, src: Any, dst: Any, end: Any, partial: Any
) -> None:
    """Set both endpoints of the packet at l3; l4 < 0: its addresses alone.

    What lies beyond end is not there: of a packet in an ICMP error often the checksum. Of the header
    at l4 the first 8 bytes are. partial: the checksum is the pseudo-header's sum.
    """
    growth = translate_addresses4(data, row, l3, src >> 16, dst >> 16)
    if l4 < 0:
        return
    if protocol == ip4.ICMP:
        kind = i64(data[row, l4])
        if kind != icmp4.ECHO and kind != icmp4.ECHO_REPLY:
            return
        growth = load16(data, row, l4 + ECHO_IDENT) ^ 0xFFFF
        store16(data, row, l4 + ECHO_IDENT, src if kind == icmp4.ECHO else dst)
        growth += load16(data, row, l4 + ECHO_IDENT)
    elif ports_change(protocol):
        ports = ports4(data, row, l4, src, dst)
        growth += i64(0) if partial else ports
    else:
        return
    at = l4 + checksum_of(protocol)
    if at + 2 > end:
        return
    if partial:
        store16(data, row, at, fold20(load16(data, row, at) + growth))
    elif protocol in (UDP, UDP_LITE):
        follow_optional(data, row, at, growth)
    else:
        follow(data, row, at, growth)


@kernel
def _translate_odd(
    data: Any, meta: Any, row: Any, l3: Any, l4: Any, protocol: Any, src: Any, dst: Any
) -> Any:
    """translate4 of what is not the usual; it has been marked as TRANSLATED."""
    end = i64(meta[row].end)
    if load16(data, row, l3 + ip4.FRAGMENT) & ip4.OFFSET_MASK:
        l4 = i64(-1)
    field = checksum_of(protocol)
    if l4 >= 0 and field != NONE:
        if l4 + max(field + 2, SHORTEST_HEADER) > end:
            return False
    partial = is_partial_at(meta, row, l4, field)
    rewrite4(data, row, l3, l4, protocol, src, dst, end, partial)
    return True


@inline
def usual4(
    data: Any, row: Any, l3: Any, l4: Any, is_tcp: Any, old: Any, old_ports: Any, new: Any, new_ports: Any
) -> None:  # fmt: skip
    """Set both endpoints of a whole packet of TCP or UDP, whose checksum is complete and in its buffer.

    old, new u64: source << 32 | destination. old_ports, new_ports i64: source << 16 | destination.
    """
    grown = growth64(old, new)
    store64(data, row, l3 + ip4.SRC, new)
    follow(data, row, l3 + ip4.CHECKSUM, grown)
    grown += _shorter((old_ports ^ 0xFFFFFFFF) + new_ports)
    store32(data, row, l4, new_ports)
    if is_tcp:
        follow(data, row, l4 + TCP_CHECKSUM, grown)
    else:
        follow_optional(data, row, l4 + UDP_CHECKSUM, grown)


@inline
def translate4(
    data: Any, meta: Any, row: Any, l3: Any, l4: Any, protocol: Any, src: Any, dst: Any
) -> Any:
    """Set both endpoints of a packet, patch its checksums, and mark it as TRANSLATED.

    The header at l3 is whole (ip4-input). l4: where the next one begins, or less than 0; of a fragment
    other than the first it does not matter. In an ICMP echo the asker's port is the identifier, as in
    packet.ports. Ports of protocols whose ports do not change are not looked at.

    Returns whether it was done. If not the packet is as it was, and of no use: its checksum is
    not in this buffer (a first fragment of less than 20 bytes of TCP, as RFC 1858 warns of).
    """
    whole = load16(data, row, l3 + ip4.FRAGMENT) & ip4.OFFSET_MASK == 0
    usual = ((protocol == TCP) | (protocol == UDP)) & whole & (l4 >= 0)
    at = l4 + (i64(TCP_CHECKSUM) if protocol == TCP else i64(UDP_CHECKSUM))
    room = at + 2 <= i64(meta[row].end)
    flags = meta[row].flags
    if usual & room & (flags & CSUM_PARTIAL == 0):
        meta[row].flags = flags | np.uint32(TRANSLATED)
        new = u64(src >> 16) << u64(32) | u64(dst >> 16)
        ports = (src & 0xFFFF) << 16 | dst & 0xFFFF
        old, old_ports = load64(data, row, l3 + ip4.SRC), load32(data, row, l4)
        usual4(data, row, l3, l4, protocol == TCP, old, old_ports, new, ports)
        return True
    if not _translate_odd(data, meta, row, l3, l4, protocol, src, dst):
        return False
    meta[row].flags = meta[row].flags | np.uint32(TRANSLATED)
    return True
