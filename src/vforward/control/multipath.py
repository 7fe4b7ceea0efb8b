# SPDX-License-Identifier: Apache-2.0
"""Multipath groups: which next hop each bucket of a MULTIPATH adjacency leads to.

``buckets u32[m]``: a group has a range of 2**k of them (64 to 1024), a flow is in bucket ``hash & mask``
of it, and a bucket holds the adjacency of a next hop. A bucket changes by one store, so a flow goes
either the old way or the new. Which buckets change (resilient, in the sense of RFC 2992 section 2):

    a next hop leaves       its buckets, and no others, go to the rest
    a next hop comes        it takes buckets until it has its share; no others change
    weights change          as few as make the shares right

Shares: when made, each next hop is at most one bucket off ``n * weight / sum of weights`` (two when
others have less than one bucket). Leaving ones may leave the rest some buckets more off, until a next
hop comes. A next hop that failed has no buckets while another has not.

Routes that have the same next hops and the same buckets share a group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heapreplace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control.adjacencies import Adjacencies, Hop
from vforward.errors import ConfigError
from vforward.jit.atomics import store_release32
from vforward.jit.intrinsics import address
from vforward.jit.kernel import kernel, u64
from vforward.memory.arena import Arena
from vforward.tables.adjacency import Way

SIZE_MIN, SIZE_MAX = 64, 1024
PER_WEIGHT = 16
"""Buckets for each unit of weight, where there is room."""
PATHS_MAX = 64
WEIGHT_MAX = 256
NOBODY = (0, 0)

Weights = Mapping[Hop, int]
Owners = tuple[Hop, ...]


def size_for(weights: Weights) -> int:
    """How many buckets a group of such weights has."""
    common = int(np.gcd.reduce(list(weights.values())))
    wanted = PER_WEIGHT * sum(weights.values()) // common
    return min(SIZE_MAX, max(SIZE_MIN, 1 << (wanted - 1).bit_length()))


def assign(old: Owners, was: Weights, weights: Weights) -> Owners:
    """Who owns each bucket, after the weights ``was``; see the module on which change."""
    total, n = sum(weights.values()), len(old)
    owners = [hop if hop in weights else NOBODY for hop in old]
    lack = {hop: n * weight for hop, weight in weights.items()}  # in 1 / total buckets
    held: dict[Hop, list[int]] = {hop: [] for hop in weights}
    for bucket, hop in enumerate(owners):
        if hop != NOBODY:
            held[hop].append(bucket)
            lack[hop] -= total

    def give(bucket: int, hop: Hop) -> None:
        owners[bucket] = hop
        held[hop].append(bucket)
        lack[hop] -= total

    neediest = [(-missing, at, hop) for at, (hop, missing) in enumerate(lack.items())]
    heapify(neediest)
    for bucket, owner in enumerate(owners):
        if owner == NOBODY:
            missing, at, hop = neediest[0]
            give(bucket, hop)
            heapreplace(neediest, (missing + total, at, hop))
    growing = [hop for hop in weights if hop not in was]
    if any(was[hop] != weight for hop, weight in weights.items() if hop in was):
        growing = list(weights)
    while growing:
        taker = max(growing, key=lambda hop: (not held[hop], lack[hop]))
        giver = min(
            (hop for hop in lack if len(held[hop]) > 1), key=lack.__getitem__, default=taker
        )
        if giver == taker or (held[taker] and lack[taker] - lack[giver] <= total):
            break
        lack[giver] += total
        give(held[giver].pop(), taker)
    return tuple(owners)


class Group:
    """The paths of some routes. number: its MULTIPATH adjacency; members: the hops' ones."""

    def __init__(self, number: int, first: int, weights: Weights, members: dict[Hop, int]) -> None:
        self.number, self.first = number, first
        self.weights, self.members = dict(weights), members
        self.live: Weights = {}  # the weights of those that have buckets
        self.owners: Owners = ()


@kernel
def _store(buckets: Any, at: Any, value: Any) -> None:
    """Each reader sees the old value or the new one, and with it what it leads to."""
    assert 0 <= at < buckets.size
    store_release32(address(buckets) + 4 * at, u64(value))


