# SPDX-License-Identifier: Apache-2.0
"""What a forwarder was told of routes, neighbors and its firewall, as entries of control.told, and back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any

from vforward.control.routes import Path, routable_key
from vforward.control.rule_policy import Wanted
from vforward.control.told import ODD, Told, attempt
from vforward.control.told_firewall import LISTS, NAMED, part_of, repeat_firewall
from vforward.errors import VforwardError
from vforward.tables.addresses import HALF

if TYPE_CHECKING:
    from vforward.control.assembly import Assembly, Host
    from vforward.control.difference import Key
    from vforward.control.firewall import Firewall

RouteKey = tuple[str, IPv4Network | IPv6Network, int]
"""VRF, prefix, metric."""
NeighborKey = tuple[str, IPv4Address | IPv6Address]
"""Port, address."""
ROUTE, NEIGHBOR, FIREWALL = "route", "neighbor", "firewall"
SECTIONS = {ROUTE: "routes", NEIGHBOR: "neighbors"}
"""Of the configuration's file, and of control.difference."""
MANY = 256
"""Routes from which on they are added at once."""


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
            self.say(_name(FIREWALL, part), {"new": False, "is": part_of(part, wanted)})

    def keys(self, configured: Iterable[Key] = ()) -> list[Key]:
        """What was told, by the keys of control.difference.

        configured: those of the configuration. What of it is not in a part that was told, as a policer
        that was deleted, was told as well.
        """
        found: list[Key] = []
        for name, value in self.entries.items():
            kind, *rest = name.split(" ")
            if kind != FIREWALL:
                found.append((SECTIONS[kind], *rest))
            elif rest[0] in LISTS:
                found.append((rest[0],))
            else:
                section = FIREWALL if rest[0] == "settings" else rest[0]
                found += [(section, one) for one in value["is"]]
        told = {part for part in NAMED if _name(FIREWALL, part) in self.entries}
        return [*dict.fromkeys([*found, *(key for key in configured if key[0] in told)])]

    def applied(self, kept: Iterable[Key], firewall: Firewall) -> None:
        """A configuration is in force: of what was told only these keys of control.difference still are.

        A part of which anything is kept is noted as it is now: the configuration may have replaced the
        rest of it.
        """
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
            for part in ("settings", *NAMED):
                if _name(FIREWALL, part) in self.entries:
                    with contextlib.suppress(VforwardError):
                        firewall.say_again(part)

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
                elif kind in kinds and attempt(name, lambda: kinds[kind](forwarder, value)):  # noqa: B023
                    done += 1
                else:
                    lost += 1
        parts, left_out = repeat_firewall(forwarder, firewall)
        return done + parts, lost + left_out

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
        nowhere = all(route["kind"] for route in routes.values())
        number = forwarder.interfaces.vrf(vrf) if nowhere else forwarder.vrf("routes", vrf)
        whole = [int(network.network_address) for network in networks]
        new = [metric not in forwarder.routing.metrics(network, number) for network in networks]
        forwarder.routing.add_many(
            whole if version == 4 else [(n >> 64, n & HALF) for n in whole],
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
