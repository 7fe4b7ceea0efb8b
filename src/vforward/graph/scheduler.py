# SPDX-License-Identifier: Apache-2.0
"""The scheduler: one compiled function in which a worker lives.

A round polls every input once and then runs pending nodes, lowest number first, until none is left.
Nodes are numbered in topological order, so a round ends. Each node's frame holds the rows that wait
for it. A node is called through its C entry with at most VECTOR rows; it names an edge for each, by
which they are handed on (graph.hand_on).

A frame has room for all that a round can bring: a vector from each input, what the queues hold, and
what nodes may make besides (graph.emit). What a node puts off, since there was no room left for what it
makes of it, stays in its frame until all that is behind it has run: then there is all the room again.
A queue is bounded; what it does not take goes to the last node, which drops it (stats[FULL]).

Clocks: one reading of the cycle counter per call, after its packets are handed on. So a node's
clocks contain the scheduler's own for it, and nothing is left out of the sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.graph import control as c
from vforward.graph import emit, exchange
from vforward.graph.hand_on import hand_on, hand_on_made, refuse
from vforward.graph.node import MORE
from vforward.graph.watch import watch
from vforward.jit.atomics import compare_swap64, fence, load_acquire64, store_release64
from vforward.jit.intrinsics import address, call3, call4, ctz, cycles, relax, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import BUF_STRIDE, META, TRACED, VECTOR_MAX

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
    pending: NDArray[
        np.uint64
    ]  # bit sets: nodes with rows waiting, those of the next round, put off
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


PLAN_WORDS = 2 * (len(Plan._fields) - 1) + 1


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
                watch(g, node, view(frame, n, np.uint32))
            hand_on(g, node, frame, n, True)
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
def _call(g: Any, node: int, frame: int, n: int, whole: bool) -> Any:
    """Call the node with the n rows at frame, and hand on what it is done with: how many that is."""
    call4(g.nodes[node].entry, g.nodes[node].block, frame, n, address(g.edges))
    if g.emitted[emit.EMITTED] | g.emitted[emit.PUT_OFF]:
        return hand_on_made(g, node, frame, n, whole)
    if g.control[c.TRACING]:
        watch(g, node, view(frame, n, np.uint32))
    hand_on(g, node, frame, n, whole)
    return i64(n)


@kernel
def _put_off(g: Any, node: int, rows: int, n: int) -> None:
    """Leave n rows, the last of a node's frame, for later."""
    frame, left = view(g.nodes[node].frame, n, np.uint32), view(rows, n, np.uint32)
    for i in range(n):
        frame[i] = left[i]
    g.nodes[node].waiting = n
    g.pending[2 * (g.pending.size // 3) + (node >> 6)] |= u64(1) << u64(node & 63)


@inline
def _note(g: Any, node: int, calls: int, packets: int, start: Any) -> Any:
    """Count a node's calls. Returns the clock."""
    end = cycles()
    at = node * c.STATS
    g.stats[at + c.CALLS] += u64(calls)
    g.stats[at + c.PACKETS] += u64(packets)
    g.stats[at + c.CLOCKS] += end - start
    return end


@inline
def _run_node(g: Any, node: int, vector: int, start: Any) -> Any:
    """Call the node until its frame is empty, or it puts off the rest. Returns the clock."""
    frame = g.nodes[node].frame
    total = g.nodes[node].waiting
    g.nodes[node].waiting = 0
    done = 0
    calls = 0
    while done < total:
        n = min(vector, total - done)
        taken = _call(g, node, frame + 4 * done, n, n == total)
        done += taken
        calls += 1
        if taken < n:
            _put_off(g, node, frame + 4 * done, total - done)
            break
    return _note(g, node, calls, done, start)


@kernel
def _run_put_off(g: Any, vector: int, start: Any) -> Any:
    """Call the last of the nodes that put rows off once more, with a vector of them and all the room.

    The last: what it leads to is empty. A vector: so no frame gets more than that, and what is emitted.
    A kernel that puts off its first row even so would for ever: that row goes to the last node, as what a
    full queue does not take. Returns the clock, or start itself where there is no such node.
    """
    words = g.pending.size // 3
    node = -1
    for word in range(words):
        bits = g.pending[2 * words + word]
        while bits:
            node = 64 * word + ctz(bits)
            bits &= bits - u64(1)
    if node < 0:
        return start
    g.pending[2 * words + (node >> 6)] &= ~(u64(1) << u64(node & 63))
    g.emitted[emit.LEFT] = u64(emit.EMIT_ROOM)
    frame, total = g.nodes[node].frame, g.nodes[node].waiting
    g.nodes[node].waiting = 0
    done = _call(g, node, frame, min(vector, total), False)
    if done == 0:
        refuse(g, node, view(frame, 1, np.uint32))
        done = i64(1)
    if done < total:
        _put_off(g, node, frame + 4 * done, total - done)
    return _note(g, node, 1, done, start)


@inline
def run_pending(g: Any, vector: int, start: Any) -> Any:
    """Run nodes until nothing is pending, nor put off. Returns the clock."""
    words = g.pending.size // 3
    while True:
        for word in range(words):
            while g.pending[word]:
                node = word * 64 + ctz(g.pending[word])
                g.pending[word] &= g.pending[word] - u64(1)
                start = _run_node(g, node, vector, start)
        left = u64(0)
        for word in range(words):
            left |= g.pending[2 * words + word]
        if left == u64(0):
            return start
        start = _run_put_off(g, vector, start)


@inline
def _take_up_queues(g: Any) -> int:
    """Make pending what queues were given in the last round. Returns how many rows."""
    words = g.pending.size // 3
    rows = 0
    for word in range(words):
        held = g.pending[words + word]
        g.pending[words + word] = u64(0)
        g.pending[word] |= held
        while held:
            rows += g.nodes[word * 64 + ctz(held)].waiting
            held &= held - u64(1)
    return rows


@inline
def _note_time(g: Any, clocks: Any) -> None:
    """Count a round with packets by how long it took, to a power of two: the exponent as a float."""
    exponent = i64(np.float64(i64(clocks)).view(np.int64) >> 52) - 1022
    bucket = max(0, min(c.ROUND_BUCKETS - 1, exponent - c.ROUND_SHORTEST))
    g.control[c.ROUND_TIMES + bucket] += u64(1)
    g.control[c.ROUND_CLOCKS] += clocks


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


@inline
def _let_gather(g: Any, packets: int, vector: int) -> None:
    """After a round with few packets, and when none waits in a queue: the next one may have more.

    Few: a quarter of a vector, so that rings of 256 slots do not overflow meanwhile.
    """
    words = g.pending.size // 3
    wait = i64(g.control[c.GATHER])
    if wait == 0 or 4 * packets >= vector or g.control[c.POLL] == u64(0):
        return
    for word in range(words):
        if g.pending[words + word]:
            return
    call3(i64(g.control[c.POLL]), address(g.polled), 0, wait)


@kernel
def _rounds(at: int, until_idle: bool) -> bool:
    """Rounds on the plan whose words are at an address. Returns whether another one takes its place."""
    g = _plan(view(at, PLAN_WORDS, np.int64))
    base = address(g.control)
    empty = 0
    while True:
        command = load_acquire64(base + 8 * c.COMMAND)
        if command == u64(c.STOP):
            return False
        if command == u64(c.PAUSE):
            store_release64(base + 8 * c.STATE, u64(c.PAUSED))
            store_release64(base + 8 * c.ROUNDS, g.control[c.ROUNDS] + u64(1))
            _rest(g, 1 << 30)
            continue
        if command == u64(c.SWAP):
            words = view(i64(g.control[c.EXCHANGE]), exchange.WORDS, np.int64)
            if exchange.stand(g, words):
                return True
            continue  # called off: who did that says what to do, and may have the next one ready
        store_release64(base + 8 * c.STATE, u64(c.RUNNING))
        vector = max(1, min(VECTOR_MAX, i64(load_acquire64(base + 8 * c.VECTOR))))
        g.emitted[emit.LEFT] = u64(emit.EMIT_ROOM)
        g.emitted[emit.ROUND] = u64(emit.ROUND_ROOM)
        begin = cycles()
        packets, more, start = _poll_inputs(g, vector, begin)
        packets += _take_up_queues(g)
        end = run_pending(g, vector, start)
        g.control[c.NOW] = start
        store_release64(base + 8 * c.ROUNDS, g.control[c.ROUNDS] + u64(1))
        if packets:
            g.control[c.BUSY_ROUNDS] += u64(1)
            _note_time(g, end - begin)
            g.control[c.ASLEEP] = u64(0)
            empty = 0
            if not until_idle:
                _let_gather(g, packets, vector)
        else:
            empty = 0 if more else empty + 1
            if until_idle and not more:
                return False
            _rest(g, empty)
        if until_idle and g.control[c.ONCE]:
            return False


@kernel
def swap(at: int) -> int:
    """Change over to the plan of the exchange, from that at an address. Returns where its words are.

    Between two rounds; by the worker, or by whoever sees to it that it runs none.
    """
    old = _plan(view(at, PLAN_WORDS, np.int64))
    words = view(i64(old.control[c.EXCHANGE]), exchange.WORDS, np.int64)
    there = words[exchange.PLAN]
    new = _plan(view(there, PLAN_WORDS, np.int64))
    exchange.carry(old, new, words)
    run_pending(new, VECTOR_MAX, cycles())  # what waited in queues that are no more is dropped
    new.control[c.ASLEEP] = u64(0)  # all inputs are looked at before it sleeps
    where = address(new.control) + 8 * c.COMMAND
    compare_swap64(where, u64(c.SWAP), u64(words[exchange.BACK]))
    store_release64(address(words) + 8 * exchange.WENT, cycles())  # the last use of the old plan
    return there


@kernel
def run(words: Any, until_idle: bool) -> None:
    """Live: rounds until the command STOP, or (until_idle) until one moves no packet."""
    at = address(words)
    g = _plan(view(at, PLAN_WORDS, np.int64))
    g.control[c.STARTED] = cycles()
    store_release64(address(g.control) + 8 * c.STATE, u64(c.RUNNING))
    while _rounds(at, until_idle):
        at = swap(at)
    store_release64(address(g.control) + 8 * c.STATE, u64(c.STOPPED))
