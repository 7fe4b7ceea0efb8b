# SPDX-License-Identifier: Apache-2.0
"""What must hold between the parts of a configuration: each check yields the problems it finds.

A part that was refused by itself is not in the draft, and no check complains about its absence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, NamedTuple

from vforward.control.config_errors import KeyPath, Problem, listed, nearest

if TYPE_CHECKING:
    from vforward.control.config import CrossConnect, Neighbor, Port, Route


@dataclass(frozen=True)
class Draft:
    """The parts that are right by themselves, by name or by place in the file."""

    ports: dict[str, Port]
    declared: tuple[str, ...]  # the names of all ports, the refused ones too
    routes: dict[int, Route]
    neighbors: dict[int, Neighbor]
    cross_connects: dict[int, CrossConnect]


class _Owned(NamedTuple):
    """An address of a port."""

    path: KeyPath
    port: str
    address: IPv4Interface


def check(draft: Draft) -> Iterator[Problem]:
    """Find what is wrong between the parts."""
    yield from _interfaces(draft)
    yield from _files(draft)
    yield from _addresses(draft)
    yield from _overlaps(draft)
    yield from _vlans(draft)
    yield from _routes(draft)
    yield from _next_hops(draft)
    yield from _neighbors(draft)
    yield from _cross_connects(draft)


def _owned(draft: Draft) -> list[_Owned]:
    return [
        _Owned(("ports", name, "address", i), name, address)
        for name, port in draft.ports.items()
        for i, address in enumerate(port.address)
    ]


def _crossed(draft: Draft) -> set[str]:
    return {name for pair in draft.cross_connects.values() for name in pair.ports}


def _unknown(draft: Draft, path: KeyPath, name: str) -> Iterator[Problem]:
    if name not in draft.declared:
        what = f"names a port that does not exist{nearest(name, draft.declared)}"
        yield Problem(path, what, listed(draft.declared) or "none, since no port is declared")


def _interfaces(draft: Draft) -> Iterator[Problem]:
    users: dict[str, str] = {}
    for name, port in draft.ports.items():
        if port.type != "af_packet":
            continue
        first = users.setdefault(port.interface, name)
        if first != name:
            what = f'is used by port "{first}" already'
            yield Problem(("ports", name, "interface"), what, "an interface that is free")


def _files(draft: Draft) -> Iterator[Problem]:
    pcaps = [(name, port) for name, port in draft.ports.items() if port.type == "pcap"]
    users = {port.read: f"ports.{name}.read" for name, port in pcaps if port.read}
    for name, port in pcaps:
        if port.write is None:
            continue
        key = f"ports.{name}.write"
        if users.setdefault(port.write, key) != key:
            what = f"would overwrite the file of {users[port.write]}"
            yield Problem(("ports", name, "write"), what, "a file that no other key names")


def _addresses(draft: Draft) -> Iterator[Problem]:
    owners: dict[IPv4Address, str] = {}
    for path, port, address in _owned(draft):
        if address.ip in owners:
            what = f'is an address of port "{owners[address.ip]}" already'
            yield Problem(path, what, "an address that nothing else has")
        owners.setdefault(address.ip, port)


def _overlaps(draft: Draft) -> Iterator[Problem]:
    owned = _owned(draft)
    order = {one.path: n for n, one in enumerate(owned)}
    # Prefixes nest or are disjoint: sorted, all that contain the present one are on the stack.
    around: list[_Owned] = []
    for one in sorted(owned, key=lambda one: one.address.network):
        network = one.address.network
        while around and around[-1].address.network.broadcast_address < network.network_address:
            around.pop()
        other = next((o for o in reversed(around) if o.port != one.port), None)
        if other and other.address.ip != one.address.ip:  # else _addresses has said it
            first, second = sorted((one, other), key=lambda o: order[o.path])
            what = f'overlaps with {first.address.network} of port "{first.port}"'
            yield Problem(second.path, what, "a prefix apart from those of all other ports")
        around.append(one)


def _vlans(draft: Draft) -> Iterator[Problem]:
    crossed = _crossed(draft)
    users: dict[tuple[str, int], str] = {}
    for name, port in draft.ports.items():
        if port.type != "vlan":
            continue
        path = ("ports", name, "parent")
        yield from _unknown(draft, path, port.parent)
        parent = draft.ports.get(port.parent)
        if parent and parent.type == "vlan":
            yield Problem(path, "is a vlan port itself", "a port of another type")
        if port.parent in crossed:
            yield Problem(path, "is in a cross connect", "a port that is in no cross connect")
        first = users.setdefault((port.parent, port.vlan), name)
        if first != name:
            what = f'is port "{first}" already on parent "{port.parent}"'
            yield Problem(("ports", name, "vlan"), what, "an id that is free on this parent")


def _routes(draft: Draft) -> Iterator[Problem]:
    crossed = _crossed(draft)
    seen: dict[IPv4Network, int] = {}
    for i, route in draft.routes.items():
        first = seen.setdefault(route.prefix, i)
        if first != i:
            what = f"is the prefix of routes[{first}] already"
            yield Problem(("routes", i, "prefix"), what, "one route for each prefix")
        if route.port is None:
            continue
        path = ("routes", i, "port")
        yield from _unknown(draft, path, route.port)
        if route.port in crossed:
            yield Problem(path, "is in a cross connect", "a port that is in no cross connect")


def _next_hops(draft: Draft) -> Iterator[Problem]:
    connected: dict[str, list[IPv4Network]] = {name: [] for name in draft.ports}
    owners: dict[IPv4Address, str] = {}
    for _, port, address in _owned(draft):
        connected[port].append(address.network)
        owners[address.ip] = port
    everywhere = [network for networks in connected.values() for network in networks]
    for i, route in draft.routes.items():
        if route.via is None:
            continue
        path = ("routes", i, "via")
        if route.via in owners:
            what = f'is the address of port "{owners[route.via]}" here'
            yield Problem(path, what, "the address of another router")
        if route.port is not None:
            inside, whose = connected.get(route.port), f'port "{route.port}"'
        else:
            whole = len(draft.ports) == len(draft.declared)
            inside, whose = everywhere if whole else None, "a port"
        if inside is not None and not any(route.via in network for network in inside):
            what = f"is not in a prefix of {whose}: correct it, or give the port an address"
            yield Problem(path, what, f"an address in {_prefixes(inside)}")


def _neighbors(draft: Draft) -> Iterator[Problem]:
    seen: dict[tuple[str, IPv4Address], int] = {}
    for i, neighbor in draft.neighbors.items():
        yield from _unknown(draft, ("neighbors", i, "port"), neighbor.port)
        path = ("neighbors", i, "address")
        first = seen.setdefault((neighbor.port, neighbor.address), i)
        if first != i:
            what = f"is the address of neighbors[{first}] already"
            yield Problem(path, what, "one neighbor for each address")
        port = draft.ports.get(neighbor.port)
        if port is None:
            continue
        if any(neighbor.address == own.ip for own in port.address):
            what = f'is the address of port "{neighbor.port}" itself'
            yield Problem(path, what, "the address of another host")
        networks = [own.network for own in port.address]
        if not any(neighbor.address in network for network in networks):
            what = f'is not in a prefix of port "{neighbor.port}"'
            yield Problem(path, what, f"an address in {_prefixes(networks)}")


def _cross_connects(draft: Draft) -> Iterator[Problem]:
    users: dict[str, int] = {}
    for i, cross in draft.cross_connects.items():
        for side, name in enumerate(cross.ports):
            path = ("cross_connects", i, "ports", side)
            yield from _unknown(draft, path, name)
            if side and name == cross.ports[0]:
                yield Problem(path, "is the same port twice", "two different ports")
            first = users.setdefault(name, i)
            if first != i:
                what = f"is in cross_connects[{first}] already"
                yield Problem(path, what, "a port that is in no other cross connect")
            port = draft.ports.get(name)
            if port and port.type == "vlan":
                yield Problem(path, "is a vlan port", "a port of another type")
            if port and port.address:
                what = "has an address: remove that, or the cross connect"
                yield Problem(path, what, "a port without addresses")


def _prefixes(networks: list[IPv4Network]) -> str:
    few = ", ".join(str(network) for network in networks[:6])
    return few + (", ..." if len(networks) > 6 else "") or "none, since there is no address"
