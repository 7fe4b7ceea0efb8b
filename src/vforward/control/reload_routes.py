# SPDX-License-Identifier: Apache-2.0
"""What becomes of routes when a configuration takes another's place: of files', and of those in it.

Of a prefix the route that stands in the configuration wins over a file's, and of files' the last one's. A
file that is no more, or has changed, is compared with what it was route by route.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control import route_file
from vforward.control.difference import Filed, Key, Link, Parts, Plan, Routed
from vforward.control.route_file import Table
from vforward.control.route_table import Key as Prefix
from vforward.control.routes import BITS, Address, Path, key_of_prefix
from vforward.control.routing_stage import Stage, as_arrays
from vforward.errors import ConfigError
from vforward.tables.addresses import HALF

Way = tuple[Address, str]
"""A next hop, and the port that it is at."""
Content = Mapping[Key, list[Table]]
"""By part, what a file of routes says."""
Table_ = tuple[str, int]
"""A VRF's name and an IP version."""


def stamp(path: FilePath) -> str:
    """What stands for a file's content. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def read(parts: Parts, before: Parts, known: Content) -> dict[Key, list[Table]]:
    """What the files of routes say. Those that are as before are not read again. Raises ConfigError."""
    found: dict[Key, list[Table]] = {}
    for key, value in parts.items():
        if not isinstance(value, Filed):
            continue
        there = before.get(key)
        same = isinstance(there, Filed) and there.stamp == value.stamp
        if same and key in known:
            found[key] = known[key]
        else:
            found[key] = route_file.read(value.file.file, value.file.via)
    return found


@dataclass
class Bulk:
    """Changes of one VRF and family: routes that go, and those that are put, with their ways."""

    gone: list[Prefix] = field(default_factory=list)
    put: list[Prefix] = field(default_factory=list)
    which: list[int] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    new: int = 0
    """How many of those that are put were not there."""


@dataclass
class RouteWork:
    """All changes of routes. gone, put: those that stand in the configuration; bulks: of files."""

    gone: list[Routed] = field(default_factory=list)
    put: list[Routed] = field(default_factory=list)
    bulks: dict[Table_, Bulk] = field(default_factory=dict)
    files: list[tuple[Filed, list[Table]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.gone or self.put or self.bulks)

    def counts(self) -> dict[str, int]:
        """Of files: how many routes are added, changed and deleted."""
        bulks = self.bulks.values()
        new = sum(bulk.new for bulk in bulks)
        put = sum(len(bulk.put) for bulk in bulks)
        gone = sum(len(bulk.gone) for bulk in bulks)
        return {"added": new, "changed": put - new, "deleted": gone}

    def do(
        self,
        stage: Stage,
        routing: Any,
        vrfs: Mapping[str, int],
        ports: Mapping[str, int],
        progress: Callable[[int, int, str], None],
    ) -> None:
        """Make the changes, aside. vrfs, ports: numbers by name. Raises ConfigError, TableFull."""
        for filed, tables in self.files:
            for table in tables:
                number = vrfs[filed.file.vrf]
                route_file.check_hops(routing, filed.file.file, table, number)
        for (vrf, version), bulk in self.bulks.items():
            names = [filed.file.file.name for filed, _ in self.files if filed.file.vrf == vrf]
            told = partial(_tell, progress, len(bulk.put), ", ".join(names))
            told(0)
            self._do(stage, bulk, version, vrfs[vrf], told)
        for one in self.gone:
            stage.delete(one.route.prefix, one.route.metric, vrfs[one.route.vrf])
        for one in self.put:
            put(stage, one, vrfs, ports)

    def _do(
        self,
        stage: Stage,
        bulk: Bulk,
        version: int,
        vrf: int,
        progress: Callable[[int], None],
    ) -> None:
        stage.delete_many(bulk.gone, version=version, vrf=vrf)
        prefixes, lengths = as_arrays(bulk.put, BITS[version])
        stage.put_many(
            prefixes,
            lengths,
            bulk.which,
            [[Path(hop)] for hop, _ in bulk.ways],
            bulk.put,
            version=version,
            vrf=vrf,
            progress=progress,
        )


def _tell(progress: Callable[[int, int, str], None], total: int, name: str, done: int) -> None:
    progress(done, total, name)


def put(stage: Stage, routed: Routed, vrfs: Mapping[str, int], ports: Mapping[str, int]) -> None:
    """Put a route that stands in the configuration."""
    route = routed.route
    given = [(path.via, path.port, path.weight) for path in route.paths or ()]
    if not given and not route.type:
        given = [(route.via, route.port, 1)]
    stage.put(
        route.prefix,
        paths=[
            Path(via, None if port is None else ports[port], weight) for via, port, weight in given
        ],
        kind=route.type or "",
        metric=route.metric,
        vrf=vrfs[route.vrf],
    )


def work(
    before: Parts, after: Parts, plan: Plan, was: Content, now: Content, again: Iterable[Key] = ()
) -> RouteWork:
    """What is to be done.

    was, now: what the files said, and say; again: routes that are to be as before and after say, anyway.
    """
    made = RouteWork()
    anew = {*plan.changed, *plan.come, *again}
    made.gone = [before[key] for key in plan.gone if key[0] == "routes"]
    made.put = [after[key] for key in after if key[0] == "routes" and key in anew]
    touched = {*plan.gone, *anew}
    vrfs = {key[1] for key in touched if key[0] == "route_files"}
    made.files = [
        (after[key], now[key]) for key in after if key[0] == "route_files" and key in anew
    ]
    told = {_table_of(value): set[Prefix]() for value in after.values() if _is_told(value)}
    for value in after.values():
        if _is_told(value):
            told[_table_of(value)].add(key_of_prefix(value.route.prefix))
    gone: dict[Table_, set[Prefix]] = {}
    for one in made.gone:
        if one.route.metric == 0:
            gone.setdefault(_table_of(one), set()).add(key_of_prefix(one.route.prefix))
    for key in again:
        if key[0] == "routes" and key not in after and key[3] == "0":
            prefix, _, vrf = parsed(key)
            gone.setdefault((vrf, prefix.version), set()).add(key_of_prefix(prefix))
    filed = {key[1] for key in after if key[0] == "route_files"}
    for vrf in sorted(vrfs | {of for of, _ in gone if of in filed}):
        for version in BITS:
            at = vrf, version
            bulk = _bulk(
                _effective(before, was, vrf, version),
                _effective(after, now, vrf, version),
                told.get(at, set()),
                gone.get(at, set()),
            )
            if bulk.gone or bulk.put:
                made.bulks[at] = bulk
    back = {at: set(bulk.put) for at, bulk in made.bulks.items()}
    made.gone = [
        one
        for one in made.gone
        if one.route.metric
        or key_of_prefix(one.route.prefix) not in back.get(_table_of(one), set())
    ]
    return made


def _is_told(value: Any) -> bool:
    """Whether it is a route with which a file's is not in force."""
    return isinstance(value, Routed) and value.route.metric == 0


