# SPDX-License-Identifier: Apache-2.0
"""The scheduler: one compiled function in which a worker lives.

A round polls every input once and then runs pending nodes, lowest number first, until none is left.
Nodes are numbered in topological order, so a round ends. Each node's frame holds the rows that wait
for it. A node is called through its C entry with at most VECTOR rows; it names an edge for each.
When all took the same edge and the next node's frame is empty, the two nodes swap frames and no index
is copied; otherwise rows are sorted by edge, without branches on the data.

A frame has room for all that a round can bring: a vector from each input, what the queues hold, and
what nodes may make besides (graph.emit).
A queue is bounded; what it does not take goes to the last node, which drops it (stats[FULL]).

Clocks: one reading of the cycle counter per call, after its packets are handed on. So a node's
clocks contain the scheduler's own for it, and nothing is left out of the sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.graph import control as c
from vforward.graph import emit
from vforward.graph.node import MORE
from vforward.jit.atomics import fence, load_acquire64, store_release64
from vforward.jit.intrinsics import address, call3, call4, ctz, cycles, relax, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import BUF_STRIDE, EDGE_HELD, META, TRACED, VECTOR_MAX

POLL_NS = 20_000_000
"""Longest sleep: what is not a file descriptor's (a changed command) is seen after that at the latest."""

NODE = np.dtype(
    [
        ("entry", np.int64),  # address of the C entry
        ("block", np.int64),  # address of the arguments
        ("frame", np.int64),  # address of the rows that wait, u32
        ("waiting", np.int64),  # how many
        ("limit", np.int64),  # how many may wait; the last node takes what others cannot
        ("word", np.int64),  # its word of the pending bits: of this round, or a queue's of the next
        ("bit", np.uint64),  # its bit in there
        ("spare", np.int64),
    ]
)
assert NODE.itemsize == 64


class Plan(NamedTuple):
    """What a worker works on. n nodes, numbered in topological order, inputs first.

    Compiled code rebuilds it from ``words()``, since arrays that it made itself carry no
    reference counts: passed as arguments they cost 600 clocks per call of a node.
    """

    control: NDArray[np.uint64]
    nodes: NDArray[Any]  # NODE[n]
    following: NDArray[np.uint16]  # [n * 256] edge -> node
    pending: NDArray[np.uint64]  # bit set of nodes with rows waiting; then that of the next round
    edges: NDArray[np.uint64]  # [VECTOR_MAX / 8] the edges that a kernel gives, as bytes
    sorting: NDArray[np.uint32]  # [4 * VECTOR_MAX] room to sort in, and for emitted rows
    stats: NDArray[np.uint64]  # [n * STATS]
    taken: NDArray[np.uint64]  # [n * 256] rows by edge
    data: NDArray[np.uint8]
    meta: NDArray[Any]
    trace: NDArray[Any]
    polled: NDArray[np.uint64]  # struct pollfd[]; the first is the wake eventfd
    emitted: NDArray[np.uint64]  # see graph.emit
    n_inputs: int

    def words(self) -> NDArray[np.int64]:
        """Address and length of each array, then n_inputs: what run takes."""
        arrays = self[:-1]
        pairs = [(a.ctypes.data, a.shape[0]) for a in arrays]
        return np.array([*(word for pair in pairs for word in pair), self.n_inputs], np.int64)


@inline
def _plan(w: Any) -> Any:
    return Plan(
        view(w[0], w[1], np.uint64),
        view(w[2], w[3], NODE),
        view(w[4], w[5], np.uint16),
        view(w[6], w[7], np.uint64),
        view(w[8], w[9], np.uint64),
        view(w[10], w[11], np.uint32),
        view(w[12], w[13], np.uint64),
        view(w[14], w[15], np.uint64),
        view(w[16], w[17] * BUF_STRIDE, np.uint8),
        view(w[18], w[19], META),
        view(w[20], w[21], c.TRACE),
        view(w[22], w[23], np.uint64),
        view(w[24], w[25], np.uint64),
        w[26],
    )


