# SPDX-License-Identifier: Apache-2.0
"""Routes and neighbors: VRFs and ports that exist, next hops that a connected prefix leads to."""

from collections.abc import Iterator
from typing import NamedTuple

from vforward.control.config_draft import (
    Draft,
    has_ip6,
    in_words,
    not_routed,
    prefixes,
)
from vforward.control.config_errors import KeyPath, Problem, dotted, listed, nearest
from vforward.control.config_routes import Route
from vforward.control.config_types import DEFAULT_VRF, AnyAddress, AnyNetwork, is_link_local


class _Hop(NamedTuple):
    """One way of a route, and the table that its keys are in."""

    path: KeyPath
    via: AnyAddress | None
    port: str | None


def check_routes(draft: Draft) -> Iterator[Problem]:
    """Find what is wrong with routes and neighbors."""
    yield from _prefixes_once(draft)
    for i, route in draft.routes.items():
        if _vrf_exists(draft, route.vrf):
            yield from _hops(draft, i, route)
        else:
            yield from _no_vrf(draft, ("routes", i, "vrf"), route.vrf)
    for i, file in draft.route_files.items():
        path = ("route_files", i)
        if not _vrf_exists(draft, file.vrf):
            yield from _no_vrf(draft, (*path, "vrf"), file.vrf)
        elif file.via is not None:
            yield from _next_hop(draft, _Hop(path, file.via, None), file.vrf)
    yield from _neighbors(draft)


def _prefixes_once(draft: Draft) -> Iterator[Problem]:
    seen: dict[tuple[str, AnyNetwork, int], int] = {}
    for i, route in draft.routes.items():
        first = seen.setdefault((route.vrf, route.prefix, route.metric), i)
        if first != i:
            what = f"is the prefix of routes[{first}] already, with the same metric"
            allowed = "one route for each prefix, VRF and metric"
            yield Problem(("routes", i, "prefix"), what, allowed)


def _vrf_exists(draft: Draft, vrf: str) -> bool:
    return vrf == DEFAULT_VRF or vrf in draft.vrfs or not draft.whole("ports")


def _no_vrf(draft: Draft, path: KeyPath, vrf: str) -> Iterator[Problem]:
    known = sorted(draft.vrfs | {DEFAULT_VRF})
    yield Problem(path, f"is a VRF that no port is in{nearest(vrf, known)}", listed(known))


def _hops(draft: Draft, i: int, route: Route) -> Iterator[Problem]:
    hops = [_Hop(("routes", i), route.via, route.port)]
    if route.paths is not None:
        hops = [
            _Hop(("routes", i, "paths", n), path.via, path.port)
            for n, path in enumerate(route.paths)
        ]
    seen: dict[tuple[AnyAddress | None, str | None], KeyPath] = {}
    for hop in hops:
        first = seen.setdefault((hop.via, hop.port), hop.path)
        if first != hop.path:
            what = f"is the same way as {dotted(first)}"
            yield Problem(hop.path, what, "different paths; more packets for one: a larger weight")
            continue
        if hop.via is None and len(hops) > 1:
            what = "is missing: each of several paths needs a next hop"
            yield Problem((*hop.path, "via"), what, "a host, with or without port beside it")
            continue
        wrong = list(_out_of(draft, hop, route))
        yield from wrong
        if hop.via is None or wrong:
            continue
        version = route.prefix.version
        if hop.via.version != version:
            what = f"is an IPv{hop.via.version} address for an IPv{version} prefix"
            yield Problem((*hop.path, "via"), what, f"an IPv{version} address")
        else:
            yield from _next_hop(draft, hop, route.vrf)


def _out_of(draft: Draft, hop: _Hop, route: Route) -> Iterator[Problem]:
    if hop.port is None:
        return
    path = (*hop.path, "port")
    wrong = list(not_routed(draft, path, hop.port))
    yield from wrong
    port = draft.ports.get(hop.port)
    if wrong or port is None:
        return
    if port.vrf != route.vrf:
        what = f'is in VRF "{port.vrf}", and the route in VRF "{route.vrf}"'
        yield Problem(path, what, "a port of the route's VRF")
    elif hop.via is None and route.prefix.version == 6 and not has_ip6(port):
        yield Problem(path, "has no IPv6 address", "a port with an IPv6 address")


def _next_hop(draft: Draft, hop: _Hop, vrf: str) -> Iterator[Problem]:
    """The next hop is another station on the link of a port: of ``hop.port``, or of one in VRF."""
    assert hop.via is not None
    path = (*hop.path, "via")
    ports = {name: port for name, port in draft.ports.items() if port.vrf == vrf}
    if hop.port is not None:
        ports = {name: port for name, port in ports.items() if name == hop.port}
    local = is_link_local(hop.via)
    if local and hop.port is None:
        what = "is link-local, so it needs a port beside it"
        yield Problem(path, what, "an address that is not link-local, or a port with it")
        return
    if hop.port is not None and not ports:
        return  # the port was refused
    owner = next((o.port for o in draft.owned if o.address.ip == hop.via and o.port in ports), None)
    if owner is not None:
        what = f'is the address of port "{owner}" here'
        yield Problem(path, what, "the address of another router")
        return
    whose = f'port "{hop.port}"' if hop.port is not None else f'a port of VRF "{vrf}"'
    if local:
        if not any(has_ip6(port) for port in ports.values()):
            what = f"is a next hop without a route: {whose} has no IPv6 address"
            yield Problem(path, what, "an address on the link of a port with IPv6")
        return
    inside = [network for port in ports.values() for network in prefixes(port, hop.via.version)]
    whole = hop.port is not None or draft.whole("ports")
    if whole and not any(hop.via in network for network in inside):
        what = f"is a next hop without a route: in no prefix of {whose}"
        yield Problem(path, what, in_words(inside))


def _neighbors(draft: Draft) -> Iterator[Problem]:
    seen: dict[tuple[str, AnyAddress], int] = {}
    for i, neighbor in draft.neighbors.items():
        wrong = list(not_routed(draft, ("neighbors", i, "port"), neighbor.port))
        yield from wrong
        path = ("neighbors", i, "address")
        first = seen.setdefault((neighbor.port, neighbor.address), i)
        if first != i:
            what = f"is the address of neighbors[{first}] already"
            yield Problem(path, what, "one neighbor for each address")
            continue
        port = draft.ports.get(neighbor.port)
        if port is None or wrong:
            continue
        whose = f'port "{neighbor.port}"'
        if any(neighbor.address == own.ip for own in port.address):
            yield Problem(path, f"is the address of {whose} itself", "the address of another host")
        elif is_link_local(neighbor.address):
            if not has_ip6(port):
                what = f"is link-local, and {whose} has no IPv6 address"
                yield Problem(path, what, "an address on the link of a port with IPv6")
        else:
            networks = prefixes(port, neighbor.address.version)
            if not any(neighbor.address in network for network in networks):
                yield Problem(path, f"is not in a prefix of {whose}", in_words(networks))
