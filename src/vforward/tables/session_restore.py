# SPDX-License-Identifier: Apache-2.0
"""session_restore: the sessions of a shard that its worker left when it was killed, put into new shards.

Nothing in the old shard is believed. Its head must describe what a shard of its size looks like
(refusal). A record is restored if what it says can be, and if its old index leads to it by both of its
keys: the index is entered under hashes with a secret, so a record that was half-written, or damaged, is
found out by 2 * 29 bits and more of them. What a packet changes in it (times, TCP's windows) is any number,
as it may be from a packet; states and scales are checked.

Numbers are those of the new process: ``Names`` has them by the old ones. What the index, lists, counts of
sources and of limits, strays and time are made from is the record alone, by the usual ways into the table.
Sessions of TCP with a handshake and others with a reply come first (first pass), those without if there is
room for them. The old clock stood still while no worker ran: ``down`` says for how many ticks.

Complexity  four buckets for a session, at random; all else lies side by side
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import prefetch, prefetch_write, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.packet.tcp import NO_SCALE, SCALE_MAX
from vforward.tables import flow_home
from vforward.tables import session as t
from vforward.tables import session_index as index
from vforward.tables import session_life as life

RESTORED, EXPIRED, GONE, FULL, DAMAGED, ENDED = range(6)
"""What became of a session. GONE: a port or VRF of it is no more. ENDED: it was to be killed."""
OUTCOMES = 8
NOWHERE = -1
"""In Names: what had that number is no more."""
WIDE = 1 << 16
AHEAD = 32
"""Records whose buckets are asked for before the first of them is looked at."""


class Names(NamedTuple):
    """By an old number the new one, or NOWHERE: i64, of ports, treatments [WIDE], zones [256], and as many
    as there are of hits and limits. doomed: by a session's number the generation that was to be killed, 0:
    none, u32; of no words where there are none at all.
    """

    ports: NDArray[np.int64]
    zones: NDArray[np.int64]
    hits: NDArray[np.int64]
    limits: NDArray[np.int64]
    treatments: NDArray[np.int64]
    doomed: NDArray[np.uint32]


def refusal(old: NDArray[np.uint64]) -> str:
    """Why an old shard cannot be read at all; empty if it can. One that was never made ready is empty."""
    if old.size < t.HEADER:
        return f"{old.size} words are no shard"
    head = [int(word) for word in old[: t.HEADER]]
    capacity = head[t.CAPACITY]
    if not 1 <= capacity <= t.CAPACITY_MAX or capacity & capacity + 1:
        return f"a capacity of {capacity} sessions"
    entries, sources, *starts = t._layout(capacity)
    wanted = [capacity.bit_length() + 1, entries // t.WAYS - 1, sources, *starts[:5]]
    says = (t.BITS, t.BUCKET_MASK, t.N_SOURCES, *range(t.HOT_AT, t.HOT_AT + 5))
    found = [head[word] for word in says]
    if found != wanted or old.size != t.words_for(capacity):
        return "its parts do not lie where they should"
    if not 1 <= head[t.UNUSED] <= capacity + 1:
        return f"it says that {head[t.UNUSED]} records of {capacity} were used"
    return ""


@inline
def _fits(s: Any, number: Any) -> Any:
    """Whether what a record says of its state can be."""
    record = s.hot[number]
    state = i64(record.state)
    if s.cold[number].generation & 1 == 0:
        return False
    if record.protocol != t.TCP:
        return (state == t.UNREPLIED) | (state == t.REPLIED)
    settled = state >= t.PICKED_UP
    widest = i64(SCALE_MAX) if settled else i64(NO_SCALE)
    scales = (i64(record.scale[0]) <= widest) & (i64(record.scale[1]) <= widest)
    return (state >= t.SYN_SENT) & (state <= t.CLOSED) & scales


@inline
def _keys_fit4(s: Any, number: Any) -> Any:
    """Whether an IPv4 record's keys are of one session, as its flags say."""
    record = s.hot[number]
    what = u64(i64(record.zone) << 8 | i64(record.protocol))
    same = (record.k0 >> u64(48) == what) & (record.k2 >> u64(48) == what)
    none = (record.k0 | record.k2) & u64(0xFFFF00000000)
    src, dst = t.source4(record.k0, record.k1), t.destination4(record.k0, record.k1)
    back, to = t.source4(record.k2, record.k3), t.destination4(record.k2, record.k3)
    alike = (src == dst) | (back == to) | ((record.k0 == record.k2) & (record.k1 == record.k3))
    nat = (back != dst) | (to != src)
    return same & (none == u64(0)) & (not alike) & (nat == (record.flags & t.NAT != 0))


