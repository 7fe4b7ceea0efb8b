# SPDX-License-Identifier: Apache-2.0
"""The driver's view of a queue of either layout; with packets: tests/io/test_virtio_rx.py and _tx.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver_rings import NOWHERE, World
from vforward.rings import vring_driver
from vforward.rings.virtqueue import EVENT_IDX, RING_PACKED
from vforward.rings.virtqueue_driver import IN_ORDER, STRIDE, Fault

SPLIT = 0
LAYOUTS = pytest.mark.parametrize("layout", [SPLIT, RING_PACKED])
KINDS = [layout | order for layout in (SPLIT, RING_PACKED) for order in (0, IN_ORDER)]


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from([1, 2, 8]), st.sampled_from(KINDS))
def test_the_device_finds_what_was_added(data, size, features):
    world = World(size, features=features)
    there = []  # (head, descriptors) that the device has
    free = size
    for _ in range(data.draw(st.integers(1, 40))):
        n = data.draw(st.integers(1, 4))
        if n <= free and data.draw(st.booleans()):
            lengths = [data.draw(st.integers(1, STRIDE)) for _ in range(n)]
            world.add(*lengths)
            ((head, pieces),) = world.device.take()
            assert [length for _, length, _ in pieces] == lengths
            for where, _, writable in pieces:
                assert not (where - NOWHERE) % STRIDE
                assert not writable
            numbers = [(where - NOWHERE) // STRIDE for where, _, _ in pieces]
            assert numbers[0] == head
            assert len(set(numbers)) == n
            assert set(numbers) <= set(range(size))
            if features & IN_ORDER:
                assert numbers == [(head + k) % size for k in range(n)]
            there.append((head, n))
            free -= n
        elif there:
            many = data.draw(st.integers(1, len(there)))
            if features & IN_ORDER:
                gone, there = there[:many], there[many:]
                world.device.use(gone[-1][0], 0, batch=many)
            else:
                gone = [there.pop(data.draw(st.integers(0, len(there) - 1))) for _ in range(many)]
                for head, _ in gone:
                    world.device.use(head, 0)
            free += sum(n for _, n in gone)
            assert world.reclaim() == 0
        assert world.free == free


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(KINDS), st.sampled_from([1, 3, 256]))
def test_what_the_device_gives_back_is_found(data, features, limit):
    """With IN_ORDER also several at once, of which all but the last are full."""
    world = World(features=features, receives=True)
    there, due = [], []
    for _ in range(data.draw(st.integers(1, 40))):
        there += [head for head, _ in world.device.take()]
        if there and data.draw(st.booleans()):
            batch = data.draw(st.integers(1, len(there))) if features & IN_ORDER else 1
            length = data.draw(st.integers(0, STRIDE))
            if not features & IN_ORDER:
                head = there.pop(data.draw(st.integers(0, len(there) - 1)))
                due.append((head, length))
            else:
                due += [(head, STRIDE) for head in there[: batch - 1]]
                due.append((there[batch - 1], length))
                head = there[batch - 1]
                del there[:batch]
            world.device.use(head, length, batch=batch)
        else:
            found = world.received(limit)
            assert found == due[:limit]
            del due[:limit]
    assert world.free == 0


@pytest.mark.parametrize("features", [SPLIT, RING_PACKED, RING_PACKED | IN_ORDER])
@pytest.mark.parametrize("number", [0, 2, 3, 4])
def test_a_number_given_back_twice_or_of_no_first_descriptor(features, number):
    """0 was given back already, 1 is the first of three, 4 is free. (A split queue that is used in order
    is not asked for numbers of what was sent.)
    """
    world = World(features=features)
    world.add(100)
    world.add(100, 100, 100)
    world.device.take()
    world.device.use(0, 0)
    assert world.reclaim() == 0
    world.device.use(number, 0)
    assert world.reclaim() == Fault.NUMBER


@LAYOUTS
def test_kicks_without_event_idx(layout):
    world = World(features=layout)
    world.device.no_kicks(0)
    assert world.add(1)
    world.device.no_kicks()
    assert not world.add(1)


@LAYOUTS
def test_kicks_with_event_idx(layout):
    world = World(features=layout | EVENT_IDX)
    world.device.kick_after(1)
    assert [world.add(1) for _ in range(3)] == [False, True, False]


@LAYOUTS
@pytest.mark.parametrize("more", [0, EVENT_IDX])
def test_calls(layout, more):
    world = World(features=layout | more, receives=True)
    device = world.device

    def call_wanted(head):
        old = device.given
        device.use(head, 0)
        return device.must_call(old)

    heads = [head for head, _ in device.take()]
    device.use(heads[0], 0)
    world.received()
    assert not call_wanted(heads[3])
    world.received()
    vring_driver.ask_for_calls(world.queue)
    assert call_wanted(heads[1])
    world.received()
    vring_driver.refuse_calls(world.queue)
    assert not call_wanted(heads[2])
