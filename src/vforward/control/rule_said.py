# SPDX-License-Identifier: Apache-2.0
"""Rules, NAT and policers as plain data, in the words of the configuration, and back: for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from vforward.control import rules
from vforward.control.flow_words import Flags, IcmpKind, Range, SetName, Span
from vforward.errors import ConfigError

KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        rules.Rule,
        rules.Policer,
        rules.Masquerade,
        rules.SourceNat,
        rules.DestinationNat,
        rules.StaticNat,
    )
}


def said(thing: Any) -> dict[str, Any]:
    """A rule, a rule of NAT or a policer: its kind, and what of it is not as usual."""
    given = {one.name: getattr(thing, one.name) for one in fields(thing)}
    usual = {one.name: one.default for one in fields(thing)}
    return {
        "kind": type(thing).__name__,
        **{name: plain(value) for name, value in given.items() if value != usual[name]},
    }


def plain(value: Any) -> Any:
    """A value of such a thing, or of a set, as text, number or list."""
    if isinstance(value, Range | Span | Flags | IcmpKind | SetName):
        return str(value)
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value


def meant(given: Any) -> Any:
    """What said has made of a thing, as that. Raises ConfigError."""
    if not isinstance(given, Mapping) or given.get("kind") not in KINDS:
        raise ConfigError(f"{given!r:.80} is no rule")
    rest = {name: value for name, value in given.items() if name != "kind"}
    try:
        return KINDS[given["kind"]](**rest)
    except TypeError as error:
        raise ConfigError(f"{given['kind']}: {error}") from None
