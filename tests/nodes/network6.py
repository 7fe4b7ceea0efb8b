# SPDX-License-Identifier: Apache-2.0
"""A small network of IPv6: ports, addresses, adjacencies, and frames for Hypothesis.

As `strategies` and `network` for IPv4: each packet starts as one that the router takes, and at most
two things in it are bent.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from nodes.network import no_features, rewrite_bytes
from nodes.network import run_both as run_with_tables
from oracles import icmp6, ip6
from vforward.graph.node import Node
from vforward.tables import addresses as addresses_table
from vforward.tables.addresses import ADDRESS
from vforward.tables.adjacency import ADJACENCY, Way
from vforward.tables.ports import NO_MAC, PORT, ROUTED
from vforward.testing.run_node import Result

Draw = Callable[[st.SearchStrategy[Any]], Any]


def a(text: str) -> IPv6Address:
    return IPv6Address(text)


def mac(n: int) -> bytes:
    return bytes([2, 0, 0, 0, 6, n])


@dataclass(frozen=True)
class Port6:
    """A port, or a sub-interface with its tags (TPID, VLAN id), the outer first."""

    mac: bytes
    addresses: tuple[tuple[IPv6Address, int], ...]
    mtu: int = 1500
    tags: tuple[tuple[int, int], ...] = ()
    vrf: int = 0
    host: int = 0

    @property
    def own(self) -> list[IPv6Address]:
        return [address for address, _ in self.addresses]


# Port numbers are positions, from 1 on. Two have the same link-local address, as routers may.
PORTS = (
    Port6(mac(1), ((a("fe80::1"), 64), (a("2001:db8:1::1"), 64), (a("2001:db8:1:1::1"), 64))),
    Port6(mac(1), ((a("2001:db8:2::1"), 64), (a("fe80::1"), 64)), 1496, ((0x8100, 10),)),
    Port6(mac(1), ((a("fe80::3"), 64),), 1492, ((0x88A8, 100), (0x8100, 4094))),
    Port6(mac(4), ((a("2001:db8:4::1"), 127),), 1280),
    Port6(mac(5), ((a("fd00::1"), 64), (a("fe80::5"), 10)), vrf=7),
    Port6(mac(6), ()),
    Port6(mac(7), ((a("fe80::7"), 64), (a("2001:db8:7::1"), 64)), host=9),
)
N_PORTS = 1 + len(PORTS)
LAN, SUB, STACKED, NO_LINK_LOCAL, IN_VRF, BARE, HOSTED = range(1, N_PORTS)
IP4 = 0xFFFF_0A000001  # an IPv4 address among the others


@cache
def ports() -> NDArray[Any]:
    table = np.zeros(N_PORTS, PORT)
    table["filter"] = NO_MAC
    for i, port in enumerate(PORTS, 1):
        to = table[i]
        to["mac"] = to["filter"] = int.from_bytes(port.mac, "big")
        to["mode"], to["mtu"], to["parent"], to["output"] = ROUTED, port.mtu, i, i - 1
        to["vrf"], to["host"], to["tags"] = port.vrf, port.host, len(port.tags)
        if port.tags:
            to["tpid"], to["vlan"] = port.tags[0]
        if len(port.tags) > 1:
            to["inner"] = port.tags[1][1]
    return table


@cache
def addresses() -> NDArray[Any]:
    table = np.zeros(64, ADDRESS)
    addresses_table.add(table, 1, 1, 128)
    addresses_table.add(table, LAN, IP4, 120)
    for i, port in enumerate(PORTS, 1):
        for address, length in port.addresses:
            addresses_table.add(table, i, int(address), length)
    addresses_table.delete(table, 1, 1)  # leaves an unused record in front
    return table


def known(port: int) -> list[IPv6Address]:
    """The router's addresses as a port knows them: all of its own, others' global ones of its VRF."""
    return [*PORTS[port - 1].own, *others(port)]


def ours(port: int) -> list[IPv6Address]:
    """What no other host of the port may have: these, and its VRF's IPv4 addresses, as mapped ones."""
    return [
        *known(port),
        *([IPv6Address(IP4)] if PORTS[port - 1].vrf == PORTS[LAN - 1].vrf else []),
    ]


def others(port: int) -> list[IPv6Address]:
    """Global addresses of the other ports of its VRF."""
    here = PORTS[port - 1]
    return [
        address
        for there in PORTS
        if there is not here and there.vrf == here.vrf
        for address in there.own
        if not address.is_link_local
    ]


def anycast(port: int) -> list[IPv6Address]:
    """The subnet-router anycast addresses that a port knows: RFC 4291 section 2.6.1, RFC 6164."""
    vrf = PORTS[port - 1].vrf
    own = [pair for there in PORTS if there.vrf == vrf for pair in there.addresses]
    nets = [IPv6Network(pair, strict=False) for pair in own if pair[1] < 127]
    return [n.network_address for n in nets if n.network_address not in known(port)]


