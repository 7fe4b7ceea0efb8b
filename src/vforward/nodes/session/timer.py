# SPDX-License-Identifier: Apache-2.0
"""session-timer: tells the sessions what time it is, and ends those that are due or to be killed.

An input that receives nothing: it is polled once in every round. What it does in a round is bounded, so
that a million sessions that are due at once do not keep packets waiting; while some are left to do, the
worker does not sleep.

Reads   the cycle counter; the ring session_kills
Writes  the table sessions
Drops   nothing
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, MORE, Kind, Labels, Node
from vforward.jit.intrinsics import address, cycles, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows
from vforward.rings.spsc import pop
from vforward.tables import session as t
from vforward.tables import session_life as life

BUDGET = 512
"""Sessions that are looked after in a round: some 50 microseconds where every one is a cache miss."""
KILLS = 4
KILL_ROUNDS = 32


class Edge(Labels):
    """None: there are no packets."""


class Count(Labels):
    """What became of sessions."""

    KILLED = 0, "sessions that were ended because the operator said so", INFO


@inline
def _tick(s: Any) -> Any:
    """Move the time on. Returns whether it was."""
    hz, now = s.head[t.HZ], cycles()
    if hz == u64(0):
        return True
    if now < s.head[t.NEXT_AT] and s.head[t.NEXT_AT] - now <= hz:
        return False
    passed = u64(0)
    if s.head[t.NEXT_AT] != u64(0) and now >= s.head[t.NEXT_AT]:
        passed = (now - s.head[t.NEXT_AT]) // hz + u64(1)
        s.head[t.NEXT_AT] += passed * hz
    else:  # the first time, or the counter began anew
        s.head[t.NEXT_AT] = now + hz
    s.head[t.NOW] += passed
    return passed != u64(0)


@kernel
def _kill(s: Any, word: Any) -> Any:
    """End a session: generation << 32 | number. Returns whether it was still there."""
    number = i64(word & u64(0xFFFFFFFF))
    if number == 0 or number > i64(s.head[t.CAPACITY]):
        return False
    if s.hot[number].state == t.FREE or s.cold[number].generation != i64(word >> u64(32)):
        return False
    life.close(s, number)
    s.head[t.KILLED] += u64(1)
    return True


@kernel
def session_timer(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, sessions: U64, session_kills: U64
) -> int:
    s = t.shard(sessions)
    words = view(address(sessions) + 8 * t.SCRATCH, KILLS, np.uint64)
    n = i64(0)
    for _ in range(KILL_ROUNDS):
        n = pop(session_kills, words, KILLS)
        for k in range(n):
            count[Count.KILLED] += u64(_kill(s, words[k]))
        if n < KILLS:
            break
    if _tick(s) or s.head[t.BEHIND]:
        s.head[t.BEHIND] = u64(life.sweep(s, BUDGET) >= BUDGET)
    return i64(MORE) if n == KILLS or s.head[t.BEHIND] else i64(0)


NODE = Node("session-timer", session_timer, Edge, Count, Kind.INPUT)
