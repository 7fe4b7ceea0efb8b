# SPDX-License-Identifier: Apache-2.0
"""The nodes that the tests of the graph share: few kernels, driven by tables: little to compile."""

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

import numpy as np

from vforward.graph import control as c
from vforward.graph.arcs import begin, proceed
from vforward.graph.build import Graph
from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.graph.scheduler import run
from vforward.jit.kernel import kernel
from vforward.layout import EDGE_HELD, U8, U32, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet
from vforward.memory.pool import put, take
from vforward.testing import heap_pool

LENGTH = 60


class Passed(Labels):
    PACKETS = 0, "packets seen", INFO


class Next(Labels):
    NEXT = 0, "all"


class Nothing(Labels):
    """No edges."""


@kernel
def source(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, left: U64, ways: U8
) -> int:
    """Take buffers from the pool: left[0] more, at most left[1] per call (0: a vector).

    They come in by port left[3]. left[2] numbers them: the number stands in meta.hash and in the
    first four bytes, and chooses the edge, ways[number].
    """
    wanted = min(np.int64(left[0]), idx.size)
    if left[1]:
        wanted = min(wanted, np.int64(left[1]))
    n = take(pool, idx, wanted)
    for i in range(n):
        row = np.int64(idx[i])
        number = left[2]
        begin_packet(meta, row, LENGTH, np.int64(left[3]))
        meta[row].hash = np.uint32(number)
        meta[row].scratch = 0
        for k in range(4):
            data[row, meta[row].off + k] = np.uint8((number >> np.uint64(8 * k)) & np.uint64(0xFF))
        left[2] = number + np.uint64(1)
        edge[i] = ways[np.int64(number) % ways.size]
    if n:  # else a test may be writing it
        left[0] -= np.uint64(n)
    count[0] += np.uint64(n)
    return n


@kernel
def branch(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, ways: U8, step: U64
) -> None:
    """Send packet number k by ways[k]; scratch becomes a hash of the nodes passed, in order."""
    for i in range(idx.size):
        row = np.int64(idx[i])
        edge[i] = ways[np.int64(meta[row].hash) % ways.size]
        meta[row].scratch = meta[row].scratch * np.uint64(31) + step[0]
        count[0] += np.uint64(1)


@kernel
def sink(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, seen: U64
) -> None:
    """Free packets. seen[k] counts and hashes the visits of packet number k."""
    for i in range(idx.size):
        row = np.int64(idx[i])
        at = np.int64(meta[row].hash) % seen.size
        seen[at] = seen[at] * np.uint64(1000003) + meta[row].scratch + np.uint64(1)
        edge[i] = EDGE_HELD
        count[0] += np.uint64(1)
    put(pool, meta, idx, idx.size)


@kernel
def keep(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, kept: U32) -> None:
    """Hold packets: their rows are appended to kept[1:], kept[0] says how many."""
    for i in range(idx.size):
        kept[0] += np.uint32(1)
        kept[np.int64(kept[0])] = idx[i]
        edge[i] = EDGE_HELD
        count[0] += np.uint64(1)


