# SPDX-License-Identifier: Apache-2.0
"""Ports among each other: interfaces and files used twice, VLANs, and those that stand for others."""

from collections.abc import Iterator
from pathlib import Path

from vforward.control.config_draft import (
    PORTS_MAX,
    Draft,
    not_routed,
    unknown_port,
)
from vforward.control.config_errors import Problem, listed, nearest
from vforward.control.config_ports import VlanPort
from vforward.control.config_types import DEFAULT_VRF

VRFS_MAX = 64
_TAGS_MAX = 2


def check_ports(draft: Draft) -> Iterator[Problem]:
    """Find what is wrong between ports."""
    yield from _too_many(draft)
    yield from _interfaces(draft)
    yield from _files(draft)
    yield from _sockets(draft)
    yield from _frontends(draft)
    yield from _parents(draft)
    yield from _vlans(draft)
    yield from _rewrites(draft)
    yield from _bvis(draft)
    yield from _taps(draft)


def _too_many(draft: Draft) -> Iterator[Problem]:
    if len(draft.declared) > PORTS_MAX:
        path = ("ports", draft.declared[PORTS_MAX])
        yield Problem(path, f"is port number {PORTS_MAX + 1}", f"at most {PORTS_MAX} of all types")
    vrfs = {DEFAULT_VRF}
    for name, port in draft.ports.items():
        vrfs.add(port.vrf)
        if len(vrfs) > VRFS_MAX:
            what, allowed = f"is VRF number {len(vrfs)}", f"at most {VRFS_MAX}, default included"
            yield Problem(("ports", name, "vrf"), what, allowed)
            return


def _interfaces(draft: Draft) -> Iterator[Problem]:
    users: dict[str, str] = {}
    for name, port in draft.ports.items():
        if port.type != "af_packet" and port.type != "tap":
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


def _sockets(draft: Draft) -> Iterator[Problem]:
    users: dict[Path, str] = {}
    for name, port in draft.ports.items():
        shares = port.type == "memif" and port.role == "client"
        if port.type not in ("memif", "vhost-user") or shares:
            continue
        first = users.setdefault(port.socket, name)
        if first != name:
            what = f'is the socket of port "{first}" already'
            yield Problem(("ports", name, "socket"), what, "a socket for each port")


def _frontends(draft: Draft) -> Iterator[Problem]:
    for name, port in draft.ports.items():
        if port.type != "vhost-user":
            continue
        if port.side == "frontend" and port.trusted:
            what = "says nothing of a frontend, whose memory is its own"
            yield Problem(("ports", name, "trusted"), what, 'only with side = "backend"')
        if port.side == "backend" and port.packed:
            what = "is for the driver to choose, which is at the other end"
            yield Problem(("ports", name, "packed"), what, 'only with side = "frontend"')


def _vlan_ports(draft: Draft) -> Iterator[tuple[str, VlanPort]]:
    for name, port in draft.ports.items():
        if port.type == "vlan":
            yield name, port


def _parents(draft: Draft) -> Iterator[Problem]:
    for name, port in _vlan_ports(draft):
        path = ("ports", name, "parent")
        yield from unknown_port(draft, path, port.parent)
        parent = draft.ports.get(port.parent)
        if parent and parent.type in ("vlan", "bvi", "tap"):
            itself = " itself" if parent.type == "vlan" else ""
            yield Problem(path, f"is a {parent.type} port{itself}", "a port of another type")


def _vlans(draft: Draft) -> Iterator[Problem]:
    users: dict[tuple[str, int, int | None], str] = {}
    outer: dict[tuple[str, int], str] = {}
    for name, port in _vlan_ports(draft):
        first = users.setdefault((port.parent, port.vlan, port.inner), name)
        if first != name:
            key = "vlan" if port.inner is None else "inner"
            what = f'is port "{first}" already on parent "{port.parent}"'
            yield Problem(("ports", name, key), what, "an id that is free on this parent")
            continue
        first = outer.setdefault((port.parent, port.vlan), name)
        other = draft.ports[first]
        assert other.type == "vlan"
        if other.dot1ad != port.dot1ad:
            what = f'differs from that of port "{first}", of the same parent and vlan'
            yield Problem(("ports", name, "dot1ad"), what, "one kind of outer tag for each vlan")


def _rewrites(draft: Draft) -> Iterator[Problem]:
    for name, port in _vlan_ports(draft):
        if port.rewrite is None:
            continue
        path = ("ports", name, "rewrite")
        pop, push = port.rewrite.pop, len(port.rewrite.push)
        if name not in draft.joined and draft.all_are_joined:
            what = "is for a port of a bridge or a cross connect, and this one is in neither"
            yield Problem(path, what, "no rewrite here")
        elif pop > port.tags:
            what = f"is more than its frames have: {port.tags}"
            yield Problem((*path, "pop"), what, f"a whole number from 0 to {port.tags}")
        elif port.tags - pop + push > _TAGS_MAX:
            what = f"would give its frames {port.tags - pop + push} tags"
            allowed = f"at most {_TAGS_MAX - port.tags + pop} here, for {_TAGS_MAX} in all"
            yield Problem((*path, "push"), what, allowed)


def _bvis(draft: Draft) -> Iterator[Problem]:
    users: dict[str, str] = {}
    for name, port in draft.ports.items():
        if port.type != "bvi":
            continue
        path = ("ports", name, "bridge")
        if port.bridge not in draft.declared_bridges:
            near = nearest(port.bridge, draft.declared_bridges)
            allowed = listed(draft.declared_bridges) or "none, since no bridge is declared"
            yield Problem(path, f"names a bridge that does not exist{near}", allowed)
        first = users.setdefault(port.bridge, name)
        if first != name:
            what = f'has port "{first}" as its bvi port already'
            yield Problem(path, what, "a bridge without a bvi port")


def _taps(draft: Draft) -> Iterator[Problem]:
    users: dict[str, str] = {}
    for name, port in draft.ports.items():
        if port.type != "tap":
            continue
        for key in ("address", "mtu", "vrf", "urpf"):
            if key in port.model_fields_set:
                what = f'cannot be given: a tap port has that of its host_of, "{port.host_of}"'
                yield Problem(("ports", name, key), what, f"no {key} here")
        path = ("ports", name, "host_of")
        yield from not_routed(draft, path, port.host_of)
        first = users.setdefault(port.host_of, name)
        if first != name:
            what = f'has port "{first}" as its tap port already'
            yield Problem(path, what, "a port without a tap port")
