# SPDX-License-Identifier: Apache-2.0
"""The driver's view of a queue by itself; with packets in it: tests/io/test_virtio_rx.py and _tx.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.virtqueue_device import Device
from vforward.jit.kernel import kernel
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings.virtqueue_driver import IN_ORDER, STRIDE, Fault

BASE = 1 << 32
NOWHERE = BASE + (1 << 20)
"""Where buffers are told to be: nobody looks there."""


class World:
    def __init__(self, size=8, *, features=0, receives=False):
        self.bytes = np.zeros(1 << 12, np.uint8)
        self.queue = driver.new(size)
        at = [0, 1024, 2048 + 4]  # so that used elements are whole words
        self.queue[[vq.DESC, vq.AVAIL, vq.USED]] = [self.bytes.ctypes.data + part for part in at]
        self.queue[vq.FEATURES] = features
        driver.begin(self.queue, NOWHERE, receives)
        self.device = Device(
            memoryview(self.bytes), BASE, size, *(BASE + part for part in at),
            event_idx=bool(features & vq.EVENT_IDX),
        )  # fmt: skip

    @property
    def free(self):
        return int(self.queue[driver.FREE])


@kernel
def add(queue, lengths, n):
    """Make one buffer of n descriptors available. Returns whether the device is to be kicked."""
    for p in range(n):
        following = driver.free(queue, p + 1) if p + 1 < n else -1
        driver.describe(queue, driver.free(queue, p), lengths[p], following)
    driver.offer(queue, 0, driver.lend(queue, 0, n))
    driver.publish(queue, 1)
    driver.gone(queue, n)
    return driver.wants_kick(queue, 1)


@kernel
def receive(queue, limit, found):
    """Take at most limit buffers back and lend them again. Returns how many, or -Fault."""
    waiting = driver.waiting(queue)
    batch = np.int64(queue[driver.BATCH])
    n = min(waiting, limit)
    for k in range(n):
        number, length, batch = driver.returned(queue, k, waiting, batch)
        if number < 0:
            return -np.int64(Fault.NUMBER)
        found[k, 0], found[k, 1] = number, length
        driver.offer(queue, k, number)
    if n > 0:
        queue[driver.BATCH] = np.uint64(batch)
        driver.publish(queue, n)
        driver.took(queue, n)
    return n


def received(world, limit=256):
    found = np.zeros((256, 2), np.int64)
    n = receive(world.queue, limit, found)
    return [tuple(pair) for pair in found[:n].tolist()] if n >= 0 else int(n)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from([1, 2, 8]), st.booleans(), st.sampled_from([0, 65533]))
def test_the_device_finds_what_was_added(data, size, in_order, start):
    world = World(size, features=IN_ORDER if in_order else 0)
    world.queue[[vq.NEXT, driver.ADDED]] = start
    world.device.taken = world.device.given = start
    world.device._store("<H", world.device.used + 2, start)
    there = []  # (head, descriptors) that the device has
    free = size
    for _ in range(data.draw(st.integers(1, 30))):
        n = data.draw(st.integers(1, 4))
        if n <= free and data.draw(st.booleans()):
            lengths = [data.draw(st.integers(1, STRIDE)) for _ in range(n)]
            add(world.queue, np.array(lengths), n)
            ((head, pieces),) = world.device.take()
            assert [length for _, length, _ in pieces] == lengths
            for where, _, writable in pieces:
                assert not (where - NOWHERE) % STRIDE
                assert not writable
            if in_order:
                numbers = [(where - NOWHERE) // STRIDE for where, _, _ in pieces]
                assert numbers == [(head + k) % size for k in range(n)]
            there.append((head, n))
            free -= n
        elif there:
            many = data.draw(st.integers(1, len(there)))
            if in_order:
                gone, there = there[:many], there[many:]
                world.device.use(gone[-1][0], 0, batch=many)
            else:
                gone = [there.pop(data.draw(st.integers(0, len(there) - 1))) for _ in range(many)]
                for head, _ in gone:
                    world.device.use(head, 0)
            free += sum(n for _, n in gone)
            assert driver.reclaim(world.queue) == 0
        assert world.free == free


@settings(deadline=None, max_examples=60)
@given(st.data(), st.booleans(), st.sampled_from([1, 3, 256]))
def test_what_the_device_gives_back_is_found(data, in_order, limit):
    """With IN_ORDER also several at once, of which all but the last are full."""
    world = World(features=IN_ORDER if in_order else 0, receives=True)
    there, due = [], []
    for _ in range(data.draw(st.integers(1, 30))):
        there += [head for head, _ in world.device.take()]
        if there and data.draw(st.booleans()):
            batch = data.draw(st.integers(1, len(there))) if in_order else 1
            length = data.draw(st.integers(0, STRIDE))
            if not in_order:
                head = there.pop(data.draw(st.integers(0, len(there) - 1)))
                due.append((head, length))
            else:
                due += [(head, STRIDE) for head in there[: batch - 1]]
                due.append((there[batch - 1], length))
                head = there[batch - 1]
                del there[:batch]
            world.device.use(head, length, batch=batch)
        else:
            found = received(world, limit)
            assert found == due[:limit]
            del due[:limit]
    assert world.free == 0


def test_words_that_are_right_are_not_written_again():
    """The device's copy of their lines stays good."""
    world = World(4, features=IN_ORDER)
    for _ in range(4):
        add(world.queue, np.array([100]), 1)
        world.device.use(world.device.take()[0][0], 0)
        driver.reclaim(world.queue)
    before = world.bytes.copy()
    for _ in range(4):
        add(world.queue, np.array([100]), 1)
    changed = np.flatnonzero(before != world.bytes)
    assert changed.tolist() == [1024 + 2]  # avail.idx


