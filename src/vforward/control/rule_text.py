# SPDX-License-Identifier: Apache-2.0
"""Rules, policers and NAT as rows for `show`: in the words of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from vforward.control import flow_words as words
from vforward.control.rule_checks import pool_of
from vforward.control.rule_policy import DEFAULT_HITS, Places, Wanted
from vforward.control.rules import (
    DestinationNat,
    Masquerade,
    Nat,
    Policer,
    Rule,
    SourceNat,
    StaticNat,
    key_of,
)

RULES_SHOWN = 10_000
KINDS = {
    Masquerade: "masquerade",
    SourceNat: "source",
    DestinationNat: "destination",
    StaticNat: "static",
}
_NAMED: dict[str, Callable[[Any], str]] = {
    "protocol": lambda number: str(words.name_of(number, words.PROTOCOLS)),
    "dscp": lambda number: str(words.name_of(number, words.DSCPS)),
    "mark": lambda number: str(words.name_of(number, words.DSCPS)),
}
_MATCH = (
    *("in_", "from_", "from_ports", "protocol", "icmp", "tcp_flags", "out", "to", "to_ports"),
    *("dscp", "vlan", "fragments", "family"),
)
_THEN = ("mark", "police", "sessions", "per_source")
_NAT = ("in_", "from_", "protocol", "out", "port", "to", "to_ports", "inside")


def match_text(rule: Rule) -> str:
    """What a rule matches: "in lan to @servers protocol tcp to_ports 80,443"."""
    return _words(rule, _MATCH) or "all"


def then_text(rule: Rule) -> str:
    """What is done to what it permits, besides: "police gold stateless"."""
    return " ".join(filter(None, (_words(rule, _THEN), "" if rule.stateful else "stateless")))


def nat_text(one: Nat) -> tuple[str, str]:
    """What it matches, and what that becomes."""
    if isinstance(one, Masquerade):
        new = f"address of {one.out}, ports {one.ports}"
    elif isinstance(one, SourceNat):
        new = f"{one.pool}, ports {one.ports}"
    elif isinstance(one, DestinationNat):
        new = f"{one.new}" + (f", ports from {one.new_port}" if one.new_port else "")
    else:
        new = str(one.outside)
    return _words(one, _NAT) or "all", new


def _words(thing: object, names: Iterable[str]) -> str:
    texts = []
    for name in names:
        value = getattr(thing, name, None)
        if value is None or (value in ((), "", 0) and name not in ("dscp", "mark", "fragments")):
            continue
        write = _NAMED.get(name, str)
        single = not isinstance(value, tuple) or isinstance(
            value, words.Flags | words.Range | words.Span
        )
        text = write(value) if single else ",".join(map(write, value))
        texts.append(f"{key_of(name)} {text.lower() if isinstance(value, bool) else text}")
    return " ".join(texts)


def policer_text(one: Policer) -> str:
    """What a policer is set to: "10M burst 1500 bytes"."""
    text = f"{bits(one.rate)} burst {one.burst}"
    if one.peak_rate is not None:
        text += f" peak {bits(one.peak_rate)} burst {one.peak_burst}"
    elif one.excess_burst is not None:
        text += f" excess {one.excess_burst}"
    two = one.peak_rate is None and one.excess_burst is None
    remedies = [] if two else [f"yellow {_remedy(one.yellow)}"]
    return " ".join([text, *remedies, f"red {_remedy(one.red)}"])


def _remedy(value: str | int) -> str:
    return value if isinstance(value, str) else str(words.name_of(value, words.DSCPS))


def bits(rate: int) -> str:
    """A rate as the file has it: "10M"."""
    for scale, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if rate >= scale and rate % (scale // 1000) == 0:
            whole, thousandths = divmod(rate * 1000 // scale, 1000)
            return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".") + letter
    return str(rate)


def document(wanted: Wanted, places: Places, policers: dict[str, int]) -> dict[str, Any]:
    """The document "firewall": what is in force, and where its counters are.

    policers: their numbers by name.
    """
    rules = [
        {
            "name": rule.name,
            "action": rule.action,
            "match": match_text(rule),
            "then": then_text(rule),
            "hits": places.hits[key],
        }
        for key, rule in zip(wanted.rule_keys[:RULES_SHOWN], wanted.rules, strict=False)
    ]
    nat = [
        {
            "name": one.name,
            "type": KINDS[type(one)],
            "match": nat_text(one)[0],
            "new": nat_text(one)[1],
            "hits": places.hits[key],
            "pool": places.pools[pool_of(one)] if isinstance(one, Masquerade | SourceNat) else None,
        }
        for key, one in zip(wanted.nat_keys[:RULES_SHOWN], wanted.nat, strict=False)
    ]
    return {
        "default": wanted.settings.default,
        "default_hits": DEFAULT_HITS,
        "capacity": wanted.settings.sessions,
        "rules": rules,
        "count": len(wanted.rules),
        "nat": nat,
        "policers": [
            {"name": name, "number": policers[name], "what": policer_text(one)}
            for name, one in wanted.policers.items()
        ],
    }
