# SPDX-License-Identifier: Apache-2.0
"""nat: what addresses and ports translated packets get. Pools, and the choice of a new source.

    nat_pools  NAT_POOL[64]   a cache line each: addresses, ports, counters

A new source is taken if the replies to it are nobody's yet, that is if no session has the key (zone,
protocol, responder, new source). So the sessions' index is all there is to ask, one port serves any
number of sessions to different responders, and a pool of one address carries 64512 of them to each.

Address   The one given (masquerade: that of the port that packets leave by), or of the pool's the one
          that the source's address hashes to: always the same for a source (RFC 4787 section 4.1,
          REQ-2: "paired").
Port      The source's own, if it is in the pool's range and free (RFC 4787 section 4.2.1 allows it).
          Else, in a range of up to TRIES ports, all of them from one on that the source hashes to; in
          a larger one up to TRIES that the source hashes to, the first half of them of the same parity
          (REQ-4). Hashed is the source's endpoint and a secret, not the destination: so nobody from
          outside can guess it (RFC 6056), and the sessions of one source endpoint get one port where
          that is free (REQ-1, "endpoint-independent mapping", as far as that goes: it is nowhere
          reserved).
          ICMP: the identifier, likewise (RFC 5508 section 3.1). Protocols whose ports do not change
          (SCTP) or that have none: their own, or none.

With several workers only such an endpoint is taken whose replies go to the worker that chooses
(tables.flow_home), so that two workers never choose the same one towards a responder: each has its part of
the ports, and tries so many times more often.

So two sources may have one port, towards different responders: RFC 7857 section 4 allows it, RFC 4787
(REQ-1 for every destination, REQ-3) and RFC 5382 (REQ-1, REQ-7) to the letter do not.

With a share a of the ports in use towards a responder, a ** TRIES of choices fail in a large range: 0.1 %
at 95 %. A source whose address has no port left gets none of another address. To whom nothing can be
given should be told so, by ICMP 3 code 13 (RFC 5508 section 6, REQ-8): that is the caller's.

Hairpinning (RFC 4787 section 6, RFC 5382 section 7.2): a client reaches a server on its own side by the
server's public address. Destination NAT first says who the server is. If its route leads out of the
port that the packet came by, the server would answer the client directly, past this router, and the
client would not know who that is. So the caller gives the packet a new source too, and takes as its
address the destination that the client knows, as these sections ask for:

    choose4(s, pools, MASQUERADE, public address, client, server, protocol, zone, seed)

Replies then come back here and are translated both ways. A host that talks to itself like that with one
port at both ends does not keep it, lest replies look like its packets. What is mapped by
source NAT alone cannot be reached from inside by its mapping, nor from outside: filtering is by address
and port (RFC 4787 section 5).

Owner       control: first, last, low, high. Worker: allocated, exhausted. Each worker has a table, all
            alike but for these.
Complexity  TRIES look-ups at the most.
Limits      64 pools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import fold_multiply
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import ArrayOf
from vforward.memory.arena import Arena
from vforward.packet import ip4
from vforward.packet.translate import ports_change
from vforward.tables import TableFull
from vforward.tables.flow_home import at_home4
from vforward.tables.session import WORKERS
from vforward.tables.session_index import find4

POOLS_MAX = 64
MASQUERADE = 0
"""The pool that has no addresses and LOW to HIGH; always there."""
LOW, HIGH = 1024, 65535
"""The usual range. What lies below is left to the router itself."""
TRIES = 128
NONE = -1

NAT_POOL = np.dtype(
    [
        ("first", np.uint32),  # addresses; 0 and 0: the caller gives one
        ("last", np.uint32),
        ("low", np.uint16),  # ports, or identifiers of ICMP
        ("high", np.uint16),  # 0: there is no such pool
        ("spare", np.uint32),
        ("allocated", np.uint64),  # sources chosen
        ("exhausted", np.uint64),  # choices that found nothing free
        ("spare2", np.uint64, 4),
    ]
)
assert NAT_POOL.itemsize == 64

Pools = Annotated[NDArray[Any], ArrayOf(NAT_POOL)]

_FIRST, _SECOND = u64(0x9E3779B97F4A7C15), u64(0xD1B54A32D192ED03)
"""Odd, bits at random: 2**64 / golden ratio, 2**64 / the plastic number squared, about."""


@inline
def _below(mixed: Any, n: Any) -> Any:
    """A number from 0 to n - 1, n at most 2**32, by the high bits of a hash."""
    return i64(mixed >> u64(33)) * n >> 31


@inline
def _address(pool: Any, src: Any, seed: Any) -> Any:
    """The pool's address for a source; 0 if it has none."""
    first, last = i64(pool.first), i64(pool.last)
    mixed = fold_multiply(u64(src >> 16) ^ seed, _FIRST)
    return first + _below(mixed, last - first + 1)


