# SPDX-License-Identifier: Apache-2.0
"""Named sets of addresses and of ports, which rules name with an @ before them. No set is in another."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from vforward.control import flow_words as words
from vforward.control.config_errors import Problem
from vforward.control.config_types import NAME, NAME_SAYS
from vforward.control.flow_words import Range, SetName, Span

R = TypeVar("R")
ADDRESSES_SAY = words.ADDRESSES_SAY.partition(", or")[0]
PORTS_SAY = words.PORTS_SAY.partition(", or")[0]


def address_sets(
    raw: dict[str, Any], problems: list[Problem]
) -> dict[str, tuple[Range, ...] | None]:
    """The sets of addresses by name, None for one in which something is wrong."""
    return _sets(raw, "address_sets", _no_set(words.addresses), ADDRESSES_SAY, problems)


def port_sets(raw: dict[str, Any], problems: list[Problem]) -> dict[str, tuple[Span, ...] | None]:
    """The sets of ports by name, None for one in which something is wrong."""
    return _sets(raw, "port_sets", _no_set(words.ports), PORTS_SAY, problems)


def _no_set(parse: Callable[[object], R | SetName]) -> Callable[[object], R]:
    def checked(item: object) -> R:
        found = parse(item)
        if isinstance(found, SetName):
            raise words.wrong("is a set, and cannot be in another")
        return found

    return checked


def _sets(
    raw: dict[str, Any],
    key: str,
    parse: Callable[[object], R],
    says: str,
    problems: list[Problem],
) -> dict[str, tuple[R, ...] | None]:
    tables = raw.get(key, {})
    if not isinstance(tables, dict):
        problems.append(Problem((key,), "is not a table", f"a table [{key}]"))
        return {}
    sets: dict[str, tuple[R, ...] | None] = {}
    for name, given in tables.items():
        before = len(problems)
        if not re.fullmatch(NAME, name):
            problems.append(Problem((key, name), "is not a name that can be used", NAME_SAYS))
        items = []
        for i, item in enumerate(given if isinstance(given, list) else [given]):
            try:
                items.append(parse(item))
            except ValueError as error:
                problems.append(Problem((key, name, i), str(error), says))
        sets[name] = tuple(items) if len(problems) == before else None
    return sets
