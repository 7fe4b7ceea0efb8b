# SPDX-License-Identifier: Apache-2.0
"""Frames for Hypothesis, steered to boundaries; and the small network in which they arrive.

Each strategy starts from a frame that the router forwards, answers or holds, and bends at most
two things in it: so every check is reached, also the last one, and not only the first. Where a
checksum is not bent, it verifies; often it is forced (through the identification field) to a value
at which incremental updates wrap.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hypothesis import strategies as st

from oracles import checksum, ethernet
from oracles.router import Port, Route, Router

Draw = Callable[[st.SearchStrategy[Any]], Any]


def ip(text: str) -> int:
    """Return an IPv4 address as an int."""
    a, b, c, d = (int(part) for part in text.split("."))
    return a << 24 | b << 16 | c << 8 | d


def mac(n: int) -> bytes:
    """Return the nth locally administered MAC address."""
    return bytes([2, 0, 0, 0, 0, n])


# The network: five L3 ports (two VLANs on lan), and one pair that is wired through.
PORTS = (
    Port("lan", mac(1), ((ip("10.0.0.1"), 24), (ip("10.1.0.1"), 16))),
    Port("lan.10", mac(1), ((ip("10.0.10.1"), 24),), mtu=1496, parent="lan", vid=10),
    Port("lan.4094", mac(1), (), parent="lan", vid=4094),
    Port("wan", mac(2), ((ip("192.0.2.1"), 30),), mtu=576),
    Port("p2p", mac(3), ((ip("192.0.2.8"), 31),)),
    Port("bare", mac(4)),
    Port("x0", mac(5), mode="xconnect", peer="x1"),
    Port("x1", mac(6), mode="xconnect", peer="x0"),
)
ROUTES = (
    Route(ip("198.51.100.0"), 24, "via", "wan", ip("192.0.2.2")),
    Route(ip("198.51.100.128"), 25, "via", "p2p", ip("192.0.2.9")),
    Route(ip("198.51.100.200"), 32, "via", "lan.10", ip("10.0.10.9")),
    Route(ip("198.51.101.0"), 24, "via", "lan.4094", ip("10.0.94.9")),
    Route(ip("203.0.113.0"), 24, "via", "lan", ip("10.0.0.77")),  # nobody knows 10.0.0.77
    Route(ip("224.1.0.0"), 16, "via", "wan", ip("192.0.2.2")),  # out of the 224/4 blackhole
    Route(ip("100.64.0.0"), 26, "blackhole"),
    Route(ip("100.64.0.64"), 26, "unreachable"),
    Route(ip("100.64.0.128"), 26, "prohibit"),
)
NEIGHBORS = {
    ("lan", ip("10.0.0.9")): mac(0x19),
    ("lan", ip("10.1.0.9")): mac(0x29),
    ("lan.10", ip("10.0.10.9")): mac(0x39),
    ("lan.4094", ip("10.0.94.9")): mac(0x49),
    ("wan", ip("192.0.2.2")): mac(0x59),
    ("p2p", ip("192.0.2.9")): mac(0x69),
}
OURS = tuple(a for p in PORTS for a, _ in p.addresses)
NEIGHBOR_IPS = tuple(a for _, a in NEIGHBORS)
ROUTED = tuple(
    ip(a)
    for a in ("198.51.100.7", "198.51.100.129", "198.51.100.200", "198.51.101.1", "203.0.113.5")
)
HELD = (ip("10.0.0.50"), ip("10.0.10.254"), ip("10.1.255.254"), ip("10.0.0.0"))
REFUSED = tuple(ip(f"100.64.0.{n}") for n in (0, 63, 64, 127, 128, 191, 192))
SPECIAL = tuple(
    ip(a)
    for a in (
        "0.0.0.0",
        "0.255.255.255",
        "1.0.0.0",
        "8.8.8.8",  # no route
        "10.0.0.255",  # subnet broadcasts
        "10.1.255.255",
        "192.0.2.3",
        "126.255.255.255",
        "127.0.0.1",
        "128.0.0.0",
        "192.0.2.0",
        "223.255.255.255",
        "224.0.0.1",
        "224.1.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.254",
        "255.255.255.255",
    )
)
INTERESTING = (*NEIGHBOR_IPS, *ROUTED, *OURS, *HELD, *REFUSED, *SPECIAL)

# 0xfeff and 0xff00: where TTL - 1 adds 0x0100; 0xf7ff and 0xf800: where echo reply adds 0x0800.
CHECKSUMS = (0x0000, 0x0001, 0x00FF, 0x0100, 0xFEFE, 0xFEFF, 0xFF00, 0xFFFE, 0xFFFF)
ECHO_CHECKSUMS = (0x0000, 0x0001, 0x07FF, 0x0800, 0xF7FE, 0xF7FF, 0xF800, 0xFFFE, 0xFFFF)
WORDS = (0, 1, 0x00FF, 0x0100, 0x01FF, 0x0200, 0x0800, 0x7FFF, 0x8000, 0xFEFF, 0xFF00, 0xFFFE)


@cache
def _among(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Return st.sampled_from(values), made once: to make a strategy takes longer than to draw."""
    return st.sampled_from(values)


