# SPDX-License-Identifier: Apache-2.0
"""memif's rings and what our end knows of them: slots, where their bytes lie, and who has which.

    ring, in the client's memory      bytes 0-3    cookie                  (client)
                                      bytes 4-5    flags: 1, no interrupts (who receives by it)
                                      bytes 6-7    head, u16               (client)
                                      bytes 64-65  tail, u16               (server)
                                      bytes 128..  descriptors of 16 bytes
    descriptor    u16 flags (1: the packet goes on in the next one), u16 region, u32 length,
                  u32 offset in the region, u32 metadata

    to the server    [tail, head) are packets         the client fills, the server empties
    to the client    [tail, head) are empty buffers   the server fills, the client empties below tail

head and tail run through all of u16. Everything there may be changed by the peer at any moment: each
word is loaded once, bounded, and used. A client's own buffers are where its slot number says, whatever
a descriptor does. Where the server's are is what descriptors say, in regions that cannot shrink.

    state    u64[STATE_WORDS], private to this process; words are named below
"""

from __future__ import annotations

from typing import Any

from vforward.jit.atomics import (
    fence,
    load_acquire16,
    load_acquire64,
    store_release16,
    store_release64,
)
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings.memif import DESCRIPTOR, RING_HEADER

HEAD, TAIL, FLAGS = 6, 64, 4
NEXT, QUIET = 1, 1

FREE, LIVE, ENDED, FAULT = 0, 1, 2, 3
"""Whose turn it is: nobody's; the worker moves packets; the peer has gone, the worker is to let go;
the peer did what it must not, and is to be let go."""

TURN, SERVER, PORT, REASON = 0, 1, 2, 3
RX, RX_SLOTS, RX_NEXT = 4, 5, 6
"""The ring that packets come by: its address, its slots, the u16 number of the next one."""
TX, TX_SLOTS, TX_NEXT = 7, 8, 9
RX_BUFFERS, TX_BUFFERS, BUFFER = 10, 11, 12
"""Of a client: where its buffers begin, for each ring, and bytes of each."""
RX_OFFSET, TX_OFFSET = 13, 14
"""Of a client: the same, in bytes from its region's start."""
EPOLL, EPOLL_WAIT, SINK, BELL, WRITE, ONE, RANG = 15, 16, 17, 20, 21, 22, 23
IDLE, REFUSED, REFUSED_SEEN, FAULTS, FAULTS_SEEN = 24, 25, 26, 27, 28
REGIONS, FIRST = 30, 31
"""How many regions; then two words for each: address and bytes."""
STATE_WORDS = 64

PIECES = 64
"""Slots that one packet may have."""

BAD_INDEX, BAD_DESCRIPTOR, BAD_CHAIN = 1, 2, 3


@kernel
def received(state: Any) -> Any:
    """Slots with packets in them, from RX_NEXT on; -1 when the peer's index makes no sense."""
    at = HEAD if state[SERVER] else TAIL
    word = load_acquire16(i64(state[RX]) + at)
    n = i64(word - state[RX_NEXT] & u64(0xFFFF))
    return n if n <= i64(state[RX_SLOTS]) else -1


@kernel
def writable(state: Any) -> Any:
    """Slots that may be filled, from TX_NEXT on; -1 when the peer's index makes no sense."""
    size = i64(state[TX_SLOTS])
    if state[SERVER]:
        n = i64(load_acquire16(i64(state[TX]) + HEAD) - state[TX_NEXT] & u64(0xFFFF))
        return n if n <= size else -1
    n = i64(state[TX_NEXT] - load_acquire16(i64(state[TX]) + TAIL) & u64(0xFFFF))
    return size - n if n <= size else -1


@inline
def _descriptor(state: Any, ring: Any, slots: Any, k: Any) -> Any:
    return i64(state[ring]) + RING_HEADER + DESCRIPTOR * (i64(k) & i64(state[slots]) - 1)


@inline
def _bytes(state: Any, word: Any, offset: Any) -> Any:
    """Where a server's peer says that a buffer is; 0 when that is not in one of its regions."""
    region = i64(word >> u64(16) & u64(0xFFFF))
    if region >= i64(state[REGIONS]):
        return i64(0)
    size = state[FIRST + 2 * region + 1]
    length = word >> u64(32)
    if offset > size or length > size - offset:
        return i64(0)
    return i64(state[FIRST + 2 * region] + offset)


