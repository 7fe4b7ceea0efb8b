"""Where a checksum that is still to be completed may stand: what is read of a packet must not change.

virtio-net's csum_start and csum_offset (VIRTIO 1.3 section 5.1.6.2) say where two bytes are written
after the packet was judged. Offsets are from the network header's start.
"""

from oracles import checksum, fields

OWN = {6: 16, 17: 6, 33: 6, 136: 6}
"""RFC 9293 section 3.1, RFC 768, RFC 4340 section 5.1, RFC 3828 section 3.1."""


def own(transport: int, protocol: int, icmp: int) -> tuple[int, int] | None:
    """Where a protocol's own checksum stands: (csum_start, csum_offset)."""
    field = 2 if protocol == icmp else OWN.get(protocol)
    return None if field is None else (transport, field)


def harmless(packet: bytes, family: int, at: int) -> bool:
    """Whether all that rules, routes and sessions see stays, whatever is written to two bytes at ``at``."""
    before = _read(packet, family)
    written = (
        packet[:at] + word + packet[at + 2 :] for word in (b"\0\0", b"\xff\xff", b"\xa5\x5a")
    )
    return all(_read(after[: len(packet)], family) == before for after in written)


def _read(packet: bytes, family: int):
    header = 40 if family == 6 else 4 * (packet[0] & 15)
    try:
        seen = fields.ip6(packet) if family == 6 else fields.ip4(packet)
    except fields.Truncated:  # no rule lets it through
        seen = None
    return packet[:header], seen


def left(frame: bytes) -> tuple[int, int] | None:
    """What a stack left to be completed of an Ethernet frame: (csum_start, csum_offset), from its start.

    The field is the pseudo-header's sum: RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1.
    Whole packets that end with the frame, directly behind their IP header.
    """
    at, tags = 12, 0
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at, tags = at + 4, tags + 1
    packet = frame[at + 2 :]
    if tags > 2 or len(packet) < 20:
        return None
    if frame[at : at + 2] == b"\x08\x00" and packet[0] >> 4 == 4:
        header, protocol, ends = 4 * (packet[0] & 15), packet[9], packet[12:20]
        fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF
        whole = header >= 20 and not fragment and int.from_bytes(packet[2:4], "big") == len(packet)
    elif frame[at : at + 2] == b"\x86\xdd" and packet[0] >> 4 == 6 and len(packet) >= 40:
        header, protocol, ends = 40, packet[6], packet[8:40]
        whole = int.from_bytes(packet[4:6], "big") + 40 == len(packet)
    else:
        return None
    message = packet[header:]
    field, size, least = {6: (16, 2, 18), 17: (6, 2, 8)}.get(protocol, (0, 0, 0))
    if not whole or not size or len(message) < least:
        return None
    if protocol == 17 and int.from_bytes(message[4:6], "big") != len(message):
        return None
    pseudo = ends + len(message).to_bytes(4, "big") + protocol.to_bytes(4, "big")
    if int.from_bytes(message[field : field + size], "big") != checksum.ones_sum(pseudo):
        return None
    return at + 2 + header, field