@inline
def _one_edge(edges: Any, n: int) -> bool:
    """Whether the first n bytes are all alike."""
    pattern = (edges[0] & u64(0xFF)) * u64(0x0101010101010101)
    full = n >> 3
    differs = u64(0)
    for i in range(full):
        differs |= edges[i] ^ pattern
    if n & 7:
        tail = (u64(1) << u64(8 * (n & 7))) - u64(1)
        differs |= (edges[full] ^ pattern) & tail
    return differs == u64(0)


@inline
def _mark(g: Any, node: int) -> None:
    """Note that rows wait for the node: a queue's turn comes in the next round."""
    g.pending[g.nodes[node].word] |= g.nodes[node].bit


@inline
def _push(g: Any, to: int, rows: Any, n: int) -> None:
    start = g.nodes[to].waiting
    frame = view(g.nodes[to].frame + 4 * start, n, np.uint32)
    for i in range(n):
        frame[i] = rows[i]
    g.nodes[to].waiting = start + n
    if n:
        _mark(g, to)


@kernel
def _append(g: Any, node: int, edge: int, rows: Any) -> None:
    """Hand rows on by one edge. What a full queue does not take is dropped."""
    n = rows.size
    g.taken[node * 256 + edge] += u64(n)
    if edge == EDGE_HELD:
        return
    to = i64(g.following[node * 256 + edge])
    fits = min(n, g.nodes[to].limit - g.nodes[to].waiting)
    _push(g, to, rows, fits)
    if fits < n:
        g.stats[to * c.STATS + c.FULL] += u64(n - fits)
        _push(g, g.nodes.size - 1, rows[fits:], n - fits)


@kernel
def _sort(g: Any, node: int, rows: Any) -> None:
    """Hand rows on that take different edges: a pass per edge, each keeps what is for the next."""
    n = rows.size
    edges = g.edges.view(np.uint8)
    rest, same = g.sorting[:VECTOR_MAX], g.sorting[VECTOR_MAX : 2 * VECTOR_MAX]
    rest_edges = g.sorting[2 * VECTOR_MAX : 3 * VECTOR_MAX].view(np.uint8)
    for i in range(n):
        rest[i] = rows[i]
        rest_edges[i] = edges[i]
    left = n
    while left:
        edge = rest_edges[0]
        matching = 0
        others = 0
        for i in range(left):
            row, its = rest[i], rest_edges[i]
            hit = i64(its == edge)
            same[matching] = row
            rest[others] = row
            rest_edges[others] = its
            matching += hit
            others += 1 - hit
        _append(g, node, i64(edge), same[:matching])
        left = others


@inline
def _hand_on(g: Any, node: int, frame: int, n: int, whole: bool) -> None:
    """Give the n rows at frame to the nodes that their edges name. whole: all of the node's frame."""
    if not _one_edge(g.edges, n):
        _sort(g, node, view(frame, n, np.uint32))
        return
    edge = i64(g.edges[0] & u64(0xFF))
    to = i64(g.following[node * 256 + edge])
    if not whole or edge == EDGE_HELD or g.nodes[to].waiting != 0:
        _append(g, node, edge, view(frame, n, np.uint32))
        return
    g.nodes[node].frame = g.nodes[to].frame
    g.nodes[to].frame = frame
    g.nodes[to].waiting = n
    g.taken[node * 256 + edge] += u64(n)
    _mark(g, to)


