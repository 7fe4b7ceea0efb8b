# SPDX-License-Identifier: Apache-2.0
"""Put a graph together: add nodes, wire edges, lay arcs; build checks all of it and compiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import WiringError
from vforward.graph import control as c
from vforward.graph import emit
from vforward.graph.arcs import END, Arc
from vforward.graph.checks import check, in_order
from vforward.graph.node import Kind, Node
from vforward.graph.scheduler import NODE, Plan
from vforward.jit import entries
from vforward.jit.kernel import kernel
from vforward.jit.sources import Written
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
from vforward.memory.arena import PAGE, Arena
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

    def __init__(
        self,
        arena: Arena,
        pool: Pool,
        n_ports: int = 64,
        workers: int = 1,
        *,
        before: Graph | None = None,
    ) -> None:
        """before: see successor."""
        self.arena = arena
        self.pool = pool
        self.n_ports = n_ports
        self.workers = workers
        self.generation: int = 0 if before is None else before.generation + 1
        self.tables: Tables = {} if before is None else dict(before.tables)
        self.own: list[Tables] = (
            [
                {"pool": pool.cache(), "emitted": emit.new(), "work": _lines(WORK, np.uint64)}
                for _ in range(workers)
            ]
            if before is None
            else before.own
        )
        self.members: dict[str, Member] = {}
        self.arcs: dict[str, Arc] = {}
        self.order: list[Member] = []
        self.plans: list[Plan] = []
        self.counts: list[NDArray[np.uint64]] = []
        """By worker, all nodes' counters in their order."""
        self._frames: list[NDArray[np.uint32]] = []
        self._nothing: Any = None
        self._before = before
        self._segments: list[str] = []

    def successor(self) -> Graph:
        """An empty graph that may take this one's place while packets are forwarded (graph.succession).

        It has the same shared tables and own ones, control words, and masks of arcs of the same names.
        """
        return Graph(self.arena, self.pool, self.n_ports, self.workers, before=self)

    def settle(self) -> None:
        """It has taken another one's place, which may go."""
        self._before = None

    def release(self) -> None:
        """Take its counters and traces out of the arena: no worker is on it. Harmless when repeated."""
        for name in self._segments:
            self.arena.forget(name)
        self._segments.clear()

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
        member = self.member(name)
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
        """Lay a feature arc. The start nodes get its masks as their table ``features``.

        features: in order, or by name the bits of each (arcs.spread).
        """
        listed = list(features)
        if len(listed) > ARC_BITS - 1 or len(set(listed)) < len(listed):
            raise WiringError(
                f"arc {name}: {len(listed)} features, at most {ARC_BITS - 1}, each once"
            )
        bits = (
            dict(features)
            if isinstance(features, Mapping)
            else {f: i for i, f in enumerate(listed)}
        )
        if self._before is not None and name in self._before.arcs:
            masks = self._before.arcs[name].masks
        else:
            masks = self.arena.make(f"arc-{name}", self.n_ports + 1, np.uint64)
            masks[:] = END
        arc = Arc(name, tuple(starts), bits, end, masks)
        for start in arc.starts:
            self.member(start).tables["features"] = masks
        self.arcs[name] = arc
        return arc

    def add_feature(self, arc: str, feature: str, bit: int) -> None:
        """Give a node a place on an arc that is laid. Raises WiringError."""
        found = self.arcs.get(arc)
        if found is None or bit in found.bits.values() or not 0 <= bit < ARC_BITS - 1:
            raise WiringError(f"arc {arc}: there is none, or bit {bit} is taken")
        self.arcs[arc] = replace(found, bits={**found.bits, feature: bit})

    def build(self, progress: Callable[[str], None] = lambda _: None) -> Plan:
        """Check the wiring, compile every node's entry, lay out the scheduler's arrays.

        Returns the first worker's plan; ``plans`` has all. progress is called with each node's name
        before it is compiled. Raises WiringError, which names node and edge, and KernelError.
        """
        check(self)
        self.order = in_order(self)
        if any(m.node.kind is Kind.QUEUE for m in self.order):
            last = self.order[-1]
            if last.node.kind is not Kind.INNER or self.ways(last):
                raise WiringError(
                    "a graph with a queue needs a node without edges, which drops its surplus"
                )
        for number, member in enumerate(self.order):
            member.number = number
        known = {} if self._before is None else self._before._entries()
        written: Written = {}
        self._nothing = known.get(receive_nothing) or entries.build(
            "receive-nothing", receive_nothing, written
        )
        for member in self.order:
            progress(member.name)
            kernel = member.node.kernel
            member.entry = known.get(kernel) or entries.build(member.node.name, kernel, written)
        try:
            self._lay()
        except BaseException:
            self.release()
            raise
        return self.plan

    def _entries(self) -> dict[Any, entries.Entry]:
        """By kernel: to look one up anew takes most of the time in which a graph is made."""
        return {m.node.kernel: m.entry for m in self.order} | {receive_nothing: self._nothing}

    def _lay(self) -> None:
        for worker in range(self.workers):
            self._lay_counters(worker)
        for member in self.order:
            member.blocks = [self._block(member, worker) for worker in range(self.workers)]
        self.plans = [self._plan(worker) for worker in range(self.workers)]

    def poll(self, worker: int, name: str, on: bool) -> None:
        """Let a worker poll an input, or not. A store: it may be running."""
        member = self.member(name)
        entry = member.entry if on else self._nothing
        self.plans[worker].nodes[member.number]["entry"] = entry.address

    def lead(self, worker: int, name: str, edge: str, to: str) -> None:
        """Let an edge of a node lead elsewhere on one worker. A store: it may be running.

        to: a node that is behind this one in the order.
        """
        member, target = self.member(name), self.member(to)
        assert target.number > member.number, "a round would not end"
        at = member.number * 256 + member.edges.index(edge)
        self.plans[worker].following[at] = target.number

    def _lay_counters(self, worker: int) -> None:
        lengths = [len(member.node.counter_labels) for member in self.order]
        counts = self._make("counts", worker, max(1, sum(lengths)))
        self.counts.append(counts)
        at = 0
        for member, length in zip(self.order, lengths, strict=True):
            member.shares.append(counts[at : at + length])
            at += length

    def member(self, name: str) -> Member:
        """The member of a name. Raises WiringError."""
        if name not in self.members:
            raise WiringError(f"no node {name!r} in the graph; it has: {', '.join(self.members)}")
        return self.members[name]

    def ways(self, member: Member) -> dict[int, tuple[str, str]]:
        """All the ways out of a node: edge number -> (edge's name, next node)."""
        ways = {i: (edge, member.wired[edge]) for i, edge in enumerate(member.edges)}
        for arc in self.arcs.values():
            if member.name in arc.starts or member.name in arc.features:
                first = arc.bits.get(member.name, -1) + 1
                for to, bit in arc.bits.items():
                    if bit >= first:
                        ways[EDGE_ARC + bit] = (f"{arc.name}:{to}", to)
                ways[EDGE_ARC + ARC_BITS - 1] = (f"{arc.name}:end", arc.end)
        return ways

    def tables_of(self, member: Member, worker: int) -> Tables:
        """All that the node may take on a worker: what is nearer to it comes first."""
        mine = member.own[worker] if member.own else {}
        return {**self.tables, **self.own[worker], **member.tables, **mine}

    def _block(self, member: Member, worker: int) -> NDArray[np.int64]:
        given = {"data": self.pool.data, "meta": self.pool.meta, "count": member.shares[worker]}
        tables = self.tables_of(member, worker) | given
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
        frames.fill(0)  # else the worker, who is on its way then, finds no memory behind it
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
        return Plan(
            control=self._control(worker),
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

    def _control(self, worker: int) -> NDArray[np.uint64]:
        """The worker's words, which all graphs that take each other's place have in common."""
        if self._before is not None:
            return self._before.plans[worker].control
        control = self.arena.make(c.segment("control", worker), c.CONTROL_WORDS, np.uint64)
        control[c.VECTOR] = VECTOR_MAX
        control[c.TRACE_NEXT] = worker * (1 << 16) // self.workers
        return control

    def _make(
        self, name: str, worker: int, shape: int | tuple[int, ...], dtype: Any = np.uint64
    ) -> NDArray[Any]:
        """A segment of the worker's, for this graph."""
        made = self.arena.make(c.segment(name, worker, self.generation), shape, dtype)
        self._segments.append(c.segment(name, worker, self.generation))
        made.reshape(-1).view(np.uint8)[::PAGE] = 0  # mapped before the worker comes to it
        return made


def _lines(shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros in cache lines of their own: a record is in one line and not in two, and what one worker writes
    in none that another reads.
    """
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    room = np.zeros(-(-size // LINE) * LINE + LINE, np.uint8)
    first = -room.ctypes.data % LINE
    return room[first : first + size].view(kind).reshape(shape)
