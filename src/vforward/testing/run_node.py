# SPDX-License-Identifier: Apache-2.0
"""run_node: one node, frames in, and what became of them. No graph, no worker.

    result = run_node(NODE, [frame], l3=14, tables={"fib": fib})
    assert result.out == {"forward": [expected]}
    assert result.counters["bad-checksum"] == 0

The kernel is called as it is compiled, so NUMBA_BOUNDSCHECK=1 finds a load out of bounds. Asserted,
always: every packet got an edge that the node has; chains and lengths agree; each buffer is in one
place, and none vanished but those of packets that the node holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vforward.graph import emit
from vforward.graph.node import MORE, Kind, Node
from vforward.jit import entries
from vforward.layout import (
    ARC_BITS,
    BUF_ROOM,
    BUF_STRIDE,
    CHAINED,
    EDGE_ARC,
    EDGE_HELD,
    HEADROOM,
    NIL,
    VECTOR_MAX,
)
from vforward.memory.arena import Arena
from vforward.memory.chain import fill
from vforward.memory.pool import CACHE_HEADER, HEADER_WORDS, Pool

LOOP = "a chain of buffers is a loop"

UNSET = EDGE_ARC - 1
"""What edges are before the kernel sets them; no node has so many."""

SPARE = 2 * VECTOR_MAX
"""Buffers beyond the frames' own, for nodes that make packets."""


