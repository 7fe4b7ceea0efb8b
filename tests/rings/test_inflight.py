# SPDX-License-Identifier: Apache-2.0
"""A device is killed between any two of its steps: the next one takes each buffer once, and none twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.packed import FIRST, step
from packed_rings import BASE, World, publish, put, tokens
from vforward.jit.atomics import store_release64
from vforward.jit.intrinsics import view
from vforward.jit.kernel import i64, kernel
from vforward.rings import inflight
from vforward.rings import packed as pk
from vforward.rings import virtqueue as vq


@kernel
def begin(region, before, after):
    inflight.begin(region, before, after)


@kernel
def write_first(queue):
    store_release64(pk.slot(queue, i64(queue[vq.NEXT])) + 8, queue[vq.FIRST])


@kernel
def half_of_the_end(queue, before, after):
    """As inflight.end, but the last thing: all that is kept is let go."""
    region = i64(queue[vq.REGION])
    word = view(region + inflight.POSITIONS_AT, 1, np.uint64)[0]
    inflight.end(queue, before, after)
    view(region + inflight.POSITIONS_AT, 1, np.uint64)[0] = word


STEPS = ("put", "begin", "first", "half", "end")


class Kept(World):
    def __init__(self, size, start):
        super().__init__(size, start=start)
        self.region = np.zeros(inflight.region_bytes(size, packed=True) // 8, np.uint64)
        self.queue[vq.REGION] = self.region.ctypes.data
        inflight.prepare(self.queue, self.region.ctypes.data, start)

    def next_device(self):
        """What a new process does, that knows nothing."""
        self.queue[[vq.NEXT, vq.FIRST, vq.LAST]] = 12345
        assert inflight.prepared(self.region.ctypes.data)
        pk.resume(self.queue, inflight.recover(self.queue))

    def die(self, found, died):
        """Use the buffers, and die after a step."""
        region = self.region.ctypes.data
        for k, token in enumerate(found):
            put(self.queue, k, token, 100 + k)
        before, after = int(self.queue[vq.NEXT]), int(self.queue[vq.LAST])
        if died >= STEPS.index("begin"):
            begin(region, before, after)
        if died >= STEPS.index("first"):
            write_first(self.queue)
        if died >= STEPS.index("half"):
            half_of_the_end(self.queue, before, after)
        if died >= STEPS.index("end"):
            inflight.end(self.queue, before, after)
        return died >= STEPS.index("first")


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 3), min_size=1, max_size=8),
            st.integers(0, 5),
            st.integers(0, 8),
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([1, 3, 8, 16]),
    st.integers(0, 31),
)
def test_killed_at_any_step(lives, size, start):
    world = Kept(size, step(FIRST, start % (2 * size), size))
    driver, expected = world.driver, []
    for shapes, died, n in lives:
        for length in shapes:
            number = driver.add([(BASE + 1024, 9)] * min(length, size), write=True)
            if number is not None:
                expected.append(number)
        found, end = tokens(world)
        assert end == pk.NONE
        assert [token & 0xFFFF for token in found] == expected
        found = found[: 1 + n]
        out = world.die(found, died)
        got = driver.take_used()
        assert got == [(expected.pop(0), 100 + k) for k in range(len(found) if out else 0)]
        world.next_device()
        assert driver.take_used() == []
    for token in tokens(world)[0]:
        assert set(world.chain(token, True)) == {(BASE + 1024, 9)}
        put(world.queue, 0, token, 7)
        publish(world.queue, 1)
    assert driver.take_used() == [(number, 7) for number in expected]
    assert driver.room == size


def test_what_was_written_over_is_as_it_was():
    world = Kept(8, FIRST | 5)
    for n in range(6):
        world.driver.add([(BASE + 1024 * n, n + 1)], write=n % 2 == 0)
    before = bytes(world.bytes)
    found, _ = tokens(world)
    world.die(found, 0)
    assert bytes(world.bytes) != before
    world.next_device()
    assert bytes(world.bytes) == before
    assert not any(in_flight(world))


def in_flight(world):
    entries = world.region[4:].view(np.uint8)[: 32 * world.driver.size]
    return entries.reshape(-1, 32)[:, 0].tolist()


def test_the_next_one_may_be_killed_while_it_puts_back():
    world = Kept(8, FIRST)
    for n in range(4):
        world.driver.add([(BASE + 1024 * n, n + 1)], write=True)
    before = bytes(world.bytes)
    world.die(tokens(world)[0], STEPS.index("begin"))
    region = world.region.copy()
    world.next_device()
    world.region[:] = region  # as if nothing of it had become known
    world.next_device()
    assert bytes(world.bytes) == before


@pytest.mark.parametrize("used", [8, 0x7FFF, 9])
@pytest.mark.parametrize("which", [0, 1])
def test_a_position_that_is_none(used, which):
    world = Kept(8, FIRST)
    world.region.view(np.uint16)[8 + which] = used
    assert inflight.recover(world.queue) == -1


def test_any_region_at_all_does_no_harm():
    """Nothing outside of the ring is written, whatever the peer puts there."""
    world = Kept(8, FIRST)
    source = np.random.default_rng(3)
    world.bytes[world.driver.end :] = 0xA5
    recovered = 0
    for _ in range(2000):
        world.region[:] = source.integers(0, 2**64, world.region.size, np.uint64)
        world.region.view(np.uint16)[8:10] = source.integers(0, 10, 2)
        recovered += inflight.recover(world.queue) >= 0
        assert (world.bytes[world.driver.end :] == 0xA5).all()
    assert 0 < recovered < 2000


def test_the_layout():
    """QueueRegionPacked and QueueRegionSplit, written out with their C types."""
    world = Kept(4, FIRST | 3)
    head = world.region.view(np.uint16)
    assert head[:11].tolist() == [0, 0, 0, 0, 1, 4, 0, 0, 3, 3, 1 | 1 << 8]
    entry = world.region[4:].view(np.uint16).reshape(-1, 16)
    assert entry[:4, 1].tolist() == [1, 2, 3, 4]  # next
    world.driver.put([(0x1122334455667788, 0x99AABBCC, 2), (1, 1, 0)], 0x1234)
    keep(world.region.ctypes.data, 3, int(world.queue[vq.DESC]) + 16 * 3)
    kept = world.region[4 + 4 * 3 :].view(np.uint8)
    assert kept[0] == 1
    assert kept[16:32].tobytes().hex() == "3412" + "8200" + "ccbbaa99" + "8877665544332211"
    assert [inflight.region_bytes(n, packed=True) for n in (1, 2, 256)] == [64, 128, 8256]
    assert [inflight.region_bytes(n, packed=False) for n in (1, 3, 4, 256)] == [64, 64, 128, 4160]


@kernel
def keep(region, number, descriptor):
    inflight.keep(region, number, descriptor)


def test_a_split_queue_has_nothing_in_flight():
    region = np.full(16, 2**64 - 1, np.uint64)
    (queue,) = vq.new(1)
    queue[vq.SIZE], queue[vq.NEXT] = 4, 0x1234
    inflight.prepare_split(queue, region.ctypes.data)
    assert region.view(np.uint16)[[4, 5, 7]].tolist() == [1, 4, 0x1234]
    assert not region.view(np.uint8)[16 : 16 + 64].reshape(4, 16)[:, 0].any()
    assert inflight.prepared(region.ctypes.data)
