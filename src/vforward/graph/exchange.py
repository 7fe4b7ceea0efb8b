# SPDX-License-Identifier: Apache-2.0
"""One plan for another, between two rounds: what a worker does when it is told SWAP. adr/0030.

    control word EXCHANGE   address of i64[WORDS], one for each worker
    PLAN          address of the new plan's words
    MOVES, n      address of (to, from, words): u64 words to be copied; counters, and what looks on
    QUEUES, n     address of (old number, new number or GONE): queues, whose rows go along
    TURN          address of a u64 that all share: how many workers stand, or what has become of it
    GO            what it says when they may go on: how many they are, or ALL
    BACK          the command that holds afterwards: RUN, PAUSE
    CAME, WENT    TSC, written by the worker: since when it stood, and when it was done

All stand before one goes on, so no packet meets both graphs. Who is told anything else meanwhile calls the
turn off, unless it is complete: then nobody changes his plan. The control plane may have them wait until it
has done something (HELD), and then says ALL or CALLED_OFF. A worker that stands is between two rounds, so
rounds are counted: who waits for a quiet point need not wait for the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import control as c
from vforward.graph.hand_on import refuse
from vforward.jit.atomics import compare_swap64, fetch_add64, load_acquire64, store_release64
from vforward.jit.intrinsics import address, call3, copy, cycles, relax, view
from vforward.jit.kernel import i64, kernel, u64

PLAN, MOVES, N_MOVES, QUEUES, N_QUEUES, TURN, GO, BACK, CAME, WENT = range(10)
WORDS = 10
ALL, HELD, CALLED_OFF = 1 << 30, 1 << 31, 1 << 32
GONE = -1
"""A queue that the new graph has not."""
SPINS = 2000
NAP_NS = 20_000
"""Where there are fewer CPUs than workers, who stands must not keep the others from coming."""


@kernel
def stand(g: Any, words: Any) -> bool:
    """Wait until all stand. Returns whether it takes place."""
    words[CAME] = i64(cycles())
    turn, go = words[TURN], u64(words[GO])
    base = address(g.control)
    fetch_add64(turn, u64(1))
    spins = 0
    while True:
        now = load_acquire64(turn)
        if now >= u64(CALLED_OFF):
            return False
        if now == go:
            return True
        told = load_acquire64(base + 8 * c.COMMAND)
        if told != u64(c.SWAP) and now < u64(HELD):
            compare_swap64(turn, now, u64(CALLED_OFF))
            continue
        store_release64(base + 8 * c.ROUNDS, g.control[c.ROUNDS] + u64(1))
        spins += 1
        if spins > SPINS and g.control[c.POLL]:
            call3(i64(g.control[c.POLL]), address(g.polled), 0, NAP_NS)
        else:
            relax()


@kernel
def replace(turn: Any, expected: int, new: int) -> bool:
    """Let the turn say something else, if it says what is expected. Returns whether it does."""
    return compare_swap64(address(turn), u64(expected), u64(new))


@kernel
def move(moves: Any) -> None:
    """Copy words: moves i64[3 * n] has where to, where from, and how many."""
    for i in range(moves.size // 3):
        copy(moves[3 * i], moves[3 * i + 1], 8 * moves[3 * i + 2])


@kernel
def carry(old: Any, new: Any, words: Any) -> None:
    """Give the new plan what the old one has counted, and the rows that wait in its queues."""
    move(view(words[MOVES], 3 * words[N_MOVES], np.int64))
    new.control[c.TRACED_ROWS] = u64(0)  # the new graph's trace is empty
    queues = view(words[QUEUES], 2 * words[N_QUEUES], np.int64)
    for i in range(queues.size // 2):
        node, to = queues[2 * i], queues[2 * i + 1]
        rows = view(old.nodes[node].frame, old.nodes[node].waiting, np.uint32)
        old.nodes[node].waiting = 0
        if rows.size == 0:
            continue
        if to == GONE:
            refuse(new, new.nodes.size - 1, rows)
            continue
        frame = view(new.nodes[to].frame, rows.size, np.uint32)
        for k in range(rows.size):
            frame[k] = rows[k]
        new.nodes[to].waiting = rows.size
        new.pending[new.nodes[to].word] |= new.nodes[to].bit