@inline
def _keys_fit6(s: Any, number: Any) -> Any:
    """The same of an IPv6 record."""
    record = s.hot[number]
    ports = i64(record.ports)
    alike = (record.k0 == record.k2) & (record.k1 == record.k3) & (ports >> 16 == ports & 0xFFFF)
    return (record.flags & t.NAT == 0) & (not alike)


@inline
def _has(s: Any, record: Any, zone: Any) -> Any:
    """By which of a record's keys, with a zone, a shard finds a session: (original, reply), -1: none."""
    if record.flags & t.SIX:
        ports, protocol = i64(record.ports), i64(record.protocol)
        back = (ports >> 16 | ports << 16) & 0xFFFFFFFF
        one, two, three, four = record.k0, record.k1, record.k2, record.k3
        original = index.mine6(s, one, two, three, four, ports, protocol, zone)
        return original, index.mine6(s, three, four, one, two, back, protocol, zone)
    original = index.mine4(s, _in_zone(record.k0, zone), record.k1)
    return original, index.mine4(s, _in_zone(record.k2, zone), record.k3)


@inline
def _in_zone(key: Any, zone: Any) -> Any:
    """The first word of an IPv4 key, with another zone."""
    return key & u64(0x00FFFFFFFFFFFFFF) | u64(zone) << u64(56)


@inline
def _shard(shards: Any, worker: Any) -> Any:
    return t.shard(view(i64(shards[worker]), t.HEADER, np.uint64))


@inline
def _homes(shards: Any, record: Any, zone: Any) -> Any:
    """The workers that the directions of a session have by their hashes: the initiator's is to have it."""
    if shards.size == 1:
        return i64(0), i64(0)
    s = _shard(shards, 0)
    protocol = i64(record.protocol)
    if record.flags & t.SIX:
        mixed = flow_home.mixed6(
            s, record.k0, record.k1, record.k2, record.k3, i64(record.ports), protocol, zone
        )
        return flow_home.home(s, mixed), flow_home.home(s, mixed)
    src, dst = t.source4(record.k0, record.k1), t.destination4(record.k0, record.k1)
    back, to = t.source4(record.k2, record.k3), t.destination4(record.k2, record.k3)
    first = flow_home.mixed4(s, src, dst, protocol, zone)
    return flow_home.home(s, first), flow_home.home(
        s, flow_home.mixed4(s, back, to, protocol, zone)
    )


@inline
def _give_back(s: Any, number: Any) -> None:
    """A record that was taken is not used after all."""
    if s.hot[number].flags & t.STRAY:
        flow_home.forget4(s, number)
    life.free(s, number)
    s.hot[number].state = t.FREE


@inline
def _new(names: Any, old: Any) -> Any:
    """The new number for an old one."""
    return i64(names[old]) if old < names.size else i64(NOWHERE)


