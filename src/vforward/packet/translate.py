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
addresses change it. Where the packet comes from a virtual machine csum_start and csum_off are hostile:

    at the protocol's own checksum            believed
    behind the headers that are read here     a packet in the packet (a tunnel): not looked at, and kept
    anywhere else                             CSUM_PARTIAL is taken off: what was let through by what
                                              its headers say must not get others later. Its receiver
                                              will find the checksum wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.be import load16, load32, load64, store16, store32, store64
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import CSUM_PARTIAL, TRANSLATED
from vforward.packet import icmp4, ip4
from vforward.packet.flow_hash import DCCP, TCP, UDP, UDP_LITE

TCP_CHECKSUM, UDP_CHECKSUM = 16, 6
TCP_HEADER, SHORTEST_HEADER = 20, 8
ECHO_IDENT = 4
NONE = -1


@inline
def ports_change(protocol: Any) -> Any:
    """Whether a protocol's ports may be changed. Its checksum then covers the addresses, too."""
    return (
        (protocol == TCP) | (protocol == UDP) | (protocol == UDP_LITE) | (protocol == DCCP)
    )  # fmt: skip


@inline
def checksum_of(protocol: Any) -> Any:
    """Where a protocol's checksum is, bytes from its header's start; NONE if none is known."""
    if protocol == TCP:
        return i64(TCP_CHECKSUM)
    if ports_change(protocol):
        return i64(UDP_CHECKSUM)
    return i64(icmp4.CHECKSUM) if protocol == ip4.ICMP else i64(NONE)


@inline
def growth(old: Any, new: Any) -> Any:
    """By how much a sum grows when 32 bits of it (i64) become others: 33 bits, never negative."""
    return (old ^ 0xFFFFFFFF) + new


@inline
def fold35(total: Any) -> Any:
    """The 16-bit ones-complement sum of up to 35 bits."""
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@inline
def addresses4(data: Any, row: Any, l3: Any, src: Any, dst: Any) -> Any:
    """Set both addresses (32 bits each) and patch the header's checksum.

    Returns by how much a sum over the addresses has grown, folded to 19 bits.
    """
    old = load64(data, row, l3 + ip4.SRC)
    change = growth(i64(old >> u64(32)), src) + growth(i64(old & u64(0xFFFFFFFF)), dst)
    change = (change & 0xFFFF) + (change >> 16)
    store64(data, row, l3 + ip4.SRC, u64(src) << u64(32) | u64(dst))
    checksum = load16(data, row, l3 + ip4.CHECKSUM)
    store16(data, row, l3 + ip4.CHECKSUM, fold35((checksum ^ 0xFFFF) + change) ^ 0xFFFF)
    return change


@inline
def ports4(data: Any, row: Any, l4: Any, src: Any, dst: Any) -> Any:
    """Set both ports, those of two endpoints. Returns by how much their sum has grown."""
    old, new = load32(data, row, l4), (src & 0xFFFF) << 16 | dst & 0xFFFF
    store32(data, row, l4, new)
    return growth(old, new)


@inline
def patch(data: Any, row: Any, at: Any, change: Any, optional: Any) -> None:
    """Let the checksum at an offset follow a change of 34 bits. optional: 0 there means none."""
    checksum = load16(data, row, at)
    new = fold35((checksum ^ 0xFFFF) + change) ^ 0xFFFF
    if optional:
        new = new if new else i64(0xFFFF)
        new = new if checksum else i64(0)
    store16(data, row, at, new)


@kernel
def rewrite4(
    data: Any, row: Any, l3: Any, l4: Any, protocol: Any, src: Any, dst: Any, end: Any, partial: Any
) -> None:
    """Set both endpoints of the packet at l3; l4 < 0: its addresses alone.

    What lies beyond end is not there: of a packet in an ICMP error often the checksum. Of the header
    at l4 the first 8 bytes are. partial: the checksum is the pseudo-header's sum.
    """
    change = addresses4(data, row, l3, src >> 16, dst >> 16)
    if l4 < 0:
        return
    if protocol == ip4.ICMP:
        kind = i64(data[row, l4])
        if kind != icmp4.ECHO and kind != icmp4.ECHO_REPLY:
            return
        ident = (src if kind == icmp4.ECHO else dst) & 0xFFFF
        change = growth(load16(data, row, l4 + ECHO_IDENT), ident)
        store16(data, row, l4 + ECHO_IDENT, ident)
    elif ports_change(protocol):
        ports = ports4(data, row, l4, src, dst)
        change += i64(0) if partial else ports
    else:
        return
    at = l4 + checksum_of(protocol)
    if at + 2 > end:
        return
    if partial:
        store16(data, row, at, fold35(load16(data, row, at) + change))
    else:
        patch(data, row, at, change, (protocol == UDP) | (protocol == UDP_LITE))


@kernel
def is_partial(meta: Any, row: Any, l4: Any, protocol: Any) -> Any:
    """Whether the protocol's own checksum is still to be completed; see the module.

    Takes CSUM_PARTIAL off what says a place that it may not. l4 < 0: there is no place.
    """
    if not meta[row].flags & CSUM_PARTIAL:
        return False
    start = i64(meta[row].csum_start)
    field = checksum_of(protocol)
    if l4 >= 0 and field != NONE:
        if start == l4 and i64(meta[row].csum_off) == field:
            return True
        beyond = start >= l4 + (TCP_HEADER if protocol == TCP else SHORTEST_HEADER)
    else:
        beyond = l4 >= 0 and start >= l4
    if not beyond:
        meta[row].flags = meta[row].flags & ~np.uint32(CSUM_PARTIAL)
    return False


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
    partial = is_partial(meta, row, l4, protocol)
    rewrite4(data, row, l3, l4, protocol, src, dst, end, partial)
    return True


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
        change = addresses4(data, row, l3, src >> 16, dst >> 16)
        change += ports4(data, row, l4, src, dst)
        patch(data, row, at, change, protocol == UDP)
        return True
    if not _translate_odd(data, meta, row, l3, l4, protocol, src, dst):
        return False
    meta[row].flags = meta[row].flags | np.uint32(TRANSLATED)
    return True
