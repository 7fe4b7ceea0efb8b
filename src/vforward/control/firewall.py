# SPDX-License-Identifier: Apache-2.0
"""A forwarder's firewall: what it is told, and the tables in which nodes find that.

Without settings it is off: its tables are as small as can be, and no port has its features on. Rules,
NAT and policers are checked as in a file (rule_checks), compiled aside, and put in force by one store.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Interface
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control import flow_words as words
from vforward.control import rule_text
from vforward.control.firewall_change import FirewallChange
from vforward.control.interfaces import Interface, Interfaces
from vforward.control.numbers import text_of
from vforward.control.policy_bundle import Policy
from vforward.control.rule_checks import World, check_nat, check_policers, check_rules
from vforward.control.rule_policy import Compiler, Places, Wanted
from vforward.control.rule_rows import Sets
from vforward.control.rules import FirewallSettings, Nat, Policer, Rule
from vforward.control.session_list import KILLS, Filter, Names, SessionList, end_sessions
from vforward.control.slots import Slots
from vforward.control.wording import KeyPath, Problem, dotted, listed, nearest
from vforward.errors import ConfigError
from vforward.graph.control import segment
from vforward.memory.arena import Arena
from vforward.tables import acl, policer, policy, reassembly, session, strays, treatment
from vforward.tables.nat import HIGH, LOW, MASQUERADE, NatPools
from vforward.tables.policer import Policers
from vforward.tables.ports import BVI, ROUTED
from vforward.tables.reassembly import Reassembly
from vforward.tables.session_table import Sessions
from vforward.tables.treatment import Treatments

FEATURES = ("reassembly", "session", "acl", "police")
"""Of each family's arc, "ip4-session" and so on."""
HAND_OFF = ("hand-off", "piece-hand-off")
"""Where there are several workers, besides."""
_Sets = Mapping[str, Any]


