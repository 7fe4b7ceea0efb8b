# SPDX-License-Identifier: Apache-2.0
"""What a forwarder was told of routes, neighbors and its firewall, as entries of control.told, and back."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any

from vforward.control.routes import Path, routable_key
from vforward.control.rule_policy import Wanted
from vforward.control.rule_said import meant, plain, said
from vforward.control.told import Told
from vforward.errors import VforwardError

if TYPE_CHECKING:
    from vforward.control.assembly import Assembly, Host

log = logging.getLogger(__name__)

RouteKey = tuple[str, IPv4Network | IPv6Network, int]
"""VRF, prefix, metric."""
NeighborKey = tuple[str, IPv4Address | IPv6Address]
"""Port, address."""
ROUTE, NEIGHBOR, FIREWALL = "route", "neighbor", "firewall"
SECTIONS = {ROUTE: "routes", NEIGHBOR: "neighbors"}
"""Of the configuration's file, and of control.difference."""
ODD = (VforwardError, LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What a text makes raise that was not said by a forwarder, or not by this one."""
MANY = 256
"""Routes from which on they are added at once."""
SETTINGS = ("default", "loose", "per_source", "timeouts")
"""What of a firewall's settings may change while it runs."""


class ToldRouter(Told):
    """See the module. there: whether the route, or the neighbor as a static one, was there before."""

    def add_route(
        self,
        key: RouteKey,
        paths: Iterable[tuple[Host | None, str | None, int]],
        kind: str,
        *,
        there: bool,
    ) -> None:
        """A route is in force."""
        if self.on:
            ways = [[hop and str(hop), port, weight] for hop, port, weight in paths]
            name, route = _route(key)
            new = self.is_new(name, now=not there)
            self.say(name, {"new": new, **route, "paths": ways, "kind": kind})

    def delete_route(self, key: RouteKey) -> None:
        """A route is no more."""
        if self.on:
            self.gone(*_route(key))

    def add_neighbor(self, key: NeighborKey, mac: bytes, *, there: bool) -> None:
        """A neighbor's MAC is set."""
        if self.on:
            name = _name(NEIGHBOR, *key)
            new = self.is_new(name, now=not there)
            port, address = key
            neighbor = {"port": port, "address": str(address), "mac": mac.hex()}
            self.say(name, {"new": new, **neighbor})

    def delete_neighbor(self, key: NeighborKey) -> None:
        """A neighbor is set no more."""
        if self.on:
            port, address = key
            self.gone(_name(NEIGHBOR, *key), {"port": port, "address": str(address)})

    def change_firewall(self, part: str, wanted: Wanted) -> None:
        """A part of the firewall is in force (Firewall.on_change)."""
        if self.on:
            self.say(_name(FIREWALL, part), {"new": False, "is": _part(part, wanted)})

    def keys(self) -> list[tuple[str, ...]]:
        """What was told, by the keys of control.difference."""
        found: list[tuple[str, ...]] = []
        for name, value in self.entries.items():
            kind, *rest = name.split(" ")
            if kind != FIREWALL:
                found.append((SECTIONS[kind], *rest))
            elif rest[0] in ("rules", "nat"):
                found.append((rest[0],))
            else:
                section = FIREWALL if rest[0] == "settings" else rest[0]
                found += [(section, one) for one in value["is"]]
        return found

    def applied(self, kept: Iterable[tuple[str, ...]]) -> None:
        """A configuration is in force: of what was told only these keys of control.difference still are."""
        if self.on:
            sections = {SECTIONS[kind]: kind for kind in SECTIONS}
            names = set()
            for section, *rest in kept:
                if section in sections:
                    names.add(_name(sections[section], *rest))
                else:
                    names.add(_name(FIREWALL, "settings" if section == FIREWALL else section))
            with contextlib.suppress(VforwardError):  # no room: what is told again changes nothing
                self.keep_only(names)

    def repeat(self, entries: dict[str, Any], forwarder: Assembly) -> tuple[int, int]:
        """Tell a forwarder once more what was told another process, and note it here as told.

        Returns how much of it is in force, and how much cannot be any more: that is logged.
        """
        self.collect()
        done = lost = 0
        kinds = {ROUTE: _repeat_route, NEIGHBOR: _repeat_neighbor}
        firewall: dict[str, Any] = {}
        with forwarder.routing.together():
            at_once = self._repeat_many(entries, forwarder)
            done += len(at_once)
            for name, value in entries.items():
                kind, _, rest = name.partition(" ")
                if name in at_once:
                    continue
                if kind == FIREWALL:
                    firewall[rest] = value
                elif kind in kinds and _try(name, lambda: kinds[kind](forwarder, value)):  # noqa: B023
                    done += 1
                else:
                    lost += 1
        if firewall and _try(FIREWALL, lambda: _repeat_firewall(forwarder, firewall)):
            done += len(firewall)
        else:
            lost += len(firewall)
        return done, lost

    def _repeat_many(self, entries: dict[str, Any], forwarder: Assembly) -> set[str]:
        """Add those routes at once of which there are many. Returns which: the rest is odd, or few."""
        groups: dict[tuple[str, int, int], list[str]] = {}
        for name, value in entries.items():
            if name.startswith(f"{ROUTE} ") and not value.get("gone"):
                with contextlib.suppress(LookupError, TypeError):
                    key = value["vrf"], value["metric"], 6 if ":" in value["prefix"] else 4
                    groups.setdefault(key, []).append(name)
        done: set[str] = set()
        for key, names in groups.items():
            if len(names) >= MANY:
                with contextlib.suppress(*ODD):
                    self._add_many(key, {name: entries[name] for name in names}, forwarder)
                    done.update(names)
        return done

    def _add_many(
        self, key: tuple[str, int, int], routes: dict[str, Any], forwarder: Assembly
    ) -> None:
        """Add many routes of one VRF, metric and IP version. Raises one of ODD."""
        vrf, metric, version = key
        ways: dict[str, int] = {}
        which, meant = list[int](), list[str | list[Path]]()
        networks = [ip_network(route["prefix"]) for route in routes.values()]
        for route in routes.values():
            way = json.dumps([route["kind"], route["paths"]])
            if way not in ways:
                paths = [(hop, port, weight) for hop, port, weight in route["paths"]]
                meant.append(str(route["kind"]) or forwarder.paths("route", paths))
            which.append(ways.setdefault(way, len(ways)))
        for network in networks:
            routable_key(network)
        number, halves = forwarder.interfaces.vrf(vrf), (1 << 64) - 1
        whole = [int(network.network_address) for network in networks]
        new = [metric not in forwarder.routing.metrics(network, number) for network in networks]
        forwarder.routing.add_many(
            whole if version == 4 else [(n >> 64, n & halves) for n in whole],
            [network.prefixlen for network in networks],
            which, meant, version=version, metric=metric, vrf=number,
        )  # fmt: skip
        for (name, route), one in zip(routes.items(), new, strict=True):
            self.say(name, {**route, "new": one})


def _route(key: RouteKey) -> tuple[str, dict[str, Any]]:
    """What a route is called, and what says which it is."""
    vrf, prefix, metric = key
    text = str(prefix)
    return f"{ROUTE} {vrf} {text} {metric}", {"vrf": vrf, "prefix": text, "metric": metric}


def _name(kind: str, *what: object) -> str:
    return " ".join([kind, *map(str, what)])


def _try(name: str, do: Callable[[], None]) -> bool:
    """Whether it could be done. What was said is as hostile as any text."""
    try:
        do()
    except ODD as error:
        log.warning("%s was told at run time, and cannot be in force any more: %s", name, error)
        return False
    return True


def _repeat_route(forwarder: Assembly, value: dict[str, Any]) -> None:
    prefix, metric, vrf = value["prefix"], value["metric"], value["vrf"]
    if not isinstance(metric, int) or not 0 <= metric < 1 << 32:
        raise ValueError(metric)
    if value.get("gone"):
        with contextlib.suppress(KeyError):  # nor does the configuration have it now
            forwarder.delete_route(prefix, metric=metric, vrf=vrf)
        return
    paths = [(hop, port, weight) for hop, port, weight in value["paths"]]
    forwarder.add_route(prefix, paths=paths, kind=value["kind"], metric=metric, vrf=vrf)


def _repeat_neighbor(forwarder: Assembly, value: dict[str, Any]) -> None:
    if value.get("gone"):
        with contextlib.suppress(KeyError):
            forwarder.delete_neighbor(value["address"], value["port"])
        return
    forwarder.add_neighbor(value["address"], bytes.fromhex(value["mac"]), value["port"])


def _part(part: str, wanted: Wanted) -> Any:
    if part == "settings":
        return {name: plain(getattr(wanted.settings, name)) for name in SETTINGS}
    if part in ("rules", "nat"):
        return [said(one) for one in getattr(wanted, part)]
    if part == "policers":
        return {name: said(one) for name, one in wanted.policers.items()}
    sets = wanted.sets.addresses if part == "address_sets" else wanted.sets.ports
    return {name: plain(items) for name, items in sets.items()}


def _repeat_firewall(forwarder: Assembly, parts: dict[str, Any]) -> None:
    """All parts at once, so that each finds what it names."""
    given = {part: value["is"] for part, value in parts.items()}
    settings = given.pop("settings", None)
    if settings is not None:
        said_now = {name: settings[name] for name in SETTINGS}
        forwarder.set_firewall(replace(forwarder.firewall.wanted.settings, **said_now))
    for part in ("rules", "nat"):
        if part in given:
            given[part] = [meant(one) for one in given[part]]
    if "policers" in given:
        given["policers"] = {name: meant(one) for name, one in given["policers"].items()}
    if given:
        forwarder.firewall.change(**given)
