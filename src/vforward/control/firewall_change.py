# SPDX-License-Identifier: Apache-2.0
"""One change of what the firewall is told: compiled aside, put in force by stores, or taken back.

FirewallChange(firewall, wanted)     records and images are made that no packet asks yet
put_in_force()                       all of it, by one store of the policy and a few of timeouts
take_back()                          the same the other way, as far as it is in force
finish()                             what is not in force is given back

Who does not put it in force, or takes it back, has numbers written down anew (control.numbers).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from vforward.control.policy_bundle import assemble
from vforward.control.rule_policy import Wanted
from vforward.control.rules import DROP, PASS, FirewallSettings, Policer
from vforward.tables import policer, session

if TYPE_CHECKING:
    from vforward.control.firewall import Firewall
    from vforward.tables.nat import NatPools

REMEDIES = {PASS: policer.PASS, DROP: policer.DROP}

Pools = dict[tuple[int, int, int, int], int]


class FirewallChange:
    """A part of Firewall, whose lock the caller has. Raises ConfigError, TableFull."""

    def __init__(self, firewall: Firewall, wanted: Wanted) -> None:
        self._of, self._wanted = firewall, wanted
        self._before = firewall._wanted
        self._in_force = False
        self._new_hits: list[int] = []
        self._undo: list[Callable[[], None]] = []
        if firewall._prepared:
            try:
                self._prepare()
            except BaseException:
                self._give_back()
                raise

    def _prepare(self) -> None:
        of, wanted = self._of, self._wanted
        places, numbers = of._places, of._policer_numbers
        for slots in (numbers, places.hits, places.limits):
            self._undo.append(slots.restorer())
        self._undo.append(partial(_forget_pools, places.pools, dict(places.pools), of.pools))
        gone = {n for name, n in numbers.items() if name not in wanted.policers}
        of._left_policers |= gone
        of._held_policers = None
        self._new_policers = numbers.keep(wanted.policers)
        for name, one in wanted.policers.items():
            if numbers[name] in self._new_policers:
                of.policers.clear(numbers[name])
                self._define(name, one)
        self._new_hits = places.keep(wanted)
        ports = {i.name: i.number for i in of._interfaces}
        self._bundle = assemble(of._compiler.parts(wanted, ports))
        of.before_publish(wanted)

    def put_in_force(self) -> None:
        """Have packets meet what is wanted. Any time; from their point of view it is one store.

        All of it, or nothing: where it raises, it has taken back what it did.
        """
        self._in_force = True
        try:
            self._store()
        except BaseException:
            self.take_back()
            self._give_back()
            raise

    def take_back(self) -> None:
        """Have packets meet what was before. Nothing where it is not in force."""
        if not self._in_force:
            return
        self._in_force = False
        of, before = self._of, self._before
        if of._prepared:
            if of._policy.bundle is self._bundle:
                of._policy.take_back()
            if before is not None:
                self._define_changed(self._wanted, before)
                self._time(before.settings)
        of._wanted = before
        of.changes += 1

    def _store(self) -> None:
        of, wanted = self._of, self._wanted
        if of._prepared:
            for place in self._new_hits:
                words_of = slice(2 * place, 2 * place + 2)  # whoever was there before has counted
                for hits, cleared in zip(of.hits, of._hits_cleared, strict=True):
                    cleared[words_of] = hits[words_of]
            self._define_changed(self._before, wanted)
            of._policy.put(self._bundle)
            self._time(wanted.settings)
        of._wanted = wanted
        of.changes += 1

    def finish(self) -> None:
        """Give back what is not used. Waits for a quiet point."""
        if not self._in_force:
            self._give_back()
        elif self._of._prepared:
            of = self._of
            of._left_pools += of._places.unused_pools(self._wanted)
            if of._policy.settle():
                of._left_policers.clear()
                while of._left_pools:
                    of.pools.delete(of._left_pools.pop())

    def _give_back(self) -> None:
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    def _time(self, settings: FirewallSettings) -> None:
        for shard in self._of.shards:
            shard.set_loose(settings.loose)
            for kind, seconds in zip(session.KINDS, session.DEFAULTS, strict=True):
                key = kind.replace("-", "_")
                shard.set_timeout(kind, settings.timeouts.get(key, seconds))

    def _define_changed(self, before: Wanted | None, after: Wanted) -> None:
        """Set policers anew that are in both and differ."""
        for name, one in after.policers.items():
            if before is not None and before.policers.get(name, one) != one:
                self._define(name, one)

    def _define(self, name: str, one: Policer) -> None:
        remedies = (REMEDIES.get(action, action) for action in (one.yellow, one.red))
        self._of.policers.define(
            self._of._policer_numbers[name],
            one.rate,
            one.burst,
            excess_burst=one.peak_burst or one.excess_burst or 0,
            peak_rate=one.peak_rate or 0,
            actions=(policer.PASS, *remedies),
        )


def _forget_pools(places: Pools, before: Pools, pools: NatPools) -> None:
    """Give back the pools that were not there before.

    No method: a change would hold what undoes it, and that the change, which with all its rules would then
    wait for a collection.
    """
    for pool in places.keys() - before.keys():
        pools.delete(places.pop(pool))
