# SPDX-License-Identifier: Apache-2.0
"""From rules, policers and NAT to the parts of a bundle: rows are compiled, records filled in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control.policy_bundle import NOTHING, Parts
from vforward.control.rule_checks import PoolKey, matches_of, pool_of
from vforward.control.rule_rows import Expander, Sets, as_array
from vforward.control.rules import (
    DENY,
    PERMIT,
    REJECT,
    DestinationNat,
    FirewallSettings,
    Masquerade,
    Nat,
    Policer,
    Rule,
    SourceNat,
    StaticNat,
)
from vforward.control.slots import Slots, keyed
from vforward.tables import policy

KINDS = {PERMIT: policy.PERMIT, DENY: policy.DENY, REJECT: policy.REJECT}
FILTER, SOURCE, DESTINATION = "filter", "source", "destination"
DEFAULT_HITS = 0
"""Place in rule_hits of what no rule matches."""
NO_SETS = Sets({}, {})
Compile = Callable[[NDArray[Any]], NDArray[np.uint64]]


@dataclass(frozen=True)
class Wanted:
    """All that a firewall is told at one time."""

    settings: FirewallSettings
    rules: tuple[Rule, ...] = ()
    nat: tuple[Nat, ...] = ()
    policers: Mapping[str, Policer] = field(default_factory=dict)
    sets: Sets = NO_SETS

    @cached_property
    def rule_keys(self) -> list[Hashable]:
        """By what each rule is known again."""
        return keys_of(self.rules)

    @cached_property
    def nat_keys(self) -> list[Hashable]:
        """By what each rule of NAT is known again."""
        return keys_of(self.nat)

    def named(self, part: str) -> Mapping[str, Any]:
        """A part whose things have names: "policers", "address_sets" or "port_sets"."""
        if part == "policers":
            return self.policers
        return self.sets.addresses if part == "address_sets" else self.sets.ports

    @cached_property
    def pools(self) -> set[PoolKey]:
        """What sources become."""
        return {pool_of(one) for one in self.nat if isinstance(one, Masquerade | SourceNat)}


@dataclass
class Places:
    """Where the records lie that rules refer to: they stay when rules are changed around them.

    pools: numbers by what pool_of says; one that is new is made by ``new_pool``.
    """

    hits: Slots
    limits: Slots
    new_pool: Callable[[int, int, int, int], int]
    pools: dict[PoolKey, int] = field(default_factory=dict)

    def keep(self, wanted: Wanted) -> list[int]:
        """Have places for these rules and NAT. Returns the places in rule_hits that are new.

        Raises ConfigError, TableFull.
        """
        new = self.hits.keep([*wanted.rule_keys, *wanted.nat_keys])
        pairs = zip(wanted.rule_keys, wanted.rules, strict=True)
        self.limits.keep(key for key, rule in pairs if rule.sessions)
        for pool in wanted.pools - self.pools.keys():
            self.pools[pool] = self.new_pool(*pool)
        return new

    def unused_pools(self, wanted: Wanted) -> list[int]:
        """Forget the pools that are not wanted, but for number 0. Returns their numbers.

        They may be deleted when no worker uses a policy that names them.
        """
        unused = [
            pool for pool, number in self.pools.items() if number and pool not in wanted.pools
        ]
        return [self.pools.pop(pool) for pool in unused]


def keys_of(things: Sequence[Rule] | Sequence[Nat]) -> list[Hashable]:
    """By what a rule is known again: its name, or else all that it says."""
    return [
        (type(thing), thing.name) if thing.name else key
        for thing, key in zip(things, keyed(things), strict=True)
    ]


class Compiler:
    """Makes the parts of bundles, and no image twice that has not changed.

    numbers: of ports by name. compilers: of rows to images, by IP version.
    treatment: the number of a DSCP to set (or None) with a policer (or "").
    """

    def __init__(
        self,
        places: Places,
        compilers: Mapping[int, Compile],
        treatment: Callable[[int | None, str], int],
    ) -> None:
        self._places = places
        self._compilers = compilers
        self._treatment = treatment
        self._images: dict[tuple[str, int], tuple[NDArray[Any], NDArray[np.uint64]]] = {}

    def parts(self, wanted: Wanted, numbers: Mapping[str, int]) -> Parts:
        """The parts of a bundle. Places are there for all that is wanted."""
        expander = Expander(wanted.sets, numbers)
        filters = list(enumerate(wanted.rules, 1))
        rewrites, nat = self._rewrites(wanted)
        uses_out = bool(wanted.nat) or any(rule.out for rule in wanted.rules)
        return Parts(
            actions=self._actions(wanted),
            rewrites=rewrites,
            filter4=self._image(FILTER, expander, filters, 4),
            filter6=self._image(FILTER, expander, filters, 6),
            source4=self._image(SOURCE, expander, nat[SOURCE], 4),
            destination4=self._image(DESTINATION, expander, nat[DESTINATION], 4),
            flags=policy.USES_OUT if uses_out else 0,
        )

    def _image(
        self, name: str, expander: Expander, rules: Sequence[tuple[int, Rule]], version: int
    ) -> NDArray[np.uint64]:
        found = [row for number, rule in rules for row in expander.rows(rule, version, number)]
        if not found:
            self._images.pop((name, version), None)
            return NOTHING
        rows = as_array(found, version)
        before, image = self._images.get((name, version), (NOTHING, NOTHING))
        if before.dtype != rows.dtype or not np.array_equal(before, rows):
            image = self._compilers[version](rows)
        self._images[name, version] = rows, image
        return image

    def _actions(self, wanted: Wanted) -> NDArray[Any]:
        actions = np.zeros(1 + len(wanted.rules), policy.ACTION)
        settings, hits, limits = wanted.settings, self._places.hits, self._places.limits
        actions[0]["kind"], actions[0]["hits"] = KINDS[settings.default], DEFAULT_HITS
        actions[0]["per_source"] = settings.per_source
        made = []
        for key, rule in zip(wanted.rule_keys, wanted.rules, strict=True):
            treated = rule.mark is not None or rule.police
            made.append(
                (
                    KINDS[rule.action],
                    0 if rule.stateful else policy.STATELESS,
                    self._treatment(rule.mark, rule.police) if treated else 0,
                    hits[key],
                    limits[key] if rule.sessions else 0,
                    rule.sessions,
                    rule.per_source or settings.per_source,
                )
            )
        names = ("kind", "flags", "treatment", "hits", "limit", "sessions", "per_source")
        for name, column in zip(names, zip(*made, strict=True), strict=False):
            actions[name][1:] = column
        return actions

    def _rewrites(self, wanted: Wanted) -> tuple[NDArray[Any], dict[str, list[tuple[int, Rule]]]]:
        """The records, and for each list the numbers of its records with what they match."""
        records: list[dict[str, int]] = []
        lists: dict[str, list[tuple[int, Rule]]] = {SOURCE: [], DESTINATION: []}
        for key, one in zip(wanted.nat_keys, wanted.nat, strict=True):
            for name, match in matches_of(one):
                lists[name].append((len(records), match))
                records.append(self._rewrite(one, name, self._places.hits[key]))
        made = np.zeros(len(records), policy.REWRITE)
        for at, record in enumerate(records):
            for field_name, value in record.items():
                made[at][field_name] = value
        return made, lists

    def _rewrite(self, one: Nat, name: str, hits: int) -> dict[str, int]:
        if isinstance(one, DestinationNat):
            first = one.to_ports.first if one.to_ports else 0
            port = one.new_port or 0
            static = {"address": one.new.first, "first": first if port else 0, "port": port}
            return {"kind": policy.STATIC, "hits": hits, **static}
        if isinstance(one, StaticNat):
            to = one.outside if name == SOURCE else one.inside
            keep = to.last - to.first
            return {"kind": policy.STATIC, "hits": hits, "address": to.first, "keep": keep}
        kind = policy.MASQUERADE if isinstance(one, Masquerade) else policy.POOL
        return {"kind": kind, "hits": hits, "pool": self._places.pools[pool_of(one)]}
