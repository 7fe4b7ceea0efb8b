# SPDX-License-Identifier: Apache-2.0
"""A forwarder: ports, tables and the graph of a switch and router, built, run and taken down.

    with Forwarder("lab") as router:
        lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
        router.add_port("wan", PcapPort(write="wan.pcap"), "10.0.2.1/24")
        router.build()
        lan.send([frame])
        router.run_until_idle()

What it holds lies in an arena of its name, where others read it without stopping anybody (control.observe),
and once it serves its API the `vforward` command shows it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from vforward.control.assembly import Assembly
from vforward.control.bridging import Bridging
from vforward.control.capture import Captures
from vforward.control.firewall import Firewall
from vforward.control.hand_off import HandOff
from vforward.control.interfaces import PORTS_MAX, Interfaces
from vforward.control.maintenance import Maintenance
from vforward.control.neighbor_machine import Limits
from vforward.control.neighbors import NeighborService
from vforward.control.placement import Placement
from vforward.control.plugins import Plugins
from vforward.control.publish import Publisher
from vforward.control.restore import NEVER, go_on, open_arena
from vforward.control.router_graph import lay_out
from vforward.control.routing import Routing
from vforward.control.succession import Succession, Taking
from vforward.control.told_router import ToldRouter
from vforward.errors import ConfigError, VforwardError
from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.worker import PROFILES, begin_clock, clock_hz
from vforward.graph.workers import Workers, cores
from vforward.io import shim
from vforward.io.libc import libc_address
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.tables import rate_limit

if TYPE_CHECKING:
    from vforward.control.api_server import Server, Tcp
    from vforward.control.reload import Reload

BUFFERS_MIN = 1024
"""With fewer, a worker's cache could hold all of them, and nobody could ask for a neighbor."""
NEXT_HOPS = 49152
"""Adjacencies for next hops and groups of them, besides one for each neighbor."""
NEIGHBORS_MAX = 1 << 20


