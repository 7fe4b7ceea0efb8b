"""Where a checksum that is still to be completed may stand: what is read of a packet must not change.

virtio-net's csum_start and csum_offset (VIRTIO 1.3 section 5.1.6.2) say where two bytes are written
after the packet was judged. Offsets are from the network header's start.
"""

from oracles import fields

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
