# SPDX-License-Identifier: Apache-2.0
"""IPv4: RFC 791 section 3 (header, fragments), RFC 1812 sections 5.2.2, 5.3.1, 5.3.4 and 5.3.7."""

from enum import Enum

from . import checksum
from .lpm import covers

ICMP, TCP, UDP = 1, 6, 17
LIMITED_BROADCAST = 0xFFFFFFFF


def header_length(packet: bytes) -> int:
    return (packet[0] & 0x0F) * 4


def total_length(packet: bytes) -> int:
    return int.from_bytes(packet[2:4], "big")


def dont_fragment(packet: bytes) -> bool:
    return bool(packet[6] & 0x40)


def more_fragments(packet: bytes) -> bool:
    return bool(packet[6] & 0x20)


def fragment_offset(packet: bytes) -> int:
    """Return the fragment offset, in units of 8 bytes."""
    return int.from_bytes(packet[6:8], "big") & 0x1FFF


def ttl(packet: bytes) -> int:
    return packet[8]


def protocol(packet: bytes) -> int:
    return packet[9]


def source(packet: bytes) -> int:
    return int.from_bytes(packet[12:16], "big")


def destination(packet: bytes) -> int:
    return int.from_bytes(packet[16:20], "big")


def is_multicast(address: int) -> bool:
    """RFC 1812 section 5.2.1.3 with RFC 5771: 224/4."""
    return covers(0xE0000000, 4, address)


def is_martian(src: int) -> bool:
    """RFC 1812 sections 5.3.7 and 4.2.2.11; RFC 6890: sources that no forwarded packet has.

    Such destinations, 0/8 and 127/8, are the routes' to refuse (router.derived_routes).
    """
    return (
        covers(0x00000000, 8, src)
        or covers(0x7F000000, 8, src)
        or is_multicast(src)
        or covers(0xF0000000, 4, src)  # with 255.255.255.255
    )


def malformed(payload: bytes) -> str | None:
    """Return what is wrong with the header of this link payload (RFC 1812 section 5.2.2)."""
    if len(payload) < 20:
        return "truncated"
    if payload[0] >> 4 != 4:
        return "bad-version"
    if payload[0] & 0x0F < 5:
        return "bad-ihl"
    if not header_length(payload) <= total_length(payload) <= len(payload):
        return "bad-length"
    if not checksum.verifies(payload[: header_length(payload)]):
        return "bad-checksum"
    return None


def check(payload: bytes, link_multicast: bool = False) -> str | None:
    """Return why ip4-input drops this link payload, or None."""
    reason = malformed(payload)
    if reason:
        return reason
    src, dst = source(payload), destination(payload)
    if is_martian(src):
        return "martian"
    # RFC 1812 section 5.3.4: what came to everybody on the link is not for one host.
    if link_multicast and not is_multicast(dst) and dst != LIMITED_BROADCAST:
        return "link-broadcast"
    return None


def is_for_host(payload: bytes, link_multicast: bool) -> bool:
    """Tell whether it goes to the host of its port, if that has one: it never leaves the link.

    RFC 5771 section 4 (224.0.0/24), RFC 919 section 7; from 0.0.0.0 too: RFC 2131 section 4.1.
    """
    if malformed(payload) or not link_multicast:
        return False
    src, dst = source(payload), destination(payload)
    return (dst == LIMITED_BROADCAST or covers(0xE0000000, 24, dst)) and (
        src == 0 or not is_martian(src)
    )


def trim(payload: bytes) -> bytes:
    """Take off what follows the datagram: Ethernet padding (RFC 894 "Frame Format")."""
    return payload[: total_length(payload)]


def decrement_ttl(packet: bytes) -> bytes:
    """Take one hop off the TTL (RFC 1812 section 5.3.1), patch the checksum (RFC 1624 eqn 3)."""
    old = int.from_bytes(packet[8:10], "big")
    new = old - 0x0100
    check_ = checksum.update(int.from_bytes(packet[10:12], "big"), old, new)
    return packet[:8] + new.to_bytes(2, "big") + check_.to_bytes(2, "big") + packet[12:]


