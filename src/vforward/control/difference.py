# SPDX-License-Identifier: Apache-2.0
"""What differs between two configurations. Nothing here changes anything, or reads a file.

A configuration is taken apart into *parts*, each with a key that says what it is:

    ("ports", "lan")                       its model
    ("bridges", "b", "ports", "lan")       a member; "static" and a MAC: a static entry
    ("routes", "default", "10.9.0.0/16", "0")
    ("rules",)                             all of them: a list has an order, so it is one part

A part is added, deleted or changed; ``applied`` does that to parts, so applying the difference of two
configurations to the first gives the second. ``Plan`` says in which order a running forwarder has to be
told, and what has to be made anew because something that it needs is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vforward.control.config import Config
from vforward.control.config_ports import BviPort, Port, TapPort, VlanPort
from vforward.control.config_routes import Route, RouteFile
from vforward.control.config_types import AnyAddress, AnyNetwork, is_link_local

Key = tuple[str, ...]
Parts = Mapping[Key, Any]

ADDRESSING = frozenset({"address", "urpf"})
"""Keys of a port that change while it stays."""
AT_START = {
    "name": "the name is that of the process and its shared memory",
    "buffers": "the pool is made at the start",
    "workers": "each worker has its own tables, which are made at the start",
    "core": "threads are pinned at the start",
    "icmp_errors_per_second": "the limit is set at the start",
    "mac_table": "the table is made at the start",
    "mac_age_s": "the ageing time is set at the start",
    "keep": "what is left for the next process is said at the start",
    "neighbors": "the tables are made at the start",
}
"""Keys of [forwarder] that need a restart, and why."""
FIREWALL_AT_START = {
    "sessions": "the tables of sessions are made at the start",
    "ports": "where the firewall is on is laid out at the start",
}


class Link(NamedTuple):
    """A prefix that is on the link of a port."""

    network: AnyNetwork
    port: str


class Routed(NamedTuple):
    """A route, and the ports that its next hops are at."""

    route: Route
    ports: tuple[str, ...]


class Filed(NamedTuple):
    """A file of routes: its place among them, what stands for its content, and the links of its VRF."""

    file: RouteFile
    place: int
    stamp: str
    links: tuple[Link, ...]


class _Nothing:
    """Where a part is not."""

    def __repr__(self) -> str:
        return "nothing"


NOTHING = _Nothing()


@dataclass(frozen=True)
class Change:
    """A part that differs. before: NOTHING where it is added; after: NOTHING where it is deleted."""

    key: Key
    before: Any
    after: Any

    @property
    def kind(self) -> str:
        """added, deleted or changed"""
        if self.before is NOTHING:
            return "added"
        return "deleted" if self.after is NOTHING else "changed"

    @property
    def restart(self) -> str:
        """Why it takes a restart; empty: it does not."""
        section, *rest = self.key
        if section == "forwarder":
            return AT_START.get(rest[0], "")
        if section == "privilege":
            return "what is given up is given up for good"
        if section == "api":
            return "where the API listens is set at the start"
        if section == "firewall":
            if rest == ["default"] and self.kind != "changed":
                return "a firewall is switched on and off at the start"
            return FIREWALL_AT_START.get(rest[0], "") if self.kind == "changed" else ""
        return ""


def parts(config: Config, stamps: Mapping[Path, str] | None = None) -> dict[Key, Any]:
    """A configuration's parts. stamps: by file of routes, what stands for its content."""
    links = _links(config)
    found: dict[Key, Any] = {}
    for section in ("forwarder", "api", "log", "privilege"):
        model = getattr(config, section)
        found |= {(section, name): getattr(model, name) for name in type(model).model_fields}
    found |= {("ports", name): port for name, port in config.ports.items()}
    for name, bridge in config.bridges.items():
        found["bridges", name] = bridge.model_copy(update={"ports": (), "static": ()})
        found |= {("bridges", name, "ports", one.port): one for one in bridge.ports}
        found |= {("bridges", name, "static", str(one.mac)): one for one in bridge.static}
    for pair in config.cross_connects:
        found["cross_connects", *sorted(pair.ports)] = pair
    for place, file in enumerate(config.route_files):
        stamp = (stamps or {}).get(file.file, "")
        of_vrf = tuple(links.of(file.vrf))
        key: Key = ("route_files", file.vrf, str(file.file), str(file.via or ""))
        while key in found:  # the same file twice
            key += ("again",)
        found[key] = Filed(file, place, stamp, of_vrf)
    for route in config.routes:
        key = ("routes", route.vrf, str(route.prefix), str(route.metric))
        found[key] = Routed(route, links.ports_of(route))
    for neighbor in config.neighbors:
        found["neighbors", neighbor.port, str(neighbor.address)] = neighbor
    if config.firewall is not None:
        fields = type(config.firewall).model_fields
        found |= {("firewall", name): getattr(config.firewall, name) for name in fields}
        found |= {("policers", name): one for name, one in config.policers.items()}
        found |= {("address_sets", name): one for name, one in config.address_sets.items()}
        found |= {("port_sets", name): one for name, one in config.port_sets.items()}
        found["rules",], found["nat",] = config.rules, config.nat
    return found