def router() -> Router:
    """Return a fresh oracle of the network."""
    return Router(PORTS, ROUTES, NEIGHBORS)


def words() -> st.SearchStrategy[int]:
    """Return 16-bit words, often at a boundary."""
    return st.one_of(_among((*WORDS, 0xFFFF)), st.integers(0, 0xFFFF))


def addresses() -> st.SearchStrategy[int]:
    """Return IPv4 addresses, often of the network above."""
    return st.one_of(_among(INTERESTING), st.integers(0, 0xFFFFFFFF))


def prefixes() -> st.SearchStrategy[tuple[int, int]]:
    """Return (prefix, length) without host bits, short, long and nested; 0/0 too."""
    lengths = st.one_of(_among((0, 1, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32)), st.integers(0, 32))
    return st.tuples(addresses(), lengths).map(lambda p: (p[0] >> (32 - p[1]) << (32 - p[1]), p[1]))


@st.composite
def checksum_updates(draw: Draw) -> tuple[bytes, int, int]:
    """Return (data, at, new): even data that verifies, whose word at byte `at` becomes new.

    The checksum is the first word, never `at`; it is often one where an update wraps. What is
    left is never all zero, as RFC 1624 asks.
    """
    count = draw(st.integers(2, 12))
    body = [draw(words()) for _ in range(count)]
    at = draw(st.integers(0, count - 1))
    target = draw(st.one_of(_among(CHECKSUMS + ECHO_CHECKSUMS), st.integers(0, 0xFFFF)))
    spare = (at + 1) % count  # the word that makes the checksum come out as target
    body[spare] = 0
    total = checksum.ones_sum(_join([target, *body]))
    body[spare] = 0xFFFF - total
    new = draw(words())
    if not any(new if i == at else w for i, w in enumerate(body)):
        new = 0xFFFF
    return _join([target, *body]), 2 + 2 * at, new


def random_frames(max_size: int = 200) -> st.SearchStrategy[bytes]:
    """Return uniformly random bytes, the empty frame included."""
    return st.binary(max_size=max_size)


# --- IPv4 ----------------------------------------------------------------------------------------


@dataclass
class Ip4Spec:
    """A packet before it is made; what is None is computed so that it is right."""

    payload: bytes = b""
    proto: int = 17
    src: int = 0
    dst: int = 0
    version: int = 4
    ihl: int | None = None
    options: bytes = b""
    tos: int = 0
    total_length: int | None = None
    ident: int = 0
    fragment: int = 0  # flags and offset, the whole word
    ttl: int = 64
    force: int | None = None  # the checksum to arrive at, by choice of ident
    damage: int = 0  # xor into the checksum
    padding: bytes = b""

    def length(self) -> int:
        return 20 + len(self.options) + len(self.payload)

    def build(self) -> bytes:
        ihl = 5 + len(self.options) // 4 if self.ihl is None else self.ihl
        total = self.length() if self.total_length is None else self.total_length
        start = bytes([self.version << 4 | ihl, self.tos]) + _word(total)
        middle = _word(self.fragment) + bytes([self.ttl, self.proto])
        rest = _long(self.src) + _long(self.dst) + self.options + self.payload
        covered = max(20, 4 * ihl)

        def packet(ident: int, check: int) -> bytes:
            return start + _word(ident) + middle + _word(check) + rest

        ident, check = self.ident, checksum.internet(packet(self.ident, 0)[:covered])
        if self.force is not None:
            check = self.force
            ident = checksum.internet(packet(0, check)[:covered])
        return packet(ident, check ^ self.damage) + self.padding