def speaker(port: int, to: IPv6Address) -> IPv6Address | None:
    return icmp6.speaker(to, PORTS[port - 1].own, others(port))


def link_header(port: int, dst: bytes, src: bytes | None = None) -> bytes:
    """The link-layer header of the port's frames: as they come in (src given), or go out."""
    tags = b"".join(t.to_bytes(2, "big") + v.to_bytes(2, "big") for t, v in PORTS[port - 1].tags)
    return dst + (src or PORTS[port - 1].mac) + tags + b"\x86\xdd"


def adjacency(port: int, dst: bytes, mtu: int | None = None) -> NDArray[Any]:
    """One record, ADJACENCY[1], to a neighbor whose MAC is known."""
    record, header = np.zeros(1, ADJACENCY), link_header(port, dst)
    record["tx_port"], record["edge"], record["rewrite_len"] = port, Way.REWRITE, len(header)
    record["mtu"] = PORTS[port - 1].mtu if mtu is None else mtu
    record["rewrite"] = rewrite_bytes(header)
    return record


def limits() -> NDArray[np.uint64]:
    """ICMP's rate limits that allow everything."""
    from vforward.tables import rate_limit

    table = np.zeros(rate_limit.items_for(64), np.uint64)
    return rate_limit.prepare(table, 1_000_000_000, rate=0, each_rate=0)


def tables() -> dict[str, NDArray[Any]]:
    return {
        "ports": ports(),
        "addresses": addresses(),
        "features": no_features(N_PORTS),
        "icmp_limits": limits(),
    }


def run_both(node: Node, frames: list[bytes], **given: Any) -> Result:
    """As network.run_both, with the tables of this network."""
    return run_with_tables(node, frames, tables={**tables(), **given.pop("tables", {})}, **given)


# --- Packets -------------------------------------------------------------------------------------

GLOBAL = tuple(
    a(t)
    for t in ("2001:db8:1::9", "2001:db8:9::1", "100::", "fdff::1", "64:ff9b::808:808", "fec0::1")
)
LINK = tuple(a(t) for t in ("fe80::9", "fe80::1", "fe80::5", "febf:ffff::ffff", "fe80::"))
OWN = tuple(dict.fromkeys(address for port in PORTS for address in port.own))
GROUPS = tuple(
    a(t)
    for t in ("ff02::1", "ff02::1:ff00:1", "ff12::5", "ff32::1", "ff00::1", "ff01::1", "ff05::2",
              "ff0e::101", "ffff::1", "ff03::1")
)  # fmt: skip
STRANGE = tuple(
    a(t)
    for t in ("::", "::1", "::2", "::ffff:10.0.0.1", "::fffe:0:1", "::1:ffff:a00:1", "1::",
              "fe00::1", "fe7f::1", "fdff:ffff::", "0:1::", "::10.0.0.1", "0:0:1::1")
)  # fmt: skip
ADDRESSES = (*GLOBAL, *LINK, *OWN, *GROUPS, *STRANGE)


@dataclass
class Ip6Spec:
    """A packet before it is made; what is None is computed so that it is right."""

    payload: bytes = b""
    proto: int = ip6.UDP
    src: IPv6Address = GLOBAL[0]
    dst: IPv6Address = GLOBAL[1]
    headers: list[tuple[int, bytes]] = field(default_factory=list)  # (number, bytes from 1 on)
    version: int = 6
    flow: int = 0  # traffic class and flow label
    length: int | None = None
    hops: int = 64
    padding: bytes = b""

    def build(self) -> bytes:
        numbers = [*(number for number, _ in self.headers), self.proto]
        chain = b"".join(
            bytes([after]) + rest
            for after, (_, rest) in zip(numbers[1:], self.headers, strict=True)
        )
        payload = chain + self.payload
        length = len(payload) if self.length is None else self.length
        front = (self.version << 28 | self.flow).to_bytes(4, "big") + length.to_bytes(2, "big")
        addresses = self.src.packed + self.dst.packed
        return front + bytes([numbers[0], self.hops]) + addresses + payload + self.padding

    def icmp(self, message: bytes) -> "Ip6Spec":
        """Carry an ICMPv6 message, its checksum made right."""
        self.proto = ip6.ICMP
        self.payload = icmp6.with_checksum(self.src, self.dst, message)
        return self


def options(*area: int, size: int = 1) -> bytes:
    """The bytes from 1 on of an options header of size * 8 bytes, padded with Pad1."""
    return bytes([size - 1, *area]).ljust(8 * size - 1, b"\0")


