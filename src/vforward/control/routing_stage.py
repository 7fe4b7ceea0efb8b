# SPDX-License-Identifier: Apache-2.0
"""Many changes of routes and of ports' addresses that come in force at one moment, or not at all.

    with staged(routing) as stage:
        stage.put(prefix, paths=...)          no packet sees any of this
        stage.delete(prefix)
        ...                                   workers stand between two rounds
        stage.put_in_force()                  they see all of it when they go on

The changes are made in tries aside (tables.trie_copy) by the same code as others. What they replace stays
allocated until the end: as long as the old tries are in force, packets are led there. Leaving the context
by an exception undoes everything, also what was put in force, where workers still stand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control.route_table import CONFIGURED_RANK, Key, Order, RouteTable, Target
from vforward.control.routes import Interface, Network, Path, given, key_of_prefix, routable_key
from vforward.control.routing import Routing
from vforward.errors import VforwardError
from vforward.tables.trie_copy import Aside

log = logging.getLogger(__name__)


@contextmanager
def staged(routing: Routing) -> Iterator[Stage]:
    """See the module. Others who change routes wait. Raises VforwardError where workers do not answer."""
    with routing.lock:
        routing.reclaim()
        fibs = (routing.fib4, routing.fib6)
        if any(fib.retired for fib in fibs):
            raise VforwardError("routes: workers do not answer; nothing was changed")
        quiesce, routing.quiesce = routing.quiesce, lambda: False
        stage = Stage(routing)
        stage.asides = [fib.stage() for fib in fibs]
        try:
            yield stage
            if not stage.in_force:
                stage.undo()
        except BaseException:
            stage.undo()
            raise
        finally:
            for fib in fibs:
                fib.unstage()
            routing.quiesce = quiesce
            stage.let_go()
        routing.reclaim()


class Stage:
    """A part of Routing, whose lock the caller has."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._targets = routing._targets
        self._adjacencies = routing._adjacencies
        self._undo: list[Callable[[], None]] = []
        self._held: list[Target] = []
        self._held_hops: list[int] = []
        self.asides: list[Aside] = []
        self.in_force = False

    # What is changed.

    def put(
        self,
        prefix: Network,
        *,
        paths: Sequence[Path] = (),
        kind: str = "",
        metric: int = 0,
        vrf: int = 0,
    ) -> None:
        """As Routing.add."""
        table, order = self._table(vrf, prefix.version), (CONFIGURED_RANK, metric, 0)
        self._keep(table, routable_key(prefix), order)
        self._routing.add(prefix, paths=paths, kind=kind, metric=metric, vrf=vrf)

    def delete(self, prefix: Network, metric: int = 0, vrf: int = 0) -> None:
        """As Routing.delete; nothing where there is no such route."""
        table, key = self._table(vrf, prefix.version), key_of_prefix(prefix)
        order = (CONFIGURED_RANK, metric, 0)
        if self._keep(table, key, order):
            self._routing.delete(prefix, metric=metric, vrf=vrf)

    def put_many(
        self,
        prefixes: NDArray[Any],
        lengths: NDArray[Any],
        which: Sequence[int],
        ways: Sequence[Sequence[Path]],
        keys: Sequence[Key],
        *,
        version: int,
        vrf: int,
        progress: Callable[[int], None] = lambda _done: None,
    ) -> None:
        """As Routing.add_many, with metric 0. keys: the prefixes'."""
        self._keep_many(self._table(vrf, version), keys)
        self._routing.add_many(
            prefixes, lengths, which, ways, version=version, vrf=vrf, progress=progress
        )

    def delete_many(self, keys: Sequence[Key], *, version: int, vrf: int) -> None:
        """Delete configured routes with metric 0; nothing where there is none."""
        table, order = self._table(vrf, version), (CONFIGURED_RANK, 0, 0)
        there = [key for key in keys if table.find(key, order) is not None]
        self._keep_many(table, there)
        for target, n in table.remove_many(sorted(there), order).items():
            self._targets.use(target, -n)

    def connect(self, port: int, interface: Interface) -> None:
        """As Routing.connect."""
        self._routing.connect(port, interface)
        self._undo.append(lambda: self._routing.disconnect(port, interface))

    def disconnect(self, port: int, interface: Interface) -> None:
        """As Routing.disconnect."""
        vrf = self._routing._interfaces[port, interface]
        table = self._table(vrf, interface.version)
        for key, order in given(port, interface):
            self._hold(table.find(key, order))
        self._routing.disconnect(port, interface)
        self._undo.append(lambda: self._routing.connect(port, interface))

    def delete_at(self, port: int) -> int:
        """Delete the configured routes with a next hop at a port. Returns how many there were."""
        leading = {
            target
            for target in self._targets._users
            if target.order[0] == CONFIGURED_RANK
            and (
                port in (target.port, target.glean) or any(hop[0] == port for hop, _ in target.hops)
            )
        }
        gone = 0
        for table in self._routing._tables.values() if leading else ():
            there = [
                (key, target.order)
                for key, entry in table.entries.items()
                for target in entry
                if target in leading
            ]
            for key, order in there:
                self._keep(table, key, order)
                self._routing._remove(table, key, order)
            gone += len(there)
        return gone

    def keep_neighbors(self) -> None:
        """Neighbors are about to change: what packets to them are led by stays until the end."""
        self._held_hops += [
            self._adjacencies.hold(number) for number, _ in self._routing._known.values()
        ]

    # When it counts.

    def put_in_force(self) -> None:
        """Let workers see all of it: they stand between two rounds, until this context ends or goes on."""
        for aside in self.asides:
            aside.put_in_force()
        self.in_force = True

    def stand(self) -> None:
        """All workers stand: what is out of use may be used anew."""
        self._routing.quiesce = lambda: True

    # How it ends.

    def undo(self) -> None:
        """Bring everything back as it was."""
        for aside in self.asides:
            aside.take_back()
        while self._undo:
            try:
                self._undo.pop()()
            except (
                Exception
            ):  # no room, where there was some before: the others are to be undone all the same
                log.exception("routes: a change could not be undone")

    def let_go(self) -> None:
        """Give back what was kept. Workers see the one or the other by now."""
        for target in self._held:
            self._targets.unuse(target)
        for number in self._held_hops:
            self._adjacencies.release(number)
        self._held.clear()
        self._held_hops.clear()
        self._undo.clear()  # they refer to this, and so to the tries aside

    def _table(self, vrf: int, version: int) -> RouteTable:
        return self._routing._table(vrf, version)

    def _hold(self, target: Target | None) -> None:
        if target is not None:
            self._held.append(self._targets.use(target))

    def _keep(self, table: RouteTable, key: Key, order: Order) -> bool:
        """Remember a route, or that there is none. Returns whether there is one."""
        before = table.find(key, order)
        self._hold(before)
        self._undo.append(lambda: self._restore(table, key, order, before))
        return before is not None

    def _keep_many(self, table: RouteTable, keys: Sequence[Key]) -> None:
        order = (CONFIGURED_RANK, 0, 0)
        before = {key: table.find(key, order) for key in keys}
        for target in {id(t): t for t in before.values()}.values():
            self._hold(target)

        def restore() -> None:
            for key, target in before.items():
                self._restore(table, key, order, target)

        self._undo.append(restore)

    def _restore(self, table: RouteTable, key: Key, order: Order, before: Target | None) -> None:
        if table.find(key, order) is before:
            return
        if before is None:
            self._routing._remove(table, key, order)
        else:
            self._routing._put(table, key, self._targets.use(before))


def as_arrays(keys: Sequence[Key], bits: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Keys of a route table as Routing.add_many takes prefixes: u64 (of IPv6 halves) and lengths."""
    lengths = np.array([key & 0xFF for key in keys], np.int64)
    if bits == 32:
        return np.array([key >> 8 for key in keys], np.uint64), lengths
    halves = [(key >> 72, key >> 8 & (1 << 64) - 1) for key in keys]
    return np.array(halves, np.uint64).reshape(-1, 2), lengths