class Forwarder(Assembly):
    """See the module. Ports and wiring are given first, then build, then packets.

    vector: packets per call of a node, 1 to 256. buffers: of the pool. idle: "poll" lets a worker
    sleep when nothing comes in, "spin" does not. profile: see there. workers: how many threads forward,
    1 to WORKERS_MAX. core: CPU to pin the first to, the others to those that follow (graph.workers.cores).
    icmp_errors: ICMP errors per second in all. mac_table: MACs that all bridges together may know;
    mac_age_s: for how long after a station was last heard. neighbors: how many may be known. keep: "crash":
    the next one of its name goes on from what it knew and was told when it was killed, "always": or ended;
    fresh: it takes over nothing, for once. Raises ArenaError when a forwarder of that name is running or
    there is no room for the buffers.
    """

    def __init__(
        self,
        name: str = "",
        *,
        vector: int = VECTOR_MAX,
        buffers: int = 16384,
        idle: str = "poll",
        profile: str = "latency",
        core: int | None = None,
        workers: int = 1,
        icmp_errors: int = 1000,
        mac_table: int = 65536,
        mac_age_s: float = 300.0,
        neighbors: int = 16384,
        keep: str = NEVER,
        fresh: bool = False,
    ) -> None:
        _check_sizes(vector, neighbors, workers, buffers)
        self.workers: Workers | None = None
        self.n_workers = workers
        self.profile = profile
        self.name = name or f"python-{os.getpid()}-{time.monotonic_ns() % 10**9}"
        begin_clock()
        with ExitStack() as stack:  # closed here if there is no room for all of it
            self.arena = stack.enter_context(open_arena(self.name, keep, fresh=fresh))
            self._make_parts(stack, buffers, neighbors, mac_table, mac_age_s, icmp_errors)
            stack.callback(self._close_ports)
            self._stack = stack.pop_all()
        self._kept, self._knows = keep, False
        self.cores = cores(workers, core)
        """The CPU that each worker is pinned to."""
        self.placement: Placement
        self.vector = vector
        self._idle = idle
        self._bridges: dict[str, int] = {}
        self._without_carrier: set[str] = set()
        self.moving = threading.Lock()
        """Held while queues move between workers, and while a graph takes another's place."""
        self.captures = Captures(self)
        self._succession = Succession(self, self._hand_off, self.hz)
        self.changing = threading.RLock()
        """Held while something is changed that the graph is laid out by."""
        self.plugins = Plugins(self)
        self._stack.callback(self.plugins.close)
        self._maintenance = Maintenance([self.bridging.step, self._follow_carriers])
        self._publisher: Publisher | None = None
        self.reload: Reload | None = None
        """The way to another configuration, where it came from one (control.run)."""

    def _make_parts(
        self, stack: ExitStack, buffers: int, neighbors: int, macs: int, mac_age_s: float, errors: int
    ) -> None:  # fmt: skip
        """Make the pool, the graph, and who writes its tables: all that lies in the arena."""
        workers = self.n_workers
        self.pool = Pool(self.arena, buffers)
        self.interfaces = Interfaces(self.arena)
        ports = self.interfaces.ports
        self.routing = Routing(
            self.arena, ports, self.interfaces.name_of, n_adjacencies=NEXT_HOPS + neighbors
        )
        self.interfaces.on_vrf = self.routing.add_vrf
        self.bridging = Bridging(self.arena, ports, entries=macs, age_s=mac_age_s)
        self.graph = Graph(self.arena, self.pool, PORTS_MAX, workers)
        self.neighbors = NeighborService(
            self.arena, self.pool, ports, self.routing, limits=Limits(neighbors), workers=workers
        )
        stack.callback(self.neighbors.close)
        limits = self.arena.make("icmp-limits", rate_limit.items_for(), "u8")
        self.hz = int(clock_hz())
        self.icmp_limits = rate_limit.prepare(limits, self.hz, rate=errors)
        self.firewall = Firewall(self.arena, self.interfaces, self.hz, self.pool.size, workers)
        self.told = ToldRouter()
        stack.callback(self.told.close)
        self.firewall.on_change = self.told.change_firewall
        self._hand_off = None
        if workers > 1:
            self._hand_off = HandOff(self.arena, self.pool, ports, workers)
            stack.callback(self._hand_off.close)

    @property
    def profile(self) -> str:
        """How workers that may sleep go about it, graph.worker.PROFILES; may be set at any time.

        "latency": they poll for some milliseconds after each packet. "throughput": they let packets
        gather, and leave the CPU to others meanwhile. Raises ConfigError for another one.
        """
        return self._profile

    @profile.setter
    def profile(self, profile: str) -> None:
        if profile not in PROFILES:
            msg = f"profile is {profile!r}; allowed: {' or '.join(map(repr, PROFILES))}"
            raise ConfigError(msg)
        self._profile = profile
        if self.workers is not None:
            self._follow(self.workers)

    def build(
        self, progress: Callable[[str], None] = lambda _: None, config: str | None = None
    ) -> None:
        """Wire and compile the graph. config: the file it comes from, to be shown.

        progress is called with each node's name before it is compiled. Raises WiringError,
        KernelError.
        """
        self.firewall.prepare()
        self.graph.tables |= (
            self.interfaces.tables
            | self.firewall.tables
            | self.neighbors.tables
            | self.routing.tables
            | self.bridging.tables
            | {"icmp_limits": self.icmp_limits}
        )
        parts = zip(self.graph.own, self.firewall.own, self.neighbors.own, strict=True)
        for own, firewall, neighbors in parts:
            own |= firewall | neighbors
        real = self.interfaces.real()
        self.placement = Placement(real, self.n_workers)
        self.lay_out(self.graph, self.placement)
        if self.interfaces.ports["host"].any():
            for _, port in real:  # the addresses are Linux's too, on all of its interfaces
                port.mute()
        for interface in self.interfaces:
            self.switch_features(self.graph.arcs, interface, on=True)
        self.graph.build(progress)
        if self._hand_off is not None:
            self.placement.lay(self.graph)
        self.built = True
        for plan in self.graph.plans:
            plan.control[c.VECTOR] = self.vector
        self.workers = workers = Workers(
            self.graph.plans,
            descriptors=self.placement.descriptors,
            deaf_to=[self.placement.deaf_to(worker) for worker in range(self.n_workers)],
            poll=shim.address("vf_ppoll") if shim.built() else 0,
            read=libc_address("read"),
            cores=self.cores,
        )
        self._stack.callback(workers.close)
        self._follow(workers)
        progress("scheduler")
        workers.prepare()
        if self._hand_off is not None:
            self._hand_off.connect(workers)
            self.placement.begin(workers, self._hand_off)
        self.routing.quiesce = self.firewall.quiesce = workers.quiesce
        self.neighbors.wake = workers.wake
        for _, port in real:
            port.attach(workers.quiesce)
        self._publisher = Publisher(self, config)
        self._knows = go_on(self, self._publisher, self._kept)

    def lay_out(self, graph: Graph, placement: Placement) -> None:
        """Add and wire the nodes of an empty graph, for the ports that there are. Raises WiringError."""
        graph.tables["senders"] = placement.senders
        lay_out(graph, self.interfaces.real(), self._hand_off)

    def replace_graph(
        self,
        change: Callable[[Graph], None] | None = None,
        *,
        standing: Callable[[], None] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> list[float]:
        """Lay out the graph anew, for the ports that there are now, and put it in the old one's place.

        change: lays what there is besides the forwarder's own nodes, if not the plug-ins that are loaded.
        The workers may be running: see control.succession. Returns for how long each forwarded nothing,
        seconds. Raises WiringError, KernelError, ArenaError, VforwardError: then the old graph goes on.
        """
        if self._publisher is None:
            msg = "replace_graph: the graph is not built; build comes first"
            raise VforwardError(msg)
        with self.changing:
            lay = change or self.plugins.lay
            stood = self._succession.run(self._publisher, lay, standing, progress)
            if change is None:
                self.plugins.enable()  # at ports that are new
            return stood

    @contextmanager
    def next_graph(self) -> Iterator[Taking]:
        """A graph for the ports that there are now, built aside, to take place inside while at rest.

        ``moving`` is held. Raises as replace_graph.
        """
        assert self._publisher is not None, "build comes first"
        with (
            self.changing,
            self._succession.prepared(self.plugins.lay) as (new, placement),
            self.moving,
        ):
            taking = self._succession.offer(new, placement, self._publisher)
            try:
                yield taking
            finally:
                taking.finish()
        self.plugins.enable()

    def start(self) -> None:
        """Start the workers and the services. Raises VforwardError when they run already."""
        assert self.workers is not None, "build comes before start"
        assert self._publisher is not None
        self._stack.callback(self.stop)
        self.neighbors.start()  # first: workers read where to ring without a lock
        self.workers.start()
        self._maintenance.start()
        self._publisher.start()
        self.arena.tidy()

    def serve(self, tcp: Tcp | None = None) -> Server:
        """Serve the API until close or the server's stop: what the `vforward` command speaks to.

        tcp: where to listen besides the Unix socket. Needs the daemon extra. Raises ApiError, VforwardError
        before build.
        """
        from vforward.control.api_server import Server
        from vforward.control.observe import View

        if self._publisher is None:
            msg = "serve: the graph is not built; build comes first"
            raise VforwardError(msg)

        def make() -> Any:
            from vforward.control.api import make_app

            return make_app(View(Arena.attach(self.name)), self)

        server = Server(self.arena.path, make, tcp)
        self._stack.callback(server.stop)
        self._stack.callback(self.plugins.close)  # first: a call may wait for a plug-in to be tried
        return server

    def publish(self, part: str = "") -> None:
        """Let others see now what has changed, or a part of it: see control.publish."""
        if self._publisher is not None:
            self._publisher.refresh(part)

    def publish_ports(self) -> None:
        """Let others see ports as they are now."""
        if self._publisher is not None:
            self.firewall.publish_numbers()  # of ports, too
            self._publisher.describe()
            self._publisher.refresh()

    def run_until_idle(self) -> None:
        """Forward what waits, in the calling thread, until nothing more moves.

        Raises VforwardError between start and stop.
        """
        assert self.workers is not None, "build comes before packets"
        self.workers.run_until_idle()
        while self.neighbors.step(time.monotonic()).moved:
            self.workers.run_until_idle()
        self._maintenance.step(time.monotonic())
        for _, port in self.interfaces.real():
            port.flush()

    def stop(self) -> None:
        """Stop the workers and the services; ports flush. Harmless when repeated."""
        with ExitStack() as rest:  # the last one first; none is left out when another fails
            if self._publisher is not None:
                rest.callback(self._publisher.stop)
            for _, port in self.interfaces.real():
                rest.callback(port.flush)
            rest.callback(self._maintenance.stop)
            rest.callback(self.neighbors.stop)
            if self.workers is not None:
                rest.callback(self.workers.stop)

    def set_idle(self, idle: str) -> None:
        """Whether workers sleep when nothing comes in ("poll"), or not ("spin")."""
        self._idle = idle
        if self.workers is not None:
            self._follow(self.workers)

    def _follow(self, workers: Workers) -> None:
        workers.follow(self._profile if self._idle == "poll" else "")

    def move_queue(self, port: str, worker: int, queue: int = 0) -> None:
        """Let another worker poll a port's receive queue, while they run or not.

        No packet is lost by it, and none overtakes another of its flow. Raises ConfigError where there is
        no such queue or worker, VforwardError when a worker does not answer: then it is as before.
        """
        assert self.workers is not None, "build comes before packets"
        with self.moving:
            self.placement.move(port, queue, worker)

    def _follow_carriers(self, _now: float) -> None:
        """Forget what is known of neighbors where a port's other end went, or came."""
        without = {i.name for i in self.interfaces if i.port is not None and not i.port.carrier()}
        changed, self._without_carrier = without ^ self._without_carrier, without
        for interface in self.interfaces:
            if changed & {interface.name, interface.parent}:
                self.neighbors.forget_learned(interface.number)

    def _close_ports(self) -> None:
        with ExitStack() as rest:
            for _, port in self.interfaces.real():
                rest.callback(port.close)

    def close(self) -> None:
        """Stop, close the ports and remove the arena. Harmless when repeated."""
        self._stack.close()

    def __enter__(self) -> Forwarder:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None and self._knows:  # as if it had been killed
            self.arena.stays = True
        self.close()


def _check_sizes(vector: int, neighbors: int, workers: int, buffers: int) -> None:
    """Raises ConfigError for one that is not allowed."""
    limits = (vector, VECTOR_MAX), (neighbors, NEIGHBORS_MAX), (workers, c.WORKERS_MAX)
    for name, (size, most) in zip(("vector", "neighbors", "workers"), limits, strict=True):
        if not 1 <= size <= most:
            raise ConfigError(f"{name} is {size}; allowed: 1 to {most}")
    if buffers < BUFFERS_MIN * workers:
        raise ConfigError(f"buffers is {buffers}; at least {BUFFERS_MIN} for each worker")
