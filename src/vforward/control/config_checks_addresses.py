# SPDX-License-Identifier: Apache-2.0
"""Own addresses: each once, prefixes of ports apart, and a link that IPv6 fits through."""

from collections import defaultdict
from collections.abc import Iterator

from vforward.control.config_draft import Draft, Owned, has_ip6
from vforward.control.config_errors import Problem
from vforward.control.config_types import AnyAddress, is_link_local

ADDRESSES_MAX = 256
"""As in tables/addresses.py; link-local addresses that ports get by themselves included."""
IP6_MTU_MIN = 1280
"""RFC 8200 section 5."""


def check_addresses(draft: Draft) -> Iterator[Problem]:
    """Find what is wrong with ports' addresses."""
    yield from _twice(draft)
    yield from _overlaps(draft)
    yield from _too_many(draft)
    yield from _mtus(draft)


def _twice(draft: Draft) -> Iterator[Problem]:
    owners: dict[tuple[str, AnyAddress], str] = {}
    for path, port, vrf, address in draft.owned:
        if is_link_local(address.ip):
            continue  # it counts on its own link only
        key = (vrf, address.ip)
        if key in owners:
            what = f'is an address of port "{owners[key]}" already'
            yield Problem(path, what, "an address that no port of the VRF has")
        owners.setdefault(key, port)


def _overlaps(draft: Draft) -> Iterator[Problem]:
    spaces = defaultdict(list)
    for one in draft.owned:
        if not is_link_local(one.address.ip):
            spaces[one.vrf, one.address.version].append(one)
    for space in spaces.values():
        yield from _overlaps_among(space)


def _overlaps_among(space: list[Owned]) -> Iterator[Problem]:
    order = {one.path: n for n, one in enumerate(space)}
    # Prefixes nest or are disjoint: sorted, all that contain the present one are on the stack.
    around: list[Owned] = []
    for one in sorted(space, key=_place):
        start = int(one.address.network.network_address)
        while around and int(around[-1].address.network.broadcast_address) < start:
            around.pop()
        other = next((o for o in reversed(around) if o.port != one.port), None)
        if other and other.address.ip != one.address.ip:  # else _twice has said it
            first, second = sorted((one, other), key=lambda o: order[o.path])
            what = f'overlaps with {first.address.network} of port "{first.port}"'
            allowed = "a prefix apart from those of all other ports of the VRF"
            yield Problem(second.path, what, allowed)
        around.append(one)


def _place(one: Owned) -> tuple[int, int]:
    network = one.address.network
    return int(network.network_address), network.prefixlen


def _too_many(draft: Draft) -> Iterator[Problem]:
    with_local = {one.port for one in draft.owned if is_link_local(one.address.ip)}
    count = 0
    for path, port, _, address in draft.owned:
        count += 1
        if address.version == 6 and port not in with_local:
            with_local.add(port)
            count += 1
        if count > ADDRESSES_MAX:
            allowed = f"at most {ADDRESSES_MAX} in all, one link-local for each port with IPv6"
            yield Problem(path, f"is own address number {count}", allowed)
            return


def _mtus(draft: Draft) -> Iterator[Problem]:
    small = {name for name, port in draft.ports.items() if port.mtu < IP6_MTU_MIN}
    for name, port in draft.ports.items():
        if port.type == "tap" or not has_ip6(port):
            continue
        if name in small:
            what = "is too small for IPv6, of which the port has an address"
        elif port.type == "vlan" and port.parent in small:
            what = f'is too small for IPv6, of which port "{name}" on it has an address'
            name = port.parent
        else:
            continue
        small.discard(name)  # said once
        yield Problem(("ports", name, "mtu"), what, f"a whole number from {IP6_MTU_MIN} to 65535")