def _bend_ip4(draw: Draw, spec: Ip4Spec, what: str) -> None:
    """Bend one thing of spec."""
    match what:
        case "too-big":
            spec.dst = draw(_among((ip("198.51.100.7"), ip("192.0.2.2"))))
            spec.payload += _filler(draw(_among((577, 576, 1000))) - spec.length())
        case "too-big fragment":
            spec.dst = draw(_among((ip("198.51.100.7"), ip("192.0.2.2"))))
            spec.fragment = draw(_among((0x2001, 1, 0x1FFF, 0x1FB0, 0x2000, 0x8000)))
            spec.payload += _filler(draw(_among((577, 600, 1000, 1200))) - spec.length())
        case "refused":
            spec.dst = draw(_among(REFUSED))
        case "refused fragment":
            spec.dst = draw(_among(REFUSED))
            spec.fragment = draw(_among((1, 0x2001, 0x2000)))
        case "multicast":
            spec.dst = ip("224.1.0.1")
            spec.ttl = draw(_among((1, 2)))
        case "ttl":
            spec.ttl = draw(_among((1, 0, 2, 255)))
        case "version":
            spec.version = draw(_among((6, 0, 5, 15)))
        case "ihl":
            spec.ihl = draw(_among((4, 0, 5, 6, 15)))
        case "options":
            size = draw(_among((4, 8, 40)))
            spec.options = draw(st.binary(min_size=size, max_size=size))
        case "total_length":
            now = spec.length()
            there = now + len(spec.padding)
            near = (now - 1, now + 1, 19, 20, 21, there, there + 1, 0, 0xFFFF)
            spec.total_length = draw(_among(near))
        case "checksum":
            spec.damage = draw(_among((1, 0x0100, 0x8000, 0xFFFF)))
        case "fragment":
            spec.fragment = draw(_among((0x2000, 1, 0x1000, 0x2001, 0x1FFF, 0x4001, 0x8000)))
        case "src":
            spec.src = draw(_among(OURS + REFUSED + SPECIAL))
        case "dst":
            spec.dst = draw(_among(REFUSED + SPECIAL))
        case "size":
            total = draw(_among((547, 548, 549, 575, 576, 577, 1496, 1497, 1500, 1501)))
            spec.payload += _filler(total - spec.length())
        case "proto":
            spec.proto = draw(_among((0, 1, 2, 6, 17, 47, 255)))


_IP4_BENDS = (
    "ttl", "ttl", "version", "ihl", "options", "total_length", "checksum", "fragment",
    "src", "dst", "refused", "refused", "size", "too-big", "too-big", "refused fragment",
    "multicast", "proto", "src", "fragment", "too-big fragment",
)  # fmt: skip


_VALID_BENDS = ("ttl", "options", "size", "too-big", "fragment", "dst", "refused", "multicast")


def _ip4_spec(draw: Draw) -> Ip4Spec:
    proto = draw(_among((17, 1, 1, 1, 6, 47)))
    if proto == 1:
        payload = draw(icmp_messages())
    else:
        payload = bytes(draw(_among((8, 0, 20))))
    return Ip4Spec(
        payload,
        proto,
        src=draw(_among(NEIGHBOR_IPS * 3 + ROUTED + HELD)),
        dst=draw(_among(NEIGHBOR_IPS + ROUTED + OURS * 2 + HELD)),
        tos=draw(_among((0, 0xC0, 0xFF))),
        ident=draw(_among(WORDS)),
        fragment=draw(_among((0x4000, 0))),
        ttl=draw(_among((64, 2, 255))),
        force=draw(_among((None,) * 5 + CHECKSUMS)),
        padding=draw(_among((b"", b"", bytes(18), b"\xa5" * 26, b"\xff"))),
    )


