# SPDX-License-Identifier: Apache-2.0
"""Put a graph together: add nodes, wire edges, lay arcs; build checks all of it and compiles."""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import WiringError
from vforward.graph import control as c
from vforward.graph import emit
from vforward.graph.arcs import END, Arc
from vforward.graph.node import Kind, Node
from vforward.graph.scheduler import NODE, Plan
from vforward.jit import entries
from vforward.jit.kernel import kernel
from vforward.layout import (
    ARC_BITS,
    EDGE_ARC,
    EDGE_MAX,
    VECTOR_MAX,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool

LINE = 64
QUEUE_ROOM = 1024
"""Rows that may wait in a queue from one round to the next; at least a vector."""
WORK = 32 * VECTOR_MAX
"""Words of the table ``work``: room for what a kernel notes of a vector's packets between its passes.
Each worker has one for all nodes, and nothing in it outlives a call."""
Tables = dict[str, NDArray[Any]]


@kernel
def receive_nothing(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> int:
    """What a worker calls in the place of an input that it is not to poll."""
    return 0


@dataclass
class Member:
    """A node in a graph: the declaration under a name of its own, its edges, tables and wiring.

    own: by worker, tables that it has besides, if any.
    """

    name: str
    node: Node
    edges: list[str]
    tables: Tables
    own: Sequence[Tables] = ()
    wired: dict[str, str] = field(default_factory=dict)
    number: int = -1
    entry: Any = None
    blocks: list[NDArray[np.int64]] = field(default_factory=list)
    shares: list[NDArray[np.uint64]] = field(default_factory=list)
    """By worker: its arguments, and what it counts."""

    @property
    def counts(self) -> NDArray[np.uint64]:
        """What the node has counted, on all workers."""
        return np.sum(self.shares, axis=0, dtype=np.uint64)


class Graph:
    """A graph under construction, then built: once declared, with a plan for each worker.

    Layout and lifetime: its arrays are segments of the arena; the pool's buffers are its packets.
    Tables that several nodes share are given once, in ``tables``; those of them that each worker has
    for itself in ``own``, by worker.
    """

    def __init__(self, arena: Arena, pool: Pool, n_ports: int = 64, workers: int = 1) -> None:
        self.arena = arena
        self.pool = pool
        self.n_ports = n_ports
        self.workers = workers
        self.tables: Tables = {}
        self.own: list[Tables] = [
            {"pool": pool.cache(), "emitted": emit.new(), "work": _lines(WORK, np.uint64)}
            for _ in range(workers)
        ]
        self.members: dict[str, Member] = {}
        self.arcs: dict[str, Arc] = {}
        self.order: list[Member] = []
        self.plans: list[Plan] = []
        self._frames: list[NDArray[np.uint32]] = []
        self._nothing: Any = None

    @property
    def plan(self) -> Plan:
        """The first worker's, once it is built."""
        return self.plans[0]

    def add(
        self,
        node: Node,
        name: str = "",
        *,
        edges: Iterable[str] = (),
        own: Sequence[Tables] = (),
        **tables: NDArray[Any],
    ) -> str:
        """Add a node, under a name of its own if given, with tables of its own. Returns the name.

        edges: names of the edges, for a node declared without. own: by worker, tables that each has for
        itself. Raises WiringError.
        """
        name = name or node.name
        if name in self.members:
            raise WiringError(f"node {name}: already in the graph; give the second one a name")
        chosen = node.edge_labels if node.edges is not None else list(edges)
        if len(chosen) > EDGE_MAX:
            raise WiringError(f"node {name}: {len(chosen)} edges, at most {EDGE_MAX}")
        self.members[name] = Member(name, node, chosen, dict(tables), own)
        return name

    def wire(self, name: str, edge: str, to: str) -> None:
        """Send what leaves node ``name`` by ``edge`` to node ``to``. Raises WiringError."""
        member = self._member(name)
        if edge not in member.edges:
            raise WiringError(
                f"node {name}: unknown edge {edge!r}; it has: {', '.join(member.edges) or 'none'}"
            )
        if edge in member.wired:
            raise WiringError(
                f"node {name}: edge {edge!r} is wired already, to {member.wired[edge]}"
            )
        member.wired[edge] = to

    def arc(self, name: str, *, starts: Iterable[str], features: Iterable[str], end: str) -> Arc:
        """Lay a feature arc. The start nodes get its masks as their table ``features``."""
        listed = tuple(features)
        if len(listed) > ARC_BITS - 1 or len(set(listed)) < len(listed):
            raise WiringError(
                f"arc {name}: {len(listed)} features, at most {ARC_BITS - 1}, each once"
            )
        masks = self.arena.make(f"arc-{name}", self.n_ports + 1, np.uint64)
        masks[:] = END
        arc = Arc(name, tuple(starts), listed, end, masks)
        for start in arc.starts:
            self._member(start).tables["features"] = masks
        self.arcs[name] = arc
        return arc

    def build(self, progress: Callable[[str], None] = lambda _: None) -> Plan:
        """Check the wiring, compile every node's entry, lay out the scheduler's arrays.

        Returns the first worker's plan; ``plans`` has all. progress is called with each node's name
        before it is compiled. Raises WiringError, which names node and edge, and KernelError.
        """
        self._check()
        self.order = self._sorted()
        if any(m.node.kind is Kind.QUEUE for m in self.order):
            last = self.order[-1]
            if last.node.kind is not Kind.INNER or self.ways(last):
                raise WiringError(
                    "a graph with a queue needs a node without edges, which drops its surplus"
                )
        for number, member in enumerate(self.order):
            member.number = number
        for worker in range(self.workers):
            self._lay_counters(worker)
        self._nothing = entries.build("receive-nothing", receive_nothing)
        for member in self.order:
            progress(member.name)
            member.entry = entries.build(member.node.name, member.node.kernel)
            member.blocks = [self._block(member, worker) for worker in range(self.workers)]
        self.plans = [self._plan(worker) for worker in range(self.workers)]
        return self.plan

    def poll(self, worker: int, name: str, on: bool) -> None:
        """Let a worker poll an input, or not. A store: it may be running."""
        member = self._member(name)
        entry = member.entry if on else self._nothing
        self.plans[worker].nodes[member.number]["entry"] = entry.address

    def lead(self, worker: int, name: str, edge: str, to: str) -> None:
        """Let an edge of a node lead elsewhere on one worker. A store: it may be running.

        to: a node that is behind this one in the order.
        """
        member, target = self._member(name), self._member(to)
        assert target.number > member.number, "a round would not end"
        at = member.number * 256 + member.edges.index(edge)
        self.plans[worker].following[at] = target.number

    def _lay_counters(self, worker: int) -> None:
        lengths = [len(member.node.counter_labels) for member in self.order]
        counts = self._make("counts", worker, max(1, sum(lengths)))
        at = 0
        for member, length in zip(self.order, lengths, strict=True):
            member.shares.append(counts[at : at + length])
            at += length

    def _member(self, name: str) -> Member:
        if name not in self.members:
            raise WiringError(f"no node {name!r} in the graph; it has: {', '.join(self.members)}")
        return self.members[name]

    def _check(self) -> None:
        for member in self.members.values():
            for edge in member.edges:
                if edge not in member.wired:
                    raise WiringError(
                        f"node {member.name}: edge {edge!r} is not wired; wire it to a node"
                    )
            for edge, to in member.wired.items():
                if to not in self.members:
                    raise WiringError(
                        f"node {member.name}: edge {edge!r} leads to {to!r}, not in the graph"
                    )
                if self.members[to].node.kind is Kind.INPUT:
                    raise WiringError(
                        f"node {member.name}: edge {edge!r} leads to {to!r}, an input"
                    )
            given = [self._tables(member, worker) for worker in range(self.workers)]
            for table in member.node.tables:
                if any(table not in tables for tables in given):
                    raise WiringError(f"node {member.name}: table {table!r} is not given")
        places: dict[str, str] = {}
        for arc in self.arcs.values():
            for name in (*arc.features, arc.end):
                if self._member(name).node.kind is Kind.INPUT:
                    raise WiringError(f"arc {arc.name}: {name} is an input")
            for name in (*arc.starts, *arc.features):
                if name in places:  # their edges have the same numbers
                    raise WiringError(f"node {name}: on arc {arc.name} and on arc {places[name]}")
                places[name] = arc.name

    def ways(self, member: Member) -> dict[int, tuple[str, str]]:
        """All the ways out of a node: edge number -> (edge's name, next node)."""
        ways = {i: (edge, member.wired[edge]) for i, edge in enumerate(member.edges)}
        for arc in self.arcs.values():
            if member.name in arc.starts or member.name in arc.features:
                first = arc.features.index(member.name) + 1 if member.name in arc.features else 0
                for bit, to in enumerate(arc.features):
                    if bit >= first:
                        ways[EDGE_ARC + bit] = (f"{arc.name}:{to}", to)
                ways[EDGE_ARC + ARC_BITS - 1] = (f"{arc.name}:end", arc.end)
        return ways

    def _sorted(self) -> list[Member]:
        """Inputs, then queues, then the rest in topological order, sinks last."""
        before: dict[str, set[str]] = {name: set() for name in self.members}
        for member in self.members.values():
            for _, to in self.ways(member).values():
                if self.members[to].node.kind is not Kind.QUEUE:
                    before[to].add(member.name)
        try:
            names = list(graphlib.TopologicalSorter(before).static_order())
        except graphlib.CycleError as error:
            raise WiringError(self._describe_cycle(error.args[1])) from None
        rank = {Kind.INPUT: 0, Kind.QUEUE: 1, Kind.INNER: 2}
        position = {name: i for i, name in enumerate(names)}
        return sorted(
            self.members.values(),
            key=lambda m: (rank[m.node.kind], not self.ways(m) and not m.edges, position[m.name]),
        )

    def _describe_cycle(self, names: list[str]) -> str:
        steps = []
        for name, to in itertools.pairwise(names):
            ways = self.ways(self.members[name]).values()
            edge = next((edge for edge, target in ways if target == to), "?")
            steps.append(f"{name} -[{edge}]-> ")
        return (
            f"cycle without a queue: {''.join(steps)}{names[-1]}; "
            "put a queue node on one of these edges"
        )

    def _tables(self, member: Member, worker: int) -> Tables:
        """All that the node may take on a worker: what is nearer to it comes first."""
        mine = member.own[worker] if member.own else {}
        return {**self.tables, **self.own[worker], **member.tables, **mine}

    def _block(self, member: Member, worker: int) -> NDArray[np.int64]:
        given = {"data": self.pool.data, "meta": self.pool.meta, "count": member.shares[worker]}
        tables = self._tables(member, worker) | given
        kinds = entries.parameters(member.node.kernel)
        words = []
        for name in entries.block_names(member.node.kernel):
            array = tables[name]
            assert array is not None
            self._check_table(member.name, name, array, kinds[name])
            words += [array.ctypes.data, array.shape[0]]
        return np.array(words, np.int64)

    @staticmethod
    def _check_table(node: str, name: str, array: NDArray[Any], kind: Any) -> None:
        inner = array.shape[1:]
        wanted = (kind.inner,) if kind.inner else ()
        fits = array.ndim and inner == wanted and array.dtype == np.dtype(kind.dtype)
        if not fits or not array.flags.c_contiguous:
            raise WiringError(
                f"node {node}: table {name!r} is {array.dtype}{list(array.shape)}, its kernel takes "
                f"{np.dtype(kind.dtype)} with inner dimension {kind.inner or 'none'}, contiguous"
            )

    def _plan(self, worker: int) -> Plan:
        n = len(self.order)
        n_inputs = sum(m.node.kind is Kind.INPUT for m in self.order)
        queues = sum(m.node.kind is Kind.QUEUE for m in self.order)
        room = VECTOR_MAX * max(1, n_inputs) + QUEUE_ROOM * queues + emit.EMIT_ROOM
        words = -(-n // 64)
        frames = _lines((n, room), np.uint32)
        self._frames.append(frames)
        nodes = _lines(n, NODE)
        following = np.full((n, 256), n - 1, np.uint16)
        for member in self.order:
            at = member.number
            nodes[at]["entry"] = member.entry.address
            nodes[at]["block"] = member.blocks[worker].ctypes.data
            nodes[at]["frame"] = frames[at].ctypes.data
            later = words if member.node.kind is Kind.QUEUE else 0
            nodes[at]["word"], nodes[at]["bit"] = later + at // 64, 1 << at % 64
            nodes[at]["limit"] = QUEUE_ROOM if member.node.kind is Kind.QUEUE else room
            for edge, (_, to) in self.ways(member).items():
                following[at, edge] = self.members[to].number
        control = self._make("control", worker, c.CONTROL_WORDS)
        control[c.VECTOR] = VECTOR_MAX
        control[c.TRACE_NEXT] = worker * (1 << 16) // self.workers
        return Plan(
            control=control,
            nodes=nodes,
            following=following.reshape(-1),
            pending=_lines(3 * words, np.uint64),
            edges=_lines(VECTOR_MAX // 8, np.uint64),
            sorting=_lines(4 * VECTOR_MAX, np.uint32),
            stats=self._make("stats", worker, (n, c.STATS)).reshape(-1),
            taken=self._make("taken", worker, (n, 256)).reshape(-1),
            data=self.pool.data,
            meta=self.pool.meta,
            trace=self._make("trace", worker, c.TRACE_ROOM, c.TRACE),
            polled=np.zeros(1, np.uint64),
            emitted=self.own[worker]["emitted"],
            n_inputs=n_inputs,
        )

    def _make(
        self, name: str, worker: int, shape: int | tuple[int, ...], dtype: Any = np.uint64
    ) -> NDArray[Any]:
        """A segment of the worker's."""
        return self.arena.make(c.segment(name, worker), shape, dtype)


def _lines(shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros in cache lines of their own: a record is in one line and not in two, and what one worker writes
    in none that another reads.
    """
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    room = np.zeros(-(-size // LINE) * LINE + LINE, np.uint8)
    first = -room.ctypes.data % LINE
    return room[first : first + size].view(kind).reshape(shape)
