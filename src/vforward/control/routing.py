# SPDX-License-Identifier: Apache-2.0
"""Routes, own addresses and neighbors, turned into what the lookup nodes read: FIBs and adjacencies.

Of several routes for a prefix of a VRF one is in force: local (the router's own address) before
connected before configured, and among configured ones the lowest metric (control.route_table). A route
via a next hop shares that neighbor's adjacency, so a neighbor that comes or goes changes one record,
not its routes (control.adjacencies). Several next hops share flows by weight (control.multipath).

IPv6 link-local prefixes are in no FIB (RFC 4291 section 2.5.6). Such a next hop needs its port.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vforward.control.adjacencies import Adjacencies
from vforward.control.multipath import Groups
from vforward.control.route_table import (
    CONFIGURED_RANK,
    CONNECTED_RANK,
    Key,
    Order,
    RouteTable,
    Target,
)
from vforward.control.routes import (
    ALWAYS,
    BITS,
    Interface,
    Network,
    Path,
    Route,
    given,
    is_link_local,
    key_of_prefix,
    native,
    routable_key,
    shown,
    sorted_keys,
    version_of,
)
from vforward.control.targets import Targets
from vforward.errors import ConfigError
from vforward.memory.arena import Arena
from vforward.tables import TableFull
from vforward.tables.fib import Fib4, Fib6


class Routing:
    """The writer of the FIBs and the adjacencies. Any thread may call any method.

    ports: the PORT table; names: of ports, by number. quiesce: returns True when no worker uses
    anymore what it read before, and False when it gave up waiting. It and names are called with the lock
    held, so must not wait for a thread that calls this. The neighbor service's lock is outside of it.
    """

    def __init__(
        self,
        arena: Arena,
        ports: NDArray[Any],
        names: Callable[[int], str],
        n_adjacencies: int = 65536,
        n_buckets: int = 1 << 18,
    ) -> None:
        self.fib4, self.fib6 = Fib4(arena), Fib6(arena)
        self._adjacencies = Adjacencies(arena, ports, n_adjacencies)
        self._groups = Groups(arena, self._adjacencies, n_buckets)
        self.lock = threading.RLock()
        self._ports, self._name = ports, names
        self._tables: dict[tuple[int, int], RouteTable] = {}  # of a VRF and IP version
        self._interfaces: dict[tuple[int, Interface], int] = {}  # -> VRF
        self._targets = Targets(self._adjacencies, self._groups, ports, self._interfaces)
        self._known: dict[tuple[int, int], tuple[int, int]] = {}  # neighbors -> adjacency, VRF
        self._tolerated = 0  # retired things that need not be freed yet
        self.add_vrf(0)

    @property
    def adjacencies(self) -> NDArray[Any]:
        """The table of adjacencies."""
        return self._adjacencies.table

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """What nodes take, by parameter name."""
        own = {"adjacencies": self._adjacencies.table, "buckets": self._groups.buckets}
        return own | self.fib4.tables | self.fib6.tables

    @property
    def quiesce(self) -> Callable[[], bool]:
        """See the class."""
        return self._adjacencies.quiesce

    @quiesce.setter
    def quiesce(self, quiesce: Callable[[], bool]) -> None:
        self._adjacencies.quiesce = quiesce

    def add_vrf(self, vrf: int) -> None:
        """Make a VRF's tables, before a packet is looked up in it; harmless when repeated.

        The first address or route does it too. Raises ConfigError, TableFull.
        """
        with self.lock:
            self._table(vrf, 4)

    # What the router's own addresses give.

    def connect(self, port: int, interface: Interface) -> None:
        """Give a port an address: a local route, a connected one, and others (control.routes.given).

        Raises ConfigError, TableFull; nothing is changed then.
        """
        with self.lock:
            vrf = int(self._ports[port]["vrf"])
            table, put = self._table(vrf, interface.version), list[tuple[Key, Order]]()
            try:
                for (key, order), kind in given(port, interface).items():
                    if table.find(key, order) is None:
                        self._put(table, key, self._targets.own(table, port, order, kind))
                        put.append((key, order))
            except Exception:
                for key, order in put:
                    self._remove(table, key, order)
                raise
            self._interfaces[port, interface] = vrf
            self.reclaim()

    def disconnect(self, port: int, interface: Interface) -> None:
        """Take an address off a port. Configured routes stay, also those via its prefix.

        Raises KeyError when the port does not have it, TableFull.
        """
        with self.lock:
            vrf = self._interfaces[port, interface]
            table = self._table(vrf, interface.version)
            gone = given(port, interface)
            for (other, remaining), there in self._interfaces.items():
                if other == port and there == vrf and remaining != interface:
                    for each in given(port, remaining).keys() & gone.keys():
                        del gone[each]
            for key, order in gone:
                if table.find(key, order) is not None:
                    self._remove(table, key, order)
            del self._interfaces[port, interface]
            self.reclaim()

    # Configured routes.

    def add(
        self, prefix: Network, *, paths: Sequence[Path] = (), kind: str = "", metric: int = 0,
        vrf: int = 0,
    ) -> None:  # fmt: skip
        """Add a route, in place of one of the same prefix, metric and VRF.

        Either paths, or a kind: "blackhole", "unreachable", "prohibit", "local". A next hop is on a
        connected prefix of the VRF, or its port is given (which may be of another VRF). Several paths
        share the flows by weight; one that stays keeps its flows when another leaves. A next hop
        that is not reachable keeps its share, unless neighbor_failed is called.

        Raises ConfigError when a path is not possible or there is no adjacency left, TableFull;
        nothing is changed then.
        """
        with self.lock:
            table, key = self._table(vrf, prefix.version), routable_key(prefix)
            order = (CONFIGURED_RANK, metric, 0)
            if kind:
                target = self._targets.own(table, 0, order, kind)
            else:
                what = f"route {prefix}" + (f" of VRF {vrf}" if vrf else "")
                target = self._targets.via(table, order, paths, what, old=table.find(key, order))
            self._put(table, key, target)
            self.reclaim()

    def delete(self, prefix: Network, *, metric: int | None = None, vrf: int = 0) -> int:
        """Delete a configured route; without a metric the one with the lowest. Returns its metric.

        Raises KeyError when there is none, TableFull; nothing is changed then.
        """
        with self.lock:
            table, key = self._table(vrf, prefix.version), key_of_prefix(prefix)
            found = [m for m in self.metrics(prefix, vrf) if metric in (None, m)]
            if not found:
                raise KeyError(str(prefix))
            self._remove(table, key, (CONFIGURED_RANK, found[0], 0))
            self.reclaim()
            return found[0]

    def metrics(self, prefix: Network, vrf: int = 0) -> list[int]:
        """The metrics of a prefix's configured routes, the lowest first. The caller has the lock."""
        entries = self._table(vrf, prefix.version).entries.get(key_of_prefix(prefix), ())
        return [t.order[1] for t in entries if t.order[0] == CONFIGURED_RANK]

    def add_many(
        self, prefixes: ArrayLike, lengths: ArrayLike, which: ArrayLike,
        ways: Sequence[Sequence[Path] | str], *, version: int, metric: int = 0, vrf: int = 0,
        progress: Callable[[int], None] = lambda _done: None,
    ) -> None:  # fmt: skip
        """Add many routes, each as add does: the i-th to ``ways[which[i]]``, paths or a kind.

        prefixes: integers, for IPv6 u64[n, 2] (halves), without host bits. progress is called now
        and then with how many are done, with the lock held. Raises ConfigError before anything is
        changed; TableFull when some are added (or ConfigError, where multipath routes are replaced).
        """
        whole, order_of, keys = sorted_keys(prefixes, lengths, BITS[version])  # as the FIB sorts
        index = np.asarray(which, np.int64)[order_of]
        with self.lock:
            table = self._table(vrf, version)
            order, targets = (CONFIGURED_RANK, metric, 0), list[Target]()
            try:
                for way in ways:
                    if isinstance(way, str):
                        targets.append(self._targets.own(table, 0, order, way))
                    else:
                        targets.append(
                            self._targets.via(table, order, way, f"next hops {len(targets)}")
                        )
                self._add_many(table, whole, keys, index, targets, ways, progress)
            finally:
                for target in targets:
                    self._targets.unuse(target)
                self.reclaim()

    def _add_many(
        self, table: RouteTable, prefixes: NDArray[Any], keys: list[Key], which: NDArray[Any],
        targets: list[Target], ways: Sequence[Sequence[Path] | str], progress: Callable[[int], None],
    ) -> None:  # fmt: skip
        def between(done: int) -> None:
            if self.fib4.retired or self.fib6.retired:
                self._quiet()
            progress(done)

        alone = table.difficult(keys, which, targets) if keys else set()
        single = [(key, int(i)) for key, i in zip(keys, which) if key in alone]
        if single:
            rest = np.fromiter((key not in alone for key in keys), bool, len(keys))
            keys = [key for key in keys if key not in alone]
            prefixes, which = prefixes[rest], which[rest]
        if keys:
            uses, full = table.put_many(prefixes, keys, which, targets, between)
            for target, n in uses.items():
                self._targets.use(target, n)
            if full is not None:
                raise TableFull(str(full), full.done) from full
        for key, i in single:
            target, way = targets[i], ways[i]
            old = table.find(key, target.order)
            if isinstance(way, str) or old is None or not (target.hops and old.hops):
                self._targets.use(target)
            else:  # its flows are to stay where they can
                target = self._targets.via(table, target.order, way, "route", old=old)
            self._put(table, key, target)

    @contextmanager
    def together(self, tolerated: int = 512) -> Iterator[None]:
        """Changes in the block wait for a quiet point only where so much is to be freed, or all is
        in use; nobody else changes routes meanwhile.
        """
        with self.lock:
            self._tolerated = tolerated
            try:
                yield
            finally:
                self._tolerated = 0
                self.reclaim()

    # Neighbors.

    def neighbor_up(self, port: int, address: int, mac: bytes) -> None:
        """A neighbor's MAC is known, or has changed: its packets go there. address: of 128 bits.

        Raises ConfigError when no adjacency is free, TableFull, VforwardError when workers do not
        let go of the old MAC; nothing is changed then.
        """
        with self.lock:
            new = (port, address) not in self._known
            if new:
                number = self._adjacencies.hop((port, address))
                self._known[port, address] = number, int(self._ports[port]["vrf"])
            number, vrf = self._known[port, address]
            try:
                if not is_link_local(address):
                    table = self._table(vrf, version_of(address))
                    table.know(port, native(address), number)
                self._adjacencies.write(number, mac)
            except Exception:
                if new:
                    self._forget(port, address)
                raise
            self._groups.set_failed((port, address), failed=False)

    def neighbor_stale(self, port: int, address: int) -> None:
        """Packets go to a neighbor as before, but its use is to be told: by the edge NOTIFY."""
        with self.lock:
            if (port, address) in self._known:
                self._adjacencies.stale(self._known[port, address][0])

    def neighbor_down(self, port: int, address: int) -> None:
        """A neighbor's MAC is not known any more: packets to it wait for resolution again."""
        with self.lock:
            if (port, address) in self._known:
                self._forget(port, address)
            self._groups.set_failed((port, address), failed=False)

    def neighbor_failed(self, port: int, address: int) -> bool:
        """As neighbor_down, and multipath routes do without it until up or down: True if any does."""
        with self.lock:
            if (port, address) in self._known:
                self._forget(port, address)
            return self._groups.set_failed((port, address), failed=True)

    # For users.

    def changes(self) -> int:
        """A number that is another one after routes have changed."""
        with self.lock:
            return sum(table.changes for table in self._tables.values())

    def count(self, vrf: int | None = None) -> int:
        """Prefixes that have a route, without host routes of neighbors."""
        with self.lock:
            return sum(len(table) for table in self._shown(vrf))

    def routes(self, vrf: int | None = None, limit: int | None = None) -> list[Route]:
        """The routes in force, by VRF, family and prefix, at most limit; as count counts them."""
        found: list[Route] = []
        with self.lock:
            for table in self._shown(vrf):
                left = None if limit is None else limit - len(found)
                if left is None or left > 0:
                    found += [
                        shown(key, table.bits, table.vrf, target, self._name)
                        for key, target in table.in_force(left)
                    ]
        return found

    def reclaim(self) -> None:
        """Free what is out of use; waits for a quiet point. What cannot be freed now is kept."""
        with self.lock:
            retired = self.fib4.retired + self.fib6.retired + self._adjacencies.waiting
            if retired > self._tolerated:
                self._quiet()

    def _quiet(self) -> bool:
        """Wait for a quiet point, and free what waited for one. False: there was none in time."""
        retired = [(fib, fib.retired) for fib in (self.fib4, self.fib6)]
        if not self._adjacencies.quiet():
            return False
        for fib, n in retired:
            fib.reclaim(n)
        return True

    def _table(self, vrf: int, version: int) -> RouteTable:
        if (vrf, version) not in self._tables:
            if not 0 <= vrf < self.fib4.n_vrfs:
                msg = f"VRF {vrf} is not in 0 to {self.fib4.n_vrfs - 1}"
                raise ConfigError(msg)
            for family in {4, 6} - {v for of, v in self._tables if of == vrf}:
                self._tables[vrf, family] = self._new_table(vrf, family)
        return self._tables[vrf, version]

    def _new_table(self, vrf: int, version: int) -> RouteTable:
        fib = self.fib4 if version == 4 else self.fib6
        table = RouteTable(fib, vrf, self._adjacencies, self._quiet)
        for prefix in ALWAYS[version]:
            target = self._targets.own(table, 0, (CONNECTED_RANK, 0, 0), "blackhole")
            self._put(table, key_of_prefix(prefix), target)
        return table

    def _shown(self, vrf: int | None) -> Iterator[RouteTable]:
        for (number, _), table in sorted(self._tables.items()):
            if vrf in (None, number):
                yield table

    def _put(self, table: RouteTable, key: Key, target: Target) -> None:
        """Enter a route. The use of the target that the caller has taken is the route's now."""
        try:
            replaced = table.put(key, target)
        except TableFull:
            self._targets.unuse(target)
            self.reclaim()
            raise
        if replaced is not None:
            self._targets.unuse(replaced)

    def _remove(self, table: RouteTable, key: Key, order: Order) -> None:
        self._targets.unuse(table.remove(key, order))

    def _forget(self, port: int, address: int) -> None:
        """Take a neighbor back out of the known ones."""
        number, vrf = self._known.pop((port, address))
        if not is_link_local(address):
            self._table(vrf, version_of(address)).forget(port, native(address))
        self._adjacencies.leave(number)
        self._adjacencies.release(number)
        self.reclaim()
