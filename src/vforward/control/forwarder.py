# SPDX-License-Identifier: Apache-2.0
"""A forwarder: ports, tables and the graph of a switch and router, built, run and taken down.

    with Forwarder("lab") as router:
        lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
        router.add_port("wan", PcapPort(write="wan.pcap"), "10.0.2.1/24")
        router.build()
        lan.send([frame])
        router.run_until_idle()

What it holds lies in an arena of its name, where ``vforward show`` reads it without stopping anybody.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, TypeVar

import numpy as np

from vforward.control.neighbors import NeighborService
from vforward.control.publish import Publisher
from vforward.control.router_graph import lay_out
from vforward.control.routing import Routing
from vforward.errors import ConfigError
from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.worker import Worker
from vforward.io import shim
from vforward.io.libc import libc_address
from vforward.io.port import Port
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.packet import ethernet as eth
from vforward.tables.ports import (
    CROSS_CONNECTED,
    NO_MAC,
    PORT,
    ROUTED,
    STACKED_MAX,
    TAGGED,
    VIDS,
)

P = TypeVar("P", bound=Port)

PORTS_MAX = 64
"""Ports and sub-interfaces, number 0 (which is none) included."""
BUFFERS_MIN = 1024
"""With fewer, the worker's cache could hold all of them, and nobody could ask for a neighbor."""


@dataclass
class Interface:
    """A port, or a sub-interface of one (then port is None), as the forwarder knows it."""

    number: int
    name: str
    port: Port | None
    addresses: tuple[IPv4Interface, ...] = ()
    parent: str = ""
    vlan: int = 0
    peer: str = ""


