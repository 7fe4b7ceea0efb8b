# SPDX-License-Identifier: Apache-2.0
"""held: packets that wait for a neighbor's MAC, a short queue for each next hop of either family.

    held  HELD[1 + n], n a power of two

    record 0     word, high, low   the release in hand    rows, first, n   what is left to emit of it
                 total buffers of the packets in the table    limit  how many there may be
    record 1..n  word  USED | port, 0: free   high, low   the next hop, see tables.addresses
                 rows, first, n   the queue, oldest at first

A next hop lies in one of the WINDOW records that begin at its home, so what is deleted leaves no
trace. A slot in use has one packet at least. A release moves the slot's queue to record 0 and frees
the slot: what comes later for the next hop starts anew, and does not keep the release from ending.

Owner       One worker: arp-resolve, nd-resolve and neighbor-release. The control plane sizes it, and
            reads it while no worker runs.
Complexity  WINDOW comparisons.
Limits      QUEUE packets for each next hop (RFC 1122 section 2.3.2.2, RFC 4861 section 7.2.2: a few,
            the latest): more than the ten segments that TCP begins with (RFC 6928), or traceroute's
            sixteen probes.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, inline, kernel
from vforward.layout import CHAINED, NIL, ArrayOf

QUEUE = 23
WINDOW = 8
SLOTS = 1024
"""The usual n."""

HELD = np.dtype(
    [
        ("word", np.uint64),
        ("high", np.uint64),
        ("low", np.uint64),
        ("rows", np.uint32, QUEUE),  # a ring
        ("total", np.uint32),
        ("limit", np.uint32),
        ("first", np.uint8),
        ("n", np.uint8),
        ("spare", np.uint8, 2),
    ]
)
assert HELD.itemsize == 128, "two cache lines"

Held = Annotated[NDArray[Any], ArrayOf(HELD)]

USED = 1 << 16
_HASH = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio (Knuth, TAOCP 6.4)


@inline
def word_of(port: Any) -> Any:
    """What the word of a slot in use by a next hop at the port is."""
    return np.uint64(USED | np.int64(port))


@inline
def _home(word: Any, high: Any, low: Any) -> Any:
    """Where a next hop's window begins, before it is masked."""
    mixed = ((word * _HASH ^ high) * _HASH ^ low) * _HASH
    return np.int64(mixed >> np.uint64(32))


@inline
def _is(record: Any, word: Any, high: Any, low: Any) -> Any:
    return (record.word == word) & (record.high == high) & (record.low == low)


@kernel
def probe(held: Any, port: Any, high: Any, low: Any) -> Any:
    """The next hop's slot, or else a free one that it may take (with n 0), or else 0."""
    word = word_of(port)
    mask = held.size - 2
    home = _home(word, high, low)
    free = np.int64(0)
    for i in range(WINDOW):
        slot = np.int64(1 + ((home + i) & mask))
        if _is(held[slot], word, high, low):
            return slot
        if free == 0 and held[slot].word == 0:
            free = slot
    return free


@kernel
def buffers(meta: Any, row: Any) -> Any:
    """How many buffers a packet takes, empty ones at its end included."""
    n = i64(1)
    while meta[row].flags & CHAINED and n < meta.size:
        row = i64(meta[row].next)
        n += 1
    return n


@inline
def has_room(held: Any, n: Any) -> Any:
    """Whether one more packet, of n buffers, may wait."""
    return i64(held[0].total) + n <= i64(held[0].limit)


@inline
def pop_oldest(held: Any, meta: Any, slot: Any) -> Any:
    """Take the oldest packet out of a queue; NIL when it is empty."""
    n = np.int64(held[slot].n)
    if n == 0:
        return np.int64(NIL)
    first = np.int64(held[slot].first)
    held[slot].first = (first + 1) % QUEUE
    held[slot].n = n - 1
    row = np.int64(held[slot].rows[first])
    held[0].total -= np.uint32(buffers(meta, row))
    return row


@kernel
def append(held: Any, meta: Any, slot: Any, port: Any, high: Any, low: Any, row: Any) -> Any:
    """Put a packet behind those of the slot, which probe gave for the next hop.

    Where there is no room the slot's oldest packet makes place: returns its row, otherwise NIL.
    The caller has checked has_room for a free slot, and for a packet of several buffers.
    """
    oldest = np.int64(NIL)
    n_buffers = buffers(meta, row)
    if held[slot].n == QUEUE or not has_room(held, n_buffers):
        oldest = pop_oldest(held, meta, slot)
    record = held[slot]
    record.word = word_of(port)
    record.high = high
    record.low = low
    n = np.int64(record.n)
    record.rows[(np.int64(record.first) + n) % QUEUE] = row
    record.n = n + 1
    held[0].total += np.uint32(n_buffers)
    return oldest


@kernel
def begin_release(held: Any, port: Any, high: Any, low: Any) -> None:
    """Move the next hop's queue, if there is one, to record 0, which is empty, and free its slot."""
    slot = probe(held, port, high, low)
    if slot == 0 or held[slot].n == 0:
        return
    for i in range(QUEUE):
        held[0].rows[i] = held[slot].rows[i]
    held[0].first = held[slot].first
    held[0].n = held[slot].n
    held[slot].word = 0
    held[slot].n = 0
    held[slot].first = 0


def items_for(slots: int = SLOTS) -> int:
    """Length of the array of a table of at least so many slots."""
    return 1 + max(WINDOW, 1 << (slots - 1).bit_length())


def prepare(held: NDArray[Any], limit: int) -> NDArray[Any]:
    """Empty a table that may hold so many buffers in all. Returns it."""
    held[:] = np.zeros(1, HELD)
    held[0]["limit"] = limit
    return held


def held_packets(held: NDArray[Any]) -> int:
    """How many packets wait in the table, those of a release in hand included."""
    return int(held["n"].sum())


def held_rows(held: NDArray[Any]) -> list[int]:
    """The rows of the packets that wait: while no worker runs."""
    return [
        int(record["rows"][(int(record["first"]) + i) % QUEUE])
        for record in held[held["n"] > 0]
        for i in range(int(record["n"]))
    ]


def check(held: NDArray[Any]) -> None:
    """Assert that the table makes sense. While no worker runs."""
    slots = held[1:]
    assert slots.size & (slots.size - 1) == 0
    assert ((slots["word"] == 0) == (slots["n"] == 0)).all(), "a slot in use has a packet"
    assert (held["n"] <= QUEUE).all()
    assert (held["first"] < QUEUE).all()
    used = slots[slots["word"] != 0][["word", "high", "low"]]
    assert np.unique(used).size == used.size, "a next hop has two slots"
    for word, high, low in used:
        slot = int(probe(held, int(word) - USED, high, low))
        assert held[slot][["word", "high", "low"]] == np.array((word, high, low), used.dtype), (
            "a next hop is out of its window"
        )
    assert held_packets(held) <= int(held[0]["total"]) <= int(held[0]["limit"])
    assert held_packets(held) or not held[0]["total"]
