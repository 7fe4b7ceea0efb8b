# SPDX-License-Identifier: Apache-2.0
"""session_index: from a packet's endpoints to its session and direction, by one bucket and one record.

A bucket is one cache line of 16 entries, compared at once: a tag in the high bits, below that a session's
number << 1 | direction (1: what the responder sends), 0: empty. What finds its bucket full goes to a
second one, or moves an entry there; a look-up asks there only while the head's word SECOND says that there
is any such entry.

Complexity  two cache lines, one for what is not there. Half of the entries are used at most.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.intrinsics import ctz
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.jit.vector import near16
from vforward.tables import session as t


@inline
def bucket(s: Any, mixed: Any) -> Any:
    """The first entry of a hash's bucket."""
    return i64(mixed >> u64(40) & s.head[t.BUCKET_MASK]) << 4


@inline
def second(s: Any, mixed: Any) -> Any:
    """The first entry of a hash's second bucket."""
    return i64(mixed & s.head[t.BUCKET_MASK]) << 4


@inline
def tag(mixed: Any, bits: Any) -> Any:
    """A hash's entry without the number, i64: not 0, so that no empty entry is like it."""
    found = i64(mixed & u64(0xFFFFFFFF)) >> bits << bits
    return found if found else i64(1) << bits


@inline
def is4(s: Any, number: Any, direction: Any, k0: Any, k1: Any) -> Any:
    """Whether an IPv4 key is that of a session's direction."""
    at = number * 8 + direction * 2
    same = (s.words[at] ^ k0) | (s.words[at + 1] ^ k1)
    return (same == u64(0)) & (s.hot[number].flags & t.SIX == 0)


@inline
def is6(
    s: Any, number: Any, direction: Any, src_high: Any, src_low: Any, dst_high: Any, dst_low: Any,
    ports: Any, protocol: Any, zone: Any,
) -> Any:  # fmt: skip
    """Whether an IPv6 packet is of a session's direction. ports: source << 16 | destination."""
    at = number * 8
    src, dst = at + 2 * direction, at + 2 - 2 * direction
    record = s.hot[number]
    own = i64(record.ports)
    own = (own >> 16 | own << 16) & 0xFFFFFFFF if direction else own
    same = (s.words[src] ^ src_high) | (s.words[src + 1] ^ src_low)
    same |= (s.words[dst] ^ dst_high) | (s.words[dst + 1] ^ dst_low)
    what = (own == ports) & (record.protocol == protocol) & (record.zone == zone)
    return (same == u64(0)) & what & (record.flags & t.SIX != 0)


@inline
def mine4(s: Any, k0: Any, k1: Any) -> Any:
    """The session that an IPv4 packet is of: number << 1 | direction, or -1."""
    mixed = t.hash4(s, k0, k1)
    bits = i64(s.head[t.BITS])
    wanted = tag(mixed, bits)
    for at in (bucket(s, mixed), second(s, mixed)):
        hits = near16(s.entries, at, wanted, i64(1) << bits)
        while hits:
            entry = i64(s.entries[at + ctz(u64(hits))]) ^ wanted
            if is4(s, entry >> 1, entry & 1, k0, k1):
                return entry
            hits &= hits - 1
        if s.head[t.SECOND] == u64(0):
            break
    return i64(-1)


@inline
def mine6(
    s: Any,
    src_high: Any,
    src_low: Any,
    dst_high: Any,
    dst_low: Any,
    ports: Any,
    protocol: Any,
    zone: Any,
) -> Any:
    """The session that an IPv6 packet is of: number << 1 | direction, or -1. As is6."""
    mixed = t.hash6(s, src_high, src_low, dst_high, dst_low, ports, protocol, zone)
    bits = i64(s.head[t.BITS])
    wanted = tag(mixed, bits)
    for at in (bucket(s, mixed), second(s, mixed)):
        hits = near16(s.entries, at, wanted, i64(1) << bits)
        while hits:
            entry = i64(s.entries[at + ctz(u64(hits))]) ^ wanted
            if is6(
                s,
                entry >> 1,
                entry & 1,
                src_high,
                src_low,
                dst_high,
                dst_low,
                ports,
                protocol,
                zone,
            ):
                return entry
            hits &= hits - 1
        if s.head[t.SECOND] == u64(0):
            break
    return i64(-1)


