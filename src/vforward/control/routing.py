# SPDX-License-Identifier: Apache-2.0
"""Routes, own addresses and neighbors, turned into what ip4-lookup reads: the FIB and adjacencies.

Routes of one prefix by precedence: local (the router's own address), connected, configured. A route
via a next hop shares that neighbor's adjacency, which says RESOLVE while the neighbor's MAC is not
known and REWRITE while it is; so a neighbor that comes or goes changes one record, not its routes.

A known neighbor gets a host route besides, where the longest match of its address, were there no host
routes, is a route that leaves the next hop to be found ("glean") on the neighbor's port.

An adjacency is freed when it has no users (routes, and the neighbor while known), after a quiet point.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ConfigError, VforwardError
from vforward.memory.arena import Arena
from vforward.nodes.ip4.lookup import Edge
from vforward.packet import ethernet as eth
from vforward.tables import TableFull
from vforward.tables.addresses import mapped_int
from vforward.tables.adjacency import ADJACENCY, NO_ROUTE, REWRITE_MAX
from vforward.tables.fib4 import Fib4

LOCAL, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 2, 3, 4
FIXED = {"blackhole": BLACKHOLE, "unreachable": UNREACHABLE, "prohibit": PROHIBIT}
PRECEDENCE = ("local", "connected", "configured")

Key = tuple[int, int]  # a prefix: address, length


@dataclass(frozen=True)
class Route:
    """A route as users see it."""

    prefix: str
    kind: str  # local, connected, via, blackhole, unreachable, prohibit
    via: str = ""
    port: str = ""


class Routing:
    """The writer of the FIB and the adjacencies. Any thread may call any method.

    ports: the PORT table; names: of ports, by number. quiesce: returns True when no worker uses
    anymore what it read before (between taking an adjacency out of use and changing it), and False
    when it gave up waiting. It and names are called with the lock held, so must not wait for a
    thread that calls this; nothing else is called (not the neighbor service, whose lock is outside).
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
        self._lock = threading.RLock()
        self._ports = ports
        self._name = names
        self._free = list(range(n_adjacencies - 1, PROHIBIT, -1))
        self._retired: list[int] = []  # without users, but workers may still read them
        self._left: set[int] = set()  # left REWRITE, but workers may still read their bytes
        self._users: dict[int, int] = {}  # adjacency -> how many
        self._neighbors: dict[tuple[int, int], int] = {}  # (port, address) -> adjacency
        self._known: dict[tuple[int, int], int] = {}  # those whose MAC is known
        self._addresses: list[int] = []  # theirs, sorted
        self._connected: dict[IPv4Network, int] = {}  # prefix -> port
        self._entries: dict[Key, dict[str, tuple[int, Route]]] = {}
        self._lengths = [0] * 33  # keys in _entries by length
        self._hosts: dict[int, int] = {}  # address -> adjacency: the host routes
        self._listed: list[Route] | None = None
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
        with self._lock:
            self._put(own, "local", LOCAL, Route(str(own), "local", port=name))
            if network.prefixlen < 32:
                route = Route(str(network), "connected", port=name)
                self._put(network, "connected", self._allocate(port, 0), route)
                self._connected[network] = port
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
        """Add a configured route, in place of one of the same prefix.

        Raises ConfigError when its next hop is on no connected prefix or no adjacency is free,
        TableFull; nothing is changed then.
        """
        with self._lock:
            if kind:
                number, route = FIXED[kind], Route(str(prefix), kind)
            elif via is None:
                assert port is not None
                route = Route(str(prefix), "connected", port=self._name(port))
                number = self._allocate(port, 0)
            else:
                port = self._port_of(via) if port is None else port
                if port is None:
                    msg = (
                        f"route {prefix}: next hop {via} is in no port's prefix; "
                        "give a port that reaches it"
                    )
                    raise ConfigError(msg)
                route = Route(str(prefix), "via", via=str(via), port=self._name(port))
                number = self._neighbor(port, int(via))
            self._put(prefix, "configured", number, route)

    def delete(self, prefix: IPv4Network) -> None:
        """Take a configured route away. Raises KeyError when there is none."""
        key = _key(prefix)
        with self._lock:
            entries = self._entries[key]
            number, _ = entries.pop("configured")
            if not entries:
                del self._entries[key]
                self._lengths[prefix.prefixlen] -= 1
            self._listed = None
            self._publish(key)
            self._release(number)
            self._recheck(prefix)
            self.reclaim()

    def neighbor_up(self, port: int, address: int, mac: bytes) -> None:
        """A neighbor's MAC is known, or has changed: its packets go there.

        Raises ConfigError when no adjacency is free, TableFull, VforwardError when workers do not
        let go of the old MAC; nothing is changed then.
        """
        with self._lock:
            new = (port, address) not in self._known
            if new:
                self._known[port, address] = self._neighbor(port, address)
                insort(self._addresses, address)
            number = self._known[port, address]
            try:
                self._set_host(address)
                self._write(number, self._header(port, mac))
            except Exception:
                if new:
                    self._forget(port, address)
                raise

    def neighbor_down(self, port: int, address: int) -> None:
        """A neighbor's MAC is not known any more: packets to it wait for resolution again."""
        with self._lock:
            if (port, address) in self._known:
                self._forget(port, address)

    def routes(self) -> list[Route]:
        """The routes in force, by prefix, without host routes of neighbors."""
        with self._lock:
            if self._listed is None:
                self._listed = [_best(entries)[1] for _, entries in sorted(self._entries.items())]
            return list(self._listed)

    def reclaim(self) -> None:
        """Free what is out of use; waits for a quiet point. What cannot be freed now is kept."""
        with self._lock:
            if self.fib.retired or self._retired:
                self._quiet()

    def _quiet(self) -> bool:
        """Wait for a quiet point, and free what waited for one. False: there was none in time."""
        blocks = self.fib.retired
        if not self.quiesce():
            return False
        self.fib.reclaim(blocks)
        self._free += self._retired
        self._retired.clear()
        self._left.clear()
        return True

    # Routes.

    def _put(self, prefix: IPv4Network, source: str, number: int, route: Route) -> None:
        """Enter a route. The use of the adjacency that the caller has taken is the route's now."""
        key = _key(prefix)
        entries = self._entries.setdefault(key, {})
        self._lengths[prefix.prefixlen] += not entries
        old = entries.get(source)
        entries[source] = number, route
        try:
            self._publish(key)
        except TableFull:  # which a prefix that is there already does not meet: it was new
            del self._entries[key]
            self._lengths[prefix.prefixlen] -= 1
            self._release(number)
            self.reclaim()
            raise
        self._listed = None
        if old is not None:
            self._release(old[0])
        self._recheck(prefix)
        self.reclaim()

    def _recheck(self, prefix: IPv4Network) -> None:
        """Set the host routes in a prefix anew, whose routes have changed."""
        first, last = int(prefix.network_address), int(prefix.broadcast_address)
        at = slice(bisect_left(self._addresses, first), bisect_right(self._addresses, last))
        for address in self._addresses[at]:
            # Its packets will wait for resolution, and so neighbor_up is called, and tries again.
            with suppress(TableFull):
                self._set_host(address)

    def _set_host(self, address: int) -> None:
        """Add, change or delete the host route of an address, as it should be now."""
        found, number = self._match(address), None
        if found is not None and found[1].kind == "connected":
            port = int(self.adjacencies[found[0]]["tx_port"])
            number = self._known.get((port, address))
        old = self._hosts.get(address)
        if number == old:
            return
        if number is None:
            del self._hosts[address]
            self._publish((address, 32))
            return
        self._hosts[address] = number
        try:
            self._publish((address, 32))
        except TableFull:  # so it was new
            del self._hosts[address]
            raise

    def _match(self, address: int) -> tuple[int, Route] | None:
        """The longest route that covers an address, host routes aside."""
        for length in range(32, -1, -1):
            if self._lengths[length]:
                entries = self._entries.get((address >> 32 - length << 32 - length, length))
                if entries:
                    return _best(entries)
        return None

    def _publish(self, key: Key) -> None:
        """Let the FIB say of a prefix what is entered here. Raises TableFull, and changes nothing."""
        number = self._hosts.get(key[0]) if key[1] == 32 else None
        if number is None and key in self._entries:
            number = _best(self._entries[key])[0]
        if number is None:
            self.fib.delete(*key)
            return
        try:
            self.fib.add(*key, number)
        except TableFull:
            if not self.fib.retired or not self._quiet():
                raise
            self.fib.add(*key, number)

    def _port_of(self, address: IPv4Address) -> int | None:
        covering = [network for network in self._connected if address in network]
        return self._connected[max(covering, key=lambda n: n.prefixlen)] if covering else None

    # Adjacencies.

    def _neighbor(self, port: int, address: int) -> int:
        """A use of a neighbor's adjacency."""
        number = self._neighbors.get((port, address))
        if number is None:
            number = self._neighbors[port, address] = self._allocate(port, address)
        else:
            self._users[number] += 1
        return number

    def _allocate(self, port: int, next_hop: int) -> int:
        """The first use of an adjacency that was free."""
        if not self._free:
            self.reclaim()
        if not self._free:
            msg = f"all {self.adjacencies.size} adjacencies are in use"
            raise ConfigError(msg)
        number = self._free.pop()
        self._users[number] = 1
        record = self.adjacencies[number]
        record["next_hop"] = 0, mapped_int(next_hop) if next_hop else 0
        record["tx_port"] = port
        record["mtu"], record["edge"] = self._ports[port]["mtu"], Edge.RESOLVE
        return number

    def _release(self, number: int) -> None:
        """End a use, when the FIB leads there no more. reclaim is to follow."""
        if number <= PROHIBIT:
            return
        self._users[number] -= 1
        if self._users[number]:
            return
        del self._users[number]
        record = self.adjacencies[number]
        key = int(record["tx_port"]), int(record["next_hop"][1]) & 0xFFFFFFFF
        if self._neighbors.get(key) == number:  # a glean adjacency is nobody's
            del self._neighbors[key]
        self._retired.append(number)

    def _forget(self, port: int, address: int) -> None:
        """Take a neighbor back out of the known ones."""
        number = self._known.pop((port, address))
        del self._addresses[bisect_left(self._addresses, address)]
        with suppress(TableFull):  # of another port's neighbor with this address; see _recheck
            self._set_host(address)
        self._leave(number)
        self._release(number)
        self.reclaim()

    def _leave(self, number: int) -> None:
        """Let packets wait for resolution. Workers may read the header until the next quiet point."""
        if self.adjacencies[number]["edge"] == Edge.REWRITE:
            self.adjacencies[number]["edge"] = Edge.RESOLVE
            self._left.add(number)

    def _write(self, number: int, header: bytes) -> None:
        """Let packets leave with a header. Its bytes change only while no worker can read them."""
        record = self.adjacencies[number]
        words = np.frombuffer(header.rjust(REWRITE_MAX, b"\0"), np.uint64)
        if (record["rewrite"] != words).any() or record["rewrite_len"] != len(header):
            was = record["edge"]
            self._leave(number)
            if number in self._left and not self._quiet():
                record["edge"] = was
                msg = f"adjacency {number}: workers may still use the old header; try again"
                raise VforwardError(msg)
            record["rewrite"] = words
            record["rewrite_len"] = len(header)
        record["edge"] = Edge.REWRITE

    def _header(self, port: int, mac: bytes) -> bytes:
        record = self._ports[port]
        source = int(record["mac"]).to_bytes(6, "big")
        vid = int(record["vlan"])
        tag = eth.VLAN.to_bytes(2, "big") + vid.to_bytes(2, "big") if vid else b""
        return mac + source + tag + eth.IP4.to_bytes(2, "big")


def _key(prefix: IPv4Network) -> Key:
    return int(prefix.network_address), prefix.prefixlen


def _best(entries: dict[str, tuple[int, Route]]) -> tuple[int, Route]:
    return next(entries[source] for source in PRECEDENCE if source in entries)