class _Heap:
    """What a pool needs of an arena, in this process's memory."""

    def make(self, _: str, shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
        return np.zeros(shape, dtype)


def heap_pool(n: int) -> Pool:
    """A pool of n buffers outside of any arena, for tests: full of a byte that is not zero."""
    pool = Pool(cast("Arena", _Heap()), n)
    pool.data[:] = 0xA5
    return pool


@dataclass(frozen=True)
class Result:
    """What a node did. Lists are in the order of the frames given (an input node's: received)."""

    edges: list[str]
    """The edge each packet left by: "held" if by none, "arc-3" along an arc to feature 3."""

    frames: list[bytes | None]
    """The bytes of each packet now; None where held."""

    meta: NDArray[Any]
    """META[n]: each packet's record when the kernel had returned."""

    counters: dict[str, int]
    """All of the node's counters by label."""

    held: list[int]
    """Rows that the node keeps: the first buffers of packets that were held and not given back."""

    pool: Pool
    rows: NDArray[np.uint32]

    emitted: list[tuple[str, bytes]]
    """Packets that the node made besides (graph.emit): the edge and the bytes, in order."""

    emitted_rows: list[int]

    put_off: int
    """Packets that the node was given again, since there was no room for what it makes of them."""

    @property
    def out(self) -> dict[str, list[bytes | None]]:
        """The frames by edge; edges that none took are absent."""
        found: dict[str, list[bytes | None]] = {}
        for edge, frame in zip(self.edges, self.frames, strict=True):
            found.setdefault(edge, []).append(frame)
        return found

    @property
    def counted(self) -> dict[str, int]:
        """The counters that are not 0."""
        return {label: n for label, n in self.counters.items() if n}

    def reason(self, i: int) -> str:
        """The label of the counter that packet i was dropped by (meta.reason)."""
        return list(self.counters)[int(self.meta[i]["reason"])]


def run_node(
    node: Node,
    frames: Sequence[bytes] = (),
    *,
    tables: Mapping[str, NDArray[Any]] | None = None,
    vector: int = VECTOR_MAX,
    rx_port: int = 0,
    l3: int = 0,
    meta: Callable[[Any, int], None] | None = None,
    edges: Iterable[str] = (),
    pool: Pool | None = None,
) -> Result:
    """Call a node's kernel with frames, vector by vector.

    tables: by name, all that the kernel takes but ``pool`` and ``emitted``. vector: packets per
    call. rx_port, l3: what meta has (l3 in bytes from the frame's start). meta(record, i) changes
    frame i's record before the call, for what the nodes upstream would have written. edges: the
    names, for a node declared without. pool: the one that tables refer to; otherwise one of its own.

    An input node is polled once and takes no frames. A node that sees chains gets frames of more
    than BUF_ROOM bytes as such. Raises AssertionError for the kernel's faults.
    """
    if pool is None:
        pool = heap_pool(sum(-(-len(f) // BUF_ROOM) or 1 for f in frames) + SPARE)
    before = _free(pool)
    rows = _packets(pool, frames, rx_port, l3)
    for i, row in enumerate(rows):
        if meta is not None:
            meta(pool.meta[row], i)
    chains = [set(_chain(pool, int(row))) for row in rows]
    count = np.zeros(len(node.counter_labels), np.uint64)
    given = {"pool": pool.caches[0], **(tables or {}), "data": pool.data, "meta": pool.meta}
    out = given.setdefault("emitted", emit.new())
    sent: list[tuple[int, int]] = []
    later: list[int] = []
    rows, taken = _call(
        node, rows, vector, {**given, "count": count}, lambda: _emptied(out, sent, later)
    )
    after = pool.meta[rows].copy()
    names = _names(node, list(edges))
    emitted = [(_label(names, edge, row), _bytes(pool, row)) for edge, row in sent]
    labels = [_label(names, int(edge), i) for i, edge in enumerate(taken)]
    passed = [int(r) for e, r in zip(labels, rows, strict=True) if e != "held"]
    passed += [row for _, row in sent]
    may_keep = set().union(*(c for c, e in zip(chains, labels, strict=False) if e == "held"))
    held = _kept(pool, passed, may_keep, before)
    whole = [
        None if e == "held" else _bytes(pool, int(r)) for e, r in zip(labels, rows, strict=True)
    ]
    counters = dict(zip(node.counter_labels, count.tolist(), strict=True))
    made = [row for _, row in sent]
    return Result(labels, whole, after, counters, held, pool, rows, emitted, made, sum(later))


def _emptied(out: NDArray[np.uint64], sent: list[tuple[int, int]], later: list[int]) -> int:
    """Take up what a call has emitted, and give all the room again. Returns how many it put off."""
    n, put_off = int(out[emit.EMITTED]), int(out[emit.PUT_OFF])
    for word in out[emit.FIRST : emit.FIRST + n].tolist():
        sent.append((word >> 32, word & NIL))
    assert not put_off or n or out[emit.LEFT] < emit.EMIT_ROOM, "put off with all the room there is"
    later.append(put_off)
    out[: emit.FIRST] = 0, emit.EMIT_ROOM, 0, emit.ROUND_ROOM
    return put_off


def _packets(pool: Pool, frames: Sequence[bytes], rx_port: int, l3: int) -> NDArray[np.uint32]:
    rows = pool.take(len(frames))
    assert len(rows) == len(frames), f"{len(frames)} frames, {len(rows)} buffers free"
    for row, frame in zip(rows, frames, strict=True):
        source = np.frombuffer(frame or b"\0", np.uint8)
        whole = fill(
            pool.data, pool.meta, pool.caches[0], int(row), source.ctypes.data, len(frame), rx_port
        )
        assert whole, "no buffer free for a long frame"
        pool.meta[row]["l3"] = HEADROOM + l3
    return rows


def _call(
    node: Node,
    rows: NDArray[np.uint32],
    vector: int,
    arrays: Mapping[str, NDArray[Any]],
    called: Callable[[], int],
) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    assert 1 <= vector <= VECTOR_MAX
    names = list(entries.parameters(node.kernel))
    missing = [name for name in node.tables if name not in arrays]
    assert not missing, f"node {node.name}: tables not given: {', '.join(missing)}"

    def call(idx: NDArray[np.uint32], edge: NDArray[np.uint8]) -> tuple[Any, int]:
        per_call = {"idx": idx, "edge": edge}
        result = node.kernel(*(per_call.get(n, arrays.get(n)) for n in names))
        return result, called()

    if node.kind is Kind.INPUT:
        assert not len(rows), "an input node takes no frames"
        rows = np.zeros(vector, np.uint32)
        edges = np.full(vector, UNSET, np.uint8)
        n = int(call(rows, edges)[0])
        n = 0 if n == MORE else n
        assert 0 <= n <= vector, f"node {node.name}: {n} packets for a vector of {vector}"
        return rows[:n], edges[:n]
    edges = np.full(len(rows), UNSET, np.uint8)
    first = 0
    while first < len(rows):
        idx = rows[first : first + vector].copy()
        _, put_off = call(idx, edges[first : first + vector])
        rows[first : first + len(idx)] = idx
        first += len(idx) - put_off
    return rows, edges


def _names(node: Node, given: list[str]) -> dict[int, str]:
    names = dict(enumerate(node.edge_labels if node.edges is not None else given))
    arc = {EDGE_ARC + bit: f"arc-{bit}" for bit in range(ARC_BITS - 1)}
    return {**names, **arc, EDGE_ARC + ARC_BITS - 1: "arc-end", EDGE_HELD: "held"}


def _label(names: dict[int, str], edge: int, i: int) -> str:
    assert edge != UNSET or edge in names, f"packet {i}: the kernel gave it no edge"
    assert edge in names, f"packet {i}: edge {edge} is none of the node's"
    return names[edge]


def _chain(pool: Pool, row: int) -> Iterable[int]:
    for _ in range(pool.size):
        yield row
        if not int(pool.meta[row]["flags"]) & CHAINED:
            assert int(pool.meta[row]["next"]) == NIL, f"buffer {row}: has a next but not CHAINED"
            return
        row = int(pool.meta[row]["next"])
        assert row < pool.size, "CHAINED, but there is no next buffer"
    raise AssertionError(LOOP)


def _bytes(pool: Pool, row: int) -> bytes:
    parts = []
    for buffer in _chain(pool, row):
        off, end = int(pool.meta[buffer]["off"]), int(pool.meta[buffer]["end"])
        assert off <= end <= BUF_STRIDE, f"buffer {buffer}: off {off} and end {end} do not fit it"
        parts.append(pool.data[buffer, off:end].tobytes())
    whole = b"".join(parts)
    rest = int(pool.meta[row]["rest"])
    assert rest == len(whole) - len(parts[0]), (
        f"meta.rest is {rest}, not {len(whole) - len(parts[0])}"
    )
    return whole


def _free(pool: Pool) -> set[int]:
    """Rows in the stack and in the caches."""
    found: list[int] = []
    row = int(pool.stack[:2].view(np.uint64)[0]) & NIL
    while row != NIL:
        found.append(row)
        assert len(found) <= pool.size, "the free stack is a loop: a buffer was given back twice"
        row = int(pool.stack[HEADER_WORDS + row])
    for cache in pool.caches:
        found += cache[CACHE_HEADER : CACHE_HEADER + int(cache[0])].tolist()
    assert len(found) == len(set(found)), "a buffer was given back twice"
    return set(found)


def _kept(pool: Pool, passed: list[int], may_keep: set[int], before: set[int]) -> list[int]:
    """Check that nothing is lost or doubled. Returns the first buffers of what the node keeps."""
    free = _free(pool)
    out = [buffer for row in passed for buffer in _chain(pool, row)]
    assert len(out) == len(set(out)), "a buffer was passed on twice"
    assert not free & set(out), f"buffers given back and passed on: {sorted(free & set(out))[:8]}"
    kept = before - free - set(out)
    assert kept <= may_keep, f"buffers lost: {sorted(kept - may_keep)[:8]}"
    return sorted(kept - {int(pool.meta[row]["next"]) for row in kept})
