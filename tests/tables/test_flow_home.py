"""flow_home: one worker for both directions, all of them used, and strays while a session lives."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.network import Heap
from tables.session_world import World, endpoint
from vforward.jit.kernel import i64, kernel, u64
from vforward.tables import flow_home, strays
from vforward.tables import session as t

SEED = bytes(range(16))
END4 = st.one_of(st.sampled_from([0, 1, 2**48 - 1]), st.integers(0, 2**48 - 1))
WORD = st.one_of(st.sampled_from([0, 1, 2**64 - 1]), st.integers(0, 2**64 - 1))


@kernel
def _mixed4(sessions, src, dst, protocol, zone):
    return flow_home.mixed4(t.shard(sessions), i64(src), i64(dst), i64(protocol), i64(zone))


@kernel
def _mixed6(sessions, a, b, c, d, both):
    return flow_home.mixed6(
        t.shard(sessions), u64(a), u64(b), u64(c), u64(d), i64(both), i64(6), i64(0)
    )


@kernel
def _worker(sessions, mixed):
    return flow_home.worker_of(t.shard(sessions), u64(mixed))


@kernel
def _at_home(sessions, src, dst):
    return flow_home.at_home4(t.shard(sessions), i64(src), i64(dst), i64(17), i64(0))


def shared(n, worker=0, capacity=63, table=None):
    """A worker's shard, with the strays of all."""
    world = World(capacity)
    world.put(bytes(8))
    world.strays = strays.make(Heap(), 64) if table is None else table
    world.sessions.share(worker, n, SEED, world.strays)
    return world


W = shared(3)


@given(END4, END4, st.integers(0, 255), st.integers(0, 63))
def test_both_directions_are_alike(src, dst, protocol, zone):
    assert _mixed4(W.array, src, dst, protocol, zone) == _mixed4(W.array, dst, src, protocol, zone)


@given(WORD, WORD, WORD, WORD, st.integers(0, 2**32 - 1))
def test_both_directions_are_alike_of_ipv6(a, b, c, d, both):
    words = [np.uint64(n) for n in (a, b, c, d)]
    turned = (both >> 16 | both << 16) & 0xFFFFFFFF
    there = _mixed6(W.array, *words, both)
    assert there == _mixed6(W.array, *words[2:], *words[:2], turned)


@pytest.mark.parametrize("n", [2, 3, 32])
def test_flows_spread_over_the_workers(n):
    world = shared(n)
    homes = np.zeros(n, int)
    for k in range(200 * n):  # neighbors differ in a bit or two
        src = endpoint(0x0A000001 + k // 50, 1024 + k % 50)
        homes[_worker(world.array, np.uint64(_mixed4(world.array, src, 1 << 47, 6, 0)))] += 1
    assert homes.min() > 100
    assert homes.max() < 320


def test_another_secret_is_another_spread():
    other = shared(3)
    other.sessions.share(0, 3, os.urandom(16), other.strays)
    ends = [(endpoint(0x0A000001, k), endpoint(0xC0000201, 80)) for k in range(100)]
    one, two = ([_mixed4(w.array, *end, 6, 0) for end in ends] for w in (W, other))
    assert not set(one) & set(two)


def test_alone_everything_is_at_home():
    world = World(63)
    assert _at_home(world.array, 5, 7)
    assert not all(_at_home(W.array, k, 7) for k in range(20))


def reply_elsewhere(world, me, want_stray):
    """Endpoints of a flow that is at home, and of a reply that is so too or not."""
    src, dst = endpoint(0x0A000001, 1), endpoint(0xC0000201, 80)
    while not _at_home(world.array, src, dst):
        src += 1
    for port in range(1, 200):
        new = endpoint(0xCB007101, port)
        if _at_home(world.array, dst, new) != want_stray:
            return src, dst, new
    raise AssertionError("none")


@pytest.mark.parametrize("stray", [False, True])
def test_a_reply_from_elsewhere_is_a_stray_as_long_as_its_session_lives(stray):
    world = shared(3, worker=1)
    src, dst, new = reply_elsewhere(world, 1, stray)
    number = world.open(src, dst, 17, 0, reply=(dst, new))
    assert number > 0
    assert int(world.strays[0]) == stray
    assert _worker(world.array, np.uint64(_mixed4(world.array, dst, new, 17, 0))) == 1
    world.sessions.check()
    world.close(number)
    assert int(world.strays[0]) == 0
    if stray:
        assert _worker(world.array, np.uint64(_mixed4(world.array, dst, new, 17, 0))) != 1


def test_a_reply_key_that_another_worker_has_begins_no_session():
    one = shared(3, worker=1)
    two = shared(3, worker=2, table=one.strays)
    src, dst, new = reply_elsewhere(one, 1, True)
    assert one.open(src, dst, 17, 0, reply=(dst, new)) > 0
    other = next(
        end
        for end in range(src, src + 100)
        if _at_home(two.array, end, dst) and not _at_home(two.array, dst, new)
    )
    assert two.open(other, dst, 17, 0, reply=(dst, new)) == ~t.TAKEN
    assert int(two.head[t.OPEN]) == 0
    two.sessions.check()
    strays.check(one.strays)


def test_limits_are_divided():
    world = shared(3)
    grant = t.Grant(0, 0, 1, 4, 0, 0)
    opened = [world.open(endpoint(0x0A000000 + k, 1), 1 << 47, grant=grant) for k in range(4)]
    assert [number > 0 for number in opened] == [True, True, False, False]
    assert opened[2] == ~t.RULE_LIMIT
