# SPDX-License-Identifier: Apache-2.0
"""What a firewall was told, part by part, as plain data, and told again to the next process's.

All parts come in force at once, so that each finds what it names. Where that cannot be, as many as can be
do, and of the rest the configuration says what is. A rule matches nothing at a port that is not there:
without it the others mean what they meant.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

from vforward.control.rule_policy import Wanted
from vforward.control.rule_said import meant, plain, said
from vforward.control.rules import SELF, Rule
from vforward.control.told import LOST, ODD, attempt

if TYPE_CHECKING:
    from vforward.control.assembly import Assembly
    from vforward.control.firewall import Firewall

log = logging.getLogger(__name__)

LISTS = ("rules", "nat")
"""Parts that have an order."""
NAMED = ("policers", "address_sets", "port_sets")
"""Parts whose things have names (Wanted.named)."""
SETTINGS = ("default", "loose", "per_source", "timeouts")
"""What of a firewall's settings may change while it runs."""
TOGETHER = (("rules", "address_sets", "port_sets"), ("policers",), ("nat",))
"""Parts of which none means what it meant without the others. The last are done without first."""
_PORTS = ("in_", "out", "port")
"""Where a rule, or a rule of NAT, names ports."""


def part_of(part: str, wanted: Wanted) -> Any:
    """A part of what is wanted, as plain data."""
    if part == "settings":
        return {name: plain(getattr(wanted.settings, name)) for name in SETTINGS}
    if part in LISTS:
        return [said(one) for one in getattr(wanted, part)]
    if part == "policers":
        return {name: said(one) for name, one in wanted.policers.items()}
    return {name: plain(items) for name, items in wanted.named(part).items()}


def repeat_firewall(forwarder: Assembly, told: Mapping[str, Any]) -> tuple[int, int]:
    """Tell a forwarder's firewall once more what was told. told: by part, its entry.

    Returns how many parts are in force, and how much is not: parts, rules and rules of NAT. It is logged.
    Settings are not in force without the rules that were told.
    """
    firewall = forwarder.firewall
    given = _given(told)
    settings = given.pop("settings", None)
    ports = {one.name for one in forwarder.interfaces if firewall.is_routed(one)}
    left_out = 0
    for part in LISTS:
        if part in given:
            here = [*_at_ports(part, given[part], ports)]
            left_out += len(given[part]) - len(here)
            given[part] = here
    done = _change(firewall, given)
    if settings is not None:
        if "rules" in told and "rules" not in done:
            log.warning(LOST, "firewall settings", "the rules that go with them are not")
        elif attempt("firewall settings", lambda: _set(forwarder, settings)):
            done.append("settings")
    return len(done), len(told) - len(done) + left_out


def _given(told: Mapping[str, Any]) -> dict[str, Any]:
    """What was told as Firewall takes it, but for what is damaged, and what is nothing without that."""
    given: dict[str, Any] = {}

    def take(part: str) -> None:
        given[part] = _meant(part, told[part]["is"])

    damaged = {part for part in told if not attempt(f"firewall {part}", partial(take, part))}
    for parts in TOGETHER:
        if damaged.intersection(parts):
            left = [part for part in parts if given.pop(part, None) is not None]
            _log_lost(left, "what was told with it is damaged")
    return given


def _meant(part: str, given: Any) -> Any:
    """What part_of has made of a part, as Firewall takes it. Raises one of ODD."""
    if part == "settings":
        return {name: given[name] for name in SETTINGS}
    if part in LISTS:
        return [meant(one) for one in given]
    if part == "policers":
        return {name: meant(one) for name, one in given.items()}
    if part in NAMED:
        return dict(given)
    raise ValueError("no firewall has such a part")


def _at_ports(part: str, rules: list[Any], ports: Collection[str]) -> Iterator[Any]:
    """Rules at these ports: of one that names others, too, without those."""
    for n, rule in enumerate(rules):
        left: dict[str, tuple[str, ...]] = {}
        gone: list[str] = []
        for field in _PORTS:
            named = getattr(rule, field, ())
            names = (named,) if isinstance(named, str) else named
            known = {*ports, SELF} if isinstance(rule, Rule) and field == "out" else ports
            there = tuple(name for name in names if name in known)
            if len(there) < len(names):
                left[field] = there
                gone += [name for name in names if name not in there]
        if gone:
            what = f"firewall {part}[{n}]" + (f" {rule.name!r}" if rule.name else "")
            at = ", ".join(map(repr, gone))
            log.warning(LOST, f"{what} at {at}", "no routed port is named so")
        if all(left.values()):
            yield replace(rule, **left) if left else rule


def _change(firewall: Firewall, given: Mapping[str, Any]) -> list[str]:
    """Put as many parts in force as can be. Returns which."""
    told = [[part for part in parts if part in given] for parts in TOGETHER]
    told = [parts for parts in told if parts]
    why: Exception | None = None
    for n in range(len(told), 0, -1):
        for some in combinations(told, n):
            done = [part for parts in some for part in parts]
            try:
                firewall.change(**{part: given[part] for part in done})
            except ODD as error:
                why = why or error
                continue
            _log_lost([part for part in given if part not in done], why)
            return done
    _log_lost([*given], why)
    return []


def _log_lost(parts: list[str], why: object) -> None:
    if parts:
        log.warning(LOST, f"firewall {', '.join(parts)}", why)


def _set(forwarder: Assembly, settings: Mapping[str, Any]) -> None:
    """Change a firewall's settings. Raises ConfigError."""
    forwarder.set_firewall(replace(forwarder.firewall.wanted.settings, **settings))