class Rewrite(Enum):
    """The ways out of ip4-rewrite."""

    SEND = "send"
    TTL_EXPIRED = "ttl-expired"  # ICMP 11/0
    TOO_BIG = "too-big"  # ICMP 3/4
    FRAGMENT = "fragment"  # to ip4-fragment


def rewrite(packet: bytes, mtu: int, self_made: bool = False) -> tuple[Rewrite, bytes]:
    """Do the IP half of ip4-rewrite: the way out, and the packet (changed when it goes on).

    A packet that the router made itself keeps its TTL (RFC 1812 section 5.3.1).
    """
    if not self_made and ttl(packet) <= 1:
        return Rewrite.TTL_EXPIRED, packet
    if total_length(packet) > mtu and dont_fragment(packet):
        return Rewrite.TOO_BIG, packet
    way = Rewrite.FRAGMENT if total_length(packet) > mtu else Rewrite.SEND
    return way, packet if self_made else decrement_ttl(packet)


def is_fragment(packet: bytes) -> bool:
    """Tell whether this is a piece of a datagram (RFC 791 section 3.2)."""
    return more_fragments(packet) or fragment_offset(packet) != 0


def with_checksum(packet: bytes) -> bytes:
    """Return the packet with its header checksum computed afresh."""
    n = header_length(packet)
    check_ = checksum.internet(packet[:10] + b"\x00\x00" + packet[12:n])
    return packet[:10] + check_.to_bytes(2, "big") + packet[12:]


def copied_options(options: bytes) -> bytes:
    """Return the options that every fragment has: RFC 791 section 3.1 "Options", copied flag.

    An option whose length is wrong ends the list.
    """
    kept, at = b"", 0
    while at < len(options) and options[at] != 0:
        size = 1
        if options[at] != 1:
            size = options[at + 1] if at + 1 < len(options) else 0
            if size < 2 or at + size > len(options):
                break
        if options[at] & 0x80:
            kept += options[at : at + size]
        at += size
    return kept + bytes(-len(kept) % 4)


def fragment(packet: bytes, mtu: int) -> list[bytes] | str:
    """Cut a packet into fragments of at most mtu bytes (RFC 791 section 3.2, RFC 1812 5.2.6).

    Or say why that cannot be done. A fragment is cut like any packet: its offset is where the
    counting begins, and the last piece has its "more fragments".
    """
    header, body = packet[: header_length(packet)], packet[header_length(packet) :]
    kept = copied_options(header[20:])
    if len(packet) <= mtu:
        return [packet]
    if mtu < len(header) + 8:
        return "mtu-too-small"
    start = fragment_offset(packet) * 8
    if start + len(body) > 65535:
        return "beyond-65535"
    reserved = packet[6] & 0xC0
    pieces: list[bytes] = []
    done = 0
    while done < len(body) or not pieces:
        options = kept if pieces else header[20:]
        room = mtu - 20 - len(options)
        last = len(body) - done <= room
        part = body[done:] if last else body[done : done + room // 8 * 8]
        flags = (not last or more_fragments(packet)) << 13 | reserved << 8
        piece = bytearray(header[:20] + options + part)
        piece[0] = 0x40 | (20 + len(options)) // 4
        piece[2:4] = len(piece).to_bytes(2, "big")
        piece[6:8] = (flags | (start + done) // 8).to_bytes(2, "big")
        pieces.append(with_checksum(bytes(piece)))
        done += len(part)
    return pieces


def reassemble(pieces: list[bytes]) -> bytes:
    """Put fragments in any order together: RFC 791 section 3.2, the header of the first.

    Of a fragment's fragments a fragment comes out. Asserts that nothing overlaps or is missing.
    """
    pieces = sorted(pieces, key=fragment_offset)
    first, last = pieces[0], pieces[-1]
    body = b""
    for piece in pieces:
        assert piece[4:6] + piece[9:10] + piece[12:20] == first[4:6] + first[9:10] + first[12:20]
        assert (fragment_offset(piece) - fragment_offset(first)) * 8 == len(body)
        assert more_fragments(piece) or piece is last
        body += piece[header_length(piece) :]
    header = bytearray(first[: header_length(first)])
    header[2:4] = (len(header) + len(body)).to_bytes(2, "big")
    header[6] = header[6] & ~0x20 | last[6] & 0x20
    return with_checksum(bytes(header)) + body