class Forwarder:
    """See the module. Ports and wiring are given first, then build, then packets.

    vector: packets per call of a node, 1 to 256. buffers: of the pool. idle: "poll" lets the worker
    sleep when nothing comes in, "spin" does not. core: CPU to pin the worker to. Raises ArenaError
    when a forwarder of that name is running or there is no room for the buffers.
    """

    def __init__(
        self,
        name: str = "",
        *,
        vector: int = VECTOR_MAX,
        buffers: int = 16384,
        idle: str = "poll",
        core: int | None = None,
    ) -> None:
        if not 1 <= vector <= VECTOR_MAX:
            msg = f"vector is {vector}; allowed: 1 to {VECTOR_MAX}"
            raise ConfigError(msg)
        if buffers < BUFFERS_MIN:
            msg = f"buffers is {buffers}; at least {BUFFERS_MIN}"
            raise ConfigError(msg)
        self.name = name or f"python-{os.getpid()}-{time.monotonic_ns() % 10**9}"
        self.interfaces: dict[str, Interface] = {}
        with ExitStack() as stack:  # closed here if there is no room for all of it
            self.arena = stack.enter_context(Arena.create(self.name))
            self.pool = Pool(self.arena, buffers)
            self.ports = self.arena.make("ports", PORTS_MAX, PORT)
            self.vlans = self.arena.make("vlans", PORTS_MAX * VIDS, np.uint16)
            self.inner_vlans = self.arena.make("inner-vlans", STACKED_MAX * VIDS, np.uint16)
            self.routing = Routing(self.arena, self.ports, self._name_of)
            self.graph = Graph(self.arena, self.pool, PORTS_MAX)
            self.neighbors = NeighborService(self.arena, self.pool, self.ports, self.routing)
            stack.callback(self.neighbors.close)
            self._stack = stack.pop_all()
        self.worker: Worker | None = None
        self.vector = vector
        self._idle, self._core = idle, core
        self._publisher: Publisher | None = None

    def add_port(
        self,
        name: str,
        port: P,
        address: str | IPv4Interface | Iterable[str | IPv4Interface] = (),
    ) -> P:
        """Open a port and give it addresses ("10.0.1.1/24"). Returns it.

        Raises ConfigError (name or address in use; built already), PortError.
        """
        self._not_built(f"port {name}")
        interface = self._new(name, port, address)
        self._stack.callback(port.close)
        try:
            port.open(interface.number, self.pool)
        except BaseException:
            del self.interfaces[name]
            raise
        record = self.ports[interface.number]
        record["mac"] = record["filter"] = int.from_bytes(port.mac, "big")
        record["mtu"], record["parent"] = port.mtu, interface.number
        self._up(interface)
        return port

    def add_vlan(
        self,
        name: str,
        parent: str,
        vlan: int,
        address: str | IPv4Interface | Iterable[str | IPv4Interface] = (),
        mtu: int | None = None,
    ) -> None:
        """Add a sub-interface: the packets of one VLAN (1 to 4094) on a port.

        mtu: the port's if not given, and never more than that. Raises ConfigError.
        """
        self._not_built(f"port {name}")
        on = self._interface(parent)
        at = on.number * VIDS + vlan
        if on.port is None or not 1 <= vlan < VIDS - 1 or self.vlans[at]:
            msg = f"port {name}: VLAN {vlan} on {parent} is out of 1 to 4094, taken, or in a VLAN"
            raise ConfigError(msg)
        interface = self._new(name, None, address)
        interface.parent, interface.vlan = parent, vlan
        record = self.ports[interface.number]
        record["mac"] = record["filter"] = self.ports[on.number]["mac"]
        record["mtu"] = min(mtu or on.port.mtu, on.port.mtu)
        record["vlan"], record["parent"] = vlan, on.number
        record["tpid"], record["tags"] = eth.VLAN, 1
        self.ports[on.number]["flags"] |= TAGGED
        self._up(interface)
        self.vlans[at] = interface.number

    def cross_connect(self, one: str, other: str) -> None:
        """Let each of two ports send what the other receives, unchanged. Raises ConfigError."""
        self._not_built(f"cross connect {one} - {other}")
        a, b = self._interface(one), self._interface(other)
        if a is b or any(i.addresses or i.vlan or i.peer for i in (a, b)):
            msg = (
                f"cross connect {one} - {other}: takes two ports without addresses, VLAN, or "
                "another cross connect"
            )
            raise ConfigError(msg)
        for interface, peer in ((a, b), (b, a)):
            interface.peer = peer.name
            record = self.ports[interface.number]
            record["peer"], record["filter"] = peer.number, NO_MAC
            record["mode"] = CROSS_CONNECTED

    def add_route(
        self,
        prefix: str | IPv4Network,
        *,
        via: str | IPv4Address | None = None,
        port: str | None = None,
        kind: str = "",
    ) -> None:
        """Route a prefix via a next hop, out of a port, or to "blackhole", "unreachable", "prohibit".

        Raises ConfigError.
        """
        self.routing.add(
            IPv4Network(prefix),
            via=None if via is None else IPv4Address(via),
            port=None if port is None else self._interface(port).number,
            kind=kind,
        )

    def add_neighbor(self, address: str | IPv4Address, mac: bytes, port: str) -> None:
        """Tell a neighbor's MAC, which is then never asked for. Raises ConfigError."""
        self.neighbors.add_static(self._interface(port).number, int(IPv4Address(address)), mac)

    def build(
        self, progress: Callable[[str], None] = lambda _: None, config: str | None = None
    ) -> None:
        """Wire and compile the graph. config: the file it comes from, to be shown.

        progress is called with each node's name before it is compiled. Raises WiringError,
        KernelError.
        """
        fib = self.routing.fib
        self.graph.tables |= self.neighbors.tables | {
            "ports": self.ports,
            "vlans": self.vlans,
            "inner_vlans": self.inner_vlans,
            "adjacencies": self.routing.adjacencies,
            "fib4_root": fib.root,
            "fib4_blocks": fib.blocks,
        }
        lay_out(self.graph, self._real())
        plan = self.graph.build(progress)
        plan.control[c.VECTOR] = self.vector
        self.worker = Worker(
            plan,
            descriptors=[fd for _, port in self._real() for fd in port.descriptors()],
            poll=shim.address("vf_ppoll") if self._idle == "poll" and shim.built() else 0,
            read=libc_address("read"),
            core=self._core,
        )
        self._stack.callback(self.worker.close)
        progress("scheduler")
        self.worker.prepare()
        self.routing.quiesce = self.worker.quiesce
        self.neighbors.wake = self.worker.wake
        self._publisher = Publisher(self, config)

    def start(self) -> None:
        """Start the worker and the neighbor service. Raises VforwardError when they run already."""
        assert self.worker is not None, "build comes before start"
        assert self._publisher is not None
        self.worker.start()
        self._stack.callback(self.stop)
        self.neighbors.start()
        self._publisher.start()

    def run_until_idle(self) -> None:
        """Forward what waits, in the calling thread, until nothing more moves.

        Raises VforwardError between start and stop.
        """
        assert self.worker is not None, "build comes before packets"
        self.worker.run_until_idle()
        while self.neighbors.step(time.monotonic()).moved:
            self.worker.run_until_idle()
        for _, port in self._real():
            port.flush()

    def stop(self) -> None:
        """Stop the worker and the neighbor service; ports flush. Harmless when repeated."""
        if self.worker is not None:
            self.worker.stop()
        self.neighbors.stop()
        for _, port in self._real():
            port.flush()
        if self._publisher is not None:
            self._publisher.stop()

    def known_neighbors(self) -> list[dict[str, Any]]:
        """The neighbors, for users: port, address, mac, state, and since when, in seconds."""
        return [
            {
                "port": self._name_of(n.port),
                "address": str(IPv4Address(n.ip)),
                "mac": n.mac.hex(":") if n.mac else "",
                "state": n.state.value,
                "since": round(n.since, 3),
            }
            for n in self.neighbors.entries()
        ]

    def close(self) -> None:
        """Stop, close the ports and remove the arena. Harmless when repeated."""
        self._stack.close()

    def __enter__(self) -> Forwarder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _real(self) -> list[tuple[str, Port]]:
        return [(i.name, i.port) for i in self.interfaces.values() if i.port is not None]

    def _name_of(self, number: int) -> str:
        return next(i.name for i in self.interfaces.values() if i.number == number)

    def _not_built(self, what: str) -> None:
        if self.worker is not None:
            msg = f"{what}: the graph is built and its edges are fixed; add this before build"
            raise ConfigError(msg)

    def _interface(self, name: str) -> Interface:
        if name not in self.interfaces:
            msg = f"no port named {name!r}; there are: {', '.join(self.interfaces) or 'none'}"
            raise ConfigError(msg)
        return self.interfaces[name]

    def _new(self, name: str, port: Port | None, address: Any) -> Interface:
        number = len(self.interfaces) + 1
        if name in self.interfaces or number >= PORTS_MAX:
            msg = f"port {name!r}: the name is taken, or there are {PORTS_MAX - 1} ports already"
            raise ConfigError(msg)
        listed = [address] if isinstance(address, str | IPv4Interface) else list(address)
        try:
            addresses = tuple(IPv4Interface(a) for a in listed)
        except ValueError as error:
            msg = f"port {name}: {error}; an address is written 10.0.1.1/24"
            raise ConfigError(msg) from None
        interface = Interface(number, name, port, addresses)
        self.interfaces[name] = interface
        return interface

    def _up(self, interface: Interface) -> None:
        record = self.ports[interface.number]
        for address in interface.addresses:
            self.routing.connect(interface.number, address)
            self.neighbors.add_address(interface.number, address)
        if interface.addresses:
            record["address"] = int(interface.addresses[0].ip)
        names = [name for name, _ in self._real()]
        record["output"] = names.index(interface.parent or interface.name)
        record["mode"] = ROUTED
