# SPDX-License-Identifier: Apache-2.0
"""ICMP for IPv4: RFC 792, RFC 1122 section 3.2.2, RFC 1191, RFC 1812 section 4.3."""

from collections.abc import Container

from . import checksum, ip4

ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED = 0, 3, 8, 11
# RFC 1122 section 3.2.2: these are queries, so an error about one of them is allowed.
QUERIES = frozenset({0, 8, 13, 14, 15, 16, 17, 18})
MAX_ERROR = 576  # bytes of the whole IPv4 packet: RFC 1812 section 4.3.2.3


def receive(packet: bytes) -> str | None:
    """Return why ip4-local consumes this ICMP packet, or None: an echo request to answer."""
    message = packet[ip4.header_length(packet) :]
    if len(message) < 8:
        return "icmp-truncated"
    if not checksum.verifies(message):
        return "icmp-bad-checksum"
    if message[0:2] != bytes([ECHO, 0]):
        return "icmp-ignored"
    return None


def is_ping(packet: bytes) -> bool:
    """Tell whether it is an echo request that the router answers itself, if it is right.

    One to a group is not (RFC 1122 section 3.2.2.6 leaves it open): it is the host's.
    """
    message = packet[ip4.header_length(packet) :]
    return (
        ip4.protocol(packet) == ip4.ICMP
        and not ip4.is_fragment(packet)
        and len(message) >= 8
        and message[0:2] == bytes([ECHO, 0])
        and ip4.destination(packet) < 0xE0000000
    )


def echo_reply(packet: bytes) -> bytes:
    """Answer an echo request in place (RFC 792 "Echo"; RFC 1812 section 4.3.3.6).

    Type 0, addresses swapped, TTL 64, header checksum afresh, ICMP checksum by RFC 1624 eqn 3.
    Where eqn 3 gives 0 this stores 0xffff, the same number: a reply whose other bytes are all zero
    (ping with identifier, sequence and data 0) would not verify with 0 (see `checksum.update`).
    """
    n = ip4.header_length(packet)
    message = packet[n:]
    old_check = int.from_bytes(message[2:4], "big")
    check = checksum.update(old_check, ECHO << 8, ECHO_REPLY << 8) or 0xFFFF
    header = packet[:8] + bytes([64]) + packet[9:12] + packet[16:20] + packet[12:16] + packet[20:n]
    return ip4.with_checksum(header) + bytes(2) + check.to_bytes(2, "big") + message[4:]


def refusal(
    packet: bytes,
    link_multicast: bool,
    own: Container[int],
    sender: int | None,
    translated: bool = False,
) -> str | None:
    """Return why icmp4-error says nothing about packet, or None (RFC 1812 section 4.3.2.7).

    own are all addresses of the router, sender is the one to speak from (None: there is none).
    translated: NAT gave the packet its source, so it may be one of ours and yet stand for another.
    """
    if ip4.protocol(packet) == ip4.ICMP:
        message = packet[ip4.header_length(packet) :]
        if not message or message[0] not in QUERIES:
            return "icmp-about-icmp"
    if ip4.fragment_offset(packet) != 0:
        return "icmp-about-fragment"
    dst = ip4.destination(packet)
    if link_multicast or ip4.is_multicast(dst) or dst == ip4.LIMITED_BROADCAST:
        return "icmp-about-broadcast"
    if ip4.source(packet) == 0 or (ip4.source(packet) in own and not translated):
        return "icmp-bad-source"
    if sender is None:
        return "icmp-no-address"
    return None


def error(packet: bytes, sender: int, kind: int, code: int, mtu: int = 0) -> bytes:
    """Return the ICMP error about packet, a whole IPv4 packet (RFC 792; RFC 1812 section 4.3.2).

    TOS 0xC0 is precedence 6: RFC 1812 section 4.3.2.5. mtu is for type 3 code 4: RFC 1191
    section 4. As much is quoted as fits in 576 bytes: RFC 1812 section 4.3.2.3.
    """
    quote = packet[: min(ip4.total_length(packet), MAX_ERROR - 28)]
    rest = b"\x00\x00" + mtu.to_bytes(2, "big")
    check = checksum.internet(bytes([kind, code, 0, 0]) + rest + quote)
    message = bytes([kind, code]) + check.to_bytes(2, "big") + rest + quote
    header = (
        bytes([0x45, 0xC0])
        + (20 + len(message)).to_bytes(2, "big")
        + b"\x00\x00\x00\x00"  # identification, flags, fragment offset
        + bytes([64, ip4.ICMP, 0, 0])
        + sender.to_bytes(4, "big")
        + packet[12:16]
    )
    return ip4.with_checksum(header) + message