@inline
def find4(s: Any, src: Any, dst: Any, protocol: Any, zone: Any) -> Any:
    """The session that has these IPv4 endpoints: number << 2 | reply_key << 1 | from_initiator, or -1.

    reply_key: 1 if they are those of the replies of a session with NAT. What is found may be a packet
    that goes the other way than the session's: of one with NAT those are not the session's own.
    """
    k0, k1 = t.key4(src, dst, protocol, zone)
    entry = mine4(s, k0, k1)
    turned = i64(0)
    if entry < 0:
        k0, k1 = t.key4(dst, src, protocol, zone)
        entry = mine4(s, k0, k1)
        turned = i64(1)
    if entry < 0:
        return i64(-1)
    direction = entry & 1
    nat = i64(s.hot[entry >> 1].flags & t.NAT != 0)
    return entry >> 1 << 2 | (direction & nat) << 1 | (1 - (direction ^ turned))


@inline
def find6(
    s: Any, src_high: Any, src_low: Any, sport: Any, dst_high: Any, dst_low: Any, dport: Any,
    protocol: Any, zone: Any,
) -> Any:  # fmt: skip
    """The session of an IPv6 packet: number << 2 | from_initiator, or -1. Halves of addresses: u64."""
    entry = mine6(s, src_high, src_low, dst_high, dst_low, sport << 16 | dport, protocol, zone)
    return i64(-1) if entry < 0 else entry >> 1 << 2 | (1 - (entry & 1))


@inline
def ends4(s: Any, number: Any, reply_key: Any) -> Any:
    """The endpoints of an IPv4 session in a key: (the initiator's, the responder's)."""
    at = number * 8 + 2 * reply_key
    source = t.source4(s.words[at], s.words[at + 1])
    destination = t.destination4(s.words[at], s.words[at + 1])
    if reply_key:
        return destination, source
    return source, destination


@inline
def remove(s: Any, mixed: Any, what: Any) -> None:
    """Take the entry of number << 1 | direction under a hash away."""
    wanted = tag(mixed, i64(s.head[t.BITS])) | what
    at = bucket(s, mixed)
    hits = near16(s.entries, at, wanted, i64(1))
    if hits == 0:
        at = second(s, mixed)
        hits = near16(s.entries, at, wanted, i64(1))
        if hits == 0:
            return
        s.head[t.SECOND] -= u64(1)
    s.entries[at + ctz(u64(hits))] = 0


@inline
def hash_of(s: Any, number: Any, direction: Any) -> Any:
    """The hash of the packets of a session's direction."""
    record = s.hot[number]
    if record.flags & t.SIX:
        ports = i64(record.ports)
        protocol, zone = i64(record.protocol), i64(record.zone)
        if direction:
            ports = (ports >> 16 | ports << 16) & 0xFFFFFFFF
            return t.hash6(s, record.k2, record.k3, record.k0, record.k1, ports, protocol, zone)
        return t.hash6(s, record.k0, record.k1, record.k2, record.k3, ports, protocol, zone)
    if direction:
        return t.hash4(s, record.k2, record.k3)
    return t.hash4(s, record.k0, record.k1)


@kernel
def _make_room(s: Any, at: Any) -> Any:
    """Move one entry of a full bucket to its other one. Returns where it was, -1: all are full."""
    mask = (i64(1) << i64(s.head[t.BITS])) - 1
    for place in range(at, at + t.WAYS):
        what = i64(s.entries[place]) & mask
        mixed = hash_of(s, what >> 1, what & 1)
        first, other = bucket(s, mixed), second(s, mixed)
        to = other if first == at else first
        empty = near16(s.entries, to, i64(0), i64(1))
        if to != at and empty:
            s.entries[to + ctz(u64(empty))] = s.entries[place]
            s.head[t.SECOND] += u64(1 if to == other else -1)
            return i64(place)
    return i64(-1)


@inline
def insert(s: Any, mixed: Any, what: Any) -> Any:
    """Enter number << 1 | direction under a hash. Returns whether there was room."""
    wanted = tag(mixed, i64(s.head[t.BITS])) | what
    at = bucket(s, mixed)
    empty = near16(s.entries, at, i64(0), i64(1))
    if empty:
        s.entries[at + ctz(u64(empty))] = wanted
        return True
    other = second(s, mixed)
    empty = near16(s.entries, other, i64(0), i64(1))
    if empty:
        s.entries[other + ctz(u64(empty))] = wanted
        s.head[t.SECOND] += u64(1)
        return True
    place = _make_room(s, at)
    if place < 0:
        return False
    s.entries[place] = wanted
    return True


@inline
def enter(s: Any, number: Any) -> Any:
    """Enter both directions of a session, or none. Returns whether there was room."""
    if not insert(s, hash_of(s, number, 0), number << 1):
        return False
    if not insert(s, hash_of(s, number, 1), number << 1 | 1):
        remove(s, hash_of(s, number, 0), number << 1)
        return False
    return True


@inline
def leave(s: Any, number: Any) -> None:
    """Take both entries of a session away."""
    remove(s, hash_of(s, number, 0), number << 1)
    remove(s, hash_of(s, number, 1), number << 1 | 1)
