# SPDX-License-Identifier: Apache-2.0
"""Flow hash: 32 bits that are the same for all packets of a flow, by which one of several ways is chosen.

IPv4    addresses, protocol, and the ports when the packet is no fragment and has them
IPv6    addresses, flow label (RFC 6437), next header, and the ports when they are directly behind it

RFC 2992 (why by flow). The two directions of a flow differ, except for frame_hash, in which they are
alike and flow labels do not count, since each direction has its own. All bits are good: take any.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.be import load16, load32, load64
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.packet import ethernet, ip4

TCP, UDP, DCCP, SCTP, UDP_LITE = 6, 17, 33, 132, 136
IP6_NEXT, IP6_SRC, IP6_HEADER = 6, 8, 40
FLOW_LABEL = 0xFFFFF

# Odd constants with bits at random: 2**64 / golden ratio, and those of Stafford's mixer 13.
SEED = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)


@inline
def _mix(word: Any) -> Any:
    """A bijection of u64 in which every bit depends on every one (Stafford 2011, variant 13)."""
    word = (word ^ word >> u64(30)) * FIRST
    word = (word ^ word >> u64(27)) * SECOND
    return word ^ word >> u64(31)


@inline
def has_ports(protocol: Any) -> Any:
    """Whether a protocol's header begins with two ports of 16 bits."""
    found = (protocol == TCP) | (protocol == UDP) | (protocol == SCTP)
    return found | (protocol == DCCP) | (protocol == UDP_LITE)


@inline
def _ports4(data: Any, row: Any, l3: Any, end: Any) -> Any:
    """Source port << 16 | destination port; 0 where there are none."""
    behind = l3 + (i64(data[row, l3]) & 15) * 4
    fragment = load16(data, row, l3 + ip4.FRAGMENT) & (ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK)
    if fragment == 0 and has_ports(i64(data[row, l3 + ip4.PROTOCOL])) and behind + 4 <= end:
        return load32(data, row, behind)
    return i64(0)


@inline
def _ports6(data: Any, row: Any, l3: Any, end: Any) -> Any:
    """As _ports4."""
    if has_ports(i64(data[row, l3 + IP6_NEXT])) and l3 + IP6_HEADER + 4 <= end:
        return load32(data, row, l3 + IP6_HEADER)
    return i64(0)


@kernel
def hash4(data: Any, row: int, l3: int, end: int) -> int:
    """Of the IPv4 packet whose header begins at l3; end is that of the buffer's bytes."""
    what = i64(data[row, l3 + ip4.PROTOCOL]) << 32 | _ports4(data, row, l3, end)
    word = _mix(load64(data, row, l3 + ip4.SRC) + SEED)
    return i64(_mix(word ^ u64(what)) >> u64(32))


@kernel
def hash6(data: Any, row: int, l3: int, end: int) -> int:
    """Of the IPv6 packet whose header begins at l3; end is that of the buffer's bytes."""
    protocol = i64(data[row, l3 + IP6_NEXT])
    what = protocol << 20 | load32(data, row, l3) & FLOW_LABEL
    word = u64(what) << u64(32) | u64(_ports6(data, row, l3, end))
    for k in range(4):
        word = _mix(word + SEED ^ load64(data, row, l3 + IP6_SRC + 8 * k))
    return i64(word >> u64(32))


@inline
def _either(one: Any, other: Any, what: Any) -> Any:
    """Of two ends, in whichever order, and what is between them."""
    return i64(_mix(_mix(one + SEED) + _mix(other + SEED) ^ u64(what)) >> u64(32))


@inline
def _end6(data: Any, row: Any, at: Any, port: Any) -> Any:
    """An address and a port, in one word."""
    return _mix(load64(data, row, at) + SEED) + load64(data, row, at + 8) ^ u64(port << 48)


@kernel
def frame_hash(data: Any, row: int, off: int, end: int) -> int:
    """Of the Ethernet frame that begins at off, behind two VLAN tags at most, the same in both directions
    of its flow: of its MAC addresses where it is not IP. end is that of the buffer's bytes.
    """
    if off + ethernet.HEADER > end:
        return 0
    at, kind = ethernet.behind_tags(data, row, off, end)
    if kind == ethernet.IP4 and at + ip4.HEADER <= end:
        ports = _ports4(data, row, at, end)
        one = load32(data, row, at + ip4.SRC) << 16 | ports >> 16
        other = load32(data, row, at + ip4.DST) << 16 | ports & 0xFFFF
        return _either(u64(one), u64(other), i64(data[row, at + ip4.PROTOCOL]))
    if kind == ethernet.IP6 and at + IP6_HEADER <= end:
        ports = _ports6(data, row, at, end)
        one6 = _end6(data, row, at + IP6_SRC, ports >> 16)
        other6 = _end6(data, row, at + IP6_SRC + 16, ports & 0xFFFF)
        return _either(one6, other6, i64(data[row, at + IP6_NEXT]))
    to, source = load64(data, row, off) >> u64(16), load64(data, row, off + 6) >> u64(16)
    return _either(to, source, kind)
