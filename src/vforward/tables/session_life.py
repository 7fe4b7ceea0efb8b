# SPDX-License-Identifier: Apache-2.0
"""session_life: how long sessions live: timers, eviction, limits, and their end.

Embryonic are TCP sessions without a whole handshake, and others without a reply. They, and TCP sessions
that are over, wait in a list for each timeout, the one that was seen last at the end: so its first is
the next to time out, and the first to go when the table is full. All others lie in a wheel of 256 slots
of a tick. A packet writes only ``seen``; when its slot's turn comes a session that was seen since is put
where it is due, or after 255 ticks: so a change of a timeout is felt by then.

A session times out when it was not seen for more than its timeout: never before.

Complexity  everything O(1); sweep works within a budget.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.intrinsics import fold_multiply
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.tables import flow_home
from vforward.tables import session as t
from vforward.tables import session_index as index

(
    OPENING, TCP_ESTABLISHED, HALF_CLOSED, TCP_CLOSING, WAITING, OVER, UDP_FIRST, ICMP_FIRST, OTHER_FIRST,
) = (0, 1, 2, 3, 4, 5, 6, 8, 10)  # fmt: skip
"""Kinds of timeouts: places in session.KINDS. Of the last three, one more where there was a reply."""

OVER_LIST, OPENING_LIST, UDP_LIST, ICMP_LIST, OTHER_LIST, WAITING_LIST = range(6)
FIRST_EMBRYONIC, LAST_EMBRYONIC = OPENING_LIST, OTHER_LIST

_KIND = np.zeros(16, np.uint8)
"""By a TCP state."""
_KIND[[t.ESTABLISHED]] = TCP_ESTABLISHED
_KIND[[t.FIN_INITIATOR, t.FIN_RESPONDER]] = HALF_CLOSED
_KIND[[t.CLOSING, t.LAST_INITIATOR, t.LAST_RESPONDER]] = TCP_CLOSING
_KIND[[t.TIME_WAIT, t.CLOSED]] = WAITING, OVER

_LIST = np.full(12, 255, np.uint8)
"""By a kind; 255: the wheel."""
_LIST[[OPENING, WAITING, OVER]] = OPENING_LIST, WAITING_LIST, OVER_LIST
_LIST[[UDP_FIRST, ICMP_FIRST, OTHER_FIRST]] = UDP_LIST, ICMP_LIST, OTHER_LIST

_KIND_OF_LIST = np.array([OVER, OPENING, UDP_FIRST, ICMP_FIRST, OTHER_FIRST, WAITING], np.uint8)


@inline
def kind(record: Any) -> Any:
    """Which timeout a session has."""
    state = i64(record.state)
    if record.protocol == t.TCP:
        return i64(_KIND[state])
    first = i64(OTHER_FIRST)
    if record.protocol == t.UDP:
        first = i64(UDP_FIRST)
    elif record.protocol == t.ICMP or record.protocol == t.ICMP6:
        first = i64(ICMP_FIRST)
    return first + i64(state == t.REPLIED)


@inline
def is_embryonic(state: Any) -> Any:
    """Whether a state is one of before a handshake or a reply."""
    return (state < t.ESTABLISHED) | (state == t.UNREPLIED)


@inline
def _unlink(s: Any, number: Any) -> None:
    record = s.cold[number]
    s.cold[record.prev].next = record.next
    s.cold[record.next].prev = record.prev


@inline
def _append(s: Any, head: Any, number: Any) -> None:
    """Put a session last in the list or slot with that head."""
    record = s.cold[number]
    last = s.cold[head].prev
    record.prev = last
    record.next = head
    s.cold[last].next = number
    s.cold[head].prev = number


@inline
def _head(s: Any, place: Any) -> Any:
    """The cold record that heads a list, or LISTS and more: a slot of the wheel."""
    return i64(s.head[t.CAPACITY]) + 1 + place


@inline
def idle(s: Any, record: Any) -> Any:
    """Ticks since a session was seen."""
    return (i64(s.head[t.NOW]) - i64(record.seen)) & 0xFFFF


@inline
def _schedule(s: Any, number: Any) -> None:
    """Put a session, which is in no list, where it is due."""
    record = s.hot[number]
    its = kind(record)
    place = i64(_LIST[its])
    if place == 255:
        due = i64(s.head[t.NOW]) - idle(s, record) + i64(s.head[t.TIMEOUTS + its]) + 1
        swept = i64(s.head[t.SWEPT])
        due = max(swept + 1, min(due, swept + t.SLOTS - 1))
        place = t.LISTS + (due & (t.SLOTS - 1))
    _append(s, _head(s, place), number)


@inline
def set_state(s: Any, number: Any, state: Any) -> None:
    """Change a session's state, for a packet of now."""
    record = s.hot[number]
    before = is_embryonic(record.state)
    record.state = state
    record.seen = i64(s.head[t.NOW]) & 0xFFFF
    if before and not is_embryonic(state):
        s.head[t.EMBRYONIC] -= u64(1)
    _unlink(s, number)
    _schedule(s, number)


