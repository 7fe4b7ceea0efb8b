# SPDX-License-Identifier: Apache-2.0
"""A configuration whose parts are right by themselves, not yet between them; what checks ask of it.

A part that was refused by itself is not in the draft, and no check complains about its absence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from vforward.control.config_errors import KeyPath, Problem, listed, nearest
from vforward.control.config_types import AnyInterface, AnyNetwork, is_link_local

if TYPE_CHECKING:
    from vforward.control.config_bridges import Bridge, CrossConnect
    from vforward.control.config_firewall import Firewall, Nat, Policer, Rule
    from vforward.control.config_ports import Port
    from vforward.control.config_routes import Neighbor, Route, RouteFile
    from vforward.control.flow_words import Range, Span

PORTS_MAX = 255
"""Of all types. So there is a block of tables/ports.py's inner VLANs for each, too."""


class Owned(NamedTuple):
    """An address of a port."""

    path: KeyPath
    port: str
    vrf: str
    address: AnyInterface


@dataclass(frozen=True)
class Draft:
    """The parts that are right by themselves, by name or by place in the file."""

    ports: dict[str, Port]
    declared: tuple[str, ...]  # the names of all ports, the refused ones too
    bridges: dict[str, Bridge]
    declared_bridges: tuple[str, ...]
    routes: dict[int, Route]
    route_files: dict[int, RouteFile]
    neighbors: dict[int, Neighbor]
    cross_connects: dict[int, CrossConnect]
    refused: frozenset[str]  # the sections, like "ports", of which something was refused
    firewall: Firewall | None = None
    address_sets: dict[str, tuple[Range, ...] | None] = field(default_factory=dict)
    port_sets: dict[str, tuple[Span, ...] | None] = field(default_factory=dict)
    rules: dict[int, Rule] = field(default_factory=dict)
    policers: dict[str, Policer] = field(default_factory=dict)
    declared_policers: tuple[str, ...] = ()
    nat: dict[int, Nat] = field(default_factory=dict)

    def whole(self, *sections: str) -> bool:
        """Whether nothing of these sections was refused."""
        return not self.refused.intersection(sections)

    @cached_property
    def owned(self) -> list[Owned]:
        """All addresses of ports. A TAP port has none of its own."""
        return [
            Owned(("ports", name, "address", i), name, port.vrf, address)
            for name, port in self.ports.items()
            if port.type != "tap"
            for i, address in enumerate(port.address)
        ]

    @cached_property
    def joined(self) -> dict[str, str]:
        """The ports that are switched, not routed, and what each is in."""
        bridged = {
            member.port: f'bridge "{name}"'
            for name, bridge in self.bridges.items()
            for member in bridge.ports
        }
        pairs = self.cross_connects.values()
        return {name: "a cross connect" for pair in pairs for name in pair.ports} | bridged

    @cached_property
    def all_are_joined(self) -> bool:
        """Whether ``joined`` is complete: nothing is refused, and no name is misspelt."""
        known = set(self.joined) <= set(self.declared)
        return known and self.whole("bridges", "cross_connects")

    @cached_property
    def vrfs(self) -> set[str]:
        """The VRFs that a routed port is in."""
        routed = [port for name, port in self.ports.items() if name not in self.joined]
        return {port.vrf for port in routed if port.type != "tap"}


def unknown_port(draft: Draft, path: KeyPath, name: str) -> Iterator[Problem]:
    """Complain about a port that is not declared."""
    if name not in draft.declared:
        what = f"names a port that does not exist{nearest(name, draft.declared)}"
        yield Problem(path, what, listed(draft.declared) or "none, since no port is declared")


def not_routed(draft: Draft, path: KeyPath, name: str) -> Iterator[Problem]:
    """Complain about a port that nothing can be routed to, also one that does not exist."""
    yield from unknown_port(draft, path, name)
    port = draft.ports.get(name)
    if name in draft.declared and (where := draft.joined.get(name)):
        yield Problem(path, f"is in {where}", "a routed port: in no bridge and no cross connect")
    elif port and port.type == "tap":
        yield Problem(path, "is a tap port", "a port of another type")


def has_ip6(port: Port) -> bool:
    """Whether IPv6 is on at a port: it is where an IPv6 address is given."""
    return any(address.version == 6 for address in port.address)


def prefixes(port: Port, version: int) -> list[AnyNetwork]:
    """The prefixes of a port that are routed to it."""
    return [
        own.network for own in port.address if own.version == version and not is_link_local(own.ip)
    ]


def in_words(networks: Iterable[AnyNetwork]) -> str:
    """List prefixes for a message, the first six of them."""
    texts = [str(network) for network in networks]
    more = ", ..." if len(texts) > 6 else ""
    return (
        f"an address in {', '.join(texts[:6])}{more}"
        if texts
        else "none, since there is no such prefix"
    )
