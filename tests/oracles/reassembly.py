# SPDX-License-Identifier: Apache-2.0
"""Pieces of datagrams: RFC 791 section 3.2, RFC 1858, RFC 3128, RFC 5722, RFC 8200 4.5, RFC 7112.

What a virtual reassembly does with each: nothing is put together, but every piece is to carry the
ports of its datagram's first one. Written over lists of byte ranges, which are never merged.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

from . import ip4, ip6

TCP, ICMP, ICMP6 = 6, 1, 58
WITH_PORTS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite
EXTENSIONS = (ip6.HOP_BY_HOP, ip6.ROUTING, ip6.FRAGMENT, ip6.AUTHENTICATION, ip6.DESTINATION)
QUEUE, RANGES = 8, 16  # ours


@dataclass(frozen=True)
class Piece:
    """Bytes start to end of a datagram; refusal: why it is none, whatever came before."""

    key: Hashable
    start: int
    end: int
    more: bool
    refusal: str | None = None
    ports: int = 0


def first_ports(protocol: int, message: bytes) -> int | str:
    """Source port << 16 | destination port, or why the first piece is refused."""
    if protocol in WITH_PORTS:
        enough = len(message) >= (20 if protocol == TCP else 8)
        return int.from_bytes(message[:4], "big") if enough else "tiny"
    if protocol in (ICMP, ICMP6):
        if len(message) < 8:
            return "tiny"
        ident = int.from_bytes(message[4:6], "big")
        asks, answers = (8, 0) if protocol == ICMP else (128, 129)
        return {asks: ident << 16, answers: ident}.get(message[0], "icmp")
    return 0


def _piece(
    key: Hashable, headers: int, offset: int, body: bytes, more: bool,
    protocol: int, ports: int | str,
) -> Piece:  # fmt: skip
    reason = None
    if not body or headers + offset + len(body) > 65535 or (more and len(body) % 8):
        reason = "bad-length"
    elif offset == 0 and isinstance(ports, str):
        reason = ports
    elif offset == 8 and protocol == TCP:
        reason = "tiny"
    known = ports if isinstance(ports, int) and offset == 0 else 0
    return Piece(key, offset, offset + len(body), more, reason, known)


def piece4(packet: bytes, zone: int) -> Piece | None:
    """Return what piece of what datagram an IPv4 packet is; None: it is whole."""
    if not ip4.is_fragment(packet):
        return None
    n = ip4.header_length(packet)
    body, protocol = packet[n:], ip4.protocol(packet)
    key = (zone, packet[4:6], protocol, packet[12:20])
    ports = first_ports(protocol, body)
    offset = ip4.fragment_offset(packet) * 8
    return _piece(key, n, offset, body, ip4.more_fragments(packet), protocol, ports)


def fragment_header(packet: bytes) -> int | None:
    """Return where the first fragment header of an IPv6 packet is: it must be there whole."""
    protocol, at = packet[6], 40
    for _ in range(ip6.HEADERS_MAX + 1):
        if len(packet) < at + 8 or protocol not in EXTENSIONS:
            return None
        if protocol == ip6.FRAGMENT:
            return at
        words = packet[at + 1]
        size = 4 * (words + 2) if protocol == ip6.AUTHENTICATION else 8 * (words + 1)
        protocol, at = packet[at], at + size
    return None


def in_pieces(packet: bytes) -> bool:
    """Whether a fragment header says that there is more than this: RFC 6946 (atomic fragments)."""
    at = fragment_header(packet)
    return at is not None and bool(int.from_bytes(packet[at + 2 : at + 4], "big") & 0xFFF9)


def piece6(packet: bytes, zone: int) -> Piece | None:
    """Return what piece of what packet an IPv6 packet is; None: it is whole."""
    at = fragment_header(packet)
    if at is None or not in_pieces(packet):
        return None
    word = int.from_bytes(packet[at + 2 : at + 4], "big")
    key = (zone, packet[at + 4 : at + 8], packet[8:40])
    protocol, l4 = ip6.upper(packet)
    ports = "tiny" if protocol in EXTENSIONS else first_ports(protocol, packet[l4:])
    body = packet[at + 8 :]
    return _piece(key, at - 40, word & 0xFFF8, body, bool(word & 1), packet[at], ports)


@dataclass
class Datagram:
    """What has come of one."""

    since: int
    seen: list[tuple[int, int]] = field(default_factory=list)
    total: int | None = None
    ports: int | None = None
    refused: bool = False
    waiting: list[tuple[int, int]] = field(default_factory=list)  # packet, its buffers


@dataclass
class Outcome:
    """way: pass, held, or a reason. followed: packets that waited and go on now. freed: not on."""

    way: str
    ports: int | None = None
    followed: list[int] = field(default_factory=list)
    freed: list[tuple[int, str]] = field(default_factory=list)


class Reassembly:
    """At most so many datagrams, buffers that wait, and time for each from its first piece on."""

    def __init__(self, datagrams: int, limit: int, time: int) -> None:
        self.datagrams, self.limit, self.time = datagrams, limit, time
        self.known: dict[Hashable, Datagram] = {}  # the oldest first

    def held(self) -> int:
        return sum(n for d in self.known.values() for _, n in d.waiting)

    def _end(self, key: Hashable, reason: str) -> list[tuple[int, str]]:
        return [(packet, reason) for packet, _ in self.known.pop(key).waiting]

    def expire(self, now: int) -> list[tuple[int, str]]:
        """Forget the datagrams whose time is over."""
        over = [key for key, d in self.known.items() if now - d.since >= self.time]
        return [lost for key in over for lost in self._end(key, "expired")]

    def arrive(self, now: int, packet: int, piece: Piece, buffers: int = 1) -> Outcome:
        """Take up a packet that is a piece."""
        freed: list[tuple[int, str]] = []
        known = self.known.get(piece.key)
        if known and now - known.since >= self.time:
            freed += self._end(piece.key, "expired")
        if piece.key not in self.known:
            waits = piece.start and not piece.refusal
            if waits and self.held() + buffers > self.limit:
                return Outcome("queue-full", freed=freed)
            if len(self.known) == self.datagrams:
                freed += self._end(next(iter(self.known)), "evicted")
            self.known[piece.key] = Datagram(now)
        datagram = self.known[piece.key]
        if datagram.refused:
            return Outcome("refused", freed=freed)
        reason = piece.refusal or fault(datagram, piece)
        if reason == "copy":
            return Outcome(reason, freed=freed)
        if reason:
            freed += [(waited, "refused") for waited, _ in datagram.waiting]
            datagram.refused, datagram.waiting = True, []
            return Outcome(reason, freed=freed)
        if piece.start and datagram.ports is None:
            if len(datagram.waiting) == QUEUE or self.held() + buffers > self.limit:
                return Outcome("queue-full", freed=freed)
            self._see(datagram, piece)
            datagram.waiting.append((packet, buffers))
            return Outcome("held", freed=freed)
        self._see(datagram, piece)
        if not piece.start:
            datagram.ports = piece.ports
        followed = [waited for waited, _ in datagram.waiting]
        datagram.waiting = []
        if sum(end - start for start, end in datagram.seen) == datagram.total:
            del self.known[piece.key]
        return Outcome("pass", datagram.ports, followed, freed)

    @staticmethod
    def _see(datagram: Datagram, piece: Piece) -> None:
        datagram.seen.append((piece.start, piece.end))
        if not piece.more:
            datagram.total = piece.end


def fault(datagram: Datagram, piece: Piece) -> str | None:
    """Return why a piece does not go with those that came before, or None."""
    seen_units = {unit for start, end in datagram.seen for unit in range(start, end, 8)}
    if seen_units.issuperset(range(piece.start, piece.end, 8)):
        return "copy"
    if any(piece.start < end and start < piece.end for start, end in datagram.seen):
        return "overlap"
    if datagram.total is not None and (piece.end > datagram.total or not piece.more):
        return "bad-length"
    if not piece.more and any(end > piece.end for _, end in datagram.seen):
        return "bad-length"
    seen = [*datagram.seen, (piece.start, piece.end)]
    ends = {end for _, end in seen}
    if sum(start not in ends for start, _ in seen) > RANGES:
        return "too-many-gaps"
    return None