EXTENSIONS = (
    (ip6.HOP_BY_HOP, options()),
    (ip6.HOP_BY_HOP, options(1, 4)),
    (ip6.HOP_BY_HOP, options(5, 2, 0, 0, 1, 0)),  # router alert: RFC 2711
    (ip6.DESTINATION, options(0x1E, 4, 1, 2, 3, 4)),
    (ip6.DESTINATION, options(1, 12, size=2)),
    (ip6.ROUTING, options(0, 0)),
    (ip6.FRAGMENT, bytes(7)),  # atomic
    (ip6.DESTINATION, options(0x5E, 0)),
    (ip6.DESTINATION, options(0x9E, 1, 7)),
    (ip6.HOP_BY_HOP, options(0xC2, 4, 0, 1, 0, 0)),  # jumbo payload: RFC 2675
    (ip6.DESTINATION, options(0xFE, 0)),
    (ip6.DESTINATION, options(1, 5)),
    (ip6.DESTINATION, options(0, 0, 0, 0, 0, 1)),
    (ip6.ROUTING, options(0, 1)),
    (ip6.ROUTING, options(4, 255, size=3)),
    (ip6.FRAGMENT, b"\0\0\x01" + bytes(4)),
    (ip6.FRAGMENT, b"\0\0\x08" + bytes(4)),
    (ip6.FRAGMENT, b"\0\0\x06" + bytes(4)),
    (ip6.DESTINATION, bytes([200]) + bytes(6)),
    (ip6.AUTHENTICATION, bytes([1]) + bytes(10)),
)


def _filler(size: int) -> bytes:
    return bytes(i * 7 + 1 & 0xFF for i in range(max(0, size)))


BENDS = ("src", "dst", "both", "version", "length", "hops", "headers", "proto", "size", "padding")


def _bend(draw: Draw, spec: Ip6Spec, what: str) -> None:
    match what:
        case "src":
            spec.src = draw(st.sampled_from(ADDRESSES))
        case "dst":
            spec.dst = draw(st.sampled_from(ADDRESSES))
        case "both":
            spec.src = draw(st.sampled_from(LINK + STRANGE))
            spec.dst = draw(st.sampled_from(OWN + GROUPS))
        case "version":
            spec.version = draw(st.sampled_from((4, 0, 7, 14)))
        case "length":
            there = len(spec.build()) - 40
            near = (0, 1, there - 1, there + 1, 0x00FF, 0x7FFF, 0x8000, 0xFFFF)
            spec.length = max(0, draw(st.sampled_from(near)))
        case "hops":
            spec.hops = draw(st.sampled_from((0, 1, 2, 254, 255)))
        case "headers":
            spec.headers = draw(st.lists(st.sampled_from(EXTENSIONS), min_size=1, max_size=3))
        case "proto":
            spec.proto = draw(st.sampled_from((0, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 255)))
        case "size":
            spec.payload = _filler(draw(st.sampled_from((1240, 1241, 1232, 1452, 1453, 1461))))
        case "padding":
            spec.padding = draw(st.sampled_from((bytes(6), b"\xa5" * 46)))


def _spec(draw: Draw) -> Ip6Spec:
    spec = Ip6Spec(
        payload=_filler(draw(st.sampled_from((0, 1, 8, 20)))),
        src=draw(st.sampled_from(GLOBAL + LINK)),
        dst=draw(st.sampled_from(GLOBAL + OWN * 2 + GROUPS[:2])),
        flow=draw(st.sampled_from((0, 0xFFFFFFF, 0xE012345))),
    )
    if draw(st.booleans()):
        message = bytes([draw(st.sampled_from((128, 128, 135, 136, 129, 1, 137))), 0])
        spec.hops = draw(st.sampled_from((64, 255)))
        spec.icmp(message + _filler(draw(st.sampled_from((6, 7, 40, 5)))))
    return spec


@st.composite
def payloads(draw: Draw) -> bytes:
    """Link payloads for ip6-input: valid or bent, whole or cut, with or without padding."""
    spec = _spec(draw)
    for _ in range(draw(st.integers(0, 2))):
        _bend(draw, spec, draw(st.sampled_from(BENDS)))
    made = spec.build()
    return made if draw(st.integers(0, 9)) else made[: draw(st.integers(0, len(made)))]


@st.composite
def valid_packets(draw: Draw) -> bytes:
    """Packets that ip6-input accepts, without padding: for the nodes behind it."""
    spec = _spec(draw)
    for _ in range(draw(st.integers(0, 2))):
        _bend(
            draw, spec, draw(st.sampled_from([b for b in BENDS if b not in ("version", "length")]))
        )
    spec.padding = b""
    if ip6.is_martian(spec.src, spec.dst):
        spec.src, spec.dst = GLOBAL[0], GLOBAL[1]
    return spec.build()
