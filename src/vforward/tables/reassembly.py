# SPDX-License-Identifier: Apache-2.0
"""reassembly: datagrams of which pieces are on their way, one table for each family.

    reassembly4, reassembly6   DATAGRAM[1 + n], n a power of two

    record 0     head   the first free record; each names the next by chain
                 newer, older   the oldest and the newest datagram, 0: none
                 started   clocks that a datagram has, from its first piece on
                 src   seeds of the hash, secret
                 total_held, limit   buffers of the packets that wait, and how many there may be
    record 1..n  src, dst, word   the datagram, see key4 and key6; word 0: the record is free
                 head   the first record of bucket number (record - 1), chain the next of a bucket
                 newer, older   its place in the order of their coming, which is that of their end
                 ports, flags   what is known of it          rows, n_rows   packets that wait
                 ranges ...     see tables.pieces

When all pieces have been seen the datagram is forgotten at once. What comes later under its name can do
no harm: a first piece begins a datagram of its own, and rules see it as such; any other waits for a first
piece, and nobody gets it before. Were it remembered, senders whose identifications repeat would lose
datagrams (RFC 4963). One with a fault is remembered until its time is over, so that no piece of it
passes any more (RFC 5722).

When the table is full the oldest datagram has to go. Half as many packets may wait as there are
datagrams, and one that may not wait begins none: so a flood of later pieces does not drive out datagrams
whose first piece has come. A flood of first pieces does.

Owner       One worker. The control plane sizes it, and reads it while no worker runs.
Complexity  a hash chain; its seeds are secret, so that nobody can make it long.
Limits      n datagrams; QUEUE packets that wait for each.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import NIL, ArrayOf
from vforward.memory.arena import Arena
from vforward.packet.flow_hash import FIRST as MIX_FIRST
from vforward.packet.flow_hash import SECOND as MIX_SECOND
from vforward.tables import pieces
from vforward.tables.held import buffers

QUEUE = 8
DATAGRAMS = 1024
"""The usual n."""
HELD_MAX = DATAGRAMS // 2
"""Buffers of packets that may wait in a table, if not told otherwise."""
SECONDS4, SECONDS6 = 30, 60
"""RFC 1122 section 3.3.2 asks for 60 to 120 s of who puts datagrams together, RFC 791 for 15 of IPv4, RFC
8200 section 4.5 for 60. Who only watches loses nothing by the shorter time, but the pieces that wait."""

PORTS, REFUSED = 1, 2
"""Flags. PORTS: the first piece has been seen. REFUSED: no piece of it passes any more."""
_USED = 1 << 48

DATAGRAM = np.dtype(
    [
        ("src", np.uint64, 2),
        ("dst", np.uint64, 2),
        ("word", np.uint64),
        ("started", np.uint64),
        ("ports", np.uint32),
        ("chain", np.uint32),
        ("head", np.uint32),
        ("newer", np.uint32),
        # second line
        ("ranges", np.uint16, 2 * pieces.RANGES_MAX),
        # third line
        ("rows", np.uint32, QUEUE),
        ("older", np.uint32),
        ("total_held", np.uint32),
        ("limit", np.uint32),
        ("highest", np.uint16),
        ("total", np.uint16),
        ("flags", np.uint8),
        ("n_rows", np.uint8),
        ("n_ranges", np.uint8),
        ("spare", np.uint8, 13),
    ]
)
assert DATAGRAM.itemsize == 192, "three cache lines"

DatagramTable = Annotated[NDArray[Any], ArrayOf(DATAGRAM)]


@inline
def word_of(zone: Any, protocol: Any, ident: Any) -> Any:
    """What the word of a datagram is: zone << 40 | protocol << 32 | identification, and a mark.

    protocol: 0 for IPv6, where addresses and identification are the whole name (RFC 8200 4.5).
    """
    return u64(_USED | i64(zone) << 40 | i64(protocol) << 32 | i64(ident))


@inline
def _mix(word: Any) -> Any:
    """A bijection of u64 in which every bit depends on every one (Stafford 2011, variant 13)."""
    word = (word ^ word >> u64(30)) * MIX_FIRST
    word = (word ^ word >> u64(27)) * MIX_SECOND
    return word ^ word >> u64(31)


@inline
def _bucket(table: Any, key: Any) -> Any:
    """The record that has the head of a datagram's chain. key: src, dst (two halves each), word."""
    mixed = _mix(key[0] ^ table[0].src[0])
    mixed = _mix(mixed + key[1])
    mixed = _mix(mixed + key[2])
    mixed = _mix(mixed + key[3])
    mixed = _mix((mixed + key[4]) ^ table[0].src[1])
    return 1 + (i64(mixed >> u64(32)) & (table.size - 2))


@inline
def _is(record: Any, key: Any) -> Any:
    same = (record.src[0] == key[0]) & (record.src[1] == key[1]) & (record.dst[0] == key[2])
    return same & (record.dst[1] == key[3]) & (record.word == key[4])


