# SPDX-License-Identifier: Apache-2.0
"""A VLAN-aware learning bridge, frame by frame: IEEE 802.1Q-2018 section 8.6 to 8.8.

Reserved addresses: table 8-1. Learning: 8.7. Tags: 9.6; what is put on takes PCP and DEI (bits 15 to
12 of the TCI) from the tag that was the outermost before.
"""

from dataclasses import dataclass, field

TAG_TYPES = (b"\x81\x00", b"\x88\xa8")
RESERVED = bytes.fromhex("0180c20000")
BROADCAST = b"\xff" * 6


@dataclass(frozen=True)
class Port:
    """A tag is (EtherType, VLAN id), the outer first."""

    number: int
    domain: int
    group: int = 0
    bvi: bool = False
    in_pop: int = 0
    in_push: tuple[tuple[int, int], ...] = ()
    out_pop: int = 0
    out_push: tuple[tuple[int, int], ...] = ()


@dataclass
class Domain:
    """What a domain does. limit: None for no limit."""

    learn: bool = True
    flood_unknown: bool = True
    flood_broadcast: bool = True
    flood_multicast: bool = True
    forward_reserved: bool = False
    limit: int | None = None
    members: list[int] = field(default_factory=list)
    bvi: int = 0
    moves: int = 0


@dataclass(frozen=True)
class Way:
    """What becomes of a frame: edge, the port that it is for (0: none), its bytes, or a reason."""

    edge: str
    port: int
    frame: bytes
    reason: str = ""


def is_group(mac: bytes) -> bool:
    """Tell whether it is a broadcast's or a multicast's."""
    return bool(mac[0] & 1)


def retag(frame: bytes, pop: int, push: tuple[tuple[int, int], ...]) -> bytes | None:
    """Take tags off and put others on; None when there are not so many."""
    if not pop and not push:
        return frame
    priority = 0
    if frame[12:14] in TAG_TYPES and len(frame) >= 16:
        priority = int.from_bytes(frame[14:16], "big") & 0xF000
    rest = frame[12:]
    for _ in range(pop):
        if rest[:2] not in TAG_TYPES or len(rest) < 6:
            return None
        rest = rest[4:]
    if len(rest) < 2:
        return None
    new = b"".join(t.to_bytes(2, "big") + (vid | priority).to_bytes(2, "big") for t, vid in push)
    return frame[:12] + new + rest


class Bridge:
    """All domains of a switch."""

    def __init__(self, ports: list[Port], domains: dict[int, Domain]) -> None:
        self.ports = {port.number: port for port in ports}
        self.domains = domains
        self.table: dict[tuple[int, bytes], int] = {}
        self.static: set[tuple[int, bytes]] = set()

    def add_static(self, domain: int, mac: bytes, port: int) -> None:
        """Bind a MAC to a port."""
        self.table[domain, mac] = port
        self.static.add((domain, mac))

    def learned(self, domain: int) -> int:
        """How many MACs of a domain are learned ones."""
        return sum(1 for key in self.table if key[0] == domain and key not in self.static)

    def learn(self, domain: int, mac: bytes, port: int) -> None:
        """Note where a source is."""
        what = self.domains[domain]
        if not what.learn or (domain, mac) in self.static:
            return
        known = self.table.get((domain, mac))
        if known is None and what.limit is not None and self.learned(domain) >= what.limit:
            return
        what.moves += known not in (None, port)
        self.table[domain, mac] = port

    def may(self, source: Port, to: Port) -> bool:
        """Split horizon: neither back, nor to the same group."""
        return source.number != to.number and not (source.group and source.group == to.group)

    def forward(self, number: int, frame: bytes) -> Way:
        """What l2-forward does with a frame that came in by a port."""
        port = self.ports[number]
        what = self.domains[port.domain]
        came = frame
        tagged = retag(frame, port.in_pop, port.in_push)
        if tagged is None:
            return Way("drop", 0, came, "tags")
        frame = tagged
        if len(frame) < 14:
            return Way("drop", 0, frame, "truncated")
        dst, src = frame[:6], frame[6:12]
        if is_group(src) or src == bytes(6):
            return Way("drop", 0, frame, "bad-source")
        if dst[:5] == RESERVED and dst[5] < 16 and not what.forward_reserved:
            return Way("drop", 0, frame, "reserved")
        if not port.bvi:
            self.learn(port.domain, src, number)
        if is_group(dst):
            kind = "broadcast" if dst == BROADCAST else "multicast"
            floods = what.flood_broadcast if dst == BROADCAST else what.flood_multicast
            return Way("flood", 0, frame) if floods else Way("drop", 0, frame, kind)
        at = self.table.get((port.domain, dst))
        if at is None:
            return (
                Way("flood", 0, frame) if what.flood_unknown else Way("drop", 0, frame, "unknown")
            )
        if at == number:
            return Way("drop", 0, frame, "same-port")
        if not self.may(port, self.ports[at]):
            return Way("drop", 0, frame, "split-horizon")
        if self.ports[at].bvi:
            return Way("bvi", at, frame)
        out = retag(frame, self.ports[at].out_pop, self.ports[at].out_push)
        return Way("output", at, out) if out is not None else Way("drop", 0, frame, "tags")

    def flood(self, number: int, frame: bytes) -> list[Way]:
        """What l2-flood sends, in order."""
        port = self.ports[number]
        what = self.domains[port.domain]
        ways = []
        for to in what.members:
            out = retag(frame, self.ports[to].out_pop, self.ports[to].out_push)
            if self.may(port, self.ports[to]) and out is not None:
                ways.append(Way("output", to, out))
        if what.bvi and what.bvi != number and is_group(frame[:6]):
            ways.append(Way("bvi", what.bvi, frame))
        return ways
