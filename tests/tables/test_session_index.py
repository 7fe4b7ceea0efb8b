"""The index against a dictionary: nothing is lost, whatever buckets are full."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tables.session_world import World, endpoint
from vforward.jit.kernel import i64, kernel, u64
from vforward.tables import session as t
from vforward.tables import session_index as index


@kernel
def _insert(sessions, mixed, what):
    return index.insert(t.shard(sessions), mixed, what)


@kernel
def _remove(sessions, mixed, what):
    index.remove(t.shard(sessions), mixed, what)


@kernel
def _has(sessions, mixed, what):
    s = t.shard(sessions)
    wanted = index.tag(mixed, i64(s.head[t.BITS])) | what
    for at in (index.bucket(s, mixed), index.second(s, mixed)):
        for k in range(at, at + t.WAYS):
            if i64(s.entries[k]) == wanted:
                return True
        if s.head[t.SECOND] == u64(0):
            break
    return False


BUCKETS = st.sampled_from([0, 0, 0, 1, 2, 15])
HASHES = st.tuples(BUCKETS, st.integers(0, 3), BUCKETS).map(
    lambda h: h[0] << 40 | h[1] << 12 | h[2]
)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.booleans(), HASHES, st.integers(0, 60)), max_size=120))
def test_full_buckets(steps):
    """Hashes of few buckets, so that the first and the second are full; what is in stays found."""
    array = np.zeros(t.words_for(63), np.uint64)
    t.prepare(array, 63, bytes(48))
    there = set()
    for add, mixed, number in steps:
        item = (mixed, number << 1)
        if add and item not in there:
            entries = t.arrays(array).entries
            room = [
                (entries[b * 16 : b * 16 + 16] == 0).any() for b in (mixed >> 40 & 15, mixed & 15)
            ]
            # _make_room asks for the hashes of sessions, which these entries have none of.
            if any(room):
                assert _insert(array, u64(mixed), item[1])
                there.add(item)
        elif not add and there:
            item = sorted(there)[number % len(there)]
            _remove(array, u64(item[0]), item[1])
            there.remove(item)
        assert all(_has(array, u64(m), what) for m, what in there)
        assert int(np.count_nonzero(t.arrays(array).entries)) == len(there)


def test_a_table_can_be_filled_to_the_last_session():
    """With half of the entries in use some first buckets are full, and entries have to move."""
    world = World((1 << 15) - 1)
    world.put(bytes(8))
    capacity = world.sessions.capacity
    for n in range(capacity):
        assert world.open(endpoint(0x0A000000 + n, n & 0xFFFF), endpoint(0xC0000201, 53)) > 0
    assert int(world.head[t.OPEN]) == capacity
    assert int(world.head[t.SECOND]) > 0
    for n in range(0, capacity, 7):
        found = world.find(endpoint(0xC0000201, 53), endpoint(0x0A000000 + n, n & 0xFFFF))
        assert found is not None
        assert found[1:] == (0, 0)


A, B, OUT = endpoint(0x0A000001, 1), endpoint(0xC0000201, 2), endpoint(0xC6336401, 3)


def test_the_two_keys_of_nat():
    world = World()
    world.put(bytes(8))
    number = world.open(A, B, reply=(B, OUT))
    assert world.find(A, B) == (number, 0, 1)
    assert world.find(B, OUT) == (number, 1, 0)
    assert world.find(B, A) == (number, 0, 0), "the endpoints are known, but not as a packet's"
    assert world.find(OUT, B) == (number, 1, 1)
    assert world.find(A, OUT) is None
    assert _ends(world.array, number, 0) == (A, B)
    assert _ends(world.array, number, 1) == (OUT, B)
    assert world.open(OUT, B) == ~t.TAKEN
    assert world.open(B, OUT) == ~t.TAKEN


@kernel
def _ends(sessions, number, reply_key):
    return index.ends4(t.shard(sessions), number, reply_key)


def test_what_makes_a_key():
    world = World()
    world.put(bytes(8))
    number = world.open(A, B, 17, 0)
    assert world.find(A, B, 17, 0) == (number, 0, 1)
    for other in ((A + 1, B, 17, 0), (A, B + 1, 17, 0), (A, B, 18, 0), (A, B, 17, 1)):
        assert world.find(*other) is None


V6 = 0x20010DB8 << 96 | 1, 0x20010DB8 << 96 | 1 << 64 | 1


def test_ip6():
    world = World()
    world.put(bytes(8))
    number = world.open6(V6[0], 1, V6[1], 2)
    assert world.find6(V6[0], 1, V6[1], 2) == (number, 1)
    assert world.find6(V6[1], 2, V6[0], 1) == (number, 0)
    for other in ((V6[0], 2, V6[1], 1), (V6[0] + 1, 1, V6[1], 2), (V6[0], 1, V6[1] + (1 << 64), 2)):
        assert world.find6(*other) is None
    assert world.find6(V6[0], 1, V6[1], 2, 17, 1) is None
    assert world.open6(V6[0], 1, V6[1], 2) == ~t.TAKEN
    assert world.open6(V6[1], 2, V6[0], 1) == ~t.TAKEN
    world.close(number)
    assert world.find6(V6[0], 1, V6[1], 2) is None
    world.sessions.check()
