# SPDX-License-Identifier: Apache-2.0
"""The whole router as one slow function of one frame: RFC 1812, composed of the other oracles.

It keeps what it learns by ARP between frames. It does not keep held packets: a frame whose
neighbor is unknown comes out as "held", and never comes back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import arp, ethernet, icmp4, ip4, lpm
from .rate_limit import Limits


@dataclass(frozen=True)
class Port:
    """A port, or with parent and vid a VLAN sub-port, whose mac is that of its parent."""

    name: str
    mac: bytes
    addresses: tuple[tuple[int, int], ...] = ()  # (ip, prefix length)
    mtu: int = 1500  # bytes of IP
    mode: str = "l3"  # or "xconnect"
    peer: str | None = None  # of "xconnect"
    parent: str | None = None
    vid: int | None = None
    host: bool = False  # a host stands for it


@dataclass(frozen=True)
class Route:
    """kind: via (port, next_hop), glean (port), blackhole, unreachable, prohibit; or local."""

    prefix: int
    length: int
    kind: str
    port: str | None = None
    next_hop: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a frame, and where.

    sent     port (a sub-port's own name), frame (as on the wire), node that sent it;
             more: the frames behind the first, of a packet that was fragmented
    punted   port that it came from, whose host it is for; frame (the IPv4 packet), node
    held     port, next_hop, frame (the IPv4 packet, TTL not yet decremented), node
    dropped  node, reason as "<node>:<reason>"; consumed packets too
    ip6      an IPv6 packet, which this router knows nothing of
    """

    kind: str
    port: str | None = None
    frame: bytes = b""
    reason: str = ""
    node: str = ""
    next_hop: int | None = None
    more: tuple[bytes, ...] = ()


@dataclass
class _Packet:
    """An IPv4 packet on its way, and what is remembered of how it arrived."""

    data: bytes
    port: Port
    link_multicast: bool
    self_made: bool = False


