# SPDX-License-Identifier: Apache-2.0
"""Routes, own addresses and neighbors, turned into what ip4-lookup reads: the FIB and adjacencies.

Routes of one prefix by precedence: local (the router's own address), connected, configured, then
host routes of known neighbors. A route via a next hop shares that neighbor's adjacency, which says
RESOLVE while the neighbor's MAC is not known and REWRITE while it is; so a neighbor that comes or
goes changes one record, not its routes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ConfigError
from vforward.memory.arena import Arena
from vforward.nodes.ip4.lookup import Edge
from vforward.packet import ethernet as eth
from vforward.tables.adjacency import ADJACENCY, NO_ROUTE, REWRITE_MAX
from vforward.tables.fib4 import Fib4

LOCAL, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 2, 3, 4
FIXED = {"blackhole": BLACKHOLE, "unreachable": UNREACHABLE, "prohibit": PROHIBIT}
PRECEDENCE = ("local", "connected", "configured", "neighbor")


@dataclass(frozen=True)
class Route:
    """A route as users see it."""

    prefix: str
    kind: str  # local, connected, via, neighbor, blackhole, unreachable, prohibit
    via: str = ""
    port: str = ""


class Routing:
    """The writer of the FIB and the adjacencies. One thread at a time.

    ports: the PORT table; names: of ports, by number. quiesce: returns when no worker uses anymore
    what it read before (between taking an adjacency out of use and changing it).
    """

    def __init__(
        self,
        arena: Arena,
        ports: NDArray[Any],
        names: Callable[[int], str],
        n_adjacencies: int = 4096,
    ) -> None:
        self.fib = Fib4(arena)
        self.adjacencies = arena.make("adjacencies", n_adjacencies, ADJACENCY)
        self.quiesce: Callable[[], bool] = lambda: True
        self._ports = ports
        self._name = names
        self._free = list(range(n_adjacencies - 1, PROHIBIT, -1))
        self._neighbors: dict[tuple[int, int], int] = {}  # (port, address) -> adjacency
        self._connected: dict[IPv4Network, int] = {}  # prefix -> port
        self._entries: dict[IPv4Network, dict[str, tuple[int, Route]]] = {}
        for number, edge, icmp in (
            (NO_ROUTE, Edge.ERROR, 3 << 8),
            (LOCAL, Edge.LOCAL, 0),
            (BLACKHOLE, Edge.DROP, 0),
            (UNREACHABLE, Edge.ERROR, 3 << 8 | 1),
            (PROHIBIT, Edge.ERROR, 3 << 8 | 13),
        ):
            self.adjacencies[number]["icmp"], self.adjacencies[number]["edge"] = icmp, edge
        for text in ("255.255.255.255/32", "224.0.0.0/4"):
            self._put(IPv4Network(text), "connected", BLACKHOLE, Route(text, "blackhole"))

    def connect(self, port: int, address: IPv4Interface) -> None:
        """Give a port an address: a local route, a connected one, and none to its broadcast."""
        network, name = address.network, self._name(port)
        own = IPv4Network(int(address.ip))
        self._put(own, "local", LOCAL, Route(str(own), "local", port=name))
        if network.prefixlen < 32:
            glean = self._allocate(port, 0)
            self._connected[network] = port
            self._put(network, "connected", glean, Route(str(network), "connected", port=name))
        if network.prefixlen <= 30:
            last = IPv4Network(int(network.broadcast_address))
            self._put(last, "connected", BLACKHOLE, Route(str(last), "blackhole", port=name))

    def add(
        self,
        prefix: IPv4Network,
        *,
        via: IPv4Address | None = None,
        port: int | None = None,
        kind: str = "",
    ) -> None:
        """Add a configured route. Raises ConfigError when its next hop is on no connected prefix."""
        if kind:
            self._put(prefix, "configured", FIXED[kind], Route(str(prefix), kind))
            return
        if via is None:
            assert port is not None
            glean = self._allocate(port, 0)
            route = Route(str(prefix), "connected", port=self._name(port))
            self._put(prefix, "configured", glean, route)
            return
        if port is None:
            port = self._port_of(via)
        if port is None:
            msg = f"route {prefix}: next hop {via} is in no port's prefix; give a port that reaches it"
            raise ConfigError(msg)
        route = Route(str(prefix), "via", via=str(via), port=self._name(port))
        self._put(prefix, "configured", self._neighbor(port, int(via)), route)

    def delete(self, prefix: IPv4Network) -> None:
        """Take a configured route away. Raises KeyError when there is none."""
        self._take(prefix, "configured")

    def neighbor_up(self, port: int, address: int, mac: bytes) -> None:
        """A neighbor's MAC is known, or has changed: its packets go there."""
        number = self._neighbor(port, address)
        record = self.adjacencies[number]
        header = self._header(port, mac)
        if record["edge"] == Edge.REWRITE:
            if record["rewrite"].tobytes()[-len(header) :] == header:
                return
            record["edge"] = Edge.RESOLVE
            self.quiesce()
        record["rewrite"] = np.frombuffer(header.rjust(REWRITE_MAX, b"\0"), np.uint64)
        record["rewrite_len"] = len(header)
        record["edge"] = Edge.REWRITE
        if self._port_of(IPv4Address(address)) == port:
            host = IPv4Network(address)
            self._put(host, "neighbor", number, Route(str(host), "neighbor", port=self._name(port)))

    def neighbor_down(self, port: int, address: int) -> None:
        """A neighbor's MAC is not known any more: packets to it wait for resolution again."""
        number = self._neighbors.get((port, address))
        if number is not None:
            self.adjacencies[number]["edge"] = Edge.RESOLVE
            host = IPv4Network(address)
            if "neighbor" in self._entries.get(host, {}):
                self._take(host, "neighbor")

    def routes(self) -> list[Route]:
        """The routes in force, by prefix."""
        best = [min(e.items(), key=_rank)[1][1] for _, e in sorted(self._entries.items())]
        return [route for route in best if route.kind != "neighbor"]

    def reclaim(self) -> None:
        """Free what routes that are gone have left; waits for a quiet point."""
        if self.fib.retired:
            n = self.fib.retired
            if self.quiesce():
                self.fib.reclaim(n)

    def _put(self, prefix: IPv4Network, source: str, adjacency: int, route: Route) -> None:
        self._entries.setdefault(prefix, {})[source] = adjacency, route
        self._publish(prefix)

    def _take(self, prefix: IPv4Network, source: str) -> None:
        entries = self._entries[prefix]
        del entries[source]
        if entries:
            self._publish(prefix)
        else:
            del self._entries[prefix]
            self.fib.delete(int(prefix.network_address), prefix.prefixlen)
        self.reclaim()

    def _publish(self, prefix: IPv4Network) -> None:
        adjacency = min(self._entries[prefix].items(), key=_rank)[1][0]
        self.fib.add(int(prefix.network_address), prefix.prefixlen, adjacency)

    def _neighbor(self, port: int, address: int) -> int:
        number = self._neighbors.get((port, address))
        if number is None:
            number = self._neighbors[port, address] = self._allocate(port, address)
        return number

    def _allocate(self, port: int, next_hop: int) -> int:
        if not self._free:
            msg = f"all {self.adjacencies.size} adjacencies are in use"
            raise ConfigError(msg)
        number = self._free.pop()
        record = self.adjacencies[number]
        record["next_hop"], record["tx_port"] = next_hop, port
        record["mtu"], record["edge"] = self._ports[port]["mtu"], Edge.RESOLVE
        return number

    def _port_of(self, address: IPv4Address) -> int | None:
        covering = [network for network in self._connected if address in network]
        return self._connected[max(covering, key=lambda n: n.prefixlen)] if covering else None

    def _header(self, port: int, mac: bytes) -> bytes:
        record = self._ports[port]
        source = int(record["mac"]).to_bytes(6, "big")
        vid = int(record["vlan"])
        tag = eth.VLAN.to_bytes(2, "big") + vid.to_bytes(2, "big") if vid else b""
        return mac + source + tag + eth.IP4.to_bytes(2, "big")


def _rank(item: tuple[str, Any]) -> int:
    return PRECEDENCE.index(item[0])
