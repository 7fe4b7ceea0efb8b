# SPDX-License-Identifier: Apache-2.0
"""ARP for IPv4 over Ethernet (RFC 826): offsets in bytes from the message's start, and its numbers.

MACs and addresses are numbers in host order, of 48 and 32 bits.
"""

from __future__ import annotations

from vforward.packet import ethernet as eth

HARDWARE, PROTOCOL, OPERATION, SENDER_MAC, SENDER_IP, TARGET_MAC, TARGET_IP = 0, 4, 6, 8, 14, 18, 24
LENGTH = 28

ETHERNET_IP4 = 0x00010800
"""The first four bytes: hardware Ethernet, protocol IPv4."""
SIZES = 0x0604
"""The next two: bytes of a MAC and of an IPv4 address."""
REQUEST, REPLY = 1, 2


def request(
    mac: int, sender: int, target: int, *, to: int = eth.BROADCAST, tags: bytes = b""
) -> bytes:
    """The frame that asks who has an address: RFC 826 "Packet Generation". The slow path's.

    to: the neighbor's MAC when it is only asked whether it still is there (RFC 1122 section
    2.3.2.1, "Unicast Poll"). tags: in front of the type. With sender and target the same it asks
    nothing, and announces the sender's MAC (RFC 5227 section 3).
    """
    return (
        to.to_bytes(6, "big")
        + mac.to_bytes(6, "big")
        + tags
        + eth.ARP.to_bytes(2, "big")
        + ETHERNET_IP4.to_bytes(4, "big")
        + SIZES.to_bytes(2, "big")
        + REQUEST.to_bytes(2, "big")
        + mac.to_bytes(6, "big")
        + sender.to_bytes(4, "big")
        + bytes(6)
        + target.to_bytes(4, "big")
    )