class Groups:
    """The groups over ``buckets``. The caller has the lock."""

    def __init__(self, arena: Arena, adjacencies: Adjacencies, n: int) -> None:
        self.buckets: NDArray[np.uint32] = arena.make("buckets", n, np.uint32)
        self.failed: set[Hop] = set()
        self._adjacencies = adjacencies
        self._groups: dict[int, Group] = {}
        self._by_weights: dict[frozenset[tuple[Hop, int]], list[Group]] = {}
        self._free: list[tuple[int, int]] = [(0, n)]  # ranges: first, size
        self._left: set[int] = set()  # that routes have left since the last quiet point

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def free(self) -> int:
        """Buckets that can be taken."""
        return sum(size for _, size in self._free)

    def get(self, number: int) -> Group | None:
        """The group of a MULTIPATH adjacency; None for another one."""
        return self._groups.get(number)

    def use(self, weights: Weights, old: int | None = None, *, alone: bool = False) -> int:
        """A use of the adjacency of a group of these weights. Raises ConfigError.

        old: the group that its user leaves; flows change as the module says. (From a single next hop
        any group is right: what it does not keep is what the others are due.)
        alone: nobody else uses old, so that it may change in place: then a use of it is returned.
        """
        before = self._groups.get(old) if old is not None else None
        live = self._live(weights)
        owners: Owners = ()
        if before is not None:
            owners = self._stretched(before.owners, size_for(weights))
            owners = assign(owners, before.live, live)
        for group in self._by_weights.get(frozenset(weights.items()), ()):
            if not owners or group.owners == owners:
                return self._adjacencies.hold(group.number)
        alone = alone and old not in self._left
        if before is not None and alone and len(owners) == len(before.owners):
            return self._change(before, weights, owners)
        return self._make(weights, owners or assign((NOBODY,) * size_for(weights), {}, live))

    def left(self, number: int) -> None:
        """A route has left the group; until a quiet point its packets may still ask the buckets."""
        if number in self._groups and number not in self._left:
            self._left.add(number)
            self._adjacencies.at_quiet(lambda: self._left.discard(number))

    def release(self, number: int) -> None:
        """End a use of a group, or of any other adjacency."""
        if not self._adjacencies.release(number) or number not in self._groups:
            return
        group = self._groups.pop(number)
        self._unlist(group)
        for member in group.members.values():
            self._adjacencies.release(member)
        taken = group.first, len(group.owners)
        self._adjacencies.at_quiet(lambda: self._give_back(*taken))

    def set_failed(self, hop: Hop, failed: bool) -> bool:
        """Leave a next hop out, or let it in again, in all groups. Returns whether it is in any."""
        changes = (hop in self.failed) != failed
        (self.failed.add if failed else self.failed.discard)(hop)
        having = [group for group in self._groups.values() if hop in group.weights]
        for group in having if changes else ():
            live = self._live(group.weights)
            self._set(group, assign(group.owners, group.live, live), live)
        return bool(having)

    def _live(self, weights: Weights) -> Weights:
        live = {hop: weight for hop, weight in weights.items() if hop not in self.failed}
        return live or dict(weights)

    @staticmethod
    def _stretched(owners: Owners, size: int) -> Owners:
        """At least so many buckets, no flow elsewhere: one more bit of its hash is looked at."""
        return owners * max(1, size // len(owners))

    def _make(self, weights: Weights, owners: Owners) -> int:
        members = self._members(weights)
        try:
            number = self._adjacencies.take()
        except ConfigError:
            self._release(members.values())
            raise
        try:
            first = self._range(len(owners))
        except ConfigError:
            self._adjacencies.release(number)
            self._release(members.values())
            raise
        group = self._groups[number] = Group(number, first, weights, members)
        self._list(group)
        self._set(group, owners, self._live(weights))
        record = self._adjacencies.table[number]
        record["first"], record["mask"] = first, len(owners) - 1
        record["edge"] = Way.MULTIPATH
        return number

    def _change(self, group: Group, weights: Weights, owners: Owners) -> int:
        members = self._members(weights)
        self._adjacencies.hold(group.number)
        self._unlist(group)
        old, group.members, group.weights = group.members, members, dict(weights)
        self._list(group)
        self._set(group, owners, self._live(weights))
        self._release(old.values())
        return group.number

    def _members(self, weights: Weights) -> dict[Hop, int]:
        """A use of each hop's adjacency, or of none."""
        members: dict[Hop, int] = {}
        try:
            for hop in weights:
                members[hop] = self._adjacencies.hop(hop)
        except ConfigError:
            self._release(members.values())
            raise
        return members

    def _release(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._adjacencies.release(number)

    def _set(self, group: Group, owners: Owners, live: Weights) -> None:
        old = group.owners or (NOBODY,) * len(owners)
        for at, (was, hop) in enumerate(zip(old, owners)):
            if was != hop:
                _store(self.buckets, group.first + at, group.members[hop])
        group.owners, group.live = owners, live

    def _list(self, group: Group) -> None:
        self._by_weights.setdefault(frozenset(group.weights.items()), []).append(group)

    def _unlist(self, group: Group) -> None:
        key = frozenset(group.weights.items())
        self._by_weights[key].remove(group)
        if not self._by_weights[key]:
            del self._by_weights[key]

    def _range(self, size: int) -> int:
        """The first of so many free buckets in a row. Raises ConfigError."""
        for again in (True, False):
            for at, (first, room) in enumerate(self._free):
                if room >= size:
                    self._free[at : at + 1] = [(first + size, room - size)] if room > size else []
                    return first
            if again:
                self._adjacencies.quiet()
        msg = f"no {size} of {self.buckets.size} buckets are free; use fewer sets of next hops"
        raise ConfigError(msg)

    def _give_back(self, first: int, size: int) -> None:
        """Ranges that touch become one."""
        merged: list[tuple[int, int]] = []
        for start, room in sorted([*self._free, (first, size)]):
            if merged and sum(merged[-1]) == start:
                merged[-1] = merged[-1][0], merged[-1][1] + room
            else:
                merged.append((start, room))
        self._free = merged
