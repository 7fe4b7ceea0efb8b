# SPDX-License-Identifier: Apache-2.0
"""The device's view of a packed queue by itself; with packets: tests/io/test_vhost_rx.py and _tx.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.packed import AVAIL, FIRST, INDIRECT, NEXT, USED, WRITE, passed, step
from packed_rings import BASE, World, look, publish, put, tokens
from vforward.jit.kernel import i64, kernel
from vforward.rings import packed as pk
from vforward.rings import virtqueue as vq

STARTS = [FIRST, 0, FIRST | 6, 7]
"""Of a queue of 8: positions at its beginning in the first and the second lap, and before its end."""


@kernel
def waiting(queue):
    return pk.waiting(queue)


@kernel
def use(queue, tokens, lengths):
    """Use buffers and publish them together."""
    since = i64(queue[vq.NEXT])
    for k in range(tokens.size):
        pk.put_used(queue, k, tokens[k], lengths[k])
    pk.publish(queue, tokens.size)
    return pk.wants_call(queue, since)


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 60000), st.integers(0, 5000)), min_size=1, max_size=8),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
    st.booleans(),
    st.sampled_from(STARTS),
)
def test_chains_are_read_as_the_driver_wrote_them(buffers, write, indirect, start):
    world = World(start=start)
    for n, buffer in enumerate(buffers):
        pieces = [(BASE + 1024 + at % 50000, length) for at, length in buffer]
        assert waiting(world.queue) == 0
        number = world.driver.add(pieces, write=write, indirect=BASE + 512 if indirect else None)
        assert waiting(world.queue) == 8
        token, where, length, flags = world.look()
        assert token & 0xFFFF == number
        if len(pieces) == 1 and not indirect:
            assert (where, length, flags) == (*pieces[0], WRITE if write else 0)
        else:
            assert flags & (NEXT | INDIRECT)
        wrong = write and not all(length for _, length in pieces)
        wanted = -vq.Fault.LENGTH if wrong else [piece for piece in pieces if piece[1]]
        assert world.chain(token, write) == wanted
        if not (write and indirect):
            assert world.chain(token, not write) == -vq.Fault.DIRECTION
        use(world.queue, np.array([token]), np.array([n]))
        assert world.driver.take_used() == [(number, n)]
    assert world.look()[0] == pk.NONE


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=8), min_size=1, max_size=30),
    st.sampled_from([1, 3, 8, 16]),
    st.integers(0, 31),
)
def test_what_is_put_is_seen_when_it_is_published_and_all_of_it(vectors, size, start):
    world = World(size, start=step(FIRST, start % (2 * size), size))
    driver, used = world.driver, 0
    for shapes in vectors:
        added = [driver.add([(BASE + 1024, 9)] * min(n, size), write=True) for n in shapes]
        added = [number for number in added if number is not None]
        used += size - driver.room
        assert pk.available(world.queue) == size - driver.room
        found, end = tokens(world)
        assert end == pk.NONE
        assert [token & 0xFFFF for token in found] == added
        for k, token in enumerate(found):
            put(world.queue, k, token, k + 1)
            assert driver.take_used() == []
        publish(world.queue, len(found))
        assert driver.take_used() == [(number, k + 1) for k, number in enumerate(added)]
        assert driver.added == driver.seen == int(world.queue[vq.NEXT])
        assert int(world.queue[vq.COUNT]) == used
    assert driver.room == size


@settings(deadline=None)
@given(
    st.sampled_from([1, 2, 8]),
    st.integers(0, 15),
    st.integers(0, 15),
    st.lists(st.integers(1, 8), min_size=1, max_size=8),
)
def test_a_driver_is_called_when_it_wants_to_be(size, start, event, counts):
    world = World(size, event_idx=True, start=step(FIRST, start % (2 * size), size))
    event = step(FIRST, event % (2 * size), size)
    world.driver.interrupt_at(event)
    for n in counts:
        for _ in range(min(n, size)):
            world.driver.add([(BASE + 1024, 1)], write=False)
        found, _ = tokens(world)
        before = int(world.queue[vq.NEXT])
        called = use(world.queue, np.array(found), np.zeros(len(found), np.int64))
        assert called == passed(event, before, int(world.queue[vq.NEXT]), size)
        world.driver.take_used()


@pytest.mark.parametrize(("wish", "called"), [(0, True), (1, False)])
@pytest.mark.parametrize("event_idx", [False, True])
def test_a_driver_that_wants_all_calls_or_none(wish, called, event_idx):
    world = World(event_idx=event_idx)
    world.driver.no_interrupts(wish)
    world.driver.add([(BASE + 1024, 1)], write=False)
    assert use(world.queue, np.array([int(world.look()[0])]), np.zeros(1, np.int64)) == called


@pytest.mark.parametrize("event_idx", [False, True])
@pytest.mark.parametrize("start", STARTS)
def test_kicks(event_idx, start):
    world = World(event_idx=event_idx, start=start)
    wanted = []
    for change in (lambda _: None, pk.ask_for_kicks, lambda _: None, pk.refuse_kicks):
        change(world.queue)
        old = world.driver.added
        world.driver.add([(BASE + 1024, 1)], write=False)
        wanted.append(world.driver.must_kick(old))
        use(world.queue, np.array([int(world.look()[0])]), np.zeros(1, np.int64))
        world.driver.take_used()
    # With EVENT_IDX one kick is asked for, and comes; without it all are until they are refused.
    assert wanted == [False, True, not event_idx, False]


F = vq.Fault


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        ([(BASE, 8, NEXT)] * 8, F.LENGTH),  # no end
        ([(BASE + 65530, 8, 0)], F.ADDRESS),
        ([(BASE - 1, 8, 0)], F.ADDRESS),
        ([(2**64 - 4, 8, 0)], F.ADDRESS),
        ([(BASE, 8, WRITE)], F.DIRECTION),
        ([(BASE, 8, NEXT), (BASE, 8, WRITE)], F.DIRECTION),
        ([(BASE + 512, 0, INDIRECT)], F.INDIRECT),
        ([(BASE + 512, 24, INDIRECT)], F.INDIRECT),
        ([(BASE + 512, 16, INDIRECT | NEXT), (BASE, 8, 0)], F.INDIRECT),
        ([(BASE + 65528, 16, INDIRECT)], F.ADDRESS),
        ([(BASE + 512, 16 * 1025, INDIRECT)], F.LENGTH),
    ],
)
@pytest.mark.parametrize("start", STARTS)
def test_what_cannot_be_right(listed, fault, start):
    world = World(start=start)
    world.driver.put(listed, 77)
    token = int(world.look()[0])
    if token >= 0:
        token = world.chain(token)
    assert token == -fault


@pytest.mark.parametrize("direction", [0, WRITE])
def test_in_a_table_to_read_no_flags_count(direction):
    """Section 2.8.19; of the direction it is what DPDK's driver needs, whose tables say the wrong one."""
    world = World()
    flags = INDIRECT | NEXT | AVAIL | USED | direction
    world.driver._store("<QIHH", 512, BASE + 2048, 7, 99, flags)
    world.driver.put([(BASE + 512, 16, INDIRECT)], 5)
    token = int(world.look()[0])
    assert world.chain(token) == [(BASE + 2048, 7)]
    assert world.chain(token, True) == ([(BASE + 2048, 7)] if direction else -F.DIRECTION)


@pytest.mark.parametrize("n", [1, 7, 1024])
def test_a_long_chain_ends_at_the_longest(n):
    world = World(2049)
    world.driver.add([(BASE + 40000, 1)] * n, write=False)
    token = int(world.look()[0])
    assert token >> 16 & 0xFFFF == n
    assert len(world.chain(token)) == n
    world.driver.add([(BASE + 40000, 1)] * 1025, write=False)
    assert look(world.queue, step(FIRST, n, 2049))[0] == -F.LENGTH
