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
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple, TypeVar

from vforward.control.bridging import Bridging, Settings, Tag, rewrite
from vforward.control.interfaces import (
    PORTS_MAX,
    Given,
    Interface,
    Interfaces,
    is_link_local,
    link_local,
)
from vforward.control.maintenance import Maintenance
from vforward.control.neighbor_machine import Limits
from vforward.control.neighbors import NeighborService
from vforward.control.publish import Publisher
from vforward.control.router_graph import BVI_EDGE, lay_out
from vforward.control.routing import Path, Routing
from vforward.errors import ConfigError
from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.worker import Worker, clock_hz
from vforward.io import shim
from vforward.io.libc import libc_address
from vforward.io.port import Port, default_mac
from vforward.io.tap import TapPort
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.packet import ethernet as eth
from vforward.tables import rate_limit
from vforward.tables.addresses import mapped_int

P = TypeVar("P", bound=Port)

BUFFERS_MIN = 1024
"""With fewer, the worker's cache could hold all of them, and nobody could ask for a neighbor."""


class Tags(NamedTuple):
    """How a frame's tags change on its way in; on its way out the same is undone.

    pop: how many come off, None: all that its port knows. push: (EtherType, VLAN id) of those that
    are put on then, the outer first.
    """

    pop: int | None
    push: tuple[tuple[int, int], ...] = ()


