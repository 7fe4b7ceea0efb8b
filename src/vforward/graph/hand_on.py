# SPDX-License-Identifier: Apache-2.0
"""Hand rows on: to the next node's frame, by the edges that a call has given them.

When all rows took one edge, and the next node's frame is empty, the two frames are swapped and nothing
is copied; else rows are sorted by edge, without branches on the data. g is the plan (graph.scheduler).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import control as c
from vforward.graph import emit
from vforward.graph.watch import watch
from vforward.jit.intrinsics import view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import EDGE_HELD, VECTOR_MAX


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


@inline
def refuse(g: Any, node: int, rows: Any) -> None:
    """Give rows that a node does not take to the last one, which drops them."""
    g.stats[node * c.STATS + c.FULL] += u64(rows.size)
    _push(g, g.nodes.size - 1, rows, rows.size)


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
        refuse(g, to, rows[fits:])


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
def hand_on(g: Any, node: int, frame: int, n: int, whole: bool) -> None:
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
            watch(g, node, rows[:n])
        _sort(g, node, rows[:n])
        done += n


@kernel
def hand_on_made(g: Any, node: int, frame: int, n: int, whole: bool) -> Any:
    """Hand on what a call has done that emitted rows, or put some off. Returns how many it has not."""
    done = max(i64(0), n - i64(g.emitted[emit.PUT_OFF]))
    g.emitted[emit.PUT_OFF] = u64(0)
    if done > 0:
        if g.control[c.TRACING]:
            watch(g, node, view(frame, done, np.uint32))
        hand_on(g, node, frame, done, whole and done == n)
    if g.emitted[emit.EMITTED]:
        _hand_on_emitted(g, node)
    return done
