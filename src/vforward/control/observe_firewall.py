# SPDX-License-Identifier: Apache-2.0
"""Look at the firewall of a running forwarder: its rules, NAT, policers and sessions, as rows.

    read     documents firewall, forwarder; segments policers and, of each worker, sessions, rule-hits
             and nat_pools, and but for sessions what they held when they were last cleared
    written  by kill: each worker's ring session-kills, under a lock on its file

Layouts of the segments are those of tables, which load Numba: they are imported when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vforward.control.observe import HITS, POLICERS, POOLS, View
from vforward.control.observe_rows import Listing
from vforward.errors import ArenaError

if TYPE_CHECKING:
    from vforward.control.session_list import Filter, SessionList

COLOURS = ("green", "yellow", "red")


def about(view: View) -> dict[str, Any]:
    """The document "firewall". Raises ArenaError when it is off."""
    if not (view.arena.path / "firewall.json").exists():
        raise ArenaError(
            f"forwarder {view.about['name']!r} has no firewall; [firewall] in its file makes one at its "
            "next start"
        )
    return dict(view.document("firewall"))


def rules(view: View) -> Listing:
    """The rules in their order: number, name, action, match, then, packets, bytes.

    The last row, without a number and not counted, is of what no rule matched.
    """
    found, hits = about(view), _Hits(view)
    rows = [
        {"number": i, **{key: rule[key] for key in ("name", "action", "match", "then")}}
        | hits.of(rule["hits"])
        for i, rule in enumerate(found["rules"])
    ]
    last = {
        "number": None,
        "name": "(default)",
        "action": found["default"],
        "match": "",
        "then": "",
    }
    return Listing(found["count"], [*rows, last | hits.of(found["default_hits"])])


def nat(view: View) -> list[dict[str, Any]]:
    """The rules of NAT: number, name, type, match, new, packets; allocated and exhausted of its pool."""
    found, hits = about(view), _Hits(view)
    pools = _Since(view, view.segments(POOLS))
    rows = []
    for i, one in enumerate(found["nat"]):
        row = {"number": i, **{key: one[key] for key in ("name", "type", "match", "new")}}
        row["sessions"] = hits.of(one["hits"])["packets"]
        for key in ("allocated", "exhausted"):
            row[key] = None if one["pool"] is None else pools.of(one["pool"], key)[0]
        rows.append(row)
    return rows


def policers(view: View) -> list[dict[str, Any]]:
    """The policers: name, what they are set to, packets and bytes by colour."""
    listed = about(view)["policers"]
    counts = _Since(view, [POLICERS])
    rows = []
    for one in listed:
        row = {"name": one["name"], "what": one["what"]}
        for key in ("packets", "bytes"):
            counted = counts.of(one["number"], key)
            row |= {f"{colour}_{key}": n for colour, n in zip(COLOURS, counted, strict=True)}
        rows.append(row)
    return rows


def sessions(view: View) -> SessionList:
    """The sessions, to be listed and counted. Raises ArenaError when there is no firewall."""
    from vforward.control.session_list import SESSIONS, Names, SessionList

    found, ports = about(view), view.about["ports"]
    names = Names(
        {port["number"]: port["name"] for port in ports},
        dict(enumerate(view.about.get("vrfs", []))),
        {rule["hits"]: rule["name"] for rule in found["rules"] if rule["name"]},
    )
    arrays = [view.arena.open(SESSIONS.format(worker)) for worker in range(view.workers)]
    return SessionList(arrays, names)


def kill(view: View, wanted: Filter) -> int:
    """Have the workers end sessions. Returns how many. Raises ArenaError, ConfigError."""
    from vforward.control.session_list import KILLS, end_sessions
    from vforward.memory.arena import Arena

    keys = sessions(view).keys(wanted)
    ended = 0
    with Arena.attach(view.arena.name) as writer:
        for name, its in zip(map(KILLS.format, range(len(keys))), keys, strict=True):
            ended += end_sessions(writer.open(name, writable=True), writer.path / name, its)
    return ended


class _Since:
    """What the records of segments have counted since the last clear, all of them together."""

    def __init__(self, view: View, names: list[str]) -> None:
        self._before = [view.before(name) for name in names]  # first: counters only grow
        self._now = [view.arena.open(name) for name in names]

    def of(self, number: int, field: str) -> list[int]:
        """The counters of a record's field."""
        pairs = zip(self._now, self._before, strict=True)
        counted = sum(np.atleast_1d(now[field][number] - was[field][number]) for now, was in pairs)
        return [int(n) for n in np.atleast_1d(counted)]


class _Hits:
    """Packets and bytes that rules were found for, since the last clear."""

    def __init__(self, view: View) -> None:
        counts = [view.since(name) for name in view.segments(HITS)]
        self._counts = np.asarray(np.sum(counts, axis=0), np.uint64)

    def of(self, place: int) -> dict[str, int]:
        """The counters of a place."""
        packets, count = self._counts[2 * place : 2 * place + 2].tolist()
        return {"packets": packets, "bytes": count}
