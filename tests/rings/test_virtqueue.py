# SPDX-License-Identifier: Apache-2.0
"""The device's view of a queue by itself; with packets in it: tests/io/test_vhost_rx.py and _tx.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.virtqueue import Driver, need_event
from vforward.jit.kernel import i64, kernel
from vforward.rings import guest_memory
from vforward.rings import virtqueue as vq

BASE = 1 << 32


class World:
    def __init__(self, size=8, *, event_idx=False, start=0):
        self.bytes = np.zeros(1 << 16, np.uint8)
        self.driver = Driver(
            memoryview(self.bytes), BASE, 0, size, event_idx=event_idx, start=start
        )
        here = self.bytes.ctypes.data
        self.memory = guest_memory.new()
        guest_memory.fill(self.memory, [(BASE, self.bytes.size, here)])
        (self.queue,) = vq.new(1)
        parts = [here + where - BASE for where in self.driver.addresses()]
        self.queue[[vq.DESC, vq.AVAIL, vq.USED]] = parts
        self.queue[vq.SIZE] = size
        self.queue[vq.FEATURES] = vq.EVENT_IDX if event_idx else 0
        vq.resume(self.queue)
        vq.start(self.queue)
        self.pieces = np.zeros((vq.PIECES_MAX, 2), np.int64)

    def chain(self, head, writable=False):
        n = vq.read_chain(self.queue, self.memory, self.pieces, 0, head, writable)
        here = self.bytes.ctypes.data
        return [(int(a) - here + BASE, int(b)) for a, b in self.pieces[:n]] if n >= 0 else int(n)


@kernel
def look(queue):
    return vq.ready(queue), vq.waiting(queue), vq.head(queue, 0)


@kernel
def use(queue, number, length):
    since = i64(queue[vq.NEXT])
    vq.put_used(queue, 0, number, length)
    vq.publish(queue, 1)
    return vq.wants_call(queue, since)


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 60000), st.integers(0, 5000)), min_size=1, max_size=8),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 65529]),
)
def test_chains_are_read_as_the_driver_wrote_them(buffers, write, indirect, start):
    world = World(start=start)
    for n, buffer in enumerate(buffers):
        pieces = [(BASE + 1024 + at % 50000, length) for at, length in buffer]
        head = world.driver.add(pieces, write=write, indirect=BASE + 512 if indirect else None)
        assert look(world.queue) == (True, 1, head)
        wrong = write and not all(length for _, length in pieces)
        wanted = -vq.Fault.LENGTH if wrong else [piece for piece in pieces if piece[1]]
        assert world.chain(head, write) == wanted
        if any(length for _, length in buffer):
            assert world.chain(head, not write) == -vq.Fault.DIRECTION
        use(world.queue, head, n)
        assert world.driver.take_used() == [(head, n)]
    assert look(world.queue)[1] == 0


@pytest.mark.parametrize("start", [0, 65530])
def test_a_driver_is_called_when_it_wants_to_be(start):
    world = World(event_idx=True, start=start)
    for event in (start, start + 3, start + 7):
        world.driver.interrupt_at(event)
        for _ in range(3):
            head = world.driver.add([(BASE + 1024, 1)], write=False)
            old = int(world.queue[vq.NEXT])
            assert use(world.queue, head, 0) == need_event(event % 65536, old + 1, old)
            world.driver.take_used()


@pytest.mark.parametrize("event_idx", [False, True])
def test_kicks(event_idx):
    world = World(event_idx=event_idx, start=5)
    wanted = []
    for change in (lambda _: None, vq.ask_for_kicks, vq.refuse_kicks):
        change(world.queue)
        old = world.driver.added
        head = world.driver.add([(BASE + 1024, 1)], write=False)
        wanted.append(world.driver.must_kick(old))
        use(world.queue, head, 0)
        world.driver.take_used()
    assert wanted == [False, True, False]


@pytest.mark.parametrize(("ahead", "waiting"), [(0, 0), (8, 8), (9, -vq.Fault.INDEX), (65535, -1)])
def test_no_more_can_wait_than_there_is_room_for(ahead, waiting):
    world = World(start=65533)
    world.driver._store("<H", world.driver.avail + 2, (65533 + ahead) % 65536)
    assert look(world.queue)[1] == waiting


def test_a_queue_that_was_given_up_is_not_ready():
    world = World()
    vq.give_up(world.queue, vq.Fault.ADDRESS)
    assert look(world.queue)[0] is False
    assert int(world.queue[vq.FAULT]) == vq.Fault.ADDRESS


@pytest.mark.parametrize("event_idx", [False, True])
@pytest.mark.parametrize("size", [1, 8, 32768])
def test_the_parts_are_as_long_as_the_standard_says(size, event_idx):
    # Section 2.7: 16 * size, 6 + 2 * size, 6 + 8 * size; without EVENT_IDX 2 less (section 2.7.6, 2.7.8).
    features = vq.EVENT_IDX if event_idx else 0
    less = 0 if event_idx else 2
    found = [vq.part_bytes(part, size, features) for part in (vq.DESC, vq.AVAIL, vq.USED)]
    assert found == [16 * size, 6 + 2 * size - less, 6 + 8 * size - less]


def test_every_fault_has_its_words():
    assert set(vq.FAULTS) == set(vq.Fault)
