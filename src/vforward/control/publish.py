# SPDX-License-Identifier: Apache-2.0
"""What a forwarder leaves in its arena for others to read: documents, and port statistics.

forwarder   with each graph, and when ports change: generation, nodes, edges, counters, ports (describe)
peers       when they change: of ports with peers that come and go, how that stands
workers     when they change: each one's core, and the queues that it polls
routes      when they change: how many there are, and the first ROUTES_SHOWN
neighbors   when they change: how many there are, and the first NEIGHBORS_SHOWN
firewall    when it changes: rules, NAT and policers in force, and where their counters are
bridges     when they change: domains with their ports, how many MACs there are, and the first
            MACS_SHOWN
drops       u64[n_ports, DROPS]: what ports know of frames that never reached the graph, in the
            order of the port's "statistics"; *-cleared: what ``clear`` copied, for readers to subtract
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vforward.control.router_graph import rx_name, tx_name
from vforward.errors import VforwardError
from vforward.graph.build import Graph, Member
from vforward.graph.control import segment
from vforward.graph.succession import COUNTED, runs
from vforward.graph.worker import clock_hz

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder
    from vforward.control.interfaces import Interface
    from vforward.control.placement import Placement
    from vforward.memory.arena import Arena

log = logging.getLogger(__name__)

DROPS = 4
PERIOD_S = 0.25
SHARE = 0.05
"""Of the time, that large tables may take to be looked through."""
ROUTES_SHOWN = 2000
NEIGHBORS_SHOWN = 2000
MACS_SHOWN = 2000


class Publisher:
    """Publishes a built forwarder from begin on, and while started keeps that up to date from a thread."""

    def __init__(self, forwarder: Forwarder, config: str | None) -> None:
        self._forwarder = forwarder
        arena, graph = forwarder.arena, forwarder.graph
        self._once = {"started": time.time(), "tsc_hz": clock_hz(), "config": config}
        self._drops = arena.make("drops", (forwarder.interfaces.ports.size, DROPS), np.uint64)
        self.drops_before = np.zeros(self._drops.shape, np.uint64)
        """What ports of the last process had counted."""
        self._last: dict[str, Any] = {}
        self._changes = -1
        self._firewall_changes = 0
        self._owed: dict[str, Any] | None = None
        """What the document "forwarder" is still to say."""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._publishing = threading.Lock()
        self._parts: dict[str, Callable[[], None]] = {
            "forwarder": self._pay,
            "drops": self._statistics,
            "routes": self._routes,
            "neighbors": self._neighbors,
            "bridges": lambda: self._document("bridges", bridges(forwarder)),
            "peers": lambda: self._document("peers", peers(forwarder)),
            "workers": lambda: self._document("workers", workers(forwarder)),
            "firewall": self._firewall,
        }
        arena.make("drops-cleared", self._drops.shape, np.uint64)
        for name in _cleared(graph):
            arena.make(f"{name}-cleared", arena.open(name).shape, np.uint64)

    def begin(self) -> None:
        """Publish all of it: from now on others see the forwarder."""
        forwarder = self._forwarder
        said = describe(forwarder, forwarder.graph, forwarder.placement, self._once)
        forwarder.arena.write_document("forwarder", said)
        self.refresh()

    def prepare(self, graph: Graph, placement: Placement) -> Callable[[Graph], None]:
        """Get ready to publish a graph that will take another's place; call what is returned when it has.

        That is to be given the old one, whose counters are what they are by then; where there is no room
        it raises ArenaError, and refresh publishes the graph. Raises ArenaError.
        """
        forwarder, arena = self._forwarder, self._forwarder.arena
        try:
            for name in _cleared(graph):
                arena.make(f"{name}-cleared", arena.open(name).shape, np.uint64)
        except BaseException:
            self.abandon(graph)
            raise
        said = describe(forwarder, graph, placement, self._once)

        def publish(old: Graph) -> None:
            with self._publishing:
                _carry_cleared(arena, old, graph)
                self._owed = said
                try:
                    self._pay()
                finally:
                    self.abandon(old)

        return publish

    def describe(self) -> None:
        """Publish nodes and ports anew: ports have changed. Any thread.

        Raises ArenaError where there is no room; refresh does it then.
        """
        forwarder = self._forwarder
        with self._publishing:
            self._owed = describe(forwarder, forwarder.graph, forwarder.placement, self._once)
            self._pay()

    def abandon(self, graph: Graph) -> None:
        """What was made for a graph goes. Harmless when repeated."""
        for name in _cleared(graph):
            self._forwarder.arena.forget(f"{name}-cleared")

    def refresh(self, part: str = "") -> None:
        """Publish what has changed, or a part of it: a name in the module's list. Any thread."""
        with self._publishing:
            for name in [part] if part else self._parts:
                self._parts[name]()

    def start(self) -> None:
        """Refresh every PERIOD_S from now on, or as often as takes SHARE of the time."""
        if self._thread is not None:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and refresh once more. Harmless when repeated."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self.catch_up()

    def _run(self) -> None:
        pause = PERIOD_S
        while not self._stopping.wait(pause):
            before = time.thread_time()
            self.catch_up()
            pause = max(PERIOD_S, (time.thread_time() - before) / SHARE)

    def catch_up(self) -> None:
        """Refresh, or say why not: nothing ends with it, and what failed is tried again."""
        try:
            self.refresh()
        except VforwardError as error:  # no room, say
            log.warning("publisher: %s", error)
        except Exception:
            log.exception("publisher: a refresh failed")

    def _pay(self) -> None:
        if self._owed is not None:
            self._forwarder.arena.write_document("forwarder", self._owed)
            self._owed = None

    def _statistics(self) -> None:
        for interface in self._forwarder.interfaces:
            if interface.port is not None:
                values = list(interface.port.statistics().values())[:DROPS]
                before = self.drops_before[interface.number, : len(values)]
                self._drops[interface.number, : len(values)] = before + np.array(values, np.uint64)

    def _neighbors(self) -> None:
        neighbors = self._forwarder.known_neighbors(NEIGHBORS_SHOWN)
        count = max(self._forwarder.neighbors.count(), len(neighbors))
        self._document("neighbors", {"count": count, "neighbors": neighbors})

    def _routes(self) -> None:
        routing, interfaces = self._forwarder.routing, self._forwarder.interfaces
        changes = routing.changes()
        if changes == self._changes:
            return
        shown = [dataclasses.asdict(r) for r in routing.routes(limit=ROUTES_SHOWN)]
        names = {number: name for name, number in [*interfaces.vrfs.items()]}  # after their routes
        for route in shown:
            route["vrf"] = names[route["vrf"]]
        self._document("routes", {"count": routing.count(), "routes": shown})
        self._changes = changes  # last: what failed is tried again

    def _firewall(self) -> None:
        firewall = self._forwarder.firewall
        changes = firewall.changes
        if changes != self._firewall_changes:
            self._forwarder.arena.write_document("firewall", firewall.document())
            self._firewall_changes = changes

    def _document(self, name: str, content: Any) -> None:
        if self._last.get(name) != content:
            self._forwarder.arena.write_document(name, content)
            self._last[name] = content