@kernel
def _record(g: Any, node: int, rows: Any) -> None:
    """Append the marked packets among rows to the trace."""
    edges = g.edges.view(np.uint8)
    for i in range(rows.size):
        row = i64(rows[i])
        if not g.meta[row].flags & TRACED:
            continue
        at = i64(g.control[c.TRACED_ROWS])
        if at >= g.trace.size:
            return
        record = g.trace[at]
        off, end = i64(g.meta[row].off), i64(g.meta[row].end)
        first = row * BUF_STRIDE + min(off, BUF_STRIDE - c.TRACE_BYTES)
        record.clock = cycles()
        record.packet = g.meta[row].trace
        record.node = node
        record.edge = edges[i]
        record.reason = g.meta[row].reason
        record.rx_port = g.meta[row].rx_port
        record.total = end - off + i64(g.meta[row].rest)
        record.flags = g.meta[row].flags
        record.length = max(0, min(c.TRACE_BYTES, end - off))
        for k in range(c.TRACE_BYTES):
            record.head[k] = g.data[first + k]
        store_release64(address(g.control) + 8 * c.TRACED_ROWS, u64(at + 1))


@kernel
def _hand_on_emitted(g: Any, node: int) -> None:
    """Hand on what the node's call has emitted, a vector at a time."""
    total = i64(g.emitted[emit.EMITTED])
    g.emitted[emit.EMITTED] = u64(0)
    g.stats[node * c.STATS + c.EMITTED] += u64(total)
    rows = g.sorting[3 * VECTOR_MAX :]
    edges = g.edges.view(np.uint8)
    done = 0
    while done < total:
        n = min(VECTOR_MAX, total - done)
        for i in range(n):
            word = g.emitted[emit.FIRST + done + i]
            rows[i] = word & u64(0xFFFFFFFF)
            edges[i] = word >> u64(32)
        if g.control[c.TRACING]:
            _record(g, node, rows[:n])
        _sort(g, node, rows[:n])
        done += n


@kernel
def _begin_trace(g: Any, rows: Any) -> None:
    """Mark packets that have just come in, as many as are wanted, but those that another worker has."""
    asked = i64(g.control[c.TRACE_WANTED])  # once: others write it
    left = max(0, asked)
    for i in range(rows.size):
        row = i64(rows[i])
        if left == 0 or g.meta[row].flags & TRACED:
            continue
        g.meta[row].flags = g.meta[row].flags | np.uint32(TRACED)
        g.meta[row].trace = g.control[c.TRACE_NEXT]
        g.control[c.TRACE_NEXT] += u64(1)
        left -= 1
    g.control[c.TRACE_WANTED] = u64(left)


@inline
def _poll_inputs(g: Any, vector: int, start: Any) -> Any:
    """Poll each input once. Returns (packets, whether an input has more to do, clock)."""
    total = 0
    more = False
    for node in range(g.n_inputs):
        frame = g.nodes[node].frame
        n = call4(g.nodes[node].entry, g.nodes[node].block, frame, vector, address(g.edges))
        if n > 0:
            if g.control[c.TRACING]:
                _begin_trace(g, view(frame, n, np.uint32))
                _record(g, node, view(frame, n, np.uint32))
            _hand_on(g, node, frame, n, True)
            total += n
            g.stats[node * c.STATS + c.PACKETS] += u64(n)
        more |= n == MORE
        end = cycles()
        empty = i64(n <= 0)
        at = node * c.STATS
        g.stats[at + c.CALLS + 3 * empty] += u64(1)
        g.stats[at + c.CLOCKS + 2 * empty] += end - start
        start = end
    return total, more, start


@inline
def _run_node(g: Any, node: int, vector: int, start: Any) -> Any:
    """Call the node until its frame is empty. Returns the clock."""
    frame = g.nodes[node].frame
    total = g.nodes[node].waiting
    g.nodes[node].waiting = 0
    done = 0
    calls = 0
    while done < total:
        n = min(vector, total - done)
        rows = frame + 4 * done
        call4(g.nodes[node].entry, g.nodes[node].block, rows, n, address(g.edges))
        if g.control[c.TRACING]:
            _record(g, node, view(rows, n, np.uint32))
        _hand_on(g, node, rows, n, n == total)
        if g.emitted[emit.EMITTED]:
            _hand_on_emitted(g, node)
        done += n
        calls += 1
    end = cycles()
    at = node * c.STATS
    g.stats[at + c.CALLS] += u64(calls)
    g.stats[at + c.PACKETS] += u64(total)
    g.stats[at + c.CLOCKS] += end - start
    return end


