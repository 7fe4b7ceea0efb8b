# SPDX-License-Identifier: Apache-2.0
"""Packets as their fields, so that two of them can be compared but for what is known to differ.

Checksums are not compared but computed: "right", "wrong", or "none" of UDP. Ports that NAT has chosen
are named in the order in which they appear: two judges agree if there is a bijection between theirs,
and if both have kept the same senders' own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from e2e.nft_steps import Out
from vforward.testing import packets as pk

Fields = dict[str, object]
MORE, OFFSET = 1, 0xFFF8
ERRORS4, ERRORS6 = {3, 4, 5, 11, 12}, {1, 2, 3, 4}
ECHO4, ECHO6 = {0, 8}, {128, 129}


@dataclass
class Names:
    """Names of ports, or ICMP identifiers, that were chosen at public addresses.

    public: for each address the range that they are to be from. own: the ports of those who send now.
    """

    public: Mapping[str, tuple[int, int]]
    own: frozenset[int] = frozenset()
    known: dict[tuple[object, ...], str] = field(default_factory=dict)

    def end(self, protocol: int, address: str, port: int) -> tuple[object, object]:
        """An address and a port, or the name of both."""
        if address not in self.public or port in KEPT:
            return address, port
        low, high = self.public[address] if protocol != pk.PROTO_ICMP else (0, 65535)
        assert low <= port <= high, f"{address} port {port} is not from {low} to {high}"
        key = (protocol, address, port)
        name = f"own {port}" if port in self.own else f"chosen {len(self.known) + 1}"
        return "public", self.known.setdefault(key, name)


KEPT = {0, 8080}
"""Ports of public addresses that nobody chooses."""


def described(sent: Sequence[bytes], out: Sequence[Out], names: Names) -> list[tuple[str, Fields]]:
    """Where packets went out, and their fields; in an order that does not depend on who sent them."""
    names.own = frozenset(_source(packet) for packet in sent)
    found = [(port, fields(packet, names)) for port, packet in out]
    return sorted(found, key=repr)


def _source(packet: bytes) -> int:
    """The source's port, or its identifier, of an IPv4 packet without options; otherwise something."""
    at = 24 if packet[9] == pk.PROTO_ICMP else 20
    return int.from_bytes(packet[at : at + 2], "big")


def fields(packet: bytes, names: Names, *, quoted: bool = False) -> Fields:
    """A packet's fields by name. quoted: its end may be missing."""
    return (
        _fields6(packet, names, quoted) if packet[0] >> 4 == 6 else _fields4(packet, names, quoted)
    )


def _fields4(packet: bytes, names: Names, quoted: bool) -> Fields:
    first, tos, length, ident, fragment, ttl, protocol, _ = struct.unpack_from("!BBHHHBBH", packet)
    size = 4 * (first & 15)
    found: Fields = {
        "tos": tos, "length": length, "ident": ident, "df": fragment >> 14 & 1, "ttl": ttl,
        "protocol": protocol, "header checksum": _state(packet[:size]), "options": packet[20:size],
        "bytes": len(packet),
    }  # fmt: skip
    ends = packet[12:16], packet[16:20]
    place = fragment & 0x3FFF
    whole = None if place or len(packet) < length else ends[0] + ends[1]
    return found | _l4(packet[size:], protocol, ends, whole, place & 0x1FFF, names, place)


def _fields6(packet: bytes, names: Names, quoted: bool) -> Fields:
    word, length, protocol, hops = struct.unpack_from("!IHBB", packet)
    found: Fields = {"first word": word, "length": length, "ttl": hops, "bytes": len(packet)}
    at, place = 40, 0
    if protocol == 44:
        protocol, _, place, ident = struct.unpack_from("!BBHI", packet, 40)
        found["ident"] = ident
        at = 48
    found["protocol"] = protocol
    ends = packet[8:24], packet[24:40]
    whole = None if place or len(packet) < 40 + length else ends[0] + ends[1]
    return found | _l4(packet[at:], protocol, ends, whole, place & OFFSET, names, place)


def _l4(
    l4: bytes, protocol: int, ends: tuple[bytes, bytes], whole: bytes | None, offset: int,
    names: Names, place: int,
) -> Fields:  # fmt: skip
    """What is behind the IP header. whole: the pseudo-header's addresses, if nothing is missing."""
    src, dst = (str(ip_address(end)) for end in ends)
    found: Fields = {"src": src, "dst": dst, "fragment": place}
    if offset:
        return found | {"payload": l4}
    if protocol in (pk.PROTO_ICMP, pk.PROTO_ICMP6) and len(l4) >= 8:
        return found | _icmp(l4, protocol, src, dst, whole, names)
    if protocol not in (pk.PROTO_TCP, pk.PROTO_UDP) or len(l4) < 8:
        found["src"], found["dst"] = (names.end(protocol, end, 0)[0] for end in (src, dst))
        return found | {"payload": l4}
    sport, dport = struct.unpack_from("!HH", l4)
    found["src"], found["sport"] = names.end(protocol, src, sport)
    found["dst"], found["dport"] = names.end(protocol, dst, dport)
    at = 6 if protocol == pk.PROTO_UDP else 16
    found["payload"] = l4[4:at] + l4[at + 2 :]
    if protocol == pk.PROTO_TCP and len(l4) >= 20:
        found["seq"], found["ack"], flags, found["window"] = struct.unpack_from("!IIHH", l4, 4)
        found["flags"] = flags & 0xFF
        found["payload"] = l4[18:]
    if protocol == pk.PROTO_UDP and l4[6:8] == b"\0\0":
        found["checksum"] = "none"
    elif whole is None:
        found["checksum"] = l4[at : at + 2].hex() if len(l4) >= at + 2 else "cut"
    else:
        found["checksum"] = _state(whole + struct.pack("!HH", protocol, len(l4)) + l4)
        if l4[at : at + 2] == b"\0\0":
            found["checksum"] = "zero"
    return found


def _icmp(
    l4: bytes, protocol: int, src: str, dst: str, whole: bytes | None, names: Names
) -> Fields:
    six = protocol == pk.PROTO_ICMP6
    kind, code = l4[0], l4[1]
    found: Fields = {"type": kind, "code": code, "second word": l4[4:8]}
    if whole is not None:
        pseudo = whole + struct.pack("!HH", protocol, len(l4)) if six else b""
        found["checksum"] = _state(pseudo + l4)
    if kind in (ERRORS6 if six else ERRORS4) and len(l4) >= 8 + (40 if six else 20):
        quote = fields(l4[8:], names, quoted=True)
        return found | {f"quoted {name}": value for name, value in quote.items()}
    if kind in (ECHO6 if six else ECHO4):
        ident = int.from_bytes(l4[4:6], "big")
        found["second word"] = l4[6:8]
        for name, address in (("src", src), ("dst", dst)):
            found[name], end = names.end(protocol, address, ident)
            found["echo ident"] = end if end != ident else found.get("echo ident", ident)
    return found | {"payload": l4[8:]}


def _state(content: bytes) -> str:
    return "right" if pk.checksum(content) == 0 else "wrong"


def differing(one: list[tuple[str, Fields]], other: list[tuple[str, Fields]]) -> set[str]:
    """The names of the fields that differ; "verdict" where it is not the same packets at all."""
    if len(one) != len(other):
        return {"verdict"}
    found: set[str] = set()
    for (port, a), (other_port, b) in zip(one, other, strict=True):
        if port != other_port or set(a) != set(b):
            return {"verdict"}
        found |= {name for name in a if a[name] != b[name]}
    return found
