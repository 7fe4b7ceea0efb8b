# SPDX-License-Identifier: Apache-2.0
"""session_check: what must hold of a shard of sessions while no worker runs. For tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, kernel, u64
from vforward.tables import session as t
from vforward.tables import session_index as index
from vforward.tables import session_life as life


@kernel
def _found(sessions: Any, number: Any) -> Any:
    """Whether a session is found by all of its keys."""
    s = t.shard(sessions)
    record = s.hot[number]
    if record.flags & t.SIX:
        ports, protocol, zone = i64(record.ports), i64(record.protocol), i64(record.zone)
        back = (ports >> 16 | ports << 16) & 0xFFFFFFFF
        one, two = record.k0, record.k1
        three, four = record.k2, record.k3
        original = index.mine6(s, one, two, three, four, ports, protocol, zone)
        reply = index.mine6(s, three, four, one, two, back, protocol, zone)
    else:
        original = index.mine4(s, record.k0, record.k1)
        reply = index.mine4(s, record.k2, record.k3)
    return original == number << 1 and reply == number << 1 | 1


@kernel
def _place(sessions: Any, number: Any) -> Any:
    """The list that a session has to be in; 255: the wheel."""
    s = t.shard(sessions)
    return i64(life._LIST[life.kind(s.hot[number])])


@kernel
def _counted(sessions: Any, number: Any) -> Any:
    """How many sessions its source has, as counted."""
    s = t.shard(sessions)
    at = life._find_source(s, life._source(s, s.hot[number], i64(s.cold[number].hits)))
    return i64(s.sources[at] & u64((1 << t.SOURCE_COUNT) - 1))


def check(sessions: NDArray[np.uint64]) -> None:
    """Assert that a shard makes sense: every session in one list, counted once, found by its keys."""
    parts = t.arrays(sessions)
    head, hot = parts.head, parts.hot
    used = np.flatnonzero(hot["state"] != t.FREE)
    assert used.size == int(head[t.OPEN]), "open sessions miscounted"
    state = hot["state"][used]
    embryonic = (state < t.ESTABLISHED) | (state == t.UNREPLIED)
    assert int(embryonic.sum()) == int(head[t.EMBRYONIC]), "embryonic sessions miscounted"
    assert (hot["k0"][0], hot["state"][0]) == (0xFFFFFFFFFFFFFFFF, t.FREE)
    assert 2 * used.size == int(np.count_nonzero(parts.entries)), "entries that are no session's"
    for number in used.tolist():
        assert _found(sessions, number), f"session {number}: not found by its keys"
    _check_lists(sessions, parts, used.tolist())
    _check_free(parts, used.size)
    _check_limits(sessions, parts, used)


def _check_lists(sessions: NDArray[np.uint64], parts: t.Shard, used: list[int]) -> None:
    first = int(parts.head[t.CAPACITY]) + 1
    link = parts.cold
    seen: dict[int, int] = {}
    now = int(parts.head[t.NOW])
    for place in range(t.LISTS + t.SLOTS):
        at, last = int(link["next"][first + place]), first + place
        longest = 0xFFFF
        while at != first + place:
            assert int(link["prev"][at]) == last, f"session {at}: its link back is wrong"
            assert at not in seen, f"session {at}: in two lists"
            seen[at] = place
            idle = now - int(parts.hot["seen"][at]) & 0xFFFF
            if place < t.LISTS:
                assert idle <= longest, f"session {at}: out of its list's order"
                longest = idle
            at, last = int(link["next"][at]), at
    assert sorted(seen) == used, "sessions in no list, or others in one"
    for number, place in seen.items():
        wanted = int(_place(sessions, number))
        assert place == wanted if wanted != 255 else place >= t.LISTS, (
            f"session {number}: list {place}"
        )
        assert int(link["generation"][number]) & 1, f"session {number}: generation of a free one"


def _check_free(parts: t.Shard, n_open: int) -> None:
    at, free = int(parts.head[t.FREE_FIRST]), set()
    while at:
        assert at not in free, "the free list is a loop"
        assert parts.hot["state"][at] == t.FREE, f"session {at}: open and free"
        free.add(at)
        at = int(parts.cold["next"][at])
    fresh = int(parts.head[t.CAPACITY]) + 1 - int(parts.head[t.UNUSED])
    assert len(free) + fresh + n_open == int(parts.head[t.CAPACITY]), "records lost"


def _check_limits(sessions: NDArray[np.uint64], parts: t.Shard, used: NDArray[Any]) -> None:
    limited = parts.cold["limit"][used]
    wanted = np.bincount(limited[limited > 0], minlength=t.LIMITS_MAX)
    assert (parts.limits == wanted).all(), "sessions of a limit miscounted"
    sourced = used[parts.hot["flags"][used] & t.SOURCED != 0]
    counts = parts.sources & np.uint64((1 << t.SOURCE_COUNT) - 1)
    assert int(counts.sum()) == sourced.size, "sessions of sources miscounted"
    assert ((counts > 0) == (parts.sources > 0)).all(), "a source without sessions"
    for number in sourced.tolist():
        assert _counted(sessions, number) > 0, f"session {number}: its source is not counted"
