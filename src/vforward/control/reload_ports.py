# SPDX-License-Identifier: Apache-2.0
"""What becomes of ports, bridges and cross connects when a configuration takes another's place.

open      new ones are opened, beside those that go: no packet is led there yet
connect   the routes of their addresses, staged
switch    while workers stand: where frames go from now on
finish    what has gone is closed
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vforward.control import config as models
from vforward.control.afterwards import afterwards
from vforward.control.config_bridges import Bridge, BridgePort, CrossConnect, StaticMac
from vforward.control.config_checks_addresses import check_addresses
from vforward.control.config_checks_ports import check_ports
from vforward.control.config_draft import Draft
from vforward.control.difference import Key, Parts, Plan
from vforward.control.interface_steps import with_link_local
from vforward.control.interfaces import URPF, Address, Interface
from vforward.control.new_port import bridge_settings, new_port, tags_of
from vforward.control.routing_stage import Stage
from vforward.control.wording import dotted
from vforward.errors import ConfigError
from vforward.tables.addresses import mapped_int

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder


class PortWork:
    """The work of one change. before, after: all parts."""

    def __init__(self, forwarder: Forwarder, before: Parts, after: Parts, plan: Plan) -> None:
        self._forwarder = forwarder
        self._before, self._after, self._plan = before, after, plan
        self._gone: dict[str, Interface] = {}
        self._came: dict[str, Interface] = {}
        self._changed: dict[str, tuple[tuple[Address, ...], tuple[Address, ...]]] = {}
        """By port that stays: its addresses before and after."""
        self._affected: set[str] = set()
        """Interfaces whose features may be others."""

    @property
    def needs_graph(self) -> bool:
        """Whether ports that frames come in by are others, so that the graph has to be laid out anew."""
        interfaces = (*self._gone.values(), *self._came.values())
        return any(interface.port is not None for interface in interfaces)

    @property
    def went(self) -> list[Interface]:
        """What goes."""
        return list(self._gone.values())

    @property
    def renumbered(self) -> bool:
        """Whether a name is that of another interface, or of none."""
        return bool(self._gone)

    def numbers(self) -> dict[str, int]:
        """The numbers of all ports that there will be, by name."""
        return {i.name: i.number for i in self._forwarder.interfaces}

    # Aside.

    def open(self, undo: ExitStack) -> None:
        """Open what comes. Raises ConfigError, PortError, and others of opening a port."""
        self._refuse_twice()
        interfaces = self._forwarder.interfaces
        for key in self._of(self._plan.gone, "ports"):
            interface = interfaces.by_name.get(key[1])
            if interface is not None:  # else it was deleted at run time
                interfaces.hide(interface)
                undo.callback(interfaces.show, interface)
                self._gone[key[1]] = interface
        for key in self._of(self._plan.changed, "ports"):
            interface, port = interfaces.find(key[1]), self._after[key]
            mac = int(interfaces.record(interface)["mac"]).to_bytes(6, "big")
            self._changed[key[1]] = interface.addresses, with_link_local(port.address, mac)
            undo.callback(setattr, interface, "addresses", interface.addresses)
            interface.addresses = self._changed[key[1]][1]
        for key in self._plan.come:
            value = self._after[key]
            if key[0] == "ports":
                self._came[key[1]] = self._open(undo, key[1], value)
            elif isinstance(value, Bridge):
                self._forwarder.make_bridge(undo, key[1], bridge_settings(value))

    def _refuse_twice(self) -> None:
        """Raise ConfigError where a port that comes would have what one that goes still has."""
        used = {
            has: key[1]
            for key in self._of(self._plan.gone, "ports")
            for has in _alone(self._before[key])
        }
        for key in self._of(self._plan.come, "ports"):
            for what, value in _alone(self._after[key]):
                if (what, value) in used:
                    raise ConfigError(
                        f"port {key[1]}: port {used[what, value]} has to be closed before another can have "
                        f"{what} {value}: delete it with one configuration, and add this with the next"
                    )

    def _open(self, undo: ExitStack, name: str, port: models.Port) -> Interface:
        forwarder = self._forwarder
        if isinstance(port, models.TapPort):
            return forwarder.open_host(
                undo,
                name,
                port.interface,
                port.host_of,
                netns=port.netns or "",
                queues=port.queues,
            )
        given: dict[str, Any] = {"vrf": port.vrf, "urpf": port.urpf or ""}
        if isinstance(port, models.VlanPort):
            tags = port.vlan, port.inner or 0, port.dot1ad
            return forwarder.open_vlan(
                undo, name, port.parent, tags, port.address, port.mtu, **given
            )
        if isinstance(port, models.BviPort):
            mac = port.mac.packed if port.mac else None
            return forwarder.open_bvi(
                undo, name, port.bridge, port.address, mac=mac, mtu=port.mtu, **given
            )
        return forwarder.open_port(undo, name, new_port(port), port.address, **given)

    def connect(self, stage: Stage) -> None:
        """The routes of addresses that go and come. Raises ConfigError, TableFull."""
        interfaces = self._forwarder.interfaces
        for interface in self._gone.values():
            for address in interface.addresses:
                stage.disconnect(interface.number, address)
            stage.delete_at(interface.number)
        for name, (before, after) in self._changed.items():
            for address in before:
                if address not in after:
                    stage.disconnect(interfaces.find(name).number, address)
        for name, (before, after) in self._changed.items():
            for address in after:
                if address not in before:
                    stage.connect(interfaces.find(name).number, address)
        for interface in self._came.values():
            for address in interface.addresses:
                stage.connect(interface.number, address)

    # While workers stand.

    def switch(self, undo: ExitStack) -> None:
        """Lead frames as the new configuration says. Raises ConfigError, TableFull."""
        for key in self._plan.gone:
            if key[0] in ("ports", "bridges", "cross_connects"):
                self._go(undo, key, self._before[key])
        for key in self._plan.changed:
            if key[0] == "bridges":
                self._set_bridge(undo, key[1], self._before[key], self._after[key])
            elif key[0] == "ports":
                self._readdress(undo, key[1], self._before[key], self._after[key])
        for key in self._plan.come:
            if key[0] in ("ports", "bridges", "cross_connects"):
                self._come(undo, key, self._after[key])

    def switch_features(self, undo: ExitStack) -> None:
        """Have packets go through the features that their ports have by now."""
        forwarder = self._forwarder
        if not forwarder.built:
            return
        arcs = forwarder.graph.arcs
        for arc in arcs.values():  # with the bits of plug-ins, which a port that goes loses
            undo.callback(arc.masks.__setitem__, slice(None), arc.masks.copy())
        for interface in self._gone.values():
            forwarder.switch_features(arcs, interface, on=False)
        for name in (*self._came, *self._changed, *self._affected):
            if (here := forwarder.interfaces.by_name.get(name)) is not None:
                forwarder.switch_features(arcs, here, on=True)

    def number(self, undo: ExitStack) -> None:
        """Say by which edges of the new graph interfaces' packets leave."""
        records = self._forwarder.interfaces.ports
        undo.callback(records["output"].__setitem__, slice(None), records["output"].copy())
        self._forwarder.number_outputs()

    def _go(self, undo: ExitStack, key: Key, value: Any) -> None:
        forwarder = self._forwarder
        if key[0] == "ports":
            if key[1] in self._gone:
                self._detach(undo, self._gone[key[1]], value)
        elif isinstance(value, CrossConnect):
            for name in value.ports:
                self._part(undo, name)
            one, other = (self._interface(name) for name in value.ports)
            undo.callback(forwarder.interfaces.cross_connect, one, other)
        elif isinstance(value, BridgePort):
            interface, domain = self._interface(value.port), forwarder.bridge_number(key[1])
            undo.callback(forwarder.bridging.add_member, domain, interface.number, value.group)
            undo.callback(forwarder.interfaces.bridge, interface, key[1])
            with suppress(KeyError):
                forwarder.bridging.delete_member(domain, interface.number)
            self._part(undo, value.port)
        elif isinstance(value, StaticMac):
            domain, mac = forwarder.bridge_number(key[1]), int.from_bytes(value.mac.packed, "big")
            number = self._interface(value.port).number
            undo.callback(forwarder.bridging.add_static, domain, mac, number)
            with suppress(KeyError):
                forwarder.bridging.delete(domain, mac)

    def _detach(self, undo: ExitStack, interface: Interface, port: models.Port) -> None:
        forwarder = self._forwarder
        if isinstance(port, models.TapPort):
            self._part(undo, interface.name)
            there = forwarder.interfaces.by_name.get(port.host_of) or self._gone[port.host_of]
            undo.callback(forwarder.interfaces.host, interface, there)
        elif isinstance(port, models.BviPort):
            domain = forwarder.bridge_number(port.bridge)
            undo.callback(forwarder.bridging.set_bvi, domain, interface.number)
            forwarder.bridging.set_bvi(domain, 0)
        forwarder.detach(undo, interface)

    def _come(self, undo: ExitStack, key: Key, value: Any) -> None:
        forwarder = self._forwarder
        if key[0] == "ports":
            interface = self._came[key[1]]
            forwarder.attach(undo, interface)
            if isinstance(value, models.TapPort):
                undo.callback(forwarder.interfaces.part, interface)
                forwarder.interfaces.host(interface, forwarder.interfaces.find(value.host_of))
            elif isinstance(value, models.BviPort):
                domain = forwarder.bridge_number(value.bridge)
                undo.callback(forwarder.bridging.set_bvi, domain, 0)
                forwarder.bridging.set_bvi(domain, interface.number)
        elif isinstance(value, CrossConnect):
            one, other = value.ports
            for name in value.ports:
                undo.callback(self._part, ExitStack(), name)
            tags = tuple(tags_of(self._after["ports", name]) for name in value.ports)
            forwarder.cross_connect(one, other, (tags[0], tags[1]))
            self._affected |= set(value.ports)
        elif isinstance(value, BridgePort):
            tags_ = tags_of(self._after["ports", value.port])
            forwarder.add_to_bridge(key[1], value.port, value.group, tags_)
            self._affected.add(value.port)
            undo.callback(self._part, ExitStack(), value.port)
            number = forwarder.interfaces.find(value.port).number
            domain = forwarder.bridge_number(key[1])
            undo.callback(forwarder.bridging.delete_member, domain, number)
        elif isinstance(value, StaticMac):
            forwarder.add_static_mac(key[1], value.mac.packed, value.port)
            mac = int.from_bytes(value.mac.packed, "big")
            undo.callback(forwarder.bridging.delete, forwarder.bridge_number(key[1]), mac)

    def _set_bridge(self, undo: ExitStack, name: str, before: Bridge, after: Bridge) -> None:
        bridging, domain = self._forwarder.bridging, self._forwarder.bridge_number(name)
        undo.callback(bridging.set, domain, bridge_settings(before))
        bridging.set(domain, bridge_settings(after))

    def _readdress(self, undo: ExitStack, name: str, old: models.Port, new: models.Port) -> None:
        assert not isinstance(new, models.TapPort)
        forwarder = self._forwarder
        interface = forwarder.interfaces.find(name)
        before, after = self._changed[name]
        undo.callback(forwarder.interfaces.address, interface, before)
        forwarder.interfaces.address(interface, after)
        for address in before:
            if address not in after:
                undo.callback(forwarder.neighbors.add_address, interface.number, address)
                forwarder.neighbors.delete_address(interface.number, address)
        for address in after:
            if address not in before:
                forwarder.neighbors.add_address(interface.number, address)
                undo.callback(forwarder.neighbors.delete_address, interface.number, address)
        undo.callback(self._set_urpf, interface, old.urpf or "")
        self._set_urpf(interface, new.urpf or "")

    def _set_urpf(self, interface: Interface, urpf: str) -> None:
        interface.urpf = urpf
        self._forwarder.interfaces.record(interface)["urpf"] = URPF[urpf]

    def _interface(self, name: str) -> Interface:
        """The interface that had the name before."""
        return self._gone.get(name) or self._forwarder.interfaces.find(name)

    def _part(self, undo: ExitStack, name: str) -> None:
        interface = self._interface(name)
        kept = interface.peer, interface.bridge
        self._forwarder.interfaces.part(interface)
        self._affected.add(name)
        undo.callback(lambda: vars(interface).update(peer=kept[0], bridge=kept[1]))

    # Afterwards.

    def finish(self) -> None:
        """Close what has gone: packets are not led there anymore. What fails is logged, and others done."""
        forwarder = self._forwarder
        if forwarder.workers is not None:
            with afterwards("enabling plug-ins"), forwarder.changing:
                forwarder.plugins.enable()  # at ports that are new
        for interface in self._gone.values():
            port = interface.port
            for close in (port.flush, port.close) if port is not None else ():
                with afterwards(f"closing port {interface.name}"):
                    close()
            forwarder.interfaces.forget(interface)
        for key in self._plan.gone:
            if isinstance(self._before[key], Bridge):
                with afterwards(f"giving up bridge {key[1]}"):
                    forwarder.drop_bridge(key[1])
        if forwarder.workers is None:
            return
        for interface in self._came.values():
            if interface.port is not None:
                with afterwards(f"attaching port {interface.name}"):
                    interface.port.attach(forwarder.workers.quiesce)
        stands = forwarder.interfaces.ports["host"].any()
        for name, real in forwarder.interfaces.real() if stands else ():
            with afterwards(f"muting Linux at port {name}"):
                real.mute()

    @staticmethod
    def _of(keys: list[Key], section: str) -> list[Key]:
        return [key for key in keys if key[0] == section]


