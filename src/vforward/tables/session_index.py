# SPDX-License-Identifier: Apache-2.0
"""session_index: from a packet's endpoints to its session, by one bucket and one record.

A bucket is one cache line of 16 entries, compared at once: tag in the high bits, number of the session
in the low ones, 0: empty. What finds its bucket full goes to a second one, and a look-up asks there
only while the head's word SECOND says that there are any such entries.

Complexity  two cache lines for what is there and for what is not, with tables half full.
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
def is4(record: Any, k0: Any, k1: Any) -> Any:
    """Which keys of a session are that: 1 the original, 2 the reply's, 3 both, 0 none."""
    original = (record.k0 == k0) & (record.k1 == k1)
    reply = (record.k2 == k0) & (record.k3 == k1)
    return (i64(original) | i64(reply) << 1) * i64(record.flags & t.SIX == 0)


@inline
def is6(
    record: Any, k0: Any, k1: Any, k2: Any, k3: Any, ports: Any, protocol: Any, zone: Any
) -> Any:
    """Whether an IPv6 key is a session's."""
    same = (record.k0 == k0) & (record.k1 == k1) & (record.k2 == k2) & (record.k3 == k3)
    same &= (record.ports == ports) & (record.protocol == protocol) & (record.zone == zone)
    return same & (record.flags & t.SIX != 0)


@kernel
def probe4(s: Any, k0: Any, k1: Any) -> Any:
    """The session that has an IPv4 key: number << 2 | what is4 says; or -1."""
    mixed = t.hash4(s, k0, k1)
    bits = i64(s.head[t.BITS])
    wanted = tag(mixed, bits)
    for at in (bucket(s, mixed), second(s, mixed)):
        hits = near16(s.entries, at, wanted, i64(1) << bits)
        while hits:
            number = i64(s.entries[at + ctz(u64(hits))]) ^ wanted
            keys = is4(s.hot[number], k0, k1)
            if keys:
                return number << 2 | keys
            hits &= hits - 1
        if s.head[t.SECOND] == u64(0):
            break
    return i64(-1)


@kernel
def probe6(s: Any, k0: Any, k1: Any, k2: Any, k3: Any, ports: Any, protocol: Any, zone: Any) -> Any:
    """The session that has an IPv6 key, or -1."""
    mixed = t.hash6(s, k0, k1, k2, k3, ports, protocol, zone)
    bits = i64(s.head[t.BITS])
    wanted = tag(mixed, bits)
    for at in (bucket(s, mixed), second(s, mixed)):
        hits = near16(s.entries, at, wanted, i64(1) << bits)
        while hits:
            number = i64(s.entries[at + ctz(u64(hits))]) ^ wanted
            if is6(s.hot[number], k0, k1, k2, k3, ports, protocol, zone):
                return number
            hits &= hits - 1
        if s.head[t.SECOND] == u64(0):
            break
    return i64(-1)


@inline
def from_initiator(flags: Any, reply_key: Any, lower: Any) -> Any:
    """1 if a packet whose source is the lower endpoint, or not, of a key is the initiator's, i64."""
    flag = t.REPLY_LOWER if reply_key else t.LOWER
    return i64((i64(flags) & flag != 0) == lower)


@kernel
def find4(s: Any, src: Any, dst: Any, protocol: Any, zone: Any) -> Any:
    """The session of an IPv4 packet: number << 2 | reply_key << 1 | from_initiator, or -1.

    reply_key: 1 if its endpoints are the reply key of a session with NAT. The initiator's packets have
    the original key and the responder's the reply key; with NAT, others are not of the session.
    """
    k0, k1, lower = t.key4(src, dst, protocol, zone)
    found = probe4(s, k0, k1)
    if found < 0:
        return i64(-1)
    reply_key = i64(found & 1 == 0)
    flags = s.hot[found >> 2].flags
    return found >> 2 << 2 | reply_key << 1 | from_initiator(flags, reply_key, lower)


@kernel
def find6(
    s: Any, src_high: Any, src_low: Any, sport: Any, dst_high: Any, dst_low: Any, dport: Any,
    protocol: Any, zone: Any,
) -> Any:  # fmt: skip
    """The session of an IPv6 packet: number << 2 | from_initiator, or -1. Halves of addresses: u64."""
    if t.is_lower6(src_high, src_low, sport, dst_high, dst_low, dport):
        ports = sport << 16 | dport
        number = probe6(s, src_high, src_low, dst_high, dst_low, ports, protocol, zone)
        lower = True
    else:
        ports = dport << 16 | sport
        number = probe6(s, dst_high, dst_low, src_high, src_low, ports, protocol, zone)
        lower = False
    if number < 0:
        return i64(-1)
    return number << 2 | from_initiator(s.hot[number].flags, 0, lower)


@inline
def ends4(s: Any, number: Any, reply_key: Any) -> Any:
    """The endpoints of an IPv4 session in a key: (the initiator's, the responder's)."""
    record = s.hot[number]
    low = i64(record.k2 if reply_key else record.k0) & t.ENDPOINT
    high = i64(record.k3 if reply_key else record.k1)
    flag = t.REPLY_LOWER if reply_key else t.LOWER
    if record.flags & flag:
        return low, high
    return high, low


@kernel
def insert(s: Any, mixed: Any, number: Any) -> Any:
    """Enter a session under a hash. Returns whether there was room."""
    wanted = tag(mixed, i64(s.head[t.BITS])) | number
    at = bucket(s, mixed)
    empty = near16(s.entries, at, i64(0), i64(1))
    if empty == 0:
        at = second(s, mixed)
        empty = near16(s.entries, at, i64(0), i64(1))
        if empty == 0:
            return False
        s.head[t.SECOND] += u64(1)
    s.entries[at + ctz(u64(empty))] = wanted
    return True


@kernel
def remove(s: Any, mixed: Any, number: Any) -> None:
    """Take a session's entry under a hash away."""
    wanted = tag(mixed, i64(s.head[t.BITS])) | number
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
def hash_of(s: Any, number: Any, reply_key: Any) -> Any:
    """The hash of a session's key."""
    record = s.hot[number]
    if record.flags & t.SIX:
        return t.hash6(
            s, record.k0, record.k1, record.k2, record.k3,
            i64(record.ports), i64(record.protocol), i64(record.zone),
        )  # fmt: skip
    if reply_key:
        return t.hash4(s, record.k2, record.k3)
    return t.hash4(s, record.k0, record.k1)


@kernel
def enter(s: Any, number: Any) -> Any:
    """Enter a session under all of its keys, or under none. Returns whether there was room."""
    if not insert(s, hash_of(s, number, 0), number):
        return False
    if s.hot[number].flags & t.NAT and not insert(s, hash_of(s, number, 1), number):
        remove(s, hash_of(s, number, 0), number)
        return False
    return True


@kernel
def leave(s: Any, number: Any) -> None:
    """Take all entries of a session away."""
    remove(s, hash_of(s, number, 0), number)
    if s.hot[number].flags & t.NAT:
        remove(s, hash_of(s, number, 1), number)
