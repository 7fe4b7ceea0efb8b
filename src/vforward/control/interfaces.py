# SPDX-License-Identifier: Apache-2.0
"""Ports and sub-interfaces by name and number, and what the nodes know of them (tables.ports).

A number that is free again is the last to be given anew, and only when nothing names it (``idle``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, IPv6Network, ip_interface
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ConfigError
from vforward.io.port import Port
from vforward.memory.arena import Arena
from vforward.packet import ethernet as eth
from vforward.tables.ports import (
    BRIDGED,
    BVI,
    CROSS_CONNECTED,
    HOST,
    NO_MAC,
    PORT,
    ROUTED,
    STACKED,
    STACKED_MAX,
    TAGGED,
    URPF_LOOSE,
    URPF_STRICT,
    VIDS,
)

PORTS_MAX = 256
"""Ports and sub-interfaces, number 0 (which is none) included."""
VRFS_MAX = 64
"""VRFs, "default" (number 0) included."""
URPF = {"": 0, "loose": URPF_LOOSE, "strict": URPF_STRICT}
LINK_LOCAL = IPv6Network("fe80::/10")

Address = IPv4Interface | IPv6Interface
Given = str | Address | Iterable[str | Address]


@dataclass
class Interface:
    """A port, or what lies on one (then port is None), as users know it."""

    number: int
    name: str
    port: Port | None = None
    addresses: tuple[Address, ...] = ()
    parent: str = ""  # of a sub-interface
    vlan: int = 0
    inner: int = 0
    dot1ad: bool = False
    peer: str = ""  # of a cross connect; of the host's port, the one whose host it is
    bridge: str = ""
    vrf: str = "default"
    urpf: str = ""
    kind: str = ""  # "vlan", "bvi", or the port's type


class Interfaces:
    """All interfaces of a forwarder. Writes PORT records; opens nothing."""

    def __init__(self, arena: Arena) -> None:
        self.by_name: dict[str, Interface] = {}
        self._names: dict[int, str] = {}
        self.ports: NDArray[Any] = arena.make("ports", PORTS_MAX, PORT)
        self.vlans: NDArray[np.uint16] = arena.make("vlans", PORTS_MAX * VIDS, np.uint16)
        self.inner_vlans: NDArray[np.uint16] = arena.make(
            "inner-vlans", STACKED_MAX * VIDS, np.uint16
        )
        self.vrfs: dict[str, int] = {"default": 0}
        self.on_vrf: Callable[[int], None] = lambda _: None
        """Called with the number of each VRF that is made."""
        self.idle: Callable[[int], bool] = lambda _: True
        """Whether a number that was an interface's is in no session, MAC or neighbor anymore."""
        self._fresh = 1
        self._freed: dict[int, None] = {}  # numbers, in the order in which they became free
        self._blocks = 1  # of inner_vlans, ever used
        self._free_blocks: list[int] = []
        self._lock = threading.Lock()  # of vrfs

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """What nodes take of them, by parameter name."""
        return {"ports": self.ports, "vlans": self.vlans, "inner_vlans": self.inner_vlans}

    def __iter__(self) -> Iterator[Interface]:
        return iter(list(self.by_name.values()))  # others may come and go meanwhile

    def name_of(self, number: int) -> str:
        """The name of a number that is an interface's, or was its last."""
        return self._names[number]

    def record(self, interface: Interface) -> Any:
        """The interface's PORT record."""
        return self.ports[interface.number]

    def find(self, name: str) -> Interface:
        """The interface of a name. Raises ConfigError."""
        if name not in self.by_name:
            msg = f"no port named {name!r}; there are: {', '.join(self.by_name) or 'none'}"
            raise ConfigError(msg)
        return self.by_name[name]

    def real(self) -> list[tuple[str, Port]]:
        """The ports that frames come in by, in the order of interface-output's edges."""
        return [(i.name, i.port) for i in self if i.port is not None]

    def new(
        self, name: str, kind: str, address: Given = (), *, vrf: str = "default", urpf: str = ""
    ) -> Interface:
        """A new interface, down: its record says nothing but its VRF yet. Raises ConfigError."""
        if name in self.by_name:
            raise ConfigError(f"port {name!r}: the name is taken")
        if urpf not in URPF:
            msg = f"port {name}: urpf is {urpf!r}; allowed: loose, strict"
            raise ConfigError(msg)
        addresses = _addresses(name, address)
        number = self._number(name)
        interface = Interface(number, name, addresses=addresses, kind=kind, vrf=vrf, urpf=urpf)
        record = self.record(interface)
        record["filter"], record["parent"] = NO_MAC, number
        record["vrf"], record["urpf"] = self.vrf(vrf), URPF[urpf]
        self.by_name[name], self._names[number] = interface, name
        return interface

    def vrf(self, name: str) -> int:
        """The number of a VRF, which is made when it is first named. Raises ConfigError, TableFull."""
        with self._lock:  # routes come from any thread, and each may name one first
            if name not in self.vrfs:
                if len(self.vrfs) >= VRFS_MAX:
                    msg = f"VRF {name!r}: there are {VRFS_MAX} already"
                    raise ConfigError(msg)
                self.vrfs[name] = len(self.vrfs)
                try:
                    self.on_vrf(self.vrfs[name])
                except BaseException:
                    del self.vrfs[name]
                    raise
            return self.vrfs[name]

    def _number(self, name: str) -> int:
        if self._fresh < PORTS_MAX:
            self._fresh += 1
            return self._fresh - 1
        number = next(filter(self.idle, self._freed), 0)
        if not number:
            raise ConfigError(
                f"port {name!r}: there are {PORTS_MAX - 1} ports already, or sessions and MACs still name "
                "those that were"
            )
        del self._freed[number]
        return number

    def hide(self, interface: Interface) -> None:
        """Let its name be another's. It goes on with its number until it is forgotten."""
        del self.by_name[interface.name]

    def show(self, interface: Interface) -> None:
        """The other way round."""
        self.by_name[interface.name] = interface

    def forget(self, interface: Interface) -> None:
        """An interface that no packet comes by is no more, and its number is free."""
        if self.by_name.get(interface.name) is interface:
            del self.by_name[interface.name]
        self.ports[interface.number] = np.zeros(1, PORT)
        self._freed[interface.number] = None

    def up(self, interface: Interface, mac: bytes, mtu: int, output: int) -> None:
        """Route what comes in here for this MAC; send what leaves by interface-output's edge."""
        record = self.record(interface)
        record["mac"] = record["filter"] = int.from_bytes(mac, "big")
        record["mtu"], record["output"] = mtu, output
        self.address(interface, interface.addresses)
        record["mode"] = ROUTED

    def tag(
        self, interface: Interface, parent: str, vlan: int, inner: int, *, dot1ad: bool
    ) -> None:
        """Say which tags a sub-interface of a port has. Raises ConfigError, and changes nothing then."""
        on = self.find(parent)
        name = interface.name
        if on.port is None or not all(
            low <= vid < VIDS - 1 for vid, low in ((vlan, 1), (inner, 0))
        ):
            msg = f"port {name}: VLAN ids are 1 to 4094, on a port that is no sub-interface itself"
            raise ConfigError(msg)
        others = [i for i in self if i.parent == parent and i.vlan == vlan]
        if any(i.inner == inner or i.dot1ad != dot1ad for i in others):
            msg = f"port {name}: VLAN {vlan}{f'.{inner}' if inner else ''} on {parent} is taken"
            raise ConfigError(msg)
        interface.parent, interface.vlan = parent, vlan
        interface.inner, interface.dot1ad = inner, dot1ad
        record = self.record(interface)
        record["vlan"], record["inner"] = vlan, inner
        record["tpid"] = eth.QINQ if dot1ad else eth.VLAN
        record["tags"], record["parent"] = 1 + (inner > 0), on.number

    def lay_vlan(self, interface: Interface) -> None:
        """Let frames with a sub-interface's tags come by it. Raises ConfigError."""
        inner, parent = interface.inner, int(self.record(interface)["parent"])
        at = parent * VIDS + interface.vlan
        if inner and not self.vlans[at] & STACKED:
            self.vlans[at] = self._block(interface.name, int(self.vlans[at]))
        if self.vlans[at] & STACKED:
            block = int(self.vlans[at]) & ~STACKED
            self.inner_vlans[block * VIDS + inner] = interface.number
        else:
            self.vlans[at] = interface.number
        self.ports[parent]["flags"] |= TAGGED

    def unlay_vlan(self, interface: Interface) -> None:
        """Let a sub-interface have no tags anymore: workers stand, or no packet has them."""
        number, parent = interface.number, int(self.record(interface)["parent"])
        at = parent * VIDS + interface.vlan
        if self.vlans[at] & STACKED:
            block = int(self.vlans[at]) & ~STACKED
            inner = self.inner_vlans[block * VIDS : (block + 1) * VIDS]
            if inner[interface.inner] == number:
                inner[interface.inner] = 0
            if not inner.any():
                self.vlans[at] = 0
                self._free_blocks.append(block)
        elif self.vlans[at] == number:
            self.vlans[at] = 0
        if not self.vlans[parent * VIDS : (parent + 1) * VIDS].any():
            self.ports[parent]["flags"] &= ~np.uint8(TAGGED)

    def _block(self, name: str, outer_only: int) -> int:
        """A block of inner_vlans, as an entry of vlans; the sub-interface with one tag moves in."""
        if self._free_blocks:
            block = self._free_blocks.pop()
        elif self._blocks < STACKED_MAX:
            block, self._blocks = self._blocks, self._blocks + 1
        else:
            msg = f"port {name}: {STACKED_MAX - 1} outer VLANs have inner ones already"
            raise ConfigError(msg)
        self.inner_vlans[block * VIDS] = outer_only
        return STACKED | block

    def cross_connect(self, a: Interface, b: Interface) -> None:
        """Let each send what the other receives."""
        for interface, peer in ((a, b), (b, a)):
            interface.peer = peer.name
            record = self.record(interface)
            record["peer"], record["filter"] = peer.number, NO_MAC
            record["mode"] = CROSS_CONNECTED

    def bridge(self, interface: Interface, bridge: str) -> None:
        """Let a port switch its frames in a bridge."""
        interface.bridge = bridge
        record = self.record(interface)
        record["filter"], record["mode"] = NO_MAC, BRIDGED

    def bvi(self, interface: Interface, bridge: str) -> None:
        """Make a routed interface that of a bridge."""
        interface.bridge = bridge
        self.record(interface)["mode"] = BVI

    def host(self, interface: Interface, of: Interface) -> None:
        """Let the host stand at a port by another, a TAP."""
        record = self.record(interface)
        record["peer"], record["filter"], record["mode"] = of.number, NO_MAC, HOST
        interface.peer = of.name
        self.record(of)["host"] = interface.number

    def part(self, interface: Interface) -> None:
        """Undo bridge, cross_connect (of this side) and host: it routes, and stands by nobody."""
        record = self.record(interface)
        if record["mode"] == HOST:
            self.ports[int(record["peer"])]["host"] = 0
        interface.peer = interface.bridge = ""
        record["peer"], record["mode"] = 0, ROUTED
        record["filter"] = record["mac"]

    def address(self, interface: Interface, addresses: tuple[Address, ...]) -> None:
        """Give an interface these addresses in place of others."""
        interface.addresses = addresses
        first = next((a for a in addresses if isinstance(a, IPv4Interface)), None)
        self.record(interface)["address"] = int(first.ip) if first else 0


def _addresses(name: str, given: Given) -> tuple[Address, ...]:
    listed = [given] if isinstance(given, str | IPv4Interface | IPv6Interface) else list(given)
    try:
        return tuple(ip_interface(a) if isinstance(a, str) else a for a in listed)
    except ValueError as error:
        msg = f"port {name}: {error}; an address is written 10.0.1.1/24 or 2001:db8::1/64"
        raise ConfigError(msg) from None


def link_local(mac: bytes) -> IPv6Interface:
    """The link-local address that a MAC makes: RFC 4291 section 2.5.6 and appendix A."""
    eui = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return IPv6Interface((IPv6Address(b"\xfe\x80" + bytes(6) + eui), 64))


def is_link_local(address: Address) -> bool:
    """Whether an address is an IPv6 one of the link only."""
    return isinstance(address, IPv6Interface) and address.ip in LINK_LOCAL
