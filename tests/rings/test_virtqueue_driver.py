# SPDX-License-Identifier: Apache-2.0
"""What is a split queue's alone of the driver's view; the rest: test_vring_driver.py."""

import numpy as np
import pytest

from driver_rings import World
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings.virtqueue_driver import IN_ORDER, Fault


@pytest.mark.parametrize("start", [65533, 65535])
@pytest.mark.parametrize("features", [0, IN_ORDER])
def test_indices_wrap(start, features):
    world = World(features=features)
    world.queue[[vq.NEXT, driver.ADDED]] = start
    world.device.taken = world.device.given = start
    world.device._store("<H", world.device.used + 2, start)
    for _ in range(5):
        world.add(1, 2)
        ((head, pieces),) = world.device.take()
        assert [length for _, length, _ in pieces] == [1, 2]
        world.device.use(head, 0)
        assert world.reclaim() == 0
        assert world.free == 8


def test_words_that_are_right_are_not_written_again():
    """The device's copy of their lines stays good."""
    world = World(4, features=IN_ORDER)
    for _ in range(4):
        world.add(100)
        world.device.use(world.device.take()[0][0], 0)
        world.reclaim()
    before = world.bytes.copy()
    for _ in range(4):
        world.add(100)
    changed = np.flatnonzero(before != world.bytes)
    assert changed.tolist() == [1024 + 2]  # avail.idx


@pytest.mark.parametrize("features", [0, IN_ORDER])
@pytest.mark.parametrize("receives", [False, True])
def test_more_used_than_was_there(features, receives):
    world = World(features=features, receives=receives)
    world.device.use(0, 0, batch=8 * receives + 1)
    if receives:
        assert world.received() == -Fault.INDEX
    else:
        assert world.reclaim() == Fault.INDEX


@pytest.mark.parametrize("number", [8, 255, 65535, 1 << 31, (1 << 32) - 1])
def test_a_number_that_none_has(number):
    for features in (0, IN_ORDER):
        world = World(features=features, receives=True)
        world.device.use(number, 0)
        assert world.received() == -Fault.NUMBER
    world = World()
    world.add(100)
    world.device.use(number, 0)
    assert world.reclaim() == Fault.NUMBER


def test_a_batch_that_ends_where_nothing_was_used():
    world = World(features=IN_ORDER, receives=True)
    world.device.use(5, 0, batch=2)
    assert world.received() == -Fault.NUMBER
