# SPDX-License-Identifier: Apache-2.0
"""ICMPv6 (RFC 4443) and ND's types (RFC 4861): offsets from the message's start, types, checksum."""

from __future__ import annotations

from typing import Any

from vforward.jit.be import store16
from vforward.jit.kernel import i64, kernel
from vforward.packet import ip6
from vforward.packet.checksum import fold, sum_to_end

TYPE, CODE, CHECKSUM, REST = 0, 1, 2, 4
HEADER = 8
"""Bytes of the shortest message of any type named here."""

UNREACHABLE, PACKET_TOO_BIG, TIME_EXCEEDED, PARAMETER_PROBLEM = 1, 2, 3, 4
ECHO, ECHO_REPLY = 128, 129
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT, REDIRECT = (
    133, 134, 135, 136, 137,
)  # fmt: skip
"""ND: SOLICITATION and ADVERTISEMENT are the neighbor's."""
INFORMATIONAL = 128
"""Types below are errors: RFC 4443 section 2.1."""

# Type << 8 | code, as in meta.scratch and in an adjacency.
NO_ROUTE, PROHIBITED, BEYOND_SCOPE, ADDRESS_UNREACHABLE, PORT_UNREACHABLE = (
    UNREACHABLE << 8 | code for code in range(5)
)
TOO_BIG = PACKET_TOO_BIG << 8
HOP_LIMIT_EXCEEDED = TIME_EXCEEDED << 8
ERRONEOUS_FIELD, UNKNOWN_NEXT_HEADER, UNKNOWN_OPTION = (
    PARAMETER_PROBLEM << 8 | code for code in range(3)
)

SOLICITED_NODE_HIGH = 0xFF02 << 48
SOLICITED_NODE_LOW = 0x00000001_FF000000
"""ff02::1:ff00:0/104: RFC 4291 section 2.7.1."""


@kernel
def message_sum(data: Any, meta: Any, row: Any, l3: Any, l4: Any) -> Any:
    """The sum of the message at l4, to the packet's end over all buffers, and of its pseudo-header.

    0xFFFF when the checksum is right (RFC 4443 section 2.3).
    """
    length = i64(meta[row].end) - l4 + i64(meta[row].rest)
    return fold(ip6.pseudo_sum(data, row, l3, length, ip6.ICMP6) + sum_to_end(data, meta, row, l4))


@kernel
def put_checksum(data: Any, meta: Any, row: Any, l3: Any, l4: Any) -> None:
    """Compute and write the checksum of the message at l4; all else is in its place."""
    store16(data, row, l4 + CHECKSUM, 0)
    store16(data, row, l4 + CHECKSUM, message_sum(data, meta, row, l3, l4) ^ 0xFFFF)


def solicited_node(address: int) -> int:
    """The solicited-node group of a 128-bit address. The slow path's."""
    return SOLICITED_NODE_HIGH << 64 | SOLICITED_NODE_LOW | address & 0xFFFFFF


def group_mac(address: int) -> int:
    """The MAC of a multicast address, from its 128 bits or its low half: RFC 2464 section 7."""
    return 0x3333_0000_0000 | address & 0xFFFFFFFF