@dataclass
class Router:
    """Ports, routes and neighbors {(port name, ip): mac}; `receive` does the rest.

    limits: of ICMP errors, and clock: the time; None: there are no limits.
    """

    ports: Iterable[Port]
    routes: Iterable[Route] = ()
    neighbors: Mapping[tuple[str, int], bytes] = field(default_factory=dict)
    limits: Limits | None = None
    clock: int = 0

    def __post_init__(self) -> None:
        self.port = {p.name: p for p in self.ports}
        self.sub_ports = {(p.parent, p.vid): p for p in self.port.values() if p.parent}
        self.neighbors = dict(self.neighbors)
        self.own = {ip for p in self.port.values() for ip, _ in p.addresses}
        self.fib: lpm.Table[Route] = lpm.Table()
        for route in [*self.routes, *derived_routes(self.port.values())]:
            self.fib.add(route.prefix, route.length, route)

    def receive(self, port_name: str, frame: bytes) -> Outcome:
        """Take one frame from a port (not a sub-port) and return what becomes of it."""
        port = self.port[port_name]
        if port.mode == "xconnect":
            if len(frame) < 14:
                return _drop("ethernet-input", "truncated")
            return Outcome("sent", port.peer, frame, node="ethernet-input")
        vids = {vid for parent, vid in self.sub_ports if parent == port_name and vid is not None}
        arrival = ethernet.receive(frame, port.mac, vids)
        if arrival.reason:
            return _drop("ethernet-input", arrival.reason)
        if arrival.vid is not None:
            port = self.sub_ports[port_name, arrival.vid]
        if arrival.ethertype == ethernet.ARP:
            return self._arp_input(port, arrival)
        if arrival.ethertype == ethernet.IP6:
            return Outcome("ip6", port.name, node="ethernet-input")
        return self._ip4_input(port, arrival)

    def _arp_input(self, port: Port, arrival: ethernet.Arrival) -> Outcome:
        known = {ip for name, ip in self.neighbors if name == port.name}
        result = arp.receive(arrival.payload, port.mac, port.addresses, known)
        if result.learn:
            ip, mac = result.learn
            self.neighbors = {**self.neighbors, (port.name, ip): mac}
        if result.reason:
            return _drop("arp-input", result.reason)
        tag = arrival.tag if port.vid is not None else b""
        to = arrival.payload[8:14]
        frame = ethernet.header(to, port.mac, ethernet.ARP, tag) + result.reply
        return Outcome("sent", port.name, frame, node="arp-input")

    def _ip4_input(self, port: Port, arrival: ethernet.Arrival) -> Outcome:
        if port.host and ip4.is_for_host(arrival.payload, arrival.link_multicast):
            data = ip4.trim(arrival.payload)
            return self._ip4_local(_Packet(data, port, arrival.link_multicast))
        reason = ip4.check(arrival.payload, arrival.link_multicast)
        if reason:
            return _drop("ip4-input", reason)
        data = ip4.trim(arrival.payload)
        return self._ip4_lookup(_Packet(data, port, arrival.link_multicast))

    def _ip4_lookup(self, packet: _Packet) -> Outcome:
        dst = ip4.destination(packet.data)
        route = self.fib.lookup(dst)
        if route is None:
            return self._icmp4_error(packet, icmp4.UNREACHABLE, 0)
        if route.kind == "local":
            return self._ip4_local(packet)
        if route.kind == "blackhole":
            return _drop("ip4-lookup", "blackhole")
        if route.kind == "unreachable":
            return self._icmp4_error(packet, icmp4.UNREACHABLE, 1)
        if route.kind == "prohibit":
            return self._icmp4_error(packet, icmp4.UNREACHABLE, 13)
        next_hop = dst if route.kind == "glean" else route.next_hop
        assert route.port is not None
        assert next_hop is not None
        mac = self.neighbors.get((route.port, next_hop))
        if mac is None:
            return Outcome("held", route.port, packet.data, node="ip4-lookup", next_hop=next_hop)
        return self._ip4_rewrite(packet, self.port[route.port], mac)

    def _ip4_rewrite(self, packet: _Packet, tx: Port, mac: bytes) -> Outcome:
        way, data = ip4.rewrite(packet.data, tx.mtu, packet.self_made)
        if way is ip4.Rewrite.TTL_EXPIRED:
            return self._icmp4_error(packet, icmp4.TIME_EXCEEDED, 0)
        if way is ip4.Rewrite.TOO_BIG:
            return self._icmp4_error(packet, icmp4.UNREACHABLE, 4, tx.mtu)
        link = ethernet.header(mac, tx.mac, ethernet.IP4, ethernet.tag_of(tx.vid))
        if way is ip4.Rewrite.FRAGMENT:
            pieces = ip4.fragment(data, tx.mtu)
            if isinstance(pieces, str):
                return _drop("ip4-fragment", pieces)
            first, *more = (link + piece for piece in pieces)
            return Outcome("sent", tx.name, first, node="ip4-fragment", more=tuple(more))
        return Outcome("sent", tx.name, link + data, node="ip4-rewrite")

    def _ip4_local(self, packet: _Packet) -> Outcome:
        data = packet.data
        if packet.port.host and not icmp4.is_ping(data):
            return Outcome("punted", packet.port.name, data, node="ip4-local")
        if ip4.is_fragment(data):
            return _drop("ip4-local", "fragment")
        if ip4.protocol(data) == ip4.ICMP:
            reason = icmp4.receive(data)
            if reason:
                return _drop("ip4-local", reason)
            reply = icmp4.echo_reply(data)
            return self._ip4_lookup(_Packet(reply, packet.port, packet.link_multicast, True))
        if ip4.protocol(data) == ip4.TCP:
            return _drop("ip4-local", "no-listener")
        code = 3 if ip4.protocol(data) == ip4.UDP else 2  # RFC 1122 section 3.2.2.1
        return self._icmp4_error(packet, icmp4.UNREACHABLE, code)

    def _icmp4_error(self, packet: _Packet, kind: int, code: int, mtu: int = 0) -> Outcome:
        addresses = packet.port.addresses
        sender = addresses[0][0] if addresses else None
        reason = icmp4.refusal(packet.data, packet.link_multicast, self.own, sender)
        if reason or sender is None:
            return _drop("icmp4-error", reason or "icmp-no-address")
        if self.limits and not self.limits.allow(ip4.source(packet.data), self.clock):
            return _drop("icmp4-error", "rate-limited")
        error = icmp4.error(packet.data, sender, kind, code, mtu)
        return self._ip4_lookup(_Packet(error, packet.port, False, True))


def derived_routes(ports: Iterable[Port]) -> list[Route]:
    """Return the routes that addresses bring with them; of two equal prefixes the later wins.

    They win over configured routes, and a local address over all (RFC 1812 section 5.2.3).
    """
    glean, deaf, local = [], [], []
    for port in ports:
        for ip, n in port.addresses:
            glean.append(Route(ip, n, "glean", port.name))
            local.append(Route(ip, 32, "local", port.name))
            if n <= 30:  # RFC 3021: a /31 has no broadcast address
                deaf.append(Route(ip | ~lpm.mask(n) & 0xFFFFFFFF, 32, "blackhole"))
    deaf += [Route(ip4.LIMITED_BROADCAST, 32, "blackhole"), Route(0xE0000000, 4, "blackhole")]
    deaf += [Route(0, 8, "blackhole"), Route(0x7F000000, 8, "blackhole")]  # RFC 1812 section 5.3.7
    return [*glean, *deaf, *local]


def _drop(node: str, reason: str) -> Outcome:
    return Outcome("dropped", reason=f"{node}:{reason}", node=node)
