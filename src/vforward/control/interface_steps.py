# SPDX-License-Identifier: Apache-2.0
"""How interfaces come and go, in steps that packets see nothing of until the last one. A part of Assembly.

    open      a number, a record, a port that is open: no packet is led there yet
    connect   the routes that its addresses give (perhaps staged, see routing_stage)
    attach    frames come in by its tags; its addresses are answered for; its features are on
    detach, disconnect, shut: the other way round

Each step that may be followed by one that fails takes an ExitStack, on which it leaves how it is undone.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from vforward.control.bridging import BridgeSettings, Bridging
from vforward.control.firewall import FEATURES, HAND_OFF, Firewall
from vforward.control.interfaces import (
    Address,
    Given,
    Interface,
    Interfaces,
    is_link_local,
    link_local,
)
from vforward.control.neighbors import NeighborService
from vforward.control.router_graph import BVI_EDGE
from vforward.control.routing import Routing
from vforward.errors import ConfigError
from vforward.graph.arcs import Arc
from vforward.io.port import Port, default_mac
from vforward.io.tap import TapPort
from vforward.memory.pool import Pool
from vforward.tables.ports import BVI, ROUTED

OWN_FEATURES = ("urpf", *FEATURES, *HAND_OFF)


class Connects(Protocol):
    """Routing, or a stage of it."""

    def connect(self, port: int, interface: Address, /) -> None:
        """Give a port an address."""

    def disconnect(self, port: int, interface: Address, /) -> None:
        """Take it off."""


class InterfaceSteps:
    """See the module."""

    pool: Pool
    n_workers: int
    interfaces: Interfaces
    routing: Routing
    bridging: Bridging
    neighbors: NeighborService
    firewall: Firewall
    _bridges: dict[str, int]

    def open_port(
        self, undo: ExitStack, name: str, port: Port, address: Given = (), *, vrf: str, urpf: str
    ) -> Interface:
        """Open a port. Raises ConfigError, PortError."""
        interface = self._new(
            undo, name, port.kind or type(port).__name__, address, vrf=vrf, urpf=urpf
        )
        undo.callback(port.close)
        port.workers = self.n_workers
        port.open(interface.number, self.pool)
        interface.port = port
        self._fill(interface, port.mac, port.mtu)
        return interface

    def open_vlan(
        self, undo: ExitStack, name: str, parent: str, tags: tuple[int, int, bool],
        address: Given = (), mtu: int | None = None, *, vrf: str, urpf: str,
    ) -> Interface:  # fmt: skip
        """Make a sub-interface. tags: outer, inner or 0, is the outer 802.1ad's. Raises ConfigError."""
        on = self.interfaces.find(parent)
        interface = self._new(undo, name, "vlan", address, vrf=vrf, urpf=urpf)
        vlan, inner, dot1ad = tags
        self.interfaces.tag(interface, parent, vlan, inner, dot1ad=dot1ad)
        assert on.port is not None
        self._fill(interface, on.port.mac, min(mtu or on.port.mtu, on.port.mtu))
        return interface

    def open_bvi(
        self, undo: ExitStack, name: str, bridge: str, address: Given = (),
        *, mac: bytes | None, mtu: int, vrf: str, urpf: str,
    ) -> Interface:  # fmt: skip
        """Make the routed interface of a bridge. Raises ConfigError."""
        for other in self.interfaces:
            if other.kind == "bvi" and other.bridge == bridge:
                msg = (
                    f"port {name}: bridge {bridge} has {other.name} as its routed interface already"
                )
                raise ConfigError(msg)
        interface = self._new(undo, name, "bvi", address, vrf=vrf, urpf=urpf)
        self._fill(interface, mac or default_mac(interface.number), mtu)
        self.interfaces.bvi(interface, bridge)
        return interface

    def open_host(
        self, undo: ExitStack, name: str, tap: str, of: str,
        *, netns: str = "", queues: int = 1, routes: bool = True,
    ) -> Interface:  # fmt: skip
        """Open the TAP by which the host will stand at a port. Raises ConfigError, PortError."""
        there = self.interfaces.find(of)
        record = self.interfaces.record(there)
        if record["mode"] not in (ROUTED, BVI) or self._has_host(record):
            msg = f"port {name}: {of} can have no host: it is no routed port, or has one already"
            raise ConfigError(msg)
        port = TapPort(
            tap,
            mac=int(record["mac"]).to_bytes(6, "big"),
            mtu=int(record["mtu"]),
            addresses=there.addresses,
            host_routes=routes,
            netns=netns,
            queues=queues,
        )
        return self.open_port(undo, name, port, vrf="default", urpf="")

    def _has_host(self, record: Any) -> bool:
        """Whether the host stands there, by a port that is to stay."""
        host = int(record["host"])
        return any(interface.number == host for interface in self.interfaces)

    def make_bridge(
        self, undo: ExitStack, name: str, settings: BridgeSettings | None = None
    ) -> None:
        """Make a bridge without ports. Raises ConfigError."""
        self._bridges[name] = self.bridging.add_domain(name, settings)
        undo.callback(self.drop_bridge, name)

    def drop_bridge(self, name: str) -> None:
        """A bridge whose ports have gone is no more."""
        self.bridging.delete_domain(self._bridges.pop(name))

    def bridge_number(self, name: str) -> int:
        """A bridge's domain. Raises ConfigError."""
        if name not in self._bridges:
            msg = f"no bridge named {name!r}; there are: {', '.join(self._bridges) or 'none'}"
            raise ConfigError(msg)
        return self._bridges[name]

    def connect(self, undo: ExitStack, interface: Interface, routing: Connects) -> None:
        """Make the routes of its addresses. Raises ConfigError, TableFull."""
        for address in interface.addresses:
            routing.connect(interface.number, address)
            undo.callback(routing.disconnect, interface.number, address)

    def attach(self, undo: ExitStack, interface: Interface) -> None:
        """Let frames come by its tags, and answer for its addresses. Raises ConfigError, TableFull."""
        if interface.parent:
            undo.callback(self.interfaces.unlay_vlan, interface)
            self.interfaces.lay_vlan(interface)
        for address in interface.addresses:
            self.neighbors.add_address(interface.number, address)
            undo.callback(self.neighbors.delete_address, interface.number, address)

    def detach(self, undo: ExitStack, interface: Interface) -> None:
        """No frame comes by its tags, nobody answers for its addresses, and its neighbors are forgotten."""
        if interface.parent:
            undo.callback(self.interfaces.lay_vlan, interface)
            self.interfaces.unlay_vlan(interface)
        for address in interface.addresses:
            undo.callback(self.neighbors.add_address, interface.number, address)
            self.neighbors.delete_address(interface.number, address)
        self.neighbors.delete_port(interface.number)

    def switch_features(self, arcs: Mapping[str, Arc], interface: Interface, *, on: bool) -> None:
        """Have its packets go through the features that it has by now, or through none."""
        names = {*self.firewall.features_of(interface)} if on else set()
        if on and interface.urpf:
            names.add("urpf")
        for family in ("ip4", "ip6"):
            arc = arcs[f"{family}-input"]
            for feature in arc.features:
                name = feature.removeprefix(f"{family}-")
                if name in names:
                    arc.enable(feature, interface.number)
                elif name in OWN_FEATURES or not on:  # others are plug-ins'
                    arc.disable(feature, interface.number)

    def is_unused(self, number: int) -> bool:
        """Whether no session and no adjacency names an interface. MACs and neighbors go with it."""
        with self.routing.lock:
            if self.routing._adjacencies.leads_to(number):
                return False
        return not any(
            (shard.parts.cold[side][shard.numbers()] == number).any()
            for shard in (self.firewall.shards if self.firewall.on else ())
            for side in ("in_port", "out_port")
        )

    def number_outputs(self) -> None:
        """Say by which edge of interface-output each interface's packets leave, by the order of ports."""
        edges = {name: at for at, (name, _) in enumerate(self.interfaces.real(), BVI_EDGE + 1)}
        for interface in self.interfaces:
            on = interface.parent or interface.name
            self.interfaces.record(interface)["output"] = edges.get(on, BVI_EDGE)

    def _new(
        self, undo: ExitStack, name: str, kind: str, address: Given, *, vrf: str, urpf: str
    ) -> Interface:
        interface = self.interfaces.new(name, kind, address, vrf=vrf, urpf=urpf)
        undo.callback(self.interfaces.forget, interface)
        self._refuse_addresses(interface)
        return interface

    def _refuse_addresses(self, interface: Interface) -> None:
        """Raise ConfigError where another port of the VRF has the same one, save on its own link."""
        for other in self.interfaces:
            if other is interface or other.vrf != interface.vrf:
                continue
            used = {address.ip for address in other.addresses if not is_link_local(address)}
            for address in interface.addresses:
                if address.ip in used:
                    msg = (
                        f"port {interface.name}: {address.ip} is an address of {other.name} already"
                    )
                    raise ConfigError(msg)

    def _fill(self, interface: Interface, mac: bytes, mtu: int) -> None:
        """Its record."""
        output = BVI_EDGE
        if interface.parent:
            output = int(self.interfaces.record(self.interfaces.find(interface.parent))["output"])
        elif interface.port is not None:
            output += 1 + [name for name, _ in self.interfaces.real()].index(interface.name)
        interface.addresses = with_link_local(interface.addresses, mac)
        self.interfaces.up(interface, mac, mtu, output)


def with_link_local(addresses: tuple[Address, ...], mac: bytes) -> tuple[Address, ...]:
    """An interface's addresses: with one of IPv6 it has a link-local one too."""
    six = any(address.version == 6 for address in addresses)
    if six and not any(is_link_local(address) for address in addresses):
        return (*addresses, link_local(mac))
    return addresses