def _cleared(graph: Graph) -> list[str]:
    """The graph's segments of which another is what they were when they were cleared."""
    return [
        segment(name, worker, graph.generation)
        for name in COUNTED
        for worker in range(graph.workers)
    ]


def _carry_cleared(arena: Arena, old: Graph, new: Graph) -> None:
    """What was cleared stays cleared: the same words as of the counters themselves."""
    wanted = runs(old, new)
    for name in COUNTED:
        for worker in range(new.workers):
            from_, to = (
                arena.open(f"{segment(name, worker, graph.generation)}-cleared").reshape(-1)
                for graph in (old, new)
            )
            for a, b, n in wanted[name]:
                to[a : a + n] = from_[b : b + n]


def describe(
    forwarder: Forwarder, graph: Graph, placement: Placement, once: dict[str, Any]
) -> dict[str, Any]:
    """The document "forwarder": nodes in the order of their numbers, and ports. once: what stays."""
    return {
        "name": forwarder.name,
        "pid": os.getpid(),
        **once,
        "generation": graph.generation,
        "workers": graph.workers,
        "vector": forwarder.vector,
        "nodes": nodes(graph),
        "vrfs": list(forwarder.interfaces.vrfs),
        "ports": [
            _port(forwarder, graph, placement, interface) for interface in forwarder.interfaces
        ],
    }