@inline
def touch(s: Any, number: Any) -> None:
    """A packet of a session was seen in a tick in which none was before."""
    record = s.hot[number]
    if record.state == t.CLOSED:
        return
    record.seen = i64(s.head[t.NOW]) & 0xFFFF
    place = i64(_LIST[kind(record)])
    if place != 255:
        _unlink(s, number)
        _append(s, _head(s, place), number)


@inline
def source_of(s: Any, where: Any, zone: Any, six: Any, hits: Any) -> Any:
    """The hash of a source and a rule, u64. where: its IPv4 address, or the first half of an IPv6 one:
    a host has all of its /64 (RFC 4291 section 2.5.1), and is one source."""
    seed = s.head
    rule = u64(hits << 16 | zone << 8 | six)
    return fold_multiply(
        fold_multiply(where ^ seed[t.SEED + 5], rule ^ seed[t.SEED + 4]) ^ seed[t.SEED + 3],
        seed[t.SEED + 1] ^ rule,
    )


@inline
def _source(s: Any, number: Any) -> Any:
    """The same of a session."""
    record = s.hot[number]
    six = i64(record.flags & t.SIX)
    where = record.k0 if six else record.k1 >> u64(32)
    return source_of(s, where, i64(record.zone), six, i64(s.cold[number].hits))


@inline
def _home(s: Any, word: Any) -> Any:
    """Where a word of sources, or a hash, belongs."""
    return i64((word >> u64(32)) * s.head[t.N_SOURCES] >> u64(32))


@inline
def _following(s: Any, at: Any) -> Any:
    return 0 if at + 1 == i64(s.head[t.N_SOURCES]) else at + 1


@inline
def _distance(s: Any, start: Any, at: Any) -> Any:
    """How many steps lead from one word of sources to another."""
    return at - start if at >= start else at - start + i64(s.head[t.N_SOURCES])


@inline
def _find_source(s: Any, mixed: Any) -> Any:
    """Where a source is, or where it has to go: at most two thirds of the words are in use."""
    at = _home(s, mixed)
    while s.sources[at] and (s.sources[at] ^ mixed) >> u64(t.SOURCE_COUNT):
        at = _following(s, at)
    return at


@inline
def source_count(s: Any, mixed: Any) -> Any:
    """How many sessions a source has, by its hash."""
    return i64(s.sources[_find_source(s, mixed)] & u64((1 << t.SOURCE_COUNT) - 1))


@inline
def add_source(s: Any, number: Any) -> None:
    """Count a session for its source."""
    mixed = _source(s, number)
    at = _find_source(s, mixed)
    if s.sources[at] == u64(0):
        s.sources[at] = mixed >> u64(t.SOURCE_COUNT) << u64(t.SOURCE_COUNT)
    s.sources[at] += u64(1)


@inline
def drop_source(s: Any, number: Any) -> None:
    """Take a session off its source's count. A source without sessions leaves no trace."""
    at = _find_source(s, _source(s, number))
    if s.sources[at] & u64((1 << t.SOURCE_COUNT) - 1) > u64(1):
        s.sources[at] -= u64(1)
        return
    s.sources[at] = u64(0)  # and close the gap (Knuth, TAOCP 6.4, algorithm R)
    probe = _following(s, at)
    while s.sources[probe]:
        home = _home(s, s.sources[probe])
        if _distance(s, home, probe) >= _distance(s, at, probe):
            s.sources[at] = s.sources[probe]
            s.sources[probe] = u64(0)
            at = probe
        probe = _following(s, probe)


@inline
def close(s: Any, number: Any) -> None:
    """End a session: it is found no more, and its record is free."""
    record = s.hot[number]
    cold = s.cold[number]
    index.leave(s, number)
    if record.flags & t.STRAY:
        flow_home.forget4(s, number)
    if record.flags & t.SOURCED:
        drop_source(s, number)
    if cold.limit:
        s.limits[cold.limit] -= np.uint32(1)
    if is_embryonic(record.state):
        s.head[t.EMBRYONIC] -= u64(1)
    s.head[t.OPEN] -= u64(1)
    _unlink(s, number)
    free(s, number)
    cold.generation += np.uint32(1)
    record.state = t.FREE


