# SPDX-License-Identifier: Apache-2.0
"""The routes of one VRF and family, and what its FIB says: the best route of a prefix, and host routes.

A prefix has several routes at most one of which is in force: the first by rank (local, connected,
configured), then by metric. A prefix is a key, ``prefix << 8 | length``: keys sort as prefixes do.

Routes that lead to the same are one Target, so a route costs an entry of a dict, some 120 bytes: a
table of a million routes is held here without a second form for many.

A known neighbor gets a host route besides, where the longest match of its address, were there no host
routes, is a route that leaves the next hop to be found ("glean") on the neighbor's port.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control.adjacencies import NO_ROUTE6, Adjacencies, Hop
from vforward.tables import TableFull

RANKS = ("local", "connected", "configured")
LOCAL_RANK, CONNECTED_RANK, CONFIGURED_RANK = range(3)

CHUNK = 4096
"""Routes that are deleted at a time."""

Order = tuple[int, int, int]  # rank, metric, port of what an interface gives
Key = int


def key_of(prefix: int, length: int) -> Key:
    """A prefix as a table's key."""
    return prefix << 8 | length


@dataclass(frozen=True, eq=False)
class Target:
    """What routes lead to. number: the adjacency; glean: of this port; kind: as users see it."""

    order: Order
    kind: str
    number: int
    hops: tuple[tuple[Hop, int], ...] = ()  # with weights
    port: int = 0  # that users see
    glean: int = 0
    alone: tuple[Target, ...] = field(default=(), init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alone", (self,))  # the usual entry of a prefix, one for all

    @property
    def what(self) -> tuple[Any, ...]:
        """All that it says."""
        return self.order, self.kind, self.number, self.hops, self.port, self.glean


class RouteTable:
    """The routes. The caller has the lock, and counts the uses of targets' adjacencies.

    fib: a Fib4 or Fib6; quiet: waits for a quiet point, reclaims and returns whether there was one.
    """

    def __init__(
        self, fib: Any, vrf: int, adjacencies: Adjacencies, quiet: Callable[[], bool]
    ) -> None:
        self.vrf, self.bits = vrf, fib.bits
        self.changes = 0  # of routes, to know whether a listing is still right
        self.entries: dict[Key, tuple[Target, ...]] = {}
        self.hosts: dict[Key, int] = {}  # the host routes: adjacencies
        self._fib, self._adjacencies, self._quiet = fib, adjacencies, quiet
        self._lengths = [0] * (self.bits + 1)
        self._known: dict[int, dict[int, int]] = {}  # address -> port -> adjacency
        self._addresses: list[int] = []  # the known ones, sorted
        self._late: set[int] = set()  # whose host routes are not as they should be
        self._always: dict[Key, int] = {}
        if self.bits == 128:  # the FIB's own answer for "no route" is IPv4's
            self._always = {key_of(0, 0): NO_ROUTE6}
            self._publish(key_of(0, 0), None)

    def __len__(self) -> int:
        return len(self.entries)

    # Routes.

    def find(self, key: Key, order: Order) -> Target | None:
        """The route of a prefix with this order."""
        return next((t for t in self.entries.get(key, ()) if t.order == order), None)

    def put(self, key: Key, target: Target) -> Target | None:
        """Enter a route in place of one of its order, which is returned. Raises TableFull."""
        old = self.entries.get(key, ())
        if not old:
            self._swap(key, target.alone)
            return None
        replaced = self.find(key, target.order)
        rest = [t for t in old if t is not replaced]
        self._swap(key, tuple(sorted([*rest, target], key=lambda t: t.order)))
        return replaced

    def remove(self, key: Key, order: Order) -> Target:
        """Take a route out. Raises KeyError when there is none, TableFull."""
        target = self.find(key, order)
        if target is None:
            raise KeyError(key)
        self._swap(key, tuple(t for t in self.entries[key] if t is not target))
        return target

    def put_many(
        self,
        prefixes: Any,
        keys: list[Key],
        which: NDArray[Any],
        targets: list[Target],
        between: Any,
    ) -> tuple[dict[Target, int], TableFull | None]:
        """Enter routes, sorted by key: the i-th leads to ``targets[which[i]]``. None is difficult.

        prefixes: as the FIB takes them; of one that comes twice the last counts. Returns how many
        lead to each target (less than 0: were taken from it), and the error when there was no room:
        those before ``done`` are entered then.
        """
        lengths = np.fromiter((key & 0xFF for key in keys), np.uint8, len(keys))
        values = np.array([target.number for target in targets], np.uint32)[which]
        done, error = len(keys), None
        try:
            self._fib.add_many(prefixes, lengths, values, vrf=self.vrf, between=between)
        except TableFull as full:
            done, error = full.done, full
        new = dict(zip(keys[:done], [targets[i].alone for i in which[:done].tolist()]))
        uses = Counter(alone[0] for alone in new.values())
        uses.subtract(Counter(old[0] for old in map(self.entries.get, new) if old))
        for length, n in Counter(key & 0xFF for key in new.keys() - self.entries.keys()).items():
            self._lengths[length] += n
        self.entries.update(new)
        self.changes += 1
        for address in self._addresses:
            self._settle(address)
        return uses, error

    def remove_many(self, keys: list[Key], order: Order) -> Counter[Target]:
        """Take out routes that are there, sorted by key. Returns how many led to each target.

        Raises TableFull when some are out.
        """
        alone = [key for key in keys if self._is_alone(key)]
        gone = Counter[Target]()
        for key in keys if len(alone) < len(keys) else ():
            if not self._is_alone(key):
                gone[self.remove(key, order)] += 1
        for start in range(0, len(alone), CHUNK):
            some = alone[start : start + CHUNK]
            self._fib.delete_many(some, vrf=self.vrf)
            for key in some:
                gone[self.entries[key][0]] += 1
                self._enter(key, ())
        self.changes += 1
        for address in self._addresses if alone else ():
            self._settle(address)
        return gone

    def _is_alone(self, key: Key) -> bool:
        """Whether a prefix has one route, and nothing else that its FIB could say."""
        return len(self.entries[key]) == 1 and key not in self.hosts and key not in self._always

    def difficult(
        self, keys: Iterable[Key], which: NDArray[Any], targets: list[Target]
    ) -> set[Key]:
        """Those of many routes that are to be put one by one.

        They have a host route or routes of other orders, or a multipath one, whose flows are to stay.
        """
        found, order = set(), targets[0].order
        several = [len(target.hops) > 1 for target in targets]
        for key, i in zip(keys, which.tolist()):
            entry = self.entries.get(key)
            if key in self.hosts or (
                entry
                and (
                    len(entry) > 1
                    or entry[0].order != order
                    or (several[i] and len(entry[0].hops) > 1)
                )
            ):
                found.add(key)
        return found

    def in_force(self, limit: int | None = None) -> Iterator[tuple[Key, Target]]:
        """The best routes by prefix, at most limit, without host routes."""
        keys = sorted(self.entries) if limit is None else nsmallest(limit, self.entries)
        for key in keys:
            yield key, self.entries[key][0]

    def match(self, address: int) -> Target | None:
        """The longest route that covers an address, host routes aside."""
        for length in range(self.bits, -1, -1):
            if self._lengths[length]:
                behind = self.bits - length
                entry = self.entries.get(key_of(address >> behind << behind, length))
                if entry:
                    return entry[0]
        return None

    def _swap(self, key: Key, entry: tuple[Target, ...]) -> None:
        old, before = self.entries.get(key), self._value(key)
        self._enter(key, entry)
        try:
            self._publish(key, before)
        except TableFull:
            self._enter(key, old or ())
            raise
        self.changes += 1
        self._recheck(key)

    def _enter(self, key: Key, entry: tuple[Target, ...]) -> None:
        self._lengths[key & 0xFF] += bool(entry) - (key in self.entries)
        if entry:
            self.entries[key] = entry
        else:
            self.entries.pop(key, None)

    def _value(self, key: Key) -> int | None:
        """What the FIB has to say of a prefix."""
        host = self.hosts.get(key)
        if host is not None:
            return host
        entry = self.entries.get(key)
        return entry[0].number if entry else self._always.get(key)

    def _publish(self, key: Key, before: int | None) -> None:
        """Let the FIB say what is entered here. Raises TableFull, and changes nothing."""
        value = self._value(key)
        if value == before:
            return
        try:
            self._write(key, value)
        except TableFull:
            if not self._quiet():
                raise
            self._write(key, value)

    def _write(self, key: Key, value: int | None) -> None:
        if value is None:
            self._fib.delete(key >> 8, key & 0xFF, vrf=self.vrf)
        else:
            self._fib.add(key >> 8, key & 0xFF, value, vrf=self.vrf)

    # Neighbors.

    def know(self, port: int, address: int, number: int) -> None:
        """A neighbor is known: its host route, where one is due. Raises TableFull; then forget."""
        there = self._known.get(address)
        if there is None:
            there = self._known[address] = {}
            insort(self._addresses, address)
        there[port] = number
        self._set_host(address)

    def forget(self, port: int, address: int) -> None:
        """A neighbor is not known any more."""
        there = self._known[address]
        del there[port]
        if not there:
            del self._known[address]
            del self._addresses[bisect_left(self._addresses, address)]
        self._settle(address)

    def _recheck(self, key: Key) -> None:
        """Set the host routes in a prefix anew, whose routes have changed."""
        first = key >> 8
        last = first | (1 << self.bits - (key & 0xFF)) - 1
        at = slice(bisect_left(self._addresses, first), bisect_right(self._addresses, last))
        for address in {*self._addresses[at], *self._late}:
            self._settle(address)

    def _settle(self, address: int) -> None:
        """_set_host, now or when there is room: until then a host route stays, with its adjacency.

        Where one is missing, packets wait for resolution: neighbor_up is called, and tries again.
        """
        try:
            self._set_host(address)
            self._late.discard(address)
        except TableFull:
            self._late.add(address)

    def _set_host(self, address: int) -> None:
        """Add, change or delete the host route of an address, as it should be now."""
        found, number = self.match(address), None
        if found is not None and found.glean:
            number = self._known.get(address, {}).get(found.glean)
        key = key_of(address, self.bits)
        old, before = self.hosts.get(key), self._value(key)
        if number == old:
            return
        self._enter_host(key, number)
        try:
            self._publish(key, before)
        except TableFull:
            self._enter_host(key, old)
            raise
        if number is not None:
            self._adjacencies.hold(number)
        if old is not None:
            self._adjacencies.release(old)

    def _enter_host(self, key: Key, number: int | None) -> None:
        if number is None:
            self.hosts.pop(key, None)
        else:
            self.hosts[key] = number
