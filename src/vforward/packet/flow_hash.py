# SPDX-License-Identifier: Apache-2.0
"""Flow hash: 32 bits that are the same for all packets of a flow, by which one of several ways is chosen.

IPv4    addresses, protocol, and the ports when the packet is no fragment and has them
IPv6    addresses, flow label (RFC 6437), next header, and the ports when they are directly behind it

RFC 2992 (why by flow). The two directions of a flow differ. All bits are good: take any.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.be import load16, load32, load64
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.packet import ip4

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


@kernel
def hash4(data: Any, row: int, l3: int, end: int) -> int:
    """Of the IPv4 packet whose header begins at l3; end is that of the buffer's bytes."""
    protocol = i64(data[row, l3 + ip4.PROTOCOL])
    what = protocol << 32
    behind = l3 + (i64(data[row, l3]) & 15) * 4
    fragment = load16(data, row, l3 + ip4.FRAGMENT) & (ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK)
    if fragment == 0 and has_ports(protocol) and behind + 4 <= end:
        what |= load32(data, row, behind)
    word = _mix(load64(data, row, l3 + ip4.SRC) + SEED)
    return i64(_mix(word ^ u64(what)) >> u64(32))


@kernel
def hash6(data: Any, row: int, l3: int, end: int) -> int:
    """Of the IPv6 packet whose header begins at l3; end is that of the buffer's bytes."""
    protocol = i64(data[row, l3 + IP6_NEXT])
    what = protocol << 20 | load32(data, row, l3) & FLOW_LABEL
    ports = i64(0)
    if has_ports(protocol) and l3 + IP6_HEADER + 4 <= end:
        ports = load32(data, row, l3 + IP6_HEADER)
    word = u64(what) << u64(32) | u64(ports)
    for k in range(4):
        word = _mix(word + SEED ^ load64(data, row, l3 + IP6_SRC + 8 * k))
    return i64(word >> u64(32))
