# SPDX-License-Identifier: Apache-2.0
"""Packets that a node makes besides those it was given: copies of a flood, fragments, answers.

    emitted  u64[2 + EMIT_ROOM]   one of a graph: the table ``emitted`` of every node that asks for it
             word 0   how many rows this call has emitted
             word 1   how many more may be emitted in this round
             words 2..  edge << 32 | row

A kernel emits rows that it took from the pool, by edges of its own; the scheduler hands them on when
the call returns, behind those that the kernel was given. A round's budget is EMIT_ROOM rows of all
nodes together, so frames have room for them; what it does not allow the kernel counts and drops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.kernel import i64, inline, u64

EMIT_ROOM = 4096
EMITTED, LEFT, FIRST = 0, 1, 2


@inline
def room(out: Any) -> Any:
    """How many more rows may be emitted in this round."""
    return i64(out[LEFT])


@inline
def emit(out: Any, row: Any, edge: Any) -> None:
    """Send a row by an edge of the calling node. The caller has asked whether there is room."""
    at = i64(out[EMITTED])
    out[FIRST + at] = u64(i64(edge) << 32 | i64(row))
    out[EMITTED] = u64(at + 1)
    out[LEFT] -= u64(1)


def new() -> Any:
    """The array of a graph."""
    out = np.zeros(FIRST + EMIT_ROOM, np.uint64)
    out[LEFT] = EMIT_ROOM
    return out