@kernel
def same(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    for i in range(idx.size):
        edge[i] = 0


@kernel
def idle(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, result: U64) -> int:
    """An input that brings nothing and returns result[0]."""
    return np.int64(result[0])


@kernel
def start_arc(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, features: U64) -> None:
    """Send packets along the arc of the port they came in by."""
    for i in range(idx.size):
        row = np.int64(idx[i])
        edge[i] = begin(meta, row, features[meta[row].rx_port])


@kernel
def feature(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, step: U64) -> None:
    for i in range(idx.size):
        row = np.int64(idx[i])
        meta[row].scratch = meta[row].scratch * np.uint64(31) + step[0]
        edge[i] = proceed(meta, row)


SOURCE = Node("test-source", source, None, Passed, Kind.INPUT)
BRANCH = Node("test-branch", branch, None, Passed)
QUEUE = Node("test-queue", branch, None, Passed, Kind.QUEUE)
SINK = Node("test-sink", sink, Nothing, Passed)
KEEP = Node("test-keep", keep, Nothing, Passed)
SAME = Node("test-same", same, Next)
IDLE = Node("test-idle", idle, Next, None, Kind.INPUT)
START = Node("test-start", start_arc, Nothing)
FEATURE = Node("test-feature", feature, Nothing)


class Heap:
    """What a graph needs of an arena, in this process's memory."""

    def make(self, _, shape, dtype, *, sparse=False):
        return np.zeros(shape, dtype)

    def forget(self, name):
        self.forgotten = [*getattr(self, "forgotten", ()), name]

    def use(self, _name, _first, last):
        return last


@dataclass
class Rig:
    """A graph under construction with a pool of its own, and what tests ask of it."""

    buffers: int = 2048
    packets: int = 4096
    n_ports: int = 4
    given: dict = field(default_factory=dict)  # sources' ``left`` by name

    def __post_init__(self):
        self.pool = heap_pool(self.buffers)
        self.graph = Graph(Heap(), self.pool, self.n_ports)
        self.seen = np.zeros(self.packets, np.uint64)
        self.steps = 0

    def add(self, node, name, to=(), **tables):
        """Add a node without named edges, its edge k wired to to[k]."""
        names = [f"e{k}" for k in range(len(to))]
        self.graph.add(node, name, edges=names, **tables)
        for edge, target in zip(node.edge_labels or names, to, strict=True):
            self.graph.wire(name, edge, target)

    def source(self, n, to, *, ways=(0,), name="source", per_call=0, first=0, port=0):
        left = self.given[name] = np.array([n, per_call, first, port], np.uint64)
        self.add(SOURCE, name, to, left=left, ways=np.array(ways, np.uint8))
        return left

    def branch(self, name, to, ways=(0,), node=BRANCH):
        self.steps += 1
        step = np.array([self.steps], np.uint64)
        self.add(node, name, to, ways=np.array(ways, np.uint8), step=step)

    def sink(self, name="sink"):
        self.add(SINK, name, seen=self.seen)

    def build(self, vector=256):
        self.plan = self.graph.build()
        self.control = self.plan.control
        self.control[c.VECTOR] = vector
        stopped = np.zeros_like(self.control)
        stopped[c.COMMAND] = c.STOP  # compiled here, and not in a thread that a test waits for
        run(self.plan._replace(control=stopped).words(), True)
        return self

    def run(self, until_idle=True):
        run(self.plan.words(), until_idle)
        return self

    def stats(self, name):
        """The node's words (graph.control)."""
        return self.plan.stats.reshape(-1, c.STATS)[self.graph.members[name].number]

    def taken(self, name):
        """Packets that left the node, by edge number; edges that none took are absent."""
        row = self.plan.taken.reshape(-1, 256)[self.graph.members[name].number]
        return {int(edge): int(row[edge]) for edge in np.flatnonzero(row)}

    def count(self, name):
        return int(self.graph.members[name].counts[0])

    def check(self, held=()):
        """Packets in are packets out and held, and every buffer is in one place."""
        out = sum(self.count(m.name) for m in self.graph.order if m.node in (SINK, KEEP))
        came = sum(map(self.count, self.given))
        assert came == out, f"{came} packets in, {out} out"
        self.pool.check(held)


def rounds(rig):
    return int(rig.control[c.ROUNDS])


def until(true, seconds=20):
    """Wait until true() is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.0005)


@contextmanager
def working(rig):
    """The rig's worker lives in a thread; leaving stops it."""
    words = rig.plan.words()
    thread = Thread(target=run, args=(words, False), daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        rig.control[c.COMMAND] = c.STOP
        thread.join(20)
        assert not thread.is_alive(), "the worker does not stop"
