# SPDX-License-Identifier: Apache-2.0
"""A memory ring: buffers lent to another process that shares the pool, by row. Nothing is copied.

    segment  u64[words_for(room)] in the arena, zeros at first
    word 0     kick    1: the worker's eventfd was written    (program stores 1, worker 0)
    word 8     asleep  1: write the program's eventfd         (program stores 1, both store 0)
    words 16.. four SPSC rings of u32 rows:
               full    packets for the program                worker -> program
               empty   buffers for the program to fill        worker -> program
               sent    packets from the program               program -> worker
               back    packets and buffers given back         program -> worker

Every row that the program has, or that waits in one of the rings, is *lent*: the ledger, private to
the worker, says so. A row that comes back must be in it, and every buffer of a chain too. So rows are
never doubled, whatever a program does, and when it dies all that it had is reclaimed at once.

    ledger   u8[n] one for each row of the pool: NOT, PACKET or EMPTY
    state    u64[STATE_WORDS], private to the forwarder
             word 0  whose turn it is: see FREE, LIVE, ENDED (accepting thread and worker)
             words 1-2  rows lent: packets, empty buffers (worker)

A program may hold ``room`` packets' buffers and as many empty ones, so sent and back have room for all
that it can have: pushing there never fails.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import fence, load_acquire64, store_release64
from vforward.jit.intrinsics import address, call3
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import CHAINED
from vforward.memory.pool import put_one
from vforward.rings.spsc import HEADER, items_for, used_slots

KICK, ASLEEP = 0, 8
FIRST = 16
"""Words before the first ring."""

NOT, PACKET, EMPTY = 0, 1, 2
STATE, LENT = 0, 0
"""Words of state: STATE, and LENT + PACKET, LENT + EMPTY."""
EVENT, READ, WRITE, SINK, PEER_EVENT = 3, 4, 5, 6, 7
"""The worker's eventfd; addresses of read(2) and write(2) and of a word for them; the program's."""
ONE = 8
"""A word that is 1: what is written to an eventfd."""
PORT, ROOM = 9, 10
"""The port's number; how many buffers a program may hold of each kind."""
STATE_WORDS = 16

POLLIN, REVENTS = 1 << 32, 48
"""In a struct pollfd as a word: what is waited for; the bit where what came begins."""
POLL, POLL_READ, POLL_SINK = 2, 3, 4
"""What wait needs, after two struct pollfd: addresses of poll(2) and read(2), and a word for that."""

FREE, LIVE, ENDED = 0, 1, 2
"""Nobody is attached; a program is; it has gone, and the worker is to reclaim what it had."""

BUFFERS_MAX = 64
"""Buffers of the longest chain that a program is lent, or may send."""


class Rings(NamedTuple):
    """A segment, and its four rings as arrays."""

    words: NDArray[np.uint64]
    full: NDArray[np.uint32]
    empty: NDArray[np.uint32]
    sent: NDArray[np.uint32]
    back: NDArray[np.uint32]


