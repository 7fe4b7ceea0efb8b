# SPDX-License-Identifier: Apache-2.0
"""IPv6: RFC 8200 (header, extension headers), RFC 4291 section 2 (addresses), RFC 5095, RFC 6946."""

from collections.abc import Container
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

HOP_BY_HOP, TCP, UDP, ROUTING, FRAGMENT, AUTHENTICATION = 0, 6, 17, 43, 44, 51
ICMP, NO_NEXT, DESTINATION = 58, 59, 60
MAPPED = IPv6Network("::ffff:0:0/96")
HEADERS_MAX = 8  # ours; RFC 8504 section 5.3 allows a limit


def payload_length(packet: bytes) -> int:
    return int.from_bytes(packet[4:6], "big")


def source(packet: bytes) -> IPv6Address:
    return IPv6Address(packet[8:24])


def destination(packet: bytes) -> IPv6Address:
    return IPv6Address(packet[24:40])


def scope(group: IPv6Address) -> int:
    """RFC 4291 section 2.7: the scope field of a multicast address."""
    return group.packed[1] & 0x0F


def is_martian(src: IPv6Address, dst: IPv6Address) -> bool:
    """Whether a packet from the link with these addresses must not be taken up."""
    if src.is_loopback or dst.is_loopback:  # RFC 4291 section 2.5.3
        return True
    if src in MAPPED or dst in MAPPED:  # RFC 6890 table 20: neither source nor destination
        return True
    if dst.is_unspecified or src.is_multicast:  # RFC 4291 sections 2.5.2 and 2.7
        return True
    if dst.is_multicast and scope(dst) in (0, 1):  # section 2.7 and erratum 3480
        return True
    # Section 2.5.2: never forwarded; who speaks so asks for its own address (RFC 4862 5.4.2).
    return src.is_unspecified and not (dst.is_multicast and scope(dst) == 2)


def check(payload: bytes, link_multicast: bool = False) -> str | None:
    """Return why ip6-input refuses this link payload whatever its port, or None."""
    if len(payload) < 40:
        return "truncated"
    if payload[0] >> 4 != 6:
        return "bad-version"
    if 40 + payload_length(payload) > len(payload):
        return "bad-length"
    src, dst = source(payload), destination(payload)
    if is_martian(src, dst):
        return "martian"
    if link_multicast and not dst.is_multicast:
        return "link-broadcast"
    return None


def way(packet: bytes, link: Container[IPv6Address], own: Container[IPv6Address]) -> str:
    """Return where ip6-input sends a packet that it does not refuse, or why it drops it.

    link are the port's link-local addresses; own are the router's others that the port knows.
    """
    src, dst = source(packet), destination(packet)
    if dst.is_multicast:
        return "local" if scope(dst) == 2 else "multicast"
    if dst.is_link_local:
        return "local" if dst in link else "link-local"
    if src.is_link_local and dst not in own:
        return "error"  # RFC 4443 section 3.1, code 2: beyond scope of source address
    return "arc-end"


def trim(payload: bytes) -> bytes:
    """Take off what follows the packet: Ethernet padding."""
    return payload[: 40 + payload_length(payload)]


def rewrite(packet: bytes, mtu: int, self_made: bool = False) -> tuple[int | None, bytes]:
    """Do the IP half of ip6-rewrite: the ICMPv6 type to send or None, and the packet.

    RFC 8200 section 3 (hop limit), RFC 4443 sections 3.2 and 3.3.
    """
    if not self_made and packet[7] <= 1:
        return 3, packet
    if len(packet) > mtu:
        return 2, packet
    return None, packet if self_made else packet[:7] + bytes([packet[7] - 1]) + packet[8:]


@dataclass(frozen=True)
class Walk:
    """What lies behind a packet's extension headers, or why one does not get there."""

    protocol: int = -1
    offset: int = -1  # of the upper layer's header
    field: int = 6  # offset of the next header value that named the protocol
    fragmented: bool = False
    drop: str = ""
    problem: tuple[int, int, int] | None = None  # ICMPv6 type, code, pointer


def walk(packet: bytes) -> Walk:
    """Go through the extension headers as the destination: RFC 8200 section 4."""
    field, at, fragmented = 6, 40, False
    for _ in range(HEADERS_MAX + 1):
        protocol = packet[field]
        if protocol not in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION):
            return Walk(protocol, at, field, fragmented)
        if protocol == HOP_BY_HOP and field != 6:  # only right behind the IPv6 header
            return Walk(protocol, at, field, fragmented)
        header = packet[at : at + 8]
        if len(header) == 8 and protocol != FRAGMENT:
            header = packet[at : at + 8 * (header[1] + 1)]
        if len(header) < 8 or (protocol != FRAGMENT and len(header) < 8 * (header[1] + 1)):
            return Walk(drop="bad-extension")
        if protocol in (HOP_BY_HOP, DESTINATION):
            wrong = options(header[2:], destination(packet).is_multicast)
            if isinstance(wrong, str):
                return Walk(drop=wrong)
            if wrong is not None:
                return Walk(problem=(4, 2, at + 2 + wrong))
        elif protocol == ROUTING:
            if header[3]:  # segments left: RFC 8200 section 4.4, RFC 5095 section 3
                return Walk(problem=(4, 0, at + 2))
        else:
            if header[2:4] != b"\0\0" and int.from_bytes(header[2:4], "big") & 0xFFF9:
                return Walk(drop="fragment")
            fragmented = True
        field, at = at, at + len(header)
    return Walk(drop="bad-extension")


def options(area: bytes, multicast: bool) -> str | int | None:
    """Return why these options forbid to go on: a reason to drop, or where the unknown one is."""
    at = 0
    while at < len(area):
        kind = area[at]
        if kind == 0:  # Pad1
            at += 1
            continue
        if at + 1 >= len(area) or at + 2 + area[at + 1] > len(area):
            return "bad-extension"
        if kind != 1:  # PadN
            match kind >> 6:  # RFC 8200 section 4.2
                case 1:
                    return "unknown-option"
                case 2:
                    return at
                case 3:
                    return "unknown-option" if multicast else at
        at += 2 + area[at + 1]
    return None


def upper(packet: bytes) -> tuple[int, int]:
    """Return the protocol behind all extension headers that are there, and its offset.

    Stops at a fragment other than the first, at what is cut off, and after HEADERS_MAX.
    """
    protocol, at = packet[6], 40
    for _ in range(HEADERS_MAX):
        if protocol not in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, AUTHENTICATION):
            break
        if len(packet) < at + 8:
            break
        size = 8 * (packet[at + 1] + 1)
        if protocol == FRAGMENT:
            if int.from_bytes(packet[at + 2 : at + 4], "big") >> 3:
                break
            size = 8
        elif protocol == AUTHENTICATION:
            size = 4 * (packet[at + 1] + 2)  # RFC 4302 section 2.2
        if len(packet) < at + size:
            break
        protocol, at = packet[at], at + size
    return protocol, at