@kernel
def find(table: Any, key: Any) -> Any:
    """The datagram's record, or 0."""
    at = i64(table[_bucket(table, key)].head)
    while at != 0 and not _is(table[at], key):
        at = i64(table[at].chain)
    return at


@inline
def oldest(table: Any) -> Any:
    """The record of the datagram that came first, or 0."""
    return i64(table[0].newer)


@inline
def is_over(table: Any, at: Any, now: Any) -> Any:
    """Whether a datagram's time is over. now: clocks, u64."""
    return i64(now - table[at].started) >= i64(table[0].started)


@inline
def is_full(table: Any) -> Any:
    """Whether there is no free record."""
    return table[0].head == 0


@kernel
def begin(table: Any, key: Any, now: Any) -> Any:
    """Take a free record, of which there is one, for a datagram that is not there; returns it."""
    at = i64(table[0].head)
    record = table[at]
    table[0].head = record.chain
    record.src[0], record.src[1] = key[0], key[1]
    record.dst[0], record.dst[1] = key[2], key[3]
    record.word = key[4]
    record.started = now
    record.ports = 0
    record.flags = 0
    record.n_rows = 0
    record.n_ranges = 0
    record.highest = 0
    record.total = 0
    bucket = _bucket(table, key)
    record.chain = table[bucket].head
    table[bucket].head = at
    last = i64(table[0].older)
    record.older = last
    record.newer = 0
    table[last].newer = at
    table[0].older = at
    return at


@kernel
def forget(table: Any, at: Any) -> None:
    """Free the record of a datagram for which no packet waits."""
    record = table[at]
    key = record.src[0], record.src[1], record.dst[0], record.dst[1], record.word
    bucket = _bucket(table, key)
    if table[bucket].head == at:
        table[bucket].head = record.chain
    else:
        before = i64(table[bucket].head)
        while table[before].chain != at:
            before = i64(table[before].chain)
        table[before].chain = record.chain
    table[i64(record.older)].newer = record.newer
    table[i64(record.newer)].older = record.older
    record.word = 0
    record.chain = table[0].head
    table[0].head = at


@inline
def has_room(table: Any, n: Any) -> Any:
    """Whether one more packet, of n buffers, may wait."""
    return i64(table[0].total_held) + n <= i64(table[0].limit)


@kernel
def hold(table: Any, meta: Any, at: Any, row: Any) -> bool:
    """Keep a packet with its datagram. False: as many wait as may, and it is not kept."""
    n = i64(table[at].n_rows)
    more = buffers(meta, row)
    if n == QUEUE or not has_room(table, more):
        return False
    table[at].rows[n] = row
    table[at].n_rows = n + 1
    table[0].total_held += np.uint32(more)
    return True


@kernel
def release(table: Any, meta: Any, at: Any) -> Any:
    """Take the first packet that waits out of a datagram's record; NIL when there is none."""
    record = table[at]
    n = i64(record.n_rows)
    if n == 0:
        return i64(NIL)
    row = i64(record.rows[0])
    for k in range(1, n):
        record.rows[k - 1] = record.rows[k]
    record.n_rows = n - 1
    table[0].total_held -= np.uint32(buffers(meta, row))
    return row


def prepare(table: NDArray[Any], clocks: int, limit: int = HELD_MAX) -> NDArray[Any]:
    """Empty a table: a datagram has so many clocks, so many buffers may wait. Returns it."""
    table[:] = np.zeros(1, DATAGRAM)
    table["chain"][1:-1] = np.arange(2, table.size)
    table[0]["head"] = 1
    table[0]["started"], table[0]["limit"] = clocks, limit
    table[0]["src"] = secrets.randbits(64), secrets.randbits(64)
    return table


def items_for(datagrams: int = DATAGRAMS) -> int:
    """Items of a table of at least so many datagrams."""
    return 1 + (1 << max(datagrams - 1, 0).bit_length())


def held_rows(table: NDArray[Any]) -> list[int]:
    """The rows of the packets that wait: while no worker runs."""
    return [int(row) for record in table[1:] for row in record["rows"][: record["n_rows"]]]


class Reassembly:
    """One worker's tables of both families. hz: clocks per second; limit: buffers that may wait in each.

    suffix: what its segments' names end with.
    """

    def __init__(
        self,
        arena: Arena,
        hz: int,
        datagrams: int = DATAGRAMS,
        limit: int = HELD_MAX,
        *,
        suffix: str = "",
    ) -> None:
        n = items_for(datagrams)
        four, six = (arena.make(f"reassembly{k}{suffix}", n, DATAGRAM) for k in (4, 6))
        self.ip4 = prepare(four, hz * SECONDS4, limit)
        self.ip6 = prepare(six, hz * SECONDS6, limit)

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """What nodes take."""
        return {"reassembly4": self.ip4, "reassembly6": self.ip6}

    def held_rows(self) -> list[int]:
        """The rows of all packets that wait: while no worker runs."""
        return held_rows(self.ip4) + held_rows(self.ip6)
