# SPDX-License-Identifier: Apache-2.0
"""What is kept for queues: the messages, and where queues go on. What it does: test_inflight.py."""

import fcntl
import os
import struct

import numpy as np
import pytest

from oracles.packed import FIRST
from packed_rings import World
from vforward.rings import inflight, vhost_inflight
from vforward.rings import virtqueue as vq
from vforward.rings.vhost_inflight import Inflight
from vforward.rings.vhost_message import BadPeer, Message, Request

F_GET_SEALS = 1034


def message(size=0, offset=0, queues=2, queue_size=256, padding=4):
    payload = struct.pack("=QQHH", size, offset, queues, queue_size) + bytes(padding)
    return Message(Request.GET_INFLIGHT_FD, payload=payload)


@pytest.mark.parametrize("padding", [0, 4])
def test_it_is_understood_with_and_without_its_padding(padding):
    found = vhost_inflight.unpack(message(8192, 4096, padding=padding), 2)
    assert found == Inflight(8192, 4096, 2, 256)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"padding": 1}, "length"),
        ({"padding": 8}, "length"),
        ({"queues": 0}, "queue"),
        ({"queues": 3}, "queue"),
        ({"queue_size": 0}, "queue"),
        ({"queue_size": 32769}, "queue"),
        ({"offset": 4}, "memory"),
    ],
)
def test_what_is_refused(wrong, reason):
    with pytest.raises(BadPeer) as caught:
        vhost_inflight.unpack(message(**wrong), 2)
    assert caught.value.reason == reason


@pytest.mark.parametrize(("packed", "each"), [(True, 8256), (False, 4160)])
def test_what_is_made_cannot_become_shorter(packed, each):
    payload, fd = vhost_inflight.create(Inflight(0, 0, 2, 256), packed=packed)
    assert payload == struct.pack("=QQHH4x", 2 * each, 0, 2, 256)
    assert os.fstat(fd).st_size == 2 * each
    assert fcntl.fcntl(fd, F_GET_SEALS) & 2
    with pytest.raises(PermissionError):
        os.truncate(fd, 0)
    os.close(fd)


def test_each_queue_has_its_place():
    kept = Inflight(2 * 8256, 0, 2, 256)
    places = [kept.place(1 << 20, index, 256, packed=True) for index in range(3)]
    assert places == [1 << 20, (1 << 20) + 8256, 0]
    assert kept.place(0, 0, 256, packed=True) == 0  # nothing is kept
    assert kept.place(1 << 20, 1, 128, packed=False) == (1 << 20) + 4160
    for size, room in ((512, 2 * 8256), (256, 2 * 8256 - 1)):
        with pytest.raises(BadPeer, match="larger than what it keeps"):
            kept._replace(size=room).place(1 << 20, 1, size, packed=True)


def region(world):
    return np.zeros(inflight.region_bytes(world.driver.size, packed=True) // 8, np.uint64)


def test_a_packed_queue_without_a_region_goes_on_where_the_peer_says():
    world = World()
    vhost_inflight.resume(world.queue, 0, 5, known=False)
    assert world.queue[[vq.NEXT, vq.LAST, vq.REGION]].tolist() == [5, 5, 0]


def test_a_region_says_it_unless_it_is_new_or_older():
    world = World()
    kept = region(world)
    here = kept.ctypes.data
    found = []
    for base, known in ((FIRST | 3, False), (FIRST | 5, False), (7, True), (FIRST, False)):
        vhost_inflight.resume(world.queue, here, base, known=known)
        found.append(int(world.queue[vq.NEXT]))
        assert int(world.queue[vq.REGION]) == here
    assert found == [FIRST | 3, FIRST | 3, 7, 7]


@pytest.mark.parametrize("base", [8, FIRST | 8, 0x7FFF, 0xFFFF])
@pytest.mark.parametrize("with_region", [False, True])
def test_a_place_behind_the_end(base, with_region):
    world = World()
    kept = region(world)
    with pytest.raises(BadPeer, match="behind its end"):
        vhost_inflight.resume(world.queue, kept.ctypes.data if with_region else 0, base, known=True)


def test_a_region_that_says_nonsense():
    world = World()
    kept = region(world)
    vhost_inflight.resume(world.queue, kept.ctypes.data, FIRST, known=False)
    kept.view(np.uint16)[8] = 8
    with pytest.raises(BadPeer, match="behind its end"):
        vhost_inflight.resume(world.queue, kept.ctypes.data, FIRST, known=False)


def test_a_split_queue_goes_on_at_its_used_index():
    memory, kept = np.zeros(64, np.uint16), np.zeros(64, np.uint64)
    memory[1] = 0x1234
    (queue,) = vq.new(1)
    queue[vq.USED], queue[vq.SIZE] = memory.ctypes.data, 8
    vhost_inflight.resume(queue, kept.ctypes.data, 7, known=False)
    assert int(queue[vq.NEXT]) == 0x1234
    assert int(queue[vq.REGION]) == 0  # the worker writes nothing there
    assert kept.view(np.uint16)[[4, 5, 7]].tolist() == [1, 8, 0x1234]