def refuse_ports(now: Parts) -> None:
    """Raise ConfigError where something is wrong among the ports."""
    ports = {key[1]: value for key, value in now.items() if key[0] == "ports"}
    bridges = {key[1]: value for key, value in now.items() if key[0] == "bridges" and len(key) == 2}
    draft = Draft(
        ports=ports,
        declared=tuple(ports),
        bridges=bridges,
        declared_bridges=tuple(bridges),
        routes={},
        route_files={},
        neighbors={},
        cross_connects={},
        refused=frozenset({"bridges"}),
    )
    problems = [*check_ports(draft), *check_addresses(draft)]
    if problems:
        raise ConfigError(
            "\n".join(f"{dotted(p.path)}: {p.what}; allowed: {p.allowed}" for p in problems)
        )


def _alone(port: models.Port) -> list[tuple[str, Any]]:
    """What only one port can have at a time."""
    keys = ("interface", "socket", "write") if port.type != "netmap" else ("name",)
    found = [(key, getattr(port, key, None)) for key in keys]
    return [(key, value) for key, value in found if isinstance(value, str | Path)]


def neighbor_address(key: Key) -> int:
    """The 128 bits that a neighbor's key names."""
    address = ip_address(key[2])
    return int(address) if address.version == 6 else mapped_int(int(address))
