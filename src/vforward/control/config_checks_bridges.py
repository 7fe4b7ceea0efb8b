# SPDX-License-Identifier: Apache-2.0
"""Bridges and cross connects: whose ports they are, and that these are nothing else."""

from collections.abc import Iterator

from vforward.control.config_draft import Draft, unknown_port
from vforward.control.config_errors import KeyPath, Problem, listed
from vforward.control.config_types import Mac

BRIDGES_MAX = 255
"""The number of a bridge domain is a byte, and 0 is none."""


def check_bridges(draft: Draft) -> Iterator[Problem]:
    """Find what is wrong with bridges and cross connects."""
    if len(draft.declared_bridges) > BRIDGES_MAX:
        path = ("bridges", draft.declared_bridges[BRIDGES_MAX])
        yield Problem(path, f"is bridge number {BRIDGES_MAX + 1}", f"at most {BRIDGES_MAX}")
    users: dict[str, str] = {}
    yield from _bridges(draft, users)
    yield from _cross_connects(draft, users)
    yield from _statics(draft)


def _bridges(draft: Draft, users: dict[str, str]) -> Iterator[Problem]:
    for name, bridge in draft.bridges.items():
        for i, member in enumerate(bridge.ports):
            path = ("bridges", name, "ports", i, "port")
            if member.port in users:
                what = f"is in {users[member.port]} already"
                yield Problem(path, what, "a port that is in no other bridge and only once in this")
                continue
            users[member.port] = f'bridge "{name}"'
            yield from _member(draft, path, member.port, "take it out of the bridge")


def _cross_connects(draft: Draft, users: dict[str, str]) -> Iterator[Problem]:
    for i, cross in draft.cross_connects.items():
        for side, name in enumerate(cross.ports):
            path = ("cross_connects", i, "ports", side)
            if side and name == cross.ports[0]:
                yield Problem(path, "is the same port twice", "two different ports")
            elif name in users:
                what = f"is in {users[name]} already"
                yield Problem(path, what, "a port that is in no bridge and no other cross connect")
            else:
                users[name] = f"cross_connects[{i}]"
                yield from _member(draft, path, name, "remove the cross connect")


def _member(draft: Draft, path: KeyPath, name: str, otherwise: str) -> Iterator[Problem]:
    yield from unknown_port(draft, path, name)
    port = draft.ports.get(name)
    if port is None:
        return
    if port.type in ("bvi", "tap"):
        yield Problem(path, f"is a {port.type} port", "a port of another type")
    elif port.address:
        yield Problem(
            path, f"has an address: remove that, or {otherwise}", "a port without addresses"
        )
    else:
        for key in ("vrf", "urpf"):
            if key in port.model_fields_set:
                what = f"is for routed ports: remove it, or {otherwise}"
                yield Problem(("ports", name, key), what, f"no {key} here")


def _statics(draft: Draft) -> Iterator[Problem]:
    routed = {port.bridge: port.mac for port in draft.ports.values() if port.type == "bvi"}
    for name, bridge in draft.bridges.items():
        members = [member.port for member in bridge.ports]
        seen: dict[Mac, int] = {}
        for i, static in enumerate(bridge.static):
            path = ("bridges", name, "static", i)
            first = seen.setdefault(static.mac, i)
            if first != i:
                what = f"is the MAC of static[{first}] already"
                yield Problem((*path, "mac"), what, "one entry for each MAC")
            elif static.mac == routed.get(name):
                what = "is the MAC of the bridge's bvi port"
                yield Problem((*path, "mac"), what, "the MAC of another station")
            if static.port not in draft.declared:
                yield from unknown_port(draft, (*path, "port"), static.port)
            elif static.port not in members and set(members) <= set(draft.declared):
                what = f'is not in bridge "{name}"'
                yield Problem((*path, "port"), what, listed(members) or "none: it has no ports")