class Forwarder:
    """See the module. Ports and wiring are given first, then build, then packets.

    vector: packets per call of a node, 1 to 256. buffers: of the pool. idle: "poll" lets the worker
    sleep when nothing comes in, "spin" does not. core: CPU to pin the worker to. icmp_errors: ICMP
    errors per second in all. mac_table: MACs that all bridges together may know; mac_age_s: for how
    long after a station was last heard. neighbors: how many may be known. Raises ArenaError
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
        icmp_errors: int = 1000,
        mac_table: int = 65536,
        mac_age_s: float = 300.0,
        neighbors: int = 16384,
    ) -> None:
        if not 1 <= vector <= VECTOR_MAX:
            msg = f"vector is {vector}; allowed: 1 to {VECTOR_MAX}"
            raise ConfigError(msg)
        if buffers < BUFFERS_MIN:
            msg = f"buffers is {buffers}; at least {BUFFERS_MIN}"
            raise ConfigError(msg)
        self.name = name or f"python-{os.getpid()}-{time.monotonic_ns() % 10**9}"
        with ExitStack() as stack:  # closed here if there is no room for all of it
            self.arena = stack.enter_context(Arena.create(self.name))
            self.pool = Pool(self.arena, buffers)
            self.interfaces = Interfaces(self.arena)
            ports = self.interfaces.ports
            self.routing = Routing(self.arena, ports, self.interfaces.name_of)
            self.bridging = Bridging(self.arena, ports, entries=mac_table, age_s=mac_age_s)
            self.graph = Graph(self.arena, self.pool, PORTS_MAX)
            self.neighbors = NeighborService(
                self.arena, self.pool, ports, self.routing, limits=Limits(neighbors)
            )
            stack.callback(self.neighbors.close)
            limits = self.arena.make("icmp-limits", rate_limit.items_for(), "u8")
            hz = int(clock_hz())
            self.icmp_limits = rate_limit.prepare(limits, hz, rate=icmp_errors)
            self._stack = stack.pop_all()
        self.worker: Worker | None = None
        self.vector = vector
        self._idle, self._core = idle, core
        self._bridges: dict[str, int] = {}
        self._maintenance = Maintenance([self.bridging.step])
        self._publisher: Publisher | None = None

    # What is added before build.

    def add_port(
        self, name: str, port: P, address: Given = (), *, vrf: str = "default", urpf: str = ""
    ) -> P:
        """Open a port and give it addresses ("10.0.1.1/24", "2001:db8::1/64"). Returns it.

        vrf: whose routes its packets take. urpf: "loose" or "strict" (RFC 3704). Raises ConfigError
        (name or address in use; built already), PortError.
        """
        self._not_built(f"port {name}")
        kind = type(port).__name__
        interface = self.interfaces.new(name, kind, address, vrf=vrf, urpf=urpf)
        self._stack.callback(port.close)
        try:
            port.open(interface.number, self.pool)
        except BaseException:
            self.interfaces.forget(interface)
            raise
        interface.port = port
        self._up(interface, port.mac, port.mtu)
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
        on = self.interfaces.find(parent)
        interface = self.interfaces.new(name, "vlan", address, vrf=vrf, urpf=urpf)
        try:
            self.interfaces.lay_vlan(interface, parent, vlan, inner, dot1ad=dot1ad)
        except BaseException:
            self.interfaces.forget(interface)
            raise
        assert on.port is not None
        self._up(interface, on.port.mac, min(mtu or on.port.mtu, on.port.mtu))

    def add_bridge(self, name: str, settings: Settings | None = None) -> None:
        """Add a bridge domain. Raises ConfigError."""
        self._not_built(f"bridge {name}")
        self._bridges[name] = self.bridging.add_domain(name, settings)

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
        self.bridging.add_member(self._bridge(bridge), interface.number, group)
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
        domain = self._bridge(bridge)
        interface = self.interfaces.new(name, "bvi", address, vrf=vrf, urpf=urpf)
        self._up(interface, mac or default_mac(interface.number), mtu)
        self.interfaces.bvi(interface, bridge)
        self.bridging.set_bvi(domain, interface.number)

    def add_static_mac(self, bridge: str, mac: bytes, port: str) -> None:
        """Bind a MAC to a port of a bridge for good. Raises ConfigError, TableFull."""
        number = self.interfaces.find(port).number
        self.bridging.add_static(self._bridge(bridge), int.from_bytes(mac, "big"), number)

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

    def add_host(self, name: str, tap: str, of: str, *, routes: bool = True) -> None:
        """Let the host stand at a routed port's side, by a TAP interface that has its addresses.

        What comes to the router's own addresses and is no ping goes there, and what the host sends
        there is routed. tap: the Linux interface's name. routes: the host's replies from these
        addresses leave by the TAP. Raises ConfigError, PortError.
        """
        self._not_built(f"port {name}")
        there = self.interfaces.find(of)
        record = self.interfaces.record(there)
        mac = int(record["mac"]).to_bytes(6, "big")
        port = TapPort(
            tap, mac=mac, mtu=int(record["mtu"]), addresses=there.addresses, host_routes=routes
        )
        self.add_port(name, port)
        self.interfaces.host(self.interfaces.find(name), there)

    def add_route(
        self,
        prefix: str,
        *,
        via: str | None = None,
        port: str | None = None,
        kind: str = "",
        paths: Iterable[tuple[str | None, str | None, int]] = (),
        metric: int = 0,
        vrf: str = "default",
    ) -> None:
        """Route a prefix via a next hop, out of a port, over paths, or nowhere.

        paths: (via, port, weight) of each. kind: "blackhole", "unreachable", "prohibit", "local".
        Of routes to one prefix the lowest metric counts. Raises ConfigError.
        """
        given = [*paths] or ([] if kind else [(via, port, 1)])
        self.routing.add(
            ip_network(prefix),
            paths=[
                Path(
                    None if hop is None else ip_address(hop),
                    None if out is None else self.interfaces.find(out).number,
                    weight,
                )
                for hop, out, weight in given
            ],
            kind=kind,
            metric=metric,
            vrf=self.interfaces.vrf(vrf),
        )

    def delete_route(self, prefix: str, *, metric: int | None = None, vrf: str = "default") -> None:
        """Take a route away. Raises KeyError when there is none."""
        self.routing.delete(ip_network(prefix), metric=metric, vrf=self.interfaces.vrf(vrf))

    def add_neighbor(self, address: str, mac: bytes, port: str) -> None:
        """Tell a neighbor's MAC, which is then never asked for. Raises ConfigError."""
        ip = ip_address(address)
        number = int(ip) if ip.version == 6 else mapped_int(int(ip))
        self.neighbors.add_static(self.interfaces.find(port).number, number, mac)

    # Its life.

    def build(
        self, progress: Callable[[str], None] = lambda _: None, config: str | None = None
    ) -> None:
        """Wire and compile the graph. config: the file it comes from, to be shown.

        progress is called with each node's name before it is compiled. Raises WiringError,
        KernelError.
        """
        self.graph.tables |= (
            self.interfaces.tables
            | self.neighbors.tables
            | self.routing.tables
            | self.bridging.tables
            | {"icmp_limits": self.icmp_limits}
        )
        real = self.interfaces.real()
        lay_out(self.graph, real)
        for interface in self.interfaces:
            if interface.urpf:
                for family in ("ip4", "ip6"):
                    arc = self.graph.arcs[f"{family}-input"]
                    arc.enable(f"{family}-urpf", interface.number)
        plan = self.graph.build(progress)
        plan.control[c.VECTOR] = self.vector
        self.worker = Worker(
            plan,
            descriptors=[fd for _, port in real for fd in port.descriptors()],
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
        """Start the worker and the services. Raises VforwardError when they run already."""
        assert self.worker is not None, "build comes before start"
        assert self._publisher is not None
        self.worker.start()
        self._stack.callback(self.stop)
        self.neighbors.start()
        self._maintenance.start()
        self._publisher.start()

    def run_until_idle(self) -> None:
        """Forward what waits, in the calling thread, until nothing more moves.

        Raises VforwardError between start and stop.
        """
        assert self.worker is not None, "build comes before packets"
        self.worker.run_until_idle()
        while self.neighbors.step(time.monotonic()).moved:
            self.worker.run_until_idle()
        self._maintenance.step(time.monotonic())
        for _, port in self.interfaces.real():
            port.flush()

    def stop(self) -> None:
        """Stop the worker and the services; ports flush. Harmless when repeated."""
        if self.worker is not None:
            self.worker.stop()
        self.neighbors.stop()
        self._maintenance.stop()
        for _, port in self.interfaces.real():
            port.flush()
        if self._publisher is not None:
            self._publisher.stop()

    def known_neighbors(self) -> list[dict[str, Any]]:
        """The neighbors, for users: port, address, mac, state, and since when, in seconds."""
        return [
            {
                "port": self.interfaces.name_of(n.port),
                "address": str(n.address),
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

    def _not_built(self, what: str) -> None:
        if self.worker is not None:
            msg = f"{what}: the graph is built and its edges are fixed; add this before build"
            raise ConfigError(msg)

    def _bridge(self, name: str) -> int:
        if name not in self._bridges:
            msg = f"no bridge named {name!r}; there are: {', '.join(self._bridges) or 'none'}"
            raise ConfigError(msg)
        return self._bridges[name]

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

    def _up(self, interface: Interface, mac: bytes, mtu: int) -> None:
        names = [name for name, _ in self.interfaces.real()]
        on = interface.parent or interface.name
        output = names.index(on) + BVI_EDGE + 1 if on in names else BVI_EDGE
        if any(a.version == 6 for a in interface.addresses):
            if not any(is_link_local(a) for a in interface.addresses):
                interface.addresses += (link_local(mac),)
        self.interfaces.up(interface, mac, mtu, output)
        for address in interface.addresses:
            self.routing.connect(interface.number, address)
            self.neighbors.add_address(interface.number, address)