def _table_of(value: Routed) -> Table_:
    return value.route.vrf, value.route.prefix.version


def _bulk(
    before: dict[Prefix, Way], after: dict[Prefix, Way], told: set[Prefix], gone: set[Prefix]
) -> Bulk:
    """told: prefixes of which no file's route counts; gone: of which it counts again."""
    bulk = Bulk()
    bulk.gone = sorted(key for key in before if key not in after and key not in told)
    bulk.put = sorted(
        key
        for key, way in after.items()
        if key not in told and (key in gone or before.get(key) != way)
    )
    bulk.new = sum(key not in before for key in bulk.put)
    numbers: dict[Way, int] = {}
    bulk.which = [numbers.setdefault(after[key], len(numbers)) for key in bulk.put]
    bulk.ways = list(numbers)
    return bulk


def _effective(parts: Parts, content: Content, vrf: str, version: int) -> dict[Prefix, Way]:
    """By prefix, where the files of a VRF lead."""
    files = [
        (value, content[key])
        for key, value in parts.items()
        if isinstance(value, Filed) and value.file.vrf == vrf
    ]
    found: dict[Prefix, Way] = {}
    for filed, tables in sorted(files, key=lambda one: one[0].place):
        for table in tables:
            if table.version == version:
                ways = [(hop, _port_of(hop, filed.links)) for hop in table.hops]
                found |= zip(keys_of(table), [ways[i] for i in table.which.tolist()])
    return found


def keys_of(table: Table) -> list[Prefix]:
    """The prefixes of a file's table, as keys of a route table."""
    lengths = table.lengths.tolist()
    if table.version == 4:
        return [prefix << 8 | n for prefix, n in zip(table.prefixes.tolist(), lengths)]
    halves: Sequence[list[int]] = table.prefixes.tolist()
    return [(high << 64 | low) << 8 | n for (high, low), n in zip(halves, lengths)]


class FiledRoutes:
    """Which routes files say. Those of a VRF are sorted when one of it is first asked for."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._sorted: dict[Table_, NDArray[np.bytes_]] = {}

    def __contains__(self, key: Key) -> bool:
        if key[0] != "routes" or key[3] != "0":  # files' routes have that metric
            return False
        prefix, _, vrf = parsed(key)
        there = self._of((vrf, prefix.version))
        whole = int(prefix.network_address)
        (wanted,) = _packed([whole >> 64], [whole & HALF], [prefix.prefixlen])
        at = int(np.searchsorted(there, wanted))
        return at < len(there) and bool(there[at] == wanted)

    def _of(self, table_: Table_) -> NDArray[np.bytes_]:
        if table_ not in self._sorted:
            vrf, version = table_
            parts_ = [_packed([], [], [])]
            for at, said in self._content.items():
                for table in said:
                    if (at[1], table.version) == (vrf, version):
                        halves = table.prefixes.reshape(len(table.lengths), -1)
                        high = halves[:, 0] if version == 6 else 0
                        parts_.append(_packed(high, halves[:, -1], table.lengths))
            self._sorted[table_] = np.sort(np.concatenate(parts_))
        return self._sorted[table_]


def _packed(high: Any, low: Any, lengths: Any) -> NDArray[np.bytes_]:
    """Prefixes as strings of 17 bytes, which numpy sorts and finds."""
    made = np.empty((len(lengths), 17), np.uint8)
    made[:, :8].view(">u8")[:, 0] = high
    made[:, 8:16].view(">u8")[:, 0] = low
    made[:, 16] = lengths
    return made.view("S17")[:, 0]


def _port_of(hop: Address, links: Sequence[Link]) -> str:
    covering = [link for link in links if hop in link.network]
    return max(covering, key=lambda link: link.network.prefixlen).port if covering else ""


def parsed(key: Key) -> tuple[Any, int, str]:
    """The prefix, metric and VRF that a route's key names."""
    _, vrf, prefix, metric = key
    return ip_network(prefix), int(metric), vrf
