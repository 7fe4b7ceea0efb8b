# SPDX-License-Identifier: Apache-2.0
"""NAT of IPv4: RFC 3022, RFC 4787, RFC 5382, RFC 5508. Every checksum is computed afresh.

An endpoint is (address, port).
"""

from . import checksum, ip4

ICMP, TCP, UDP, DCCP, SCTP, UDP_LITE = 1, 6, 17, 33, 132, 136
FIELD = {TCP: 16, UDP: 6, UDP_LITE: 6, DCCP: 6}
"""Where checksums are that cover the pseudo-header: RFC 9293, 768, 3828 and 4340 (all section 3 or 5)."""
ECHO, ECHO_REPLY = 8, 0


def covered(proto: int, segment: bytes) -> int:
    """How many bytes of a segment its checksum covers: all but of UDP-Lite (RFC 3828 section 3.1)."""
    if proto == UDP_LITE:
        return int.from_bytes(segment[4:6], "big") or len(segment)
    return len(segment)


def pseudo_sum(packet: bytes) -> int:
    """The sum of a packet's pseudo-header."""
    n = ip4.header_length(packet)
    return checksum.ones_sum(
        checksum.pseudo_header(
            ip4.source(packet), ip4.destination(packet), ip4.protocol(packet), len(packet) - n
        )
    )


def fresh(packet: bytes, *, partial: bool = False) -> bytes:
    """The packet with its header's and its message's checksum right. partial: see Linux's
    CHECKSUM_PARTIAL: the field has the pseudo-header's sum."""
    packet = ip4.with_checksum(packet)
    n, proto = ip4.header_length(packet), ip4.protocol(packet)
    segment = packet[n:]
    if proto == ICMP:
        check = checksum.internet(segment[:2] + bytes(2) + segment[4:])
        return packet[:n] + segment[:2] + check.to_bytes(2, "big") + segment[4:]
    if proto not in FIELD:
        return packet
    at = FIELD[proto]
    if partial:
        check = pseudo_sum(packet)
    else:
        zeroed = (segment[:at] + bytes(2) + segment[at + 2 :])[: covered(proto, segment)]
        check = checksum.internet(pseudo_sum(packet).to_bytes(2, "big") + zeroed)
        if proto in (UDP, UDP_LITE):  # 0 would mean that there is none
            check = check or 0xFFFF
    return packet[:n] + segment[:at] + check.to_bytes(2, "big") + segment[at + 2 :]


def translate(
    packet: bytes, src: tuple[int, int], dst: tuple[int, int], *, partial: bool = False
) -> bytes:
    """A whole packet, whose checksums are right, between other endpoints."""
    n, proto = ip4.header_length(packet), ip4.protocol(packet)
    addresses = src[0].to_bytes(4, "big") + dst[0].to_bytes(4, "big")
    segment = packet[n:]
    none = proto in (UDP, UDP_LITE) and segment[6:8] == bytes(2)
    if proto in FIELD:
        segment = src[1].to_bytes(2, "big") + dst[1].to_bytes(2, "big") + segment[4:]
    elif proto == ICMP and segment[0] in (ECHO, ECHO_REPLY):
        ident = src[1] if segment[0] == ECHO else dst[1]
        segment = segment[:4] + ident.to_bytes(2, "big") + segment[6:]
    packet = packet[:12] + addresses + packet[20:n] + segment
    if none and not partial:
        return ip4.with_checksum(packet)
    return fresh(packet, partial=partial)


def static(
    keep: int, address: int, first: int, port: int, proto: int, end: tuple[int, int]
) -> tuple[int, int]:
    """A fixed mapping of addresses and, where port is not 0, of a range of ports from first on."""
    moved = proto in FIELD and port
    return (
        end[0] & keep | address & ~keep & 0xFFFFFFFF,
        (end[1] + port - first) % 65536 if moved else end[1],
    )