@inline
def free(s: Any, number: Any) -> None:
    """Give a record back."""
    s.hot[number].flags = 0
    s.hot[number].k0 = u64(0xFFFFFFFFFFFFFFFF)
    s.hot[number].k2 = u64(0xFFFFFFFFFFFFFFFF)
    s.cold[number].next = s.head[t.FREE_FIRST]
    s.head[t.FREE_FIRST] = u64(number)


@inline
def _evict(s: Any) -> Any:
    """End the session that can best be spared: one that is over, or else the embryonic one that was
    seen the longest ago, or else one in time-wait. Returns whether there was one."""
    number = i64(s.cold[_head(s, OVER_LIST)].next)
    if number > i64(s.head[t.CAPACITY]):
        longest = i64(-1)
        for place in range(FIRST_EMBRYONIC, LAST_EMBRYONIC + 1):
            first = i64(s.cold[_head(s, place)].next)
            if first <= i64(s.head[t.CAPACITY]) and idle(s, s.hot[first]) > longest:
                longest = idle(s, s.hot[first])
                number = first
    if number > i64(s.head[t.CAPACITY]):
        number = i64(s.cold[_head(s, WAITING_LIST)].next)
    if number > i64(s.head[t.CAPACITY]):
        return False
    close(s, number)
    s.head[t.EVICTED] += u64(1)
    return True


@inline
def take(s: Any) -> Any:
    """A free record, made free if need be; 0: there is none."""
    if s.head[t.FREE_FIRST] == u64(0):
        if s.head[t.UNUSED] <= s.head[t.CAPACITY]:
            s.head[t.UNUSED] += u64(1)
            return i64(s.head[t.UNUSED]) - 1
        if not _evict(s):
            return i64(0)
    number = i64(s.head[t.FREE_FIRST])
    s.head[t.FREE_FIRST] = u64(s.cold[number].next)
    return number


@inline
def begin(s: Any, number: Any, state: Any) -> None:
    """A session that has its keys, and a place in the index, begins to live."""
    cold = s.cold[number]
    record = s.hot[number]
    cold.generation += np.uint32(1)
    cold.created = s.head[t.NOW]
    record.state = state
    record.seen = i64(s.head[t.NOW]) & 0xFFFF
    s.head[t.OPEN] += u64(1)
    s.head[t.OPENED] += u64(1)
    if is_embryonic(state):
        s.head[t.EMBRYONIC] += u64(1)
    _schedule(s, number)


@kernel
def _expire_lists(s: Any, budget: Any) -> Any:
    """End what is due in the lists, at most so many. Returns how many."""
    done = 0
    for place in range(WAITING_LIST + 1):
        timeout = i64(s.head[t.TIMEOUTS + i64(_KIND_OF_LIST[place])])
        head = _head(s, place)
        while done < budget:
            number = i64(s.cold[head].next)
            if number == head or idle(s, s.hot[number]) <= timeout:
                break
            close(s, number)
            done += 1
    s.head[t.EXPIRED] += u64(done)
    return done


@kernel
def _look_after(s: Any, number: Any) -> None:
    """The turn of a session in the wheel has come."""
    record = s.hot[number]
    if idle(s, record) > i64(s.head[t.TIMEOUTS + kind(record)]):
        close(s, number)
        s.head[t.EXPIRED] += u64(1)
    else:
        _unlink(s, number)
        _schedule(s, number)


@kernel
def sweep(s: Any, budget: Any) -> Any:
    """Look after sessions that are due by now, at most about so many. Returns how many."""
    done = _expire_lists(s, budget)
    now = i64(s.head[t.NOW])
    if now - i64(s.head[t.SWEPT]) > t.SLOTS:  # one turn is enough
        s.head[t.SWEPT] = u64(now - t.SLOTS)
    while i64(s.head[t.SWEPT]) < now:
        tick = i64(s.head[t.SWEPT]) + 1
        head = _head(s, t.LISTS + (tick & (t.SLOTS - 1)))
        while s.cold[head].next != head:
            if done >= budget:
                return done
            _look_after(s, i64(s.cold[head].next))
            done += 1
        s.head[t.SWEPT] = u64(tick)
    return done