@kernel
def packet(state: Any, pieces: Any, at: Any, left: Any) -> Any:
    """Read the descriptors of the packet at RX_NEXT + at; left slots wait from there on.

    pieces i64[2 * PIECES]: address and length of each part. Returns how many parts; 0 when its end
    is not there yet; minus a reason when it is none.
    """
    for n in range(min(left, PIECES)):
        k = state[RX_NEXT] + u64(at + n)
        where = _descriptor(state, RX, RX_SLOTS, k)
        word = load_acquire64(where)
        length = i64(word >> u64(32))
        if state[SERVER]:
            start = _bytes(state, word, load_acquire64(where + 8) & u64(0xFFFFFFFF))
        elif length <= i64(state[BUFFER]):
            slot = i64(k) & i64(state[RX_SLOTS]) - 1
            start = i64(state[RX_BUFFERS]) + slot * i64(state[BUFFER])
        else:
            start = i64(0)
        if start == 0:
            return -BAD_DESCRIPTOR
        pieces[2 * n] = start
        pieces[2 * n + 1] = length
        if not word & u64(NEXT):
            return n + 1
    return -BAD_CHAIN if left >= min(PIECES, i64(state[RX_SLOTS])) else 0


@kernel
def emptied(state: Any, n: Any) -> None:
    """Give the peer the first n slots from RX_NEXT on back."""
    if not state[SERVER]:
        for i in range(n):
            _offer(state, state[RX_NEXT] + u64(i))
    state[RX_NEXT] = state[RX_NEXT] + u64(n) & u64(0xFFFF)
    if state[SERVER]:
        store_release16(i64(state[RX]) + TAIL, state[RX_NEXT])
    else:
        store_release16(i64(state[RX]) + HEAD, state[RX_NEXT] + state[RX_SLOTS])


@inline
def _offer(state: Any, k: Any) -> None:
    """Of a client: describe the empty buffer of a slot."""
    where = _descriptor(state, RX, RX_SLOTS, k)
    slot = k & state[RX_SLOTS] - u64(1)
    store_release64(where, state[BUFFER] << u64(32))
    store_release64(where + 8, state[RX_OFFSET] + slot * state[BUFFER])


@kernel
def slot(state: Any, pieces: Any, at: Any) -> Any:
    """Where the slot at TX_NEXT + at has its bytes: pieces[0:2] are address and room.

    Returns whether it has any, in a region of the peer's.
    """
    k = state[TX_NEXT] + u64(at)
    if state[SERVER]:
        where = _descriptor(state, TX, TX_SLOTS, k)
        word = load_acquire64(where)
        start = _bytes(state, word, load_acquire64(where + 8) & u64(0xFFFFFFFF))
        pieces[0], pieces[1] = start, i64(word >> u64(32))
        pieces[2] = i64(word >> u64(16) & u64(0xFFFF))
        return start != 0 and pieces[1] > 0
    pieces[0] = i64(state[TX_BUFFERS] + (k & state[TX_SLOTS] - u64(1)) * state[BUFFER])
    pieces[1] = i64(state[BUFFER])
    pieces[2] = 0
    return True


@kernel
def describe(state: Any, at: Any, region: Any, n: Any, more: Any) -> None:
    """Write the descriptor of that slot: n bytes, and whether the packet goes on in the next."""
    k = state[TX_NEXT] + u64(at)
    where = _descriptor(state, TX, TX_SLOTS, k)
    store_release64(where, u64(n) << u64(32) | u64(region) << u64(16) | u64(NEXT if more else 0))
    if not state[SERVER]:
        number = k & state[TX_SLOTS] - u64(1)
        store_release64(where + 8, state[TX_OFFSET] + number * state[BUFFER])


@kernel
def filled(state: Any, n: Any) -> Any:
    """Hand the peer the first n slots from TX_NEXT on. Returns whether it wants to be interrupted."""
    state[TX_NEXT] = state[TX_NEXT] + u64(n) & u64(0xFFFF)
    store_release16(i64(state[TX]) + (TAIL if state[SERVER] else HEAD), state[TX_NEXT])
    fence()  # it says that it wants to be interrupted, and looks again: one of both is seen
    return not load_acquire16(i64(state[TX]) + FLAGS) & u64(QUIET)


@kernel
def begin(state: Any) -> None:
    """At the start of a connection: first slots, and the interrupts that we want.

    A client offers all its empty buffers: not before it is connected, since DPDK's server sets head
    and tail to 0 when it connects.
    """
    state[RX_NEXT] = u64(0)
    state[TX_NEXT] = u64(0)
    state[IDLE] = u64(0)
    store_release16(i64(state[RX]) + FLAGS, u64(0))
    if not state[SERVER]:
        for k in range(i64(state[RX_SLOTS])):
            _offer(state, u64(k))
        store_release16(i64(state[RX]) + HEAD, state[RX_SLOTS])


@kernel
def fault(state: Any, reason: Any) -> None:
    """The worker: no more with this peer."""
    state[REASON] = u64(reason)
    state[FAULTS] += u64(1)
    store_release64(state.ctypes.data + 8 * TURN, u64(FAULT))


@kernel
def turn_of(state: Any) -> Any:
    """FREE, LIVE, ENDED or FAULT."""
    return load_acquire64(state.ctypes.data + 8 * TURN)


@kernel
def hand_over(state: Any, turn: Any) -> None:
    """Say whose turn it is."""
    store_release64(state.ctypes.data + 8 * TURN, u64(turn))