def quoted4(packet: bytes) -> tuple[int, int, int, tuple[int, int], tuple[int, int]] | None:
    """Of an ICMP error: where the packet that it quotes begins and its next header, the protocol
    and the endpoints; or None: it is of no flow, or that cannot be told (RFC 5508 section 4.1)."""
    message = packet[ip4.header_length(packet) :]
    if len(message) < 8:
        return None
    quote = message[8:]
    if message[0] in (3, 11, 12) and message[5]:  # RFC 4884 section 4.1
        quote = quote[: 4 * message[5]]
    n = ip4.header_length(quote) if quote else 0
    if len(quote) < 20 or quote[0] >> 4 != 4 or not 20 <= n <= len(quote):
        return None
    if not checksum.verifies(quote[:n]) or ip4.fragment_offset(quote):
        return None
    both = _ports(ip4.protocol(quote), quote[n:], ICMP)
    if both is None:
        return None
    at = len(packet) - len(message) + 8
    src, dst = (ip4.source(quote), both[0]), (ip4.destination(quote), both[1])
    return at, at + n, ip4.protocol(quote), src, dst


def _ports(proto: int, segment: bytes, icmp: int) -> tuple[int, int] | None:
    """The ports of a message that may be cut; icmp: the protocol's number in this family."""
    if proto in (*FIELD, SCTP):
        there = len(segment) >= 8
        return (
            (int.from_bytes(segment[:2], "big"), int.from_bytes(segment[2:4], "big"))
            if there
            else None
        )
    if proto in (1, 58):
        if proto != icmp or len(segment) < 8:
            return None
        ident = int.from_bytes(segment[4:6], "big")
        ask, answer = (8, 0) if icmp == 1 else (128, 129)
        return {ask: (ident, 0), answer: (0, ident)}.get(segment[0])
    return 0, 0


def quoted6(packet: bytes, at: int) -> tuple[int, int, int, bytes, bytes, tuple[int, int]] | None:
    """The same of the ICMPv6 error at an offset: (offset, its upper layer's, protocol, source,
    destination, ports)."""
    message = packet[at:]
    if len(message) < 8:
        return None
    quote = message[8:]
    if message[0] in (1, 3) and message[4]:  # RFC 4884 section 4.2 and 4.3
        quote = quote[: 8 * message[4]]
    if len(quote) < 40 or quote[0] >> 4 != 6:
        return None
    proto, upper = _upper(quote)
    both = _ports(proto, quote[upper:], 58)
    if proto in (0, 43, 44, 51, 60) or both is None:
        return None
    return at + 8, at + 8 + upper, proto, quote[8:24], quote[24:40], both


def _upper(packet: bytes) -> tuple[int, int]:
    """Past at most eight extension headers: RFC 8200 section 4, RFC 4302 section 2.2."""
    proto, at = packet[6], 40
    for _ in range(8):
        if proto not in (0, 43, 44, 51, 60) or len(packet) < at + 8:
            break
        if proto == 44 and int.from_bytes(packet[at + 2 : at + 4], "big") & 0xFFF8:
            break
        size = {44: 8, 51: 4 * (packet[at + 1] + 2)}.get(proto, 8 * (packet[at + 1] + 1))
        if len(packet) < at + size:
            break
        proto, at = packet[at], at + size
    return proto, at


def icmp_error(sender: int, to: int, what: bytes, quote: bytes, options: bytes = b"") -> bytes:
    """An ICMP error; what: type, code and the 4 bytes behind the checksum. See icmp4.error."""
    text = what[:2] + bytes(2) + what[2:] + quote
    message = text[:2] + checksum.internet(text).to_bytes(2, "big") + text[4:]
    header = (
        bytes([0x45 + len(options) // 4, 0xC0])
        + (20 + len(options) + len(message)).to_bytes(2, "big")
        + bytes([0, 0, 0, 0, 64, ICMP, 0, 0])
        + sender.to_bytes(4, "big")
        + to.to_bytes(4, "big")
    )
    return ip4.with_checksum(header + options) + message