def difference(before: Parts, after: Parts) -> list[Change]:
    """What differs, deleted parts first."""
    gone = [Change(key, value, NOTHING) for key, value in before.items() if key not in after]
    changed = [
        Change(key, before.get(key, NOTHING), value)
        for key, value in after.items()
        if before.get(key, NOTHING) != value
    ]
    return gone + changed


def applied(before: Parts, changes: Iterable[Change]) -> dict[Key, Any]:
    """The parts after these changes."""
    found = dict(before)
    for change in changes:
        if change.after is NOTHING:
            found.pop(change.key, None)
        else:
            found[change.key] = change.after
    return found


def needs(key: Key, value: Any) -> Iterator[Key]:
    """The parts without which this one cannot be."""
    section = key[0]
    if isinstance(value, VlanPort):
        yield ("ports", value.parent)
    elif isinstance(value, BviPort):
        yield ("bridges", value.bridge)
    elif isinstance(value, TapPort):
        yield ("ports", value.host_of)
    elif section == "bridges" and len(key) == 4:
        yield ("bridges", key[1])
        yield ("ports", value.port)
        if key[2] == "static":
            yield ("bridges", key[1], "ports", value.port)
    elif section == "cross_connects":
        yield from (("ports", name) for name in value.ports)
    elif section == "neighbors":
        yield ("ports", value.port)
    elif section == "routes":
        yield from (("ports", name) for name in value.ports)
    elif section == "route_files":
        yield from {("ports", link.port): None for link in value.links}


def fields_changed(before: Any, after: Any) -> set[str]:
    """The keys in which two models of one type differ."""
    return {
        name for name in type(before).model_fields if getattr(before, name) != getattr(after, name)
    }


@dataclass
class Plan:
    """What a forwarder is to be told: first what goes, then what stays and changes, then what comes.

    A part whose port or bridge is made anew goes and comes, though it has not changed. Routes, neighbors
    and what the firewall is told never go and come: they are set anew, as ``changed``.
    """

    gone: list[Key] = field(default_factory=list)
    changed: list[Key] = field(default_factory=list)
    come: list[Key] = field(default_factory=list)


_STAYING = ("routes", "route_files", "neighbors")
"""What is set anew where it has changed, or where a port that it needs is made anew."""
_SET = (
    "forwarder",
    "api",
    "log",
    "privilege",
    "firewall",
    "rules",
    "nat",
    "policers",
    "address_sets",
    "port_sets",
)