@pytest.mark.parametrize("features", [0, IN_ORDER])
@pytest.mark.parametrize("receives", [False, True])
def test_more_used_than_was_there(features, receives):
    world = World(features=features, receives=receives)
    world.device.use(0, 0, batch=8 * receives + 1)
    if receives:
        assert received(world) == -Fault.INDEX
    else:
        assert driver.reclaim(world.queue) == Fault.INDEX


@pytest.mark.parametrize("number", [8, 255, 65535, 1 << 31, (1 << 32) - 1])
def test_a_number_that_none_has(number):
    for features in (0, IN_ORDER):
        world = World(features=features, receives=True)
        world.device.use(number, 0)
        assert received(world) == -Fault.NUMBER
    world = World()
    add(world.queue, np.array([100]), 1)
    world.device.use(number, 0)
    assert driver.reclaim(world.queue) == Fault.NUMBER


@pytest.mark.parametrize("number", [0, 2, 3, 4])
def test_a_number_given_back_twice_or_of_no_first_descriptor(number):
    """0 was given back already, 1 is the first of three, 4 is free."""
    world = World()
    for n in (1, 3):
        add(world.queue, np.array([100] * 3), n)
    world.device.use(0, 0)
    assert driver.reclaim(world.queue) == 0
    world.device.use(number, 0)
    assert driver.reclaim(world.queue) == Fault.NUMBER


def test_a_batch_that_ends_where_nothing_was_used():
    world = World(features=IN_ORDER, receives=True)
    world.device.use(5, 0, batch=2)
    assert received(world) == -Fault.NUMBER


def test_kicks_without_event_idx():
    world = World()
    assert add(world.queue, np.array([1]), 1)
    world.device.no_kicks()
    assert not add(world.queue, np.array([1]), 1)


def test_kicks_with_event_idx():
    world = World(features=vq.EVENT_IDX)
    world.device.kick_at(1)
    assert [bool(add(world.queue, np.array([1]), 1)) for _ in range(3)] == [False, True, False]


def test_calls():
    for features in (0, vq.EVENT_IDX):
        world = World(features=features, receives=True)
        assert not world.device.must_call(0)
        world.device.use(0, 0)
        received(world)
        driver.ask_for_calls(world.queue)
        world.device.use(1, 0)
        assert world.device.must_call(1)
        received(world)
        driver.refuse_calls(world.queue)
        world.device.use(2, 0)
        assert not world.device.must_call(2)