@inline
def _enter(s: Any, old: Any, n: Any, zone: Any, idle: Any, age: Any, grant: Any) -> Any:
    """Open a session like the n-th of an old shard. grant: in_port, out_port, hits, limit, treatment.

    It is in no list yet: arrange puts it there.
    """
    in_port, out_port, hits, limit, treatment = grant
    if s.head[t.FREE_FIRST] == u64(0) and s.head[t.UNUSED] > s.head[t.CAPACITY]:
        return i64(FULL)
    number = life.take(s)
    for word in range(8):
        s.words[number * 8 + word] = old.words[n * 8 + word]
    record = s.hot[number]
    cold = s.cold[number]
    was = old.hot[n]
    now = i64(s.head[t.NOW])
    flags = i64(was.flags) & (t.SIX | t.NAT | t.LOOSE)
    if i64(was.flags) & t.SIX == 0:
        record.k0 = _in_zone(was.k0, zone)
        record.k2 = _in_zone(was.k2, zone)
        record.ports = 0
    record.zone = zone
    record.flags = flags
    record.seen = (now - idle) & 0xFFFF
    for d in range(2):
        record.maxwin[d] = max(i64(was.maxwin[d]), i64(was.state >= t.PICKED_UP))
    if not flow_home.alone(s) and flags & t.SIX == 0 and not flow_home.settle4(s, number):
        _give_back(s, number)
        return i64(DAMAGED)
    if not index.enter(s, number):
        _give_back(s, number)
        return i64(FULL)
    flags = i64(record.flags)
    if treatment:
        flags |= t.TREATED
    if was.flags & t.SOURCED and hits >= 0:
        flags |= t.SOURCED
    record.flags = flags
    cold.hits = max(hits, 0)
    cold.treatment = treatment
    cold.limit = limit
    cold.in_port = in_port
    cold.out_port = out_port
    cold.created = (now - age) & 0xFFFFFFFF
    cold.generation += np.uint32(1)
    if flags & t.SOURCED:
        life.add_source(s, number)
    if limit:
        s.limits[limit] += np.uint32(1)
    s.head[t.OPEN] += u64(1)
    if life.is_embryonic(i64(record.state)):
        s.head[t.EMBRYONIC] += u64(1)
    return i64(RESTORED)


@inline
def _is_taken(shards: Any, record: Any, zone: Any, home: Any, other: Any) -> Any:
    """Whether a session has one of these keys already."""
    original, reply = _has(_shard(shards, home), record, zone)
    if original < 0 and reply < 0 and other != home:
        original, reply = _has(_shard(shards, other), record, zone)
    return original >= 0 or reply >= 0


@inline
def _restore_one(old: Any, n: Any, names: Any, shards: Any, down: Any) -> Any:
    """Restore the n-th session of an old shard. Returns what became of it."""
    record = old.hot[n]
    cold = old.cold[n]
    fits = _keys_fit6(old, n) if record.flags & t.SIX else _keys_fit4(old, n)
    if not fits or not _fits(old, n):
        return i64(DAMAGED)
    original, reply = _has(old, record, i64(record.zone))
    if original != n << 1 or reply != n << 1 | 1:
        return i64(DAMAGED)
    if names.doomed.size and names.doomed[n] == cold.generation:
        return i64(ENDED)
    now = i64(old.head[t.NOW])
    zone = i64(names.zones[record.zone])
    in_port, out_port = i64(names.ports[cold.in_port]), i64(names.ports[cold.out_port])
    if zone < 0 or in_port < 0 or out_port < 0:
        return i64(GONE)
    home, other = _homes(shards, record, zone)
    s = _shard(shards, home)
    idle = ((now - i64(record.seen)) & 0xFFFF) + down
    if idle > i64(s.head[t.TIMEOUTS + life.kind(record)]):
        return i64(EXPIRED)
    if _is_taken(shards, record, zone, home, other):
        return i64(DAMAGED)
    age = ((now - i64(cold.created)) & 0xFFFFFFFF) + down
    limit, treatment = (
        _new(names.limits, i64(cold.limit)),
        _new(names.treatments, i64(cold.treatment)),
    )
    grant = (in_port, out_port, _new(names.hits, i64(cold.hits)), max(limit, 0), max(treatment, 0))
    return _enter(s, old, n, zone, idle, age, grant)