class Firewall:
    """See the module. hz: clocks per second. buffers: the pool's, an eighth of which may wait."""

    def __init__(
        self, arena: Arena, interfaces: Interfaces, hz: int, buffers: int, workers: int = 1
    ) -> None:
        self._arena, self._interfaces = arena, interfaces
        self._workers = workers
        self._may_wait = min(reassembly.HELD_MAX, max(1, buffers // 16 // workers))
        self.lock = threading.RLock()
        self._wanted: Wanted | None = None
        self._policy = Policy()
        self.changes = 0
        """How often something was put in force."""
        self.before_publish: Callable[[Wanted | None], None] = lambda _: None
        """Called when numbers are given and nothing goes by them yet."""
        self.on_change: Callable[[str, Wanted], None] = lambda _part, _wanted: None
        """Called when a part is in force: "settings", or what change was given."""
        self._hz = hz
        self._prepared = False

    @property
    def on(self) -> bool:
        """Whether there is one."""
        return self._wanted is not None

    @property
    def wanted(self) -> Wanted:
        """What it was told last. Raises ConfigError when it is off."""
        if self._wanted is None:
            raise ConfigError(
                "the firewall is off: [firewall] of its file, or set_firewall of a program, says first "
                "what becomes of what no rule matches"
            )
        return self._wanted

    def set(self, settings: FirewallSettings) -> None:
        """Have a firewall; once it is built, change default, per_source and timeouts of it.

        Raises ConfigError.
        """
        with self.lock:
            before = self._wanted.settings if self._wanted else None
            if self._prepared:
                fixed = replace(settings, default="deny", per_source=0, timeouts={}, loose=False)
                if before is None or fixed != replace(
                    before, default="deny", per_source=0, timeouts={}, loose=False
                ):
                    raise ConfigError("firewall: sessions and ports are set before build")
            for name in settings.ports:
                _refuse(_not_routed(self._interfaces, ("firewall", "ports"), name))
            wanted = replace(self._wanted or Wanted(settings), settings=settings)
            self._put(wanted)
            self.on_change("settings", wanted)

    def change(
        self,
        *,
        rules: Iterable[Rule] | None = None,
        nat: Iterable[Nat] | None = None,
        policers: Mapping[str, Policer] | None = None,
        address_sets: Mapping[str, Any] | None = None,
        port_sets: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace what is given, all of it at once; the rest stays. Sessions that exist go on.

        Raises ConfigError, which names all problems, and TableFull; nothing has changed then.
        """
        with self.lock:
            wanted = self._with(self.wanted, rules, nat, policers, address_sets, port_sets)
            self._check(wanted)
            self._put(wanted)
            given = {"rules": rules, "nat": nat, "policers": policers}
            given |= {"address_sets": address_sets, "port_sets": port_sets}
            for part in (name for name, value in given.items() if value is not None):
                self.on_change(part, wanted)

    @contextmanager
    def changing(
        self,
        *,
        settings: FirewallSettings | None = None,
        rules: Iterable[Rule] | None = None,
        nat: Iterable[Nat] | None = None,
        policers: Mapping[str, Policer] | None = None,
        address_sets: Mapping[str, Any] | None = None,
        port_sets: Mapping[str, Any] | None = None,
    ) -> Iterator[FirewallChange]:
        """As change, compiled aside, to be put in force inside. Others who change wait.

        Where it ends without that, nothing has changed. Raises ConfigError, TableFull.
        """
        with self.lock:
            before = self._wanted
            if settings is not None:
                before = Wanted(settings) if before is None else replace(before, settings=settings)
            if before is None:
                before = self.wanted  # which says what is missing
            wanted = self._with(before, rules, nat, policers, address_sets, port_sets)
            self._check(wanted)
            change = FirewallChange(self, wanted)
            try:
                yield change
            finally:
                change.finish()

    @staticmethod
    def _with(
        before: Wanted,
        rules: Iterable[Rule] | None,
        nat: Iterable[Nat] | None,
        policers: Mapping[str, Policer] | None,
        address_sets: Mapping[str, Any] | None,
        port_sets: Mapping[str, Any] | None,
    ) -> Wanted:
        """What is wanted with what is given in place of what was."""
        sets = Sets(
            _sets("address_sets", address_sets, words.addresses, before.sets.addresses),
            _sets("port_sets", port_sets, words.ports, before.sets.ports),
        )
        return Wanted(
            before.settings,
            before.rules if rules is None else tuple(rules),
            before.nat if nat is None else tuple(nat),
            before.policers if policers is None else dict(policers),
            sets,
        )

    def edit(self, what: str, edit: Callable[[Wanted], Any]) -> None:
        """As change, of one part ("rules", "policers"): to what edit makes of what is wanted now."""
        with self.lock:
            self.change(**{what: edit(self.wanted)})

    def say_again(self, part: str) -> None:
        """Say what a part is, as if it had just come in force (on_change). Nothing when it is off."""
        with self.lock:
            if self._wanted is not None:
                self.on_change(part, self._wanted)

    def prepare(self) -> None:
        """Make the tables, once all settings before build are known. Raises ArenaError, ConfigError."""
        arena, settings = self._arena, self._wanted.settings if self._wanted else None
        places = policy.HITS_MAX if settings else 1
        hits = [segment("rule-hits", worker) for worker in range(self._workers)]
        self.hits = [arena.make(name, 2 * places, np.uint64) for name in hits]
        self._hits_cleared = [arena.make(f"{name}-cleared", 2 * places, np.uint64) for name in hits]
        self.pools = NatPools(arena, [segment("nat_pools", k) for k in range(self._workers)])
        self._left_pools: list[int] = []
        self.policers = Policers(
            arena, self._hz, policer.POLICERS_MAX if settings else 2, shared=self._workers > 1
        )
        self.treatments = Treatments(arena, treatment.TREATMENTS_MAX if settings else 1)
        each = -(-(settings.sessions if settings else 1) // self._workers)
        self.shards = [Sessions(arena, each, worker=worker) for worker in range(self._workers)]
        for shard in self.shards:
            shard.set_clock(self._hz)
        if self._workers > 1:
            seed, all_sessions = os.urandom(16), sum(shard.capacity for shard in self.shards)
            self.strays = astray = strays.make(arena, all_sessions)
            for worker, shard in enumerate(self.shards):
                shard.share(worker, self._workers, seed, astray)
        datagrams = reassembly.DATAGRAMS if settings else 1
        self.pieces = [
            Reassembly(arena, self._hz, datagrams, self._may_wait, suffix=segment("", worker))
            for worker in range(self._workers)
        ]
        limits = [shard.parts.limits for shard in self.shards]
        self._places = Places(
            Slots(places, "rules and rules of NAT"),
            Slots(
                session.LIMITS_MAX, "rules with sessions", lambda n: not any(of[n] for of in limits)
            ),
            self.pools.add,
            {(0, 0, LOW, HIGH): MASQUERADE},
        )
        self._held_policers: set[int] | None = None
        self._left_policers: set[int] = set()
        """Numbers that a worker may still find in an older policy; so too the pools above."""
        self._policer_numbers = Slots(policer.POLICERS_MAX, "policers", self._is_idle)
        self._treated: dict[int, tuple[int, str]] = {}
        """By number: the DSCP that a treatment sets, and the policer that it asks now."""
        compilers = {4: acl.compile4, 6: acl.compile6}
        self._compiler = Compiler(self._places, compilers, self.treatment)
        self._prepared = True
        if self._wanted is not None:
            self._put(self._wanted)

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """What nodes take of it, by parameter name, once it is prepared. Besides: own."""
        return {
            **self.policers.tables,
            **self.treatments.tables,
            "policy_in_force": self._policy.words,
        }

    @property
    def own(self) -> list[dict[str, NDArray[Any]]]:
        """By worker, what its nodes take besides."""
        parts = zip(self.shards, self.pieces, self.hits, self.pools.tables, strict=True)
        return [
            {**shard.tables, **pieces.tables, "rule_hits": hits, "nat_pools": pools}
            for shard, pieces, hits, pools in parts
        ]

    @property
    def quiesce(self) -> Callable[[], bool]:
        """Returns whether no worker uses anymore what it read before."""
        return self._policy.quiesce

    @quiesce.setter
    def quiesce(self, quiesce: Callable[[], bool]) -> None:
        self._policy.quiesce = quiesce

    def ports(self) -> list[Interface]:
        """Where it is on."""
        if self._wanted is None:
            return []
        named = self._wanted.settings.ports
        return [i for i in self._interfaces if (i.name in named if named else self.is_routed(i))]

    def features_of(self, interface: Interface) -> list[str]:
        """What an interface's packets go through, without the family."""
        if interface not in self.ports():
            return []
        return [*FEATURES, *(HAND_OFF if self._workers > 1 else ())]

    def document(self) -> dict[str, Any]:
        """What others are to read of it, see rule_text; empty when it is off."""
        with self.lock:
            if self._wanted is None or not self._prepared:
                return {}
            numbers = {str(name): number for name, number in self._policer_numbers.items()}
            return rule_text.document(self._wanted, self._places, numbers)

    def sessions(self) -> SessionList:
        """The sessions, to be listed and counted. Raises ConfigError when it is off, or not built."""
        wanted = self.wanted
        if not self._prepared:
            raise ConfigError("the firewall has no sessions yet: build comes first")
        rules = {
            self._places.hits[key]: rule.name
            for key, rule in zip(wanted.rule_keys, wanted.rules, strict=True)
            if rule.name
        }
        ports = {i.number: i.name for i in self._interfaces}
        vrfs = {number: name for name, number in self._interfaces.vrfs.items()}
        return SessionList([shard.array for shard in self.shards], Names(ports, vrfs, rules))

    def kill(self, wanted: Filter) -> int:
        """Have the workers end sessions. Returns how many. Raises ConfigError, ArenaError."""
        ended = 0
        for worker, keys in enumerate(self.sessions().keys(wanted)):
            ring = self.shards[worker].tables["session_kills"]
            ended += end_sessions(ring, self._arena.path / KILLS.format(worker), keys)
        return ended

    def is_routed(self, interface: Interface) -> bool:
        """Whether rules may name this port."""
        return int(self._interfaces.record(interface)["mode"]) in (ROUTED, BVI)

    def _check(self, wanted: Wanted) -> None:
        world = World(
            sets=wanted.sets,
            policers=wanted.policers,
            port=lambda path, name: _not_routed(self._interfaces, path, name),
            connected={i.name: [a.network for a in _own(i)] for i in self._interfaces},
            own={a.ip for i in self._interfaces for a in _own(i)},
        )
        _refuse(check_policers(wanted.policers))
        _refuse(check_rules(dict(enumerate(wanted.rules)), world))
        _refuse(check_nat(dict(enumerate(wanted.nat)), world))

    def _put(self, wanted: Wanted) -> None:
        """Put in force what is right."""
        change = FirewallChange(self, wanted)
        change.put_in_force()
        change.finish()

    def _is_idle(self, number: int) -> bool:
        """Whether nobody asks a policer that is gone: no older policy, and no session that began by one.

        Sessions keep their treatment, so until then the number's next policer would police them.
        """
        if self._held_policers is None:  # once for each change: there may be a million sessions
            held = [s.parts.cold["treatment"][s.numbers()] for s in self.shards]
            self._held_policers = self.treatments.policers_of(np.concatenate(held))
        return number not in self._left_policers | self._held_policers

    def treatment(self, mark: int | None, police: str) -> int:
        """The number of a DSCP to set, or None, with a policer that there is, or "". Raises TableFull."""
        number = self._policer_numbers[police] if police else 0
        dscp = treatment.KEEP if mark is None else mark
        found = self.treatments.number(dscp, number)
        self._treated[found] = dscp, police
        return found

    def publish_numbers(self) -> None:
        """Have numbers written down anew, those of ports among them, as they are now."""
        with self.lock:  # a change does the same
            self.before_publish(None)

    def numbers(self, wanted: Wanted | None = None) -> dict[str, Any]:
        """What has which number, as control.numbers has it: of rules, policers and treatments."""
        with self.lock:
            rules: dict[str, tuple[int, int]] = {}
            wanted = wanted or self._wanted
            if wanted is not None and self._prepared:
                for key, rule in zip(wanted.rule_keys, wanted.rules, strict=True):
                    limit = self._places.limits[key] if rule.sessions else 0
                    rules[text_of(key)] = self._places.hits[key], limit
                for key in wanted.nat_keys:
                    rules[text_of(key)] = self._places.hits[key], 0
            treated = [(number, *what) for number, what in self._treated.items()]
            policers = {str(name): number for name, number in self._policer_numbers.items()}
            return {"rules": rules, "policers": policers, "treatments": treated}


def _own(interface: Interface) -> list[IPv4Interface]:
    return [a for a in interface.addresses if isinstance(a, IPv4Interface)]


def _not_routed(interfaces: Interfaces, path: KeyPath, name: str) -> Iterator[Problem]:
    known = interfaces.by_name
    if name not in known:
        yield Problem(path, f"is {name!r}, which is no port{nearest(name, known)}", listed(known))
    elif int(interfaces.record(known[name])["mode"]) not in (ROUTED, BVI):
        yield Problem(path, f"is {name!r}, which is not routed", "a routed port")


def _refuse(problems: Iterable[Problem]) -> None:
    """Raise ConfigError where there are problems."""
    lines = [f"{dotted(p.path)}: {p.what}; allowed: {p.allowed}" for p in problems]
    if lines:
        raise ConfigError("\n".join(lines))


def _sets(key: str, given: _Sets | None, parse: Callable[[object], Any], before: _Sets) -> _Sets:
    if given is None:
        return before
    sets = {}
    for name, items in given.items():
        try:
            sets[name] = words.many(items, parse)
        except ValueError as error:
            raise ConfigError(f"{key}.{name}: {error}") from None
        if any(isinstance(item, words.SetName) for item in sets[name]):
            raise ConfigError(f"{key}.{name}: is a set, and cannot be in another")
    return sets