@inline
def run_pending(g: Any, vector: int, start: Any) -> Any:
    """Run nodes until nothing is pending. Returns the clock."""
    for word in range(g.pending.size >> 1):
        while g.pending[word]:
            node = word * 64 + ctz(g.pending[word])
            g.pending[word] &= g.pending[word] - u64(1)
            start = _run_node(g, node, vector, start)
    return start


@inline
def _take_up_queues(g: Any) -> int:
    """Make pending what queues were given in the last round. Returns how many rows."""
    words = g.pending.size >> 1
    rows = 0
    for word in range(words):
        held = g.pending[words + word]
        g.pending[words + word] = u64(0)
        g.pending[word] |= held
        while held:
            rows += g.nodes[word * 64 + ctz(held)].waiting
            held &= held - u64(1)
    return rows


@kernel
def _sleep(g: Any) -> None:
    """Wait until a descriptor is ready, the wake eventfd among them, or POLL_NS have passed.

    Said first, and slept only when the next round was empty too: who hands a worker something looks
    at that word after a fence, so one of the two sees what the other has stored.
    """
    asleep = address(g.control) + 8 * c.ASLEEP
    if load_acquire64(asleep) == u64(0):
        store_release64(asleep, u64(1))
        fence()
        return
    ready = call3(i64(g.control[c.POLL]), address(g.polled), g.polled.size, POLL_NS)
    g.control[c.SLEEPS] += u64(1)
    if ready > 0 and g.polled[0] >> u64(48):
        call3(i64(g.control[c.READ]), i64(g.polled[0]) & 0xFFFFFFFF, address(g.sorting), 8)
    store_release64(asleep, u64(0))


@inline
def _rest(g: Any, empty: int) -> None:
    """What a worker does after so many empty rounds: spin, or sleep."""
    patience = i64(g.control[c.SPIN_ROUNDS])
    if patience and empty > patience and g.control[c.POLL]:
        _sleep(g)
    else:
        relax()


@kernel
def run(words: Any, until_idle: bool) -> None:
    """Live: rounds until the command STOP, or (until_idle) until one moves no packet."""
    g = _plan(words)
    base = address(g.control)
    empty = 0
    g.control[c.STARTED] = cycles()
    store_release64(base + 8 * c.STATE, u64(c.RUNNING))
    while True:
        command = load_acquire64(base + 8 * c.COMMAND)
        if command == u64(c.STOP):
            break
        if command == u64(c.PAUSE):
            store_release64(base + 8 * c.STATE, u64(c.PAUSED))
            store_release64(base + 8 * c.ROUNDS, g.control[c.ROUNDS] + u64(1))
            _rest(g, 1 << 30)
            continue
        store_release64(base + 8 * c.STATE, u64(c.RUNNING))
        vector = max(1, min(VECTOR_MAX, i64(load_acquire64(base + 8 * c.VECTOR))))
        g.emitted[emit.LEFT] = u64(emit.EMIT_ROOM)
        start = cycles()
        packets, more, start = _poll_inputs(g, vector, start)
        packets += _take_up_queues(g)
        run_pending(g, vector, start)
        g.control[c.NOW] = start
        store_release64(base + 8 * c.ROUNDS, g.control[c.ROUNDS] + u64(1))
        if packets:
            g.control[c.BUSY_ROUNDS] += u64(1)
            g.control[c.ASLEEP] = u64(0)
            empty = 0
        else:
            empty = 0 if more else empty + 1
            if until_idle and not more:
                break
            _rest(g, empty)
        if until_idle and g.control[c.ONCE]:
            break
    store_release64(base + 8 * c.STATE, u64(c.STOPPED))
