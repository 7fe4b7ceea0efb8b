"""What a rule can ask about a packet, by RFC 791, 8200, 793, 768, 792, 4443, 2474; and a session's ports.

The packets are valid by ip4-input or ip6-input. ``known`` are the ports of a datagram of which the
packet is a piece, as its first piece had them.
"""

WITH_PORTS = (6, 17, 33, 132, 136)
EXTENSIONS = (0, 43, 44, 51, 60)


class Truncated(Exception):
    """The packet ends before the header that its protocol has."""


def _message(message: bytes, protocol: int, icmp: int, asks: tuple[int, int]):
    """(ports of rules, TCP flags, ports of sessions or None)"""
    if protocol in WITH_PORTS:
        if len(message) < (20 if protocol == 6 else 8):
            raise Truncated
        both = int.from_bytes(message[:4], "big")
        return both, message[13] if protocol == 6 else 0, both
    if protocol == icmp:
        if len(message) < 8:
            raise Truncated
        ident = int.from_bytes(message[4:6], "big")
        flow = {asks[0]: ident << 16, asks[1]: ident}.get(message[0])
        return int.from_bytes(message[:2], "big"), 0, flow
    return 0, 0, None if protocol in (1, 58) else 0  # the other family's ICMP means nothing


def ip4(packet: bytes, known: int | None = None) -> dict:
    """The fields of an IPv4 packet."""
    word = int.from_bytes(packet[6:8], "big")
    later, piece = bool(word & 0x1FFF), bool(word & 0x3FFF)
    protocol = packet[9]
    if later:
        ports, flags, flow = (0xFFFF if protocol == 1 else known or 0), 0, known
    else:
        ports, flags, flow = _message(packet[4 * (packet[0] & 15) :], protocol, 1, (8, 0))
    return {
        "addresses": [int.from_bytes(packet[k : k + 4], "big") for k in (12, 16)],
        "ports": ports,
        "kind": protocol << 24 | flags << 16 | packet[1] >> 2 << 8 | piece | later << 1,
        "flow": flow,
    }


def ip6(packet: bytes, known: int | None = None) -> dict:
    """The fields of an IPv6 packet. Extension headers that cannot be walked are Truncated."""
    protocol, at, later = packet[6], 40, False
    walked = 0
    while protocol in EXTENSIONS and not later:
        if at + 8 > len(packet):
            raise Truncated
        size = 8 * (packet[at + 1] + 1)
        if protocol == 44:
            size, later = 8, bool(int.from_bytes(packet[at + 2 : at + 4], "big") & 0xFFF8)
        elif protocol == 51:
            size = 4 * (packet[at + 1] + 2)
        if at + size > len(packet) or (walked == 8 and not later):
            raise Truncated
        walked += 1
        protocol, at = packet[at], at + size
    if later:
        ports, flags, flow = (0xFFFF if protocol == 58 else known or 0), 0, known
    else:
        ports, flags, flow = _message(packet[at:], protocol, 58, (128, 129))
    dscp = (packet[0] << 8 | packet[1]) >> 6 & 0x3F
    piece = later or known is not None
    return {
        "addresses": [int.from_bytes(packet[k : k + 4], "big") for k in range(8, 40, 4)],
        "ports": ports,
        "kind": protocol << 24 | flags << 16 | dscp << 8 | piece | later << 1,
        "flow": flow,
    }