def bridges(forwarder: Forwarder) -> dict[str, Any]:
    """The document "bridges"."""
    bridging, name_of = forwarder.bridging, forwarder.interfaces.name_of
    members: dict[str, list[str]] = {}
    for interface in forwarder.interfaces:
        if interface.bridge:
            members.setdefault(interface.bridge, []).append(interface.name)
    domains = [
        {"bridge": name, "ports": members.get(name, []), "macs": n.learned, "moves": n.moves}
        for name, n in bridging.counters().items()
    ]
    known = bridging.entries(MACS_SHOWN)
    macs = [
        {
            "bridge": m.domain,
            "mac": m.mac.to_bytes(6, "big").hex(":"),
            "port": name_of(m.port),
            "static": m.static,
            "age": None if m.static else round(m.age_s, 1),
        }
        for m in known
    ]
    return {"bridges": domains, "count": max(bridging.count(), len(macs)), "macs": macs}


def peers(forwarder: Forwarder) -> dict[str, str]:
    """The document "peers": what ports say of what is outside, by their names."""
    said = {i.name: i.port.peer() for i in forwarder.interfaces if i.port is not None}
    return {name: text for name, text in said.items() if text}


def workers(forwarder: Forwarder) -> list[dict[str, Any]]:
    """The document "workers", in the order of their numbers."""
    queues = forwarder.placement.queues.values()
    return [
        {"core": core, "queues": [f"{q.port} {q.number}" for q in queues if q.worker == number]}
        for number, core in enumerate(forwarder.cores)
    ]


def nodes(graph: Graph) -> list[dict[str, Any]]:
    """Its nodes in the order of their numbers, with where their counters begin."""
    counts_at = 0
    found = []
    for member in graph.order:
        found.append({**_node(graph, member), "counts_at": counts_at})
        counts_at += len(member.node.counter_labels)
    return found


def _node(graph: Graph, member: Member) -> dict[str, Any]:
    counters = sorted(member.node.counters) if member.node.counters else []
    return {
        "name": member.name,
        "kind": member.node.kind.value,
        "edges": [
            {"edge": edge, "label": label, "to": to}
            for edge, (label, to) in graph.ways(member).items()
        ],
        "counters": [{"label": c.label, "help": c.help, "drop": c.drop} for c in counters],
    }


def _port(
    forwarder: Forwarder, graph: Graph, placement: Placement, interface: Interface
) -> dict[str, Any]:
    record = forwarder.interfaces.record(interface)
    members = graph.members
    tx = tx_name(interface.name)
    queues = [q for q in placement.queues.values() if q.port == interface.name]
    touched = getattr(interface.port, "touched", "")
    return {
        "number": interface.number,
        "name": interface.name,
        "type": interface.kind,
        "mac": int(record["mac"]).to_bytes(6, "big").hex(":"),
        "mtu": int(record["mtu"]),
        "addresses": [str(address) for address in interface.addresses],
        "parent": interface.parent,
        "vlan": interface.vlan,
        "inner": interface.inner,
        "peer": interface.peer,
        "bridge": interface.bridge,
        "vrf": interface.vrf,
        "urpf": interface.urpf,
        "rx": [rx_name(queue.port, queue.number) for queue in queues],
        "tx": tx if tx in members else None,
        "statistics": list(interface.port.statistics())[:DROPS] if interface.port else [],
        **({"touched": touched} if touched else {}),
    }