@st.composite
def icmp_messages(draw: Draw) -> bytes:
    """Return ICMP messages: mostly echo requests that verify, at checksums where a reply wraps."""
    bodies = (bytes(2), bytes(3), b"\x00\x01" + b"\xff" * 7, _filler(40), _filler(1473))
    body = draw(_among(bodies))
    kind = draw(_among((8,) * 8 + (0, 3, 5, 11, 13, 255)))
    code = draw(_among((0,) * 7 + (1,)))
    force = draw(st.one_of(st.none(), _among(ECHO_CHECKSUMS)))

    def message(check: int, ident: int) -> bytes:
        return bytes([kind, code]) + _word(check) + _word(ident) + bytes(body)

    if force is None:
        made: bytes = message(checksum.internet(message(0, 0)), 0)
    else:
        made = message(force, checksum.internet(message(force, 0)))
    match draw(_among(("whole",) * 9 + ("cut", "damaged", "zeros"))):
        case "cut":
            return made[: draw(st.integers(0, 8))]
        case "damaged":
            return made[:2] + bytes([made[2] ^ 1]) + made[3:]
        case "zeros":  # the smallest ping there is: its reply is zero but for the checksum
            return bytes.fromhex("0800f7ff00000000")
    return made


@st.composite
def ip4_packets(draw: Draw) -> bytes:
    """Return link payloads for ip4-input: valid or bent, whole or cut, with or without padding."""
    spec = _ip4_spec(draw)
    for _ in range(draw(_among((1, 0, 2)))):
        _bend_ip4(draw, spec, draw(_among(_IP4_BENDS)))
    return _maybe_cut(draw, spec.build())


@st.composite
def valid_ip4_packets(draw: Draw) -> bytes:
    """Return packets that ip4-input accepts, without padding: for the nodes behind it."""
    spec = _ip4_spec(draw)
    for _ in range(draw(_among((1, 0, 2)))):
        _bend_ip4(draw, spec, draw(_among(_VALID_BENDS)))
    if spec.dst >> 24 in (0, 127):
        spec.dst = NEIGHBOR_IPS[0]
    spec.padding = b""
    return spec.build()


# --- ARP -----------------------------------------------------------------------------------------


@st.composite
def arp_payloads(draw: Draw, port: Port = PORTS[0]) -> bytes:
    """Return link payloads for arp-input of this port: valid or bent, whole or cut."""
    on_link = [a for name, a in NEIGHBORS if name == port.name]
    on_link += [(a & 0xFFFFFFFE) + n & 0xFFFFFFFF for a, _ in port.addresses for n in (2, 3)]
    ours = [a for a, _ in port.addresses]
    fields = {
        "fixed": bytes.fromhex("000108000604"),
        "op": draw(_among((1, 1, 2))),
        "sender_mac": mac(draw(st.integers(0x10, 0x70))),
        "sender_ip": draw(_among((*on_link, 0))),
        "target_ip": draw(_among((*ours * 3, *NEIGHBOR_IPS))),
    }
    match draw(_among(("", "", "") + tuple(fields) + ("conflict",))):
        case "fixed":
            at, value = draw(st.integers(0, 5)), draw(_among((0, 1, 6, 255)))
            fixed = bytes.fromhex("000108000604")
            fields["fixed"] = fixed[:at] + bytes([value]) + fixed[at + 1 :]
        case "op":
            fields["op"] = draw(_among((0, 3, 0x0100, 0x0101, 0xFFFF)))
        case "sender_mac":
            bad = (bytes(6), b"\xff" * 6, b"\x01" + bytes(5), bytes(5) + b"\x01")
            fields["sender_mac"] = draw(_among(bad))
        case "sender_ip":
            fields["sender_ip"] = draw(_among(INTERESTING))
        case "conflict":
            fields["sender_ip"] = draw(_among((*ours, 0)))
        case "target_ip":
            fields["target_ip"] = draw(_among(INTERESTING))
    payload = (
        fields["fixed"]
        + _word(fields["op"])
        + fields["sender_mac"]
        + _long(fields["sender_ip"])
        + draw(_among((bytes(6), port.mac)))
        + _long(fields["target_ip"])
    )
    return _maybe_cut(draw, payload + draw(_among((b"", bytes(18), b"\xa5" * 18))))