def plan(before: Parts, after: Parts) -> Plan:
    """The order in which a forwarder goes from the one to the other."""
    both = [key for key in after if key in before]
    anew = {key for key in both if _is_made_anew(key, before[key], after[key])}
    anew |= {key for key in both if _has_host_moved(after[key], before, after)}
    while more := {
        key
        for key in both
        if key not in anew and key[0] not in _SET and anew.intersection(_needed(key, before, after))
    }:
        anew |= more
    made = Plan(
        gone=[key for key in before if key not in after or (key in anew and _goes(key))],
        changed=[
            key
            for key in both
            if (key in anew and not _goes(key)) or (key not in anew and before[key] != after[key])
        ],
        come=[key for key in after if key not in before or (key in anew and _goes(key))],
    )
    made.gone.sort(key=lambda key: -_rank(key, before[key]))  # stable: in the file's order
    made.come.sort(key=lambda key: _rank(key, after[key]))
    made.changed.sort(key=lambda key: _rank(key, after[key]))
    return made


def _has_host_moved(value: Any, before: Parts, after: Parts) -> bool:
    """Whether the host's interface has to have other addresses."""
    if not isinstance(value, TapPort):
        return False
    one, other = (parts_.get(("ports", value.host_of)) for parts_ in (before, after))
    return one is not None and other is not None and one.address != other.address


def _goes(key: Key) -> bool:
    return key[0] not in _STAYING


def _needed(key: Key, before: Parts, after: Parts) -> set[Key]:
    return {*needs(key, before[key]), *needs(key, after[key])}


def _is_made_anew(key: Key, before: Any, after: Any) -> bool:
    """Whether a part that is in both cannot change while it is there."""
    if before == after:
        return False
    if key[0] == "ports":
        return type(before) is not type(after) or not fields_changed(before, after) <= ADDRESSING
    return key[0] in ("bridges", "cross_connects") and len(key) != 2


_RANKS = {
    "forwarder": 0,
    "api": 0,
    "log": 0,
    "privilege": 0,
    "bridges": 3,
    "cross_connects": 6,
    "route_files": 8,
    "routes": 9,
    "neighbors": 10,
}


def _rank(key: Key, value: Any) -> int:
    """Parts of a lower rank come before those of a higher one, and go after them."""
    if isinstance(value, VlanPort):
        return 2
    if isinstance(value, BviPort):
        return 5
    if isinstance(value, TapPort):
        return 7
    if key[0] == "ports":
        return 1
    if key[0] == "bridges":
        return {2: 3}.get(len(key), 4 if key[2:3] == ("ports",) else 6)
    return _RANKS.get(key[0], 11)


class _Links:
    """Which port's link an address is on, by VRF."""

    def __init__(self, ports: Mapping[str, Port]) -> None:
        self._all: dict[str, list[Link]] = {}
        self._found: dict[tuple[str, int], dict[int, dict[AnyNetwork, str]]] = {}
        for name, port in ports.items():
            if isinstance(port, TapPort):
                continue
            for own in port.address:
                if is_link_local(own.ip):
                    continue
                self._all.setdefault(port.vrf, []).append(Link(own.network, name))
                lengths = self._found.setdefault((port.vrf, own.version), {})
                lengths.setdefault(own.network.prefixlen, {}).setdefault(own.network, name)

    def of(self, vrf: str) -> list[Link]:
        """All links of a VRF."""
        return self._all.get(vrf, [])

    def at(self, vrf: str, address: AnyAddress) -> str:
        """The port on whose link an address is, empty: none's."""
        lengths = self._found.get((vrf, address.version), {})
        for length in sorted(lengths, reverse=True):
            bits = address.max_prefixlen - length
            network = type(next(iter(lengths[length])))((int(address) >> bits << bits, length))
            if network in lengths[length]:
                return lengths[length][network]
        return ""

    def ports_of(self, route: Route) -> tuple[str, ...]:
        """The ports at which a route's next hops are, in their order."""
        ways = [(route.via, route.port)] if route.paths is None else []
        ways += [(path.via, path.port) for path in route.paths or ()]
        found = (port or (self.at(route.vrf, via) if via is not None else "") for via, port in ways)
        return tuple(name for name in found if name)


def _links(config: Config) -> _Links:
    return _Links(config.ports)
