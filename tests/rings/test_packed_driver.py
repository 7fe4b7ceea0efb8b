# SPDX-License-Identifier: Apache-2.0
"""What is a packed queue's alone of the driver's view; the rest: test_vring_driver.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver_rings import NOWHERE, World, add_many, lay, show
from oracles.packed import AVAIL, FIRST, USED, WRAP, step
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings.virtqueue import RING_PACKED
from vforward.rings.virtqueue_driver import IN_ORDER, STRIDE, Fault

PACKED = [RING_PACKED, RING_PACKED | IN_ORDER]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=8), min_size=1, max_size=12),
    st.sampled_from(PACKED),
)
def test_what_is_added_is_seen_when_it_is_published_and_all_of_it(vectors, features):
    world = World(features=features)
    used = 0
    for counts in vectors:
        while sum(counts) > 8:
            counts.pop()
        descriptors = add_many(world.queue, np.array(counts), lay([7] * 8), True)
        assert world.device.take() == []
        show(world.queue, len(counts), descriptors, True)
        found = world.device.take()
        assert [len(pieces) for _, pieces in found] == counts
        for head, _ in found:
            world.device.use(head, 0)
        used += descriptors
        assert world.reclaim() == 0
        assert world.free == 8
        assert int(world.queue[vq.NEXT]) == step(FIRST, used, 8)


def test_buffers_that_come_back_in_order_keep_their_descriptors():
    world = World(features=RING_PACKED, receives=True)
    there = []
    for turn in range(5):
        there += world.device.take()
        for number, pieces in there[: 3 + turn]:
            assert number == world.device.given % WRAP
            assert pieces == [(NOWHERE + STRIDE * number, STRIDE, True)]
            world.device.use(number, 100)
        del there[: 3 + turn]
        assert len(world.received()) == 3 + turn


@pytest.mark.parametrize("features", PACKED)
@pytest.mark.parametrize("number", [8, 255, 32768, 65535])
def test_a_number_that_none_has(features, number):
    world = World(features=features, receives=True)
    world.device.take()
    world.device.use(number, 0)
    assert world.received() == -Fault.NUMBER
    world = World(features=features)
    world.add(100)
    world.device.take()
    world.device.use(number, 0)
    assert world.reclaim() == Fault.NUMBER


@pytest.mark.parametrize("flags", [0, AVAIL, USED])
@pytest.mark.parametrize("features", PACKED)
def test_flags_of_another_lap_or_of_none(features, flags):
    """In the first lap what is used has both."""
    for receives in (False, True):
        world = World(features=features, receives=receives)
        if not receives:
            world.add(100)
        world.device._store("<IHH", world.device.desc + 8, 5, 0, flags)
        assert world.received() == [] if receives else world.reclaim() == 0


@pytest.mark.parametrize("features", PACKED)
def test_everything_used_at_once_and_more(features):
    """It cannot give back more than it has: a lap is the end."""
    world = World(features=features)
    for _ in range(8):
        world.add(100)
    for number in range(8):
        world.device._store("<IHH", 16 * number + world.device.desc + 8, 5, number, AVAIL | USED)
    assert world.reclaim() == 0
    assert world.free == 8
    assert int(world.queue[vq.NEXT]) == 0  # the second lap
    for number in range(8):
        world.device._store("<IHH", 16 * number + world.device.desc + 8, 5, number, 0)
    assert world.reclaim() == 0
    assert world.free == 8


def test_a_batch_of_more_than_it_has():
    """The fifth was not yet used when the third says that it ends a batch."""
    world = World(features=RING_PACKED | IN_ORDER, receives=True)
    taken = world.device.take()
    world.device.use(taken[6][0], 50, batch=7)
    assert world.received(3) == [(0, STRIDE), (1, STRIDE), (2, STRIDE)]
    assert int(world.queue[driver.BATCH]) >> 32 == 4
    assert world.received() == [(3, STRIDE), (4, STRIDE), (5, STRIDE), (6, 50)]
    assert world.received() == []


def test_a_device_may_change_addresses_and_harms_itself_alone():
    world = World(features=RING_PACKED, receives=True)
    taken = world.device.take()
    world.device._store("<Q", world.device.desc, 12345)
    world.device.use(taken[0][0], 100)
    assert world.received() == [(0, 100)]
    ((_, pieces),) = world.device.take()
    assert pieces == taken[0][1]
