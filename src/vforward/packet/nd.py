# SPDX-License-Identifier: Apache-2.0
"""Neighbor discovery (RFC 4861): offsets in bytes from the ICMPv6 message's start, and its numbers.

MACs and addresses are numbers in host order, of 48 and 128 bits.
"""

from __future__ import annotations

import struct

from vforward.packet import ethernet as eth
from vforward.packet import icmp6, ip6

FLAGS, TARGET, OPTIONS = 4, 8, 24
"""Of neighbor solicitations (whose flags are reserved) and advertisements: sections 4.3, 4.4."""
ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20
"""The flags byte of an advertisement."""

SOURCE_LINK, TARGET_LINK = 1, 2
"""Options with a link-layer address: section 4.6.1."""
UNIT = 8
"""What an option's length counts; one with a MAC is one unit long."""

LENGTH = OPTIONS + UNIT
"""Bytes of a message with a MAC."""
HOPS = 255
"""The hop limit that says: no router was passed (sections 7.1.1, 7.1.2)."""
ALL_NODES = 0xFF02 << 112 | 1


def solicitation(mac: int, source: int, target: int, *, to: int = 0, tags: bytes = b"") -> bytes:
    """The frame that asks who has an address: section 7.2.2. The slow path's.

    to: the neighbor's MAC when it is only asked whether it still is there; 0: the target's
    solicited-node group is asked. tags: in front of the type.
    """
    group = icmp6.solicited_node(target)
    return _frame(
        (to or icmp6.group_mac(group), mac, tags),
        (source, target if to else group),
        (icmp6.SOLICITATION, 0, target, SOURCE_LINK),
    )


def announcement(mac: int, target: int, *, tags: bytes = b"") -> bytes:
    """The frame that tells all nodes of an address's MAC: section 7.2.6. The slow path's."""
    return _frame(
        (icmp6.group_mac(ALL_NODES), mac, tags),
        (target, ALL_NODES),
        (icmp6.ADVERTISEMENT, ROUTER | OVERRIDE, target, TARGET_LINK),
    )


def _frame(
    link: tuple[int, int, bytes], ends: tuple[int, int], said: tuple[int, int, int, int]
) -> bytes:
    """link: to, from, tags. ends: source, destination. said: type, flags, target, option."""
    to, mac, tags = link
    kind, flags, target, option = said
    addresses = b"".join(end.to_bytes(16, "big") for end in ends)
    station = mac.to_bytes(6, "big")
    body = bytes([flags, 0, 0, 0]) + target.to_bytes(16, "big") + bytes([option, 1]) + station
    check = _checksum(addresses + struct.pack(">IIBBH", LENGTH, ip6.ICMP6, kind, 0, 0) + body)
    return (
        to.to_bytes(6, "big")
        + station
        + tags
        + struct.pack(">HIHBB", eth.IP6, 6 << 28, LENGTH, ip6.ICMP6, HOPS)
        + addresses
        + struct.pack(">BBH", kind, 0, check)
        + body
    )


def _checksum(summed: bytes) -> int:
    """RFC 1071 over an even number of bytes, few enough for two folds."""
    total = sum(struct.unpack(f">{len(summed) // 2}H", summed))
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16) ^ 0xFFFF
