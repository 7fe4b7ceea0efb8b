# SPDX-License-Identifier: Apache-2.0
"""What a forwarder is put together from, by name, before its graph is built.

Routes and neighbors may be added while it runs, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, NamedTuple, TypeVar

from vforward.control import route_file
from vforward.control.bridging import BridgeSettings, Tag, rewrite
from vforward.control.firewall_api import FirewallApi
from vforward.control.interface_steps import InterfaceSteps
from vforward.control.interfaces import Given, Interface
from vforward.control.not_found import NotFound
from vforward.control.routes import Path
from vforward.control.told_router import ToldRouter
from vforward.control.wording import listed, nearest
from vforward.errors import ConfigError
from vforward.io.port import Port
from vforward.packet import ethernet as eth
from vforward.tables.addresses import mapped_int

P = TypeVar("P", bound=Port)
G = TypeVar("G")
R = TypeVar("R")
Host = str | IPv4Address | IPv6Address
Prefix = str | IPv4Network | IPv6Network


class Tags(NamedTuple):
    """How a frame's tags change on its way in; on its way out the same is undone.

    pop: how many come off, None: all that its port knows. push: (EtherType, VLAN id) of those that
    are put on then, the outer first.
    """

    pop: int | None
    push: tuple[tuple[int, int], ...] = ()


class Assembly(InterfaceSteps, FirewallApi):
    """Interfaces, bridges, routes, neighbors, a firewall. A Forwarder is one, with a graph and a worker."""

    told: ToldRouter
    built = False
    resting = False
    """Whether it is built and yet no packet is on its way (control.rest)."""

    def add_port(
        self, name: str, port: P, address: Given = (), *, vrf: str = "default", urpf: str = ""
    ) -> P:
        """Open a port and give it addresses ("10.0.1.1/24", "2001:db8::1/64"). Returns it.

        vrf: whose routes its packets take. urpf: "loose" or "strict" (RFC 3704). Raises ConfigError
        (name or address in use; built already), PortError.
        """
        self._not_built(f"port {name}")
        with ExitStack() as undo:
            self._add(undo, self.open_port(undo, name, port, address, vrf=vrf, urpf=urpf))
            undo.pop_all()
        return port

    def add_vlan(
        self,
        name: str,
        parent: str,
        vlan: int,
        address: Given = (),
        mtu: int | None = None,
        *,
        inner: int = 0,
        dot1ad: bool = False,
        vrf: str = "default",
        urpf: str = "",
    ) -> None:
        """Add a sub-interface: the packets of one VLAN (1 to 4094) on a port.

        inner: the second tag (QinQ). dot1ad: the outer tag is 802.1ad's. mtu: the port's if not
        given, and never more than that. Raises ConfigError.
        """
        self._not_built(f"port {name}")
        with ExitStack() as undo:
            made = self.open_vlan(
                undo, name, parent, (vlan, inner, dot1ad), address, mtu, vrf=vrf, urpf=urpf
            )
            self._add(undo, made)
            undo.pop_all()

    def add_bridge(self, name: str, settings: BridgeSettings | None = None) -> None:
        """Add a bridge domain. Raises ConfigError."""
        self._not_built(f"bridge {name}")
        with ExitStack() as undo:
            self.make_bridge(undo, name, settings)
            undo.pop_all()

    def add_to_bridge(
        self, bridge: str, port: str, group: int = 0, tags: Tags | None = None
    ) -> None:
        """Put a port or sub-interface without addresses in a bridge. Raises ConfigError.

        group: split-horizon group, 0: none. tags: how they change, see Tags; a sub-interface's own
        come off if not given.
        """
        self._not_built(f"bridge {bridge}")
        interface = self._layer2(f"bridge {bridge}", port)
        self._change_tags(interface, tags or Tags(None))
        self.bridging.add_member(self.bridge_number(bridge), interface.number, group)
        self.interfaces.bridge(interface, bridge)

    def add_bvi(
        self,
        name: str,
        bridge: str,
        address: Given = (),
        *,
        mac: bytes | None = None,
        mtu: int = 1500,
        vrf: str = "default",
        urpf: str = "",
    ) -> None:
        """Add the routed interface of a bridge. Raises ConfigError."""
        self._not_built(f"port {name}")
        domain = self.bridge_number(bridge)
        with ExitStack() as undo:
            made = self.open_bvi(undo, name, bridge, address, mac=mac, mtu=mtu, vrf=vrf, urpf=urpf)
            self._add(undo, made)
            undo.pop_all()
        self.bridging.set_bvi(domain, made.number)

    def add_static_mac(self, bridge: str, mac: bytes, port: str) -> None:
        """Bind a MAC to a port of a bridge for good. Raises ConfigError, TableFull."""
        number = self.interfaces.find(port).number
        self.bridging.add_static(self.bridge_number(bridge), int.from_bytes(mac, "big"), number)

    def cross_connect(
        self, one: str, other: str, tags: tuple[Tags | None, Tags | None] = (None, None)
    ) -> None:
        """Let each of two ports send what the other receives. Raises ConfigError.

        tags: how they change, by port; nothing changes if not given.
        """
        what = f"cross connect {one} - {other}"
        self._not_built(what)
        a, b = (self._layer2(what, name) for name in (one, other))
        if a is b:
            msg = f"{what}: a port cannot be its own peer"
            raise ConfigError(msg)
        for interface, change in zip((a, b), tags, strict=True):
            self._change_tags(interface, change or Tags(0))
        self.interfaces.cross_connect(a, b)

    def add_host(
        self, name: str, tap: str, of: str, *, netns: str = "", queues: int = 1, routes: bool = True
    ) -> None:
        """Let the host stand at a routed port's side, by a TAP interface that has its addresses.

        What comes to the router's own addresses and is no ping goes there, and what the host sends
        there is routed. tap: the Linux interface's name. netns: its network namespace, by name or path.
        queues: how many it has. routes: the host's replies from these addresses leave by the TAP. Raises
        ConfigError, PortError.
        """
        self._not_built(f"port {name}")
        with ExitStack() as undo:
            made = self.open_host(undo, name, tap, of, netns=netns, queues=queues, routes=routes)
            self._add(undo, made)
            undo.pop_all()
        self.interfaces.host(made, self.interfaces.find(of))

    def add_route(
        self,
        prefix: Prefix,
        *,
        via: Host | None = None,
        port: str | None = None,
        kind: str = "",
        paths: Iterable[tuple[Host | None, str | None, int]] = (),
        metric: int = 0,
        vrf: str = "default",
    ) -> None:
        """Route a prefix via a next hop, out of a port, over paths, or nowhere.

        paths: (via, port, weight) of each. kind: "blackhole", "unreachable", "prohibit", "local".
        Of routes to one prefix the lowest metric counts. Raises ConfigError.
        """
        what = f"route {prefix}"
        given = [*paths] or ([] if kind else [(via, port, 1)])
        network, ways = _parsed(what, ip_network, prefix), self.paths(what, given)
        number = self.interfaces.vrf(vrf) if kind else self.vrf(what, vrf)
        with self.routing.lock:
            there = metric in self.routing.metrics(network, number)
            self.routing.add(network, paths=ways, kind=kind, metric=metric, vrf=number)
            self.told.add_route((vrf, network, metric), given, kind, there=there)

    def vrf(self, what: str, name: str) -> int:
        """The number of a VRF in which there may be next hops. Raises ConfigError."""
        vrfs = self.interfaces.vrfs
        if name not in vrfs:
            msg = f"{what}: no port is in a VRF {name!r}{nearest(name, vrfs)}; there are: {listed(vrfs)}"
            raise ConfigError(msg)
        return vrfs[name]

    def paths(self, what: str, given: Iterable[tuple[Host | None, str | None, int]]) -> list[Path]:
        """The paths that (via, port, weight) say, of a route. Raises ConfigError."""
        return [
            Path(
                None if hop is None else _parsed(what, ip_address, hop),
                None if out is None else self.interfaces.find(out).number,
                weight,
            )
            for hop, out, weight in given
        ]

    def add_route_file(
        self,
        path: str | os.PathLike[str],
        *,
        via: Host | None = None,
        vrf: str = "default",
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> int:
        """Add the routes of a text file, see control.route_file. Returns how many lines there are.

        via: the next hop of lines that name none. progress: how many are done, and of how many; what
        it raises ends this halfway, and the forwarder has to be closed. Raises ConfigError, TableFull.
        """
        hop = None if via is None else _parsed(f"routes of {path}", ip_address, via)
        number = self.vrf(f"routes of {path}", vrf)
        return route_file.load(self.routing, path, vrf=number, via=hop, progress=progress)

    def delete_route(
        self, prefix: Prefix, *, metric: int | None = None, vrf: str = "default"
    ) -> int:
        """Take a route away; returns its metric. Raises NotFound when there is none, ConfigError."""
        network = _parsed(f"route {prefix}", ip_network, prefix)
        what = f"route {network}" + (f" of metric {metric}" if metric is not None else "")
        missing = NotFound(f"no configured {what} of VRF {vrf}; vforward show routes lists all")
        if vrf not in self.interfaces.vrfs:
            raise missing
        with self.routing.lock:
            try:
                found = self.routing.delete(network, metric=metric, vrf=self.interfaces.vrfs[vrf])
            except KeyError:
                raise missing from None
            self.told.delete_route((vrf, network, found))
        return found

    def add_neighbor(self, address: Host, mac: bytes, port: str) -> None:
        """Tell a neighbor's MAC, which is then never asked for. Raises ConfigError."""
        what = f"neighbor {address} of port {port}"
        ip = _parsed(what, ip_address, address)
        number = int(ip) if ip.version == 6 else mapped_int(int(ip))
        at = self.interfaces.find(port).number
        with self.neighbors.lock:
            there = self.neighbors.is_static(at, number)
            _parsed(what, partial(self.neighbors.add_static, at, number), mac)
            self.told.add_neighbor((port, ip), mac, there=there)

    def delete_neighbor(self, address: Host, port: str) -> None:
        """Forget a neighbor, told or learned; packets that wait for it are undeliverable.

        Raises NotFound when it is not known, ConfigError.
        """
        what = f"neighbor {address} of port {port}"
        ip = _parsed(what, ip_address, address)
        number = int(ip) if ip.version == 6 else mapped_int(int(ip))
        at = self.interfaces.find(port).number
        with self.neighbors.lock:
            there = self.neighbors.is_static(at, number)
            if not self.neighbors.delete(at, number):
                raise NotFound(f"no {what} is known; vforward show neighbors lists all")
            if there:
                self.told.delete_neighbor((port, ip))

    def known_neighbors(self, most: int | None = None) -> list[dict[str, Any]]:
        """The neighbors, for users: port, address, mac, state, and since when, in seconds.

        At most so many of them, the first by port and address.
        """
        return [
            {
                "port": self.interfaces.name_of(n.port),
                "address": str(n.address),
                "mac": n.mac.hex(":") if n.mac else "",
                "state": n.state.value,
                "since": round(n.since, 3),
            }
            for n in self.neighbors.entries(most)
        ]

    @property
    def bridge_numbers(self) -> Mapping[str, int]:
        """The numbers of bridges by their names."""
        return self._bridges

    def _not_built(self, what: str) -> None:
        if self.built and not self.resting:
            msg = f"{what}: the graph is built, and packets may be on their way; add this before build"
            raise ConfigError(msg)

    def _change_tags(self, interface: Interface, tags: Tags) -> None:
        own = [(eth.QINQ if interface.dot1ad else eth.VLAN, interface.vlan)]
        own += [(eth.VLAN, interface.inner)]
        match = [Tag(*tag) for tag in own if tag[1]]
        push = [Tag(*tag) for tag in tags.push]
        self.bridging.set_tags(interface.number, rewrite(match, tags.pop, push))

    def _layer2(self, what: str, name: str) -> Interface:
        """The interface that is to switch frames. Raises ConfigError."""
        interface = self.interfaces.find(name)
        if interface.addresses or interface.peer or interface.bridge:
            msg = (
                f"{what}: {name} cannot be in it: a port that switches frames has no addresses, "
                "and is in one bridge or cross connect only"
            )
            raise ConfigError(msg)
        return interface

    def _add(self, undo: ExitStack, interface: Interface) -> None:
        self.connect(undo, interface, self.routing)
        self.attach(undo, interface)


def _parsed(what: str, parse: Callable[[G], R], given: G) -> R:
    """What parse makes of it. Raises ConfigError where that is a ValueError."""
    try:
        return parse(given)
    except ValueError as error:
        msg = f"{what}: {error}"
        raise ConfigError(msg) from None