# --- Ethernet ------------------------------------------------------------------------------------


@dataclass
class EthSpec:
    """A frame's link header before it is made."""

    dst: bytes
    src: bytes = mac(0x19)
    tags: list[tuple[int, int]] = field(default_factory=list)  # (TPID, TCI)
    ethertype: int = ethernet.IP4

    def build(self, payload: bytes) -> bytes:
        tags = b"".join(_word(tpid) + _word(tci) for tpid, tci in self.tags)
        return self.dst + self.src + tags + _word(self.ethertype) + payload


def _bend_eth(draw: Draw, spec: EthSpec, what: str) -> None:
    match what:
        case "dst":
            multicast = bytes.fromhex("01005e000001")
            macs = (ethernet.BROADCAST, multicast, mac(0x77), bytes(6), b"\x03" + spec.dst[1:])
            spec.dst = draw(_among(macs))
        case "tags":
            vid = draw(_among((0, 1, 10, 2058, 4094, 4095)))
            tpid = draw(_among((ethernet.VLAN, ethernet.QINQ)))
            spec.tags = [(tpid, draw(_among((0, 0x1000, 0x6000, 0xF000))) | vid)]
        case "qinq":
            spec.tags = [(ethernet.QINQ, 10), (ethernet.VLAN, draw(_among((0, 10))))]
        case "ethertype":
            types = (0, 46, 1500, 1536, 0x0801, 0x0008, 0x86DD, 0x88CC, ethernet.ARP, 0xFFFF)
            spec.ethertype = draw(_among(types))


@st.composite
def arrivals(draw: Draw) -> tuple[str, bytes]:
    """Return (port name, frame): what may come to the network's router, sane and insane."""
    wires = tuple(p for p in PORTS if p.parent is None)
    port = draw(_among(wires[:1] * 5 + wires[:-1]))
    frame = draw(frames(port) if draw(st.integers(0, 19)) < 19 else random_frames())
    return port.name, frame


@st.composite
def frames(draw: Draw, wire: Port = PORTS[0]) -> bytes:
    """Return frames for one port and its sub-ports: IPv4, ARP and others, valid, bent or cut."""
    spec = EthSpec(dst=wire.mac)
    port = draw(_among((wire, wire, *(p for p in PORTS if p.parent == wire.name))))
    if port.vid is not None:
        spec.tags = [(ethernet.VLAN, port.vid)]
    if draw(st.integers(0, 3)) == 3:
        spec.ethertype = ethernet.ARP
        spec.dst = draw(_among((ethernet.BROADCAST, wire.mac)))
        payload = draw(arp_payloads(port))
    else:
        payload = draw(ip4_packets())
    if draw(st.integers(0, 7)) == 7:
        _bend_eth(draw, spec, draw(_among(("dst", "tags", "qinq", "ethertype"))))
    return _maybe_cut(draw, spec.build(payload))


def _maybe_cut(draw: Draw, data: bytes) -> bytes:
    """Return data, or one time in twenty any beginning of it."""
    if draw(st.integers(0, 19)) != 19:
        return data
    return data[: draw(st.integers(0, len(data)))]


def _filler(size: int) -> bytes:
    """Return bytes that are easy to tell from zeros, without asking Hypothesis for each."""
    return bytes(i * 7 + 1 & 0xFF for i in range(max(0, size)))


def _word(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _long(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _join(values: list[int]) -> bytes:
    return b"".join(_word(value) for value in values)
