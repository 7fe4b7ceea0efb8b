# SPDX-License-Identifier: Apache-2.0
"""TCP resets: RFC 9293 section 3.10.7.1, for a connection that does not exist (CLOSED)."""

from collections.abc import Container
from ipaddress import IPv6Address

from . import checksum, ip4, ip6

FIN, SYN, RST, ACK = 1, 2, 4, 16


def _word(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "big")


def answer(segment: bytes) -> bytes:
    """Return the reset for a segment; its checksum is zero.

    "If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
    If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>." SEG.LEN counts SYN and FIN (section 3.4).
    """
    flags = segment[13]
    seq, ack = int.from_bytes(segment[4:8], "big"), int.from_bytes(segment[8:12], "big")
    length = len(segment) - (segment[12] >> 4) * 4 + bool(flags & SYN) + bool(flags & FIN)
    ports = segment[2:4] + segment[0:2]
    if flags & ACK:
        return ports + _word(ack) + _word(0) + bytes([0x50, RST]) + bytes(6)
    return ports + _word(0) + _word(seq + length) + bytes([0x50, RST | ACK]) + bytes(6)


def malformed(segment: bytes) -> str | None:
    """Return why a segment gets no answer whatever its addresses, or None."""
    if len(segment) < 20 or not 20 <= (segment[12] >> 4) * 4 <= len(segment):
        return "reset-truncated"
    return "reset-about-reset" if segment[13] & RST else None


def refusal4(packet: bytes, link_multicast: bool, own: Container[int]) -> str | None:
    """Return why an IPv4 packet is not answered, or None: as for ICMP errors, RFC 1812 4.3.2.7."""
    if ip4.protocol(packet) != ip4.TCP:
        return "not-tcp"
    if ip4.is_fragment(packet):
        return "reset-about-fragment"
    reason = malformed(packet[ip4.header_length(packet) :])
    if reason:
        return reason
    src, dst = ip4.source(packet), ip4.destination(packet)
    if link_multicast or dst >= 0xE0000000:
        return "reset-about-broadcast"
    return "reset-bad-source" if src == 0 or src >= 0xE0000000 or src in own else None


def reset4(packet: bytes) -> bytes:
    """Return the whole IPv4 packet: addresses swapped, TTL 64, may not be fragmented, no options."""
    src, dst = ip4.source(packet), ip4.destination(packet)
    segment = answer(packet[ip4.header_length(packet) :])
    check = checksum.l4(dst, src, ip4.TCP, segment)
    segment = segment[:16] + check.to_bytes(2, "big") + segment[18:]
    header = bytes([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, ip4.TCP, 0, 0])
    return ip4.with_checksum(header + packet[16:20] + packet[12:16]) + segment


def in_pieces(packet: bytes) -> bool:
    """Whether an IPv6 packet has a fragment header that says that there is more than this."""
    protocol, at = packet[6], 40
    for _ in range(ip6.HEADERS_MAX + 1):
        if len(packet) < at + 8:
            return False
        if protocol == ip6.FRAGMENT:
            return bool(int.from_bytes(packet[at + 2 : at + 4], "big") & 0xFFF9)
        if protocol == ip6.AUTHENTICATION:
            size = 4 * (packet[at + 1] + 2)
        elif protocol in (ip6.HOP_BY_HOP, ip6.ROUTING, ip6.DESTINATION):
            size = 8 * (packet[at + 1] + 1)
        else:
            return False
        protocol, at = packet[at], at + size
    return False


def refusal6(packet: bytes, link_multicast: bool, own: Container[IPv6Address]) -> str | None:
    """Return why an IPv6 packet is not answered, or None: as for ICMPv6 errors, RFC 4443 2.4 (e)."""
    if in_pieces(packet):
        return "reset-about-fragment"
    protocol, at = ip6.upper(packet)
    if protocol != ip6.TCP:
        return "not-tcp"
    reason = malformed(packet[at:])
    if reason:
        return reason
    if link_multicast or ip6.destination(packet).is_multicast:
        return "reset-about-broadcast"
    src = ip6.source(packet)
    bad = src.is_unspecified or src.is_multicast or src in own
    return "reset-bad-source" if bad else None


def reset6(packet: bytes) -> bytes:
    """Return the whole IPv6 packet: addresses swapped, hop limit 64, no extension headers."""
    segment = answer(packet[ip6.upper(packet)[1] :])
    addresses = packet[24:40] + packet[8:24]
    pseudo = addresses + len(segment).to_bytes(4, "big") + bytes([0, 0, 0, ip6.TCP])
    check = checksum.internet(pseudo + segment)
    segment = segment[:16] + check.to_bytes(2, "big") + segment[18:]
    return bytes([0x60, 0, 0, 0, 0, 20, ip6.TCP, 64]) + addresses + segment