def _words(room: int) -> tuple[int, ...]:
    return tuple(items_for(n) // 2 for n in (room, room, 2 * room, 2 * room))


def words_for(room: int) -> int:
    """Words of the segment: what to ask an arena for. room: a power of two."""
    return FIRST + sum(_words(room))


def rings(segment: NDArray[np.uint64], room: int) -> Rings:
    """The rings in a segment. Raises ValueError when it is too short."""
    if segment.size != words_for(room):
        msg = f"a memory ring of {segment.size} words is none for {room} packets"
        raise ValueError(msg)
    at, parts = FIRST, []
    for n in _words(room):
        parts.append(segment[at : at + n].view(np.uint32))
        at += n
    return Rings(segment, *parts)


@kernel
def lend(meta: Any, ledger: Any, state: Any, row: Any, room: Any) -> Any:
    """Enter all buffers of a packet as lent. Returns how many they are.

    0: the program may not have so many more. -1: no program is lent a packet in so many.
    """
    n, at = 0, row
    for _ in range(BUFFERS_MAX):
        n += 1
        if not meta[at].flags & CHAINED:
            break
        at = i64(meta[at].next)
    else:
        return -1
    if i64(state[LENT + PACKET]) + n > room:
        return 0
    for _ in range(n):
        ledger[row] = PACKET
        row = i64(meta[row].next)
    state[LENT + PACKET] += u64(n)
    return n


@inline
def returned(ledger: Any, state: Any, row: Any) -> Any:
    """Strike a row off the ledger. Returns whether it was lent."""
    if row >= ledger.size or ledger[row] == NOT:
        return False
    state[LENT + i64(ledger[row])] -= u64(1)
    ledger[row] = NOT
    return True


@kernel
def returned_chain(meta: Any, pool: Any, ledger: Any, state: Any, row: Any) -> Any:
    """Strike a row and all that is chained to it off the ledger, and give them back to the pool.

    Returns False when the row was not lent. The chain is followed as far as it was lent.
    """
    if not returned(ledger, state, row):
        return False
    while True:
        chained = meta[row].flags & CHAINED
        following = i64(meta[row].next)
        put_one(pool, row)
        if not chained or not returned(ledger, state, following):
            return True
        row = following


@kernel
def reclaim(
    pool: Any, ledger: Any, state: Any, full: Any, empty: Any, sent: Any, back: Any
) -> None:
    """Give all that is lent back to the pool, whatever the program has done, and empty the rings."""
    for row in range(ledger.size):
        if ledger[row] != NOT:
            ledger[row] = NOT
            put_one(pool, row)
    state[LENT + PACKET] = u64(0)
    state[LENT + EMPTY] = u64(0)
    _reset(full)
    _reset(empty)
    _reset(sent)
    _reset(back)


@inline
def _reset(ring: Any) -> None:
    for word in range(HEADER // 8):
        store_release64(address(ring) + 8 * word, u64(0))


@kernel
def kick(words: Any) -> Any:
    """The program, behind a push: whether the worker's eventfd has to be written."""
    fence()
    return load_acquire64(address(words) + 8 * KICK) == 0


@kernel
def kicked(words: Any) -> None:
    """The program, when it has written the worker's eventfd."""
    store_release64(address(words) + 8 * KICK, u64(1))


@kernel
def fall_asleep(words: Any) -> None:
    """The program, before it looks for packets a last time and then waits for its eventfd."""
    store_release64(address(words) + 8 * ASLEEP, u64(1))
    fence()


@kernel
def awake(words: Any) -> None:
    """The program, when it waits no more."""
    store_release64(address(words) + 8 * ASLEEP, u64(0))


@kernel
def wait(words: Any, full: Any, polled: Any, timeout_ms: Any) -> Any:
    """The program: if there are no packets, wait for its eventfd in poll(2). Returns how many there are.

    polled: of polled_words. In one call: what a process does first after it slept meets cold caches.
    """
    waiting = used_slots(full)
    if waiting > 0:
        return waiting
    for k in range(2):
        polled[k] &= u64((1 << REVENTS) - 1)
    fall_asleep(words)
    if used_slots(full) == 0:
        call3(i64(polled[POLL]), address(polled), 2, i64(timeout_ms))
        if polled[0] >> u64(REVENTS):
            event, sink = i64(polled[0] & u64(0xFFFFFFFF)), address(polled) + 8 * POLL_SINK
            call3(i64(polled[POLL_READ]), event, sink, 8)
    awake(words)
    return used_slots(full)


def polled_words(event: int, other: int, poll: int, read: int) -> NDArray[np.uint64]:
    """For wait: the program's eventfd, a descriptor that ends the wait too, the C library's functions."""
    return np.array([event | POLLIN, other | POLLIN, poll, read, 0], np.uint64)


def other_ready(polled: NDArray[np.uint64]) -> bool:
    """Whether the other descriptor was ready when wait last looked."""
    return bool(int(polled[1]) >> REVENTS)


@kernel
def turn_of(state: Any) -> Any:
    """Whose turn it is: FREE, LIVE or ENDED."""
    return load_acquire64(address(state) + 8 * STATE)


@kernel
def hand_over(state: Any, value: Any) -> None:
    """Hand the memory ring over: see FREE, LIVE, ENDED."""
    store_release64(address(state) + 8 * STATE, u64(value))
