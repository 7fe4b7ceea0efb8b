# SPDX-License-Identifier: Apache-2.0
"""A difference of configurations in words: for people, and for the API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from vforward.control.difference import NOTHING, Change, Filed, Key, Routed, fields_changed
from vforward.control.wording import dotted

SIGNS = {"added": "+", "deleted": "-", "changed": "~"}
_SECRET = "secret"
_LONG = 120
LISTED = 200
"""Changes that are told one by one; of more only how many."""


@dataclass(frozen=True)
class Line:
    """One thing that differs. kind: added, deleted or changed; restart: why it takes one, or empty."""

    kind: str
    what: str
    before: str = ""
    after: str = ""
    restart: str = ""

    def __str__(self) -> str:
        sides = [side for side in (self.before, self.after) if side]
        told = f"{SIGNS[self.kind]} {self.what}" + (f": {' -> '.join(sides)}" if sides else "")
        return told + (f"  (needs a restart: {self.restart})" if self.restart else "")


@dataclass(frozen=True)
class Report:
    """What a change was, or would be.

    routes: of files, how many are added, changed and deleted. kept: what was changed at run time, and stays
    so. left: what needs a restart and was left as it is. stood_ms: for how long no input was polled, and
    workers_stood_ms: for how long no worker ran; 0 where nothing was changed.
    """

    lines: list[Line]
    routes: dict[str, int] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    left: list[Line] = field(default_factory=list)
    applied: bool = False
    stood_ms: float = 0.0
    workers_stood_ms: float = 0.0

    def text(self) -> Iterator[str]:
        """For people: a line for each thing."""
        yield from map(str, self.lines[:LISTED])
        if len(self.lines) > LISTED:
            yield f"  and {len(self.lines) - LISTED} more"
        if any(self.routes.values()):
            counts = ", ".join(f"{n} {kind}" for kind, n in self.routes.items() if n)
            yield f"  routes of files: {counts}"
        for line in self.left:
            yield f"left as it is: {line}"
        for what in self.kept[:LISTED]:
            yield f"= {what}: changed at run time, stays"
        if len(self.kept) > LISTED:
            yield f"  and {len(self.kept) - LISTED} more that were changed at run time"


def lines_of(changes: Iterable[Change]) -> list[Line]:
    """A line for each thing that differs: of a model each key, of a list each of its items."""
    return [line for change in changes for line in _lines(change)]


def name_of(key: Key) -> str:
    """A part as it is called in a file, more or less: "ports.lan", "routes 10.9.0.0/16"."""
    section, *rest = key
    if section == "routes":
        vrf, prefix, metric = rest
        told = f"routes {prefix}"
        told += f" metric {metric}" if metric != "0" else ""
        return told + (f" vrf {vrf}" if vrf != "default" else "")
    if section == "route_files":
        return f"route_files {rest[1]}" + (f" vrf {rest[0]}" if rest[0] != "default" else "")
    if section == "neighbors":
        return f"neighbors {rest[1]} at {rest[0]}"
    if section == "cross_connects":
        return f"cross_connects {rest[0]} - {rest[1]}"
    return dotted(key)


def _lines(change: Change) -> Iterator[Line]:
    what, restart = name_of(change.key), change.restart
    if isinstance(change.before, tuple) and change.key in (("rules",), ("nat",)):
        yield from _of_lists(
            what, change.before, change.after if change.after is not NOTHING else ()
        )
    elif isinstance(change.after, tuple) and change.key in (("rules",), ("nat",)):
        yield from _of_lists(what, (), change.after)
    elif change.kind == "changed" and isinstance(change.before, BaseModel):
        if type(change.before) is not type(change.after):
            yield Line(change.kind, what, said(change.before), said(change.after), restart)
            return
        for name in sorted(fields_changed(change.before, change.after)):
            before, after = (getattr(one, name) for one in (change.before, change.after))
            shown = ("***", "***") if name == _SECRET else (said(before), said(after))
            yield Line(change.kind, f"{what}.{name.rstrip('_')}", *shown, restart)
    else:
        before, after = (
            "" if side is NOTHING else said(side) for side in (change.before, change.after)
        )
        yield Line(change.kind, what, before, after, restart)


def _of_lists(what: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[Line]:
    had, has = Counter(before), Counter(after)
    gone, come = had - has, has - had
    for one in before:
        if gone[one]:
            gone[one] -= 1
            yield Line("deleted", what, said(one))
    for at, one in enumerate(after):
        if come[one]:
            come[one] -= 1
            yield Line("added", f"{what}[{at}]", "", said(one))
    if had == has:
        yield Line("changed", what, "", "another order")


def said(value: Any) -> str:
    """A value in short: of a model what is not the default."""
    told = _said(value)
    return told if len(told) <= _LONG else told[: _LONG - 3] + "..."


def _said(value: Any) -> str:
    if isinstance(value, Routed):
        return _said(value.route)
    if isinstance(value, Filed):
        return _said(value.file)
    if isinstance(value, BaseModel):
        told = []
        for name, one in type(value).model_fields.items():
            item = getattr(value, name)
            if item != one.default and name not in ("prefix", "ports") and item is not None:
                shown = "***" if name == _SECRET else _said(item)
                told.append(f"{name.rstrip('_')} {shown}")
        return " ".join(told)
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return ", ".join(map(_said, value)) if len(value) != 1 else _said(value[0])
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)