@kernel
def _search(
    s: Any, pool: Any, address: Any, src: Any, dst: Any, protocol: Any, zone: Any, seed: Any
) -> Any:
    """A free endpoint of an address, other than with the source's port; or NONE."""
    low = i64(pool.low)
    n = i64(pool.high) - low + 1
    mixed = fold_multiply(u64(src) ^ seed, _SECOND)
    if n <= TRIES:
        start = _below(mixed, n)
        for k in range(n):
            there = start + k if start + k < n else start + k - n
            end = address << 16 | low + there
            if at_home4(s, dst, end, protocol, zone) and find4(s, dst, end, protocol, zone) < 0:
                return end
        return i64(NONE)
    first, step = low + ((src ^ low) & 1), i64(2)
    tries = TRIES * i64(s.head[WORKERS])
    for k in range(tries):
        if k == tries // 2:
            first, step = low, i64(1)
        there = _below(mixed, (i64(pool.high) - first) // step + 1)
        end = address << 16 | first + step * there
        if at_home4(s, dst, end, protocol, zone) and find4(s, dst, end, protocol, zone) < 0:
            return end
        mixed = fold_multiply(mixed ^ seed, _FIRST) + _SECOND
    return i64(NONE)


@kernel
def choose4(
    s: Any, pools: Any, pool: Any, address: Any, src: Any, dst: Any, protocol: Any, zone: Any, seed: Any
) -> Any:  # fmt: skip
    """A new source endpoint for a session from src to dst, or NONE: nothing is free.

    dst: the responder's endpoint, after destination NAT. address: the new one (32 bits), or 0: one of
    the pool's. seed: u64, secret, always the same. Counts in the pool's record. With NONE nothing was
    changed, and the packet is not to be sent as it is.
    """
    record = pools[pool]
    if address == 0:
        address = _address(record, src, seed)
    found = i64(NONE)
    if address != 0:
        port = src & 0xFFFF
        movable = ports_change(protocol) | (protocol == ip4.ICMP)
        in_range = (port >= i64(record.low)) & (port <= i64(record.high))
        mine = at_home4(s, dst, address << 16 | port, protocol, zone)
        kept = not movable or (in_range and src != dst and mine)
        if kept and find4(s, dst, address << 16 | port, protocol, zone) < 0:
            found = address << 16 | port
        elif movable and record.high != 0:
            found = _search(s, record, address, src, dst, protocol, zone, seed)
    if found == NONE:
        record.exhausted += u64(1)
    else:
        record.allocated += u64(1)
    return found


@inline
def static4(rewrite: Any, end: Any, protocol: Any) -> Any:
    """What a STATIC rewrite (policy.REWRITE) makes of an endpoint.

    Address bits outside of keep become address's. Where the rule has a port, the endpoint's moves by as
    much as the rule's first one; not of protocols whose ports do not change, nor of ICMP.
    """
    address, keep = i64(rewrite.address), i64(rewrite.keep)
    moved = (end >> 16) & keep | address & ~keep & 0xFFFFFFFF
    port = end & 0xFFFF
    if rewrite.port != 0 and ports_change(protocol):
        port = (port + i64(rewrite.port) - i64(rewrite.first)) & 0xFFFF
    return moved << 16 | port


class PoolStatistics(NamedTuple):
    """A pool as users see it. Addresses as numbers."""

    number: int
    first: int
    last: int
    low: int
    high: int
    allocated: int
    exhausted: int


class NatPools:
    """All pools. ``tables`` is, by worker, what kernels get as nat_pools; table is the first one's.

    names: of their segments. Number MASQUERADE is there from the start.
    """

    def __init__(self, arena: Arena, names: Sequence[str] = ("nat_pools",)) -> None:
        self.name = names[0]
        self.tables: list[NDArray[Any]] = [arena.make(name, POOLS_MAX, NAT_POOL) for name in names]
        self.table = self.tables[0]
        self._cleared = [  # readers subtract it
            arena.make(f"{name}-cleared", POOLS_MAX, NAT_POOL) for name in names
        ]
        self._write(MASQUERADE, 0, 0, LOW, HIGH)

    def add(self, first: int = 0, last: int = 0, low: int = LOW, high: int = HIGH) -> int:
        """Make a pool of the addresses first to last and ports low to high. Returns its number.

        Without addresses it is a range of ports, for masquerade. Raises ValueError, TableFull.
        """
        if not 0 <= first <= last <= 0xFFFFFFFF or (first == 0 and last != 0):
            msg = f"{self.name}: addresses {first:#x} to {last:#x} are no range"
            raise ValueError(msg)
        if not 1 <= low <= high <= HIGH:
            msg = f"{self.name}: ports {low} to {high} are no range within 1..{HIGH}"
            raise ValueError(msg)
        free = np.flatnonzero(self.table["high"] == 0)
        if not free.size:
            msg = f"{self.name}: there are {POOLS_MAX - 1} pools already, and may not be more"
            raise TableFull(msg, 0)
        self._write(int(free[0]), first, last, low, high)
        return int(free[0])

    def delete(self, number: int) -> None:
        """Forget a pool: no policy names it any more, and a quiet point has passed. Raises KeyError."""
        if not 0 < number < POOLS_MAX or not self.table["high"][number]:
            raise KeyError(number)
        self._write(number, 0, 0, 0, 0)

    def statistics(self) -> list[PoolStatistics]:
        """All pools, by number."""
        says, counts = PoolStatistics._fields[1:5], PoolStatistics._fields[5:]
        return [
            PoolStatistics(
                int(number),
                *(int(self.table[field][number]) for field in says),
                *(sum(int(table[field][number]) for table in self.tables) for field in counts),
            )
            for number in np.flatnonzero(self.table["high"])
        ]

    def _write(self, number: int, first: int, last: int, low: int, high: int) -> None:
        for table, cleared in zip(self.tables, self._cleared, strict=True):
            table[number] = cleared[number] = np.zeros((), NAT_POOL)
            table["first"][number], table["last"][number] = first, last
            table["low"][number], table["high"][number] = low, high
