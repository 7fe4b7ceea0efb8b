# SPDX-License-Identifier: Apache-2.0
"""Packets that a node makes besides those it was given: copies of a flood, fragments, answers.

    emitted  u64[4 + EMIT_ROOM]   one of a graph: the table ``emitted`` of every node that asks for it
             word 0   how many rows this call has emitted
             word 1   how many more may be emitted
             word 2   how many of the rows it was given, the last ones, this call has put off
             word 3   i64, how many more of what is cut up may be emitted in this round
             words 4..  edge << 32 | row

A kernel emits rows that it took from the pool, by edges of its own; the scheduler hands them on when
the call returns, behind those that the kernel was given. Room is for EMIT_ROOM rows of all nodes
together, so frames have room for them. For what finds none a kernel does one of two things:

    drop, and count    copies of a flood: in a storm others go on
    put_off            what was sent to one place (segments, fragments): the packet and all behind it in
                       the call, without edges. The kernel gets them again, when what it and others have
                       emitted has gone on and there is all the room: in the same round, in order.
                       What would find no room then either (never_fits) is dropped and counted: so
                       is what comes when some ROUND_ROOM rows have been emitted, lest others wait for
                       somebody's thousands of tiny segments
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.kernel import i64, inline, u64

EMIT_ROOM = 4096
ROUND_ROOM = 65536
"""Five vectors of super-frames of 64 KB with the usual segments of 1448 bytes."""
EMITTED, LEFT, PUT_OFF, ROUND, FIRST = range(5)


@inline
def room(out: Any) -> Any:
    """How many more rows may be emitted now."""
    return i64(out[LEFT])


@inline
def never_fits(out: Any, n: Any) -> Any:
    """Whether there will be no room in this round for n rows of one packet. For one there is."""
    return i64(n) > 1 and (i64(n) > EMIT_ROOM or i64(n) > i64(out[ROUND]))


@inline
def put_off(out: Any, n: Any) -> None:
    """Have the last n rows of this call given again. The first of them may fit later (see the module)."""
    out[PUT_OFF] = u64(n)


@inline
def emit(out: Any, row: Any, edge: Any) -> None:
    """Send a row by an edge of the calling node. The caller has asked whether there is room."""
    at = i64(out[EMITTED])
    out[FIRST + at] = u64(i64(edge) << 32 | i64(row))
    out[EMITTED] = u64(at + 1)
    out[LEFT] -= u64(1)
    out[ROUND] -= u64(1)


def new() -> Any:
    """The array of a graph."""
    out = np.zeros(FIRST + EMIT_ROOM, np.uint64)
    out[[LEFT, ROUND]] = EMIT_ROOM, ROUND_ROOM
    return out