@inline
def _is_of_pass(old: Any, n: Any, embryonic: Any) -> Any:
    state = i64(old.hot[n].state)
    return (state != t.FREE) & (i64(life.is_embryonic(state)) == embryonic)


@inline
def _ask_for(old: Any, n: Any, names: Any, shards: Any) -> None:
    """Ask for the buckets of a record: in the old index, and in a new one where there is one only."""
    record = old.hot[n]
    if record.flags & t.SIX:
        return
    prefetch(old.entries, index.bucket(old, t.hash4(old, record.k0, record.k1)))
    prefetch(old.entries, index.bucket(old, t.hash4(old, record.k2, record.k3)))
    if shards.size == 1:
        s, zone = _shard(shards, 0), i64(names.zones[record.zone])
        one = t.hash4(s, _in_zone(record.k0, zone), record.k1)
        other = t.hash4(s, _in_zone(record.k2, zone), record.k3)
        prefetch_write(s.entries, index.bucket(s, one))
        prefetch_write(s.entries, index.bucket(s, other))


@kernel
def _restore(at: Any, names: Any, shards: Any, down: Any, outcomes: Any) -> None:
    old = t.shard(view(at, t.HEADER, np.uint64))
    used = i64(old.head[t.UNUSED])
    for embryonic in range(2):
        for first in range(1, used, AHEAD):
            last = min(first + AHEAD, used)
            for n in range(first, last):
                if _is_of_pass(old, n, embryonic):
                    _ask_for(old, n, names, shards)
            for n in range(first, last):
                if _is_of_pass(old, n, embryonic):
                    outcomes[_restore_one(old, n, names, shards, down)] += u64(1)


@kernel
def _arrange(sessions: Any, counts: Any, order: Any) -> None:
    """Put all sessions of a shard, in no list yet, where they belong: in lists by when they were seen.

    counts: i64[WIDE + 1] of zeros. order: u32[], room for all of them.
    """
    s = t.shard(sessions)
    used = i64(s.head[t.UNUSED])
    for number in range(1, used):
        if s.hot[number].state != t.FREE:
            if life._LIST[life.kind(s.hot[number])] == 255:
                life._schedule(s, number)
            else:
                counts[WIDE - 1 - life.idle(s, s.hot[number]) + 1] += 1
    for k in range(WIDE):
        counts[k + 1] += counts[k]
    listed = i64(counts[WIDE])
    for number in range(1, used):
        if s.hot[number].state != t.FREE and life._LIST[life.kind(s.hot[number])] != 255:
            place = WIDE - 1 - life.idle(s, s.hot[number])
            order[counts[place]] = number
            counts[place] += 1
    for k in range(listed):
        life._schedule(s, i64(order[k]))


def restore(
    old: NDArray[np.uint64], shards: list[NDArray[np.uint64]], names: Names, down: int
) -> NDArray[np.uint64]:
    """Put the sessions of an old shard, in which there is no refusal, into those of new workers.

    None of them runs, and their clocks, seeds and timeouts are set. Returns how many sessions came to which
    end, by RESTORED ... ENDED. When all old shards are through, arrange has to follow.
    """
    outcomes = np.zeros(OUTCOMES, np.uint64)
    where = np.array([array.ctypes.data for array in shards], np.uint64)
    _restore(old.ctypes.data, names, where, min(down, WIDE), outcomes)
    return outcomes


def arrange(shards: list[NDArray[np.uint64]]) -> None:
    """Put the sessions that restore has opened in lists: of shards that were empty before."""
    for array in shards:
        counts, order = np.zeros(WIDE + 1, np.int64), np.zeros(int(array[t.OPEN]) + 1, np.uint32)
        _arrange(array, counts, order)
