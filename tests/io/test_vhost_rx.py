# SPDX-License-Identifier: Apache-2.0
"""vhost-rx against the oracle's driver: every shape of buffer, indices that wrap, interrupts, faults."""

import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guests import BASE, FEATURES, PACKED, SIZE, Guest
from oracles.virtqueue import INDIRECT, NEXT, need_event
from vforward.io import vhost_rx
from vforward.io.vhost_rx import NODE
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, GSO, HEADROOM
from vforward.memory.chain import LONGEST
from vforward.rings import virtqueue as vq

NO_OFFLOAD = bytes(12)
LENGTHS = st.sampled_from(
    [14, 15, 59, 60, 64, 1514, BUF_ROOM - 1, BUF_ROOM, BUF_ROOM + 1, 2 * BUF_ROOM, 9014, LONGEST]
)


def frame(length, seed=0):
    return bytes(np.random.default_rng(seed + length).integers(0, 256, length, np.uint8))


@st.composite
def buffers(draw):
    """(frame, where it is cut, whether the pieces are listed in an indirect table)."""
    length = draw(LENGTHS)
    cuts = draw(st.lists(st.integers(1, length + 12), max_size=6))
    cuts += draw(st.sampled_from([[], [12], [10, 12], [1, 2, 3], [26]]))
    return frame(length, draw(st.integers(0, 99))), cuts, draw(st.booleans())


@pytest.fixture
def guest():
    made = Guest()
    yield made
    made.close()


LAYOUTS = pytest.mark.parametrize("layout", [FEATURES, PACKED], ids=["split", "packed"])


@pytest.fixture(params=[FEATURES, PACKED], ids=["split", "packed"])
def either(request):
    made = Guest(features=request.param)
    yield made
    made.close()


def give(guest, data, cuts=(), indirect=False, header=NO_OFFLOAD):
    pieces = guest.lay(header + data, cuts)
    table = guest.room(16 * len(pieces)) if indirect else None
    return guest.drivers[1].add(pieces, write=False, indirect=table)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(buffers(), min_size=1, max_size=12),
    st.sampled_from([16, 64]),
    st.sampled_from([0, 65530, 65535]),
    st.sampled_from([1, 3, 256]),
    st.booleans(),
    st.sampled_from([FEATURES, PACKED]),
)
def test_what_the_driver_sends_is_received(given_, size, start, vector, event_idx, layout):
    features = layout | (vq.EVENT_IDX if event_idx else 0)
    guest = Guest(size, features=features, start=start)
    driver = guest.drivers[1]
    sent, got, heads, used = [], [], [], []
    try:
        for data, cuts, indirect in given_:
            head = give(guest, data, cuts, indirect)
            while head is None:  # the queue is full
                before = len(used)
                got += guest.packets(vector)
                used += driver.take_used()
                assert len(used) > before
                head = give(guest, data, cuts, indirect)
            heads.append(head)
            sent.append(data)
        while len(got) < len(sent):
            new = guest.packets(vector)
            assert new
            got += new
        used += driver.take_used()
        assert got == sent
        assert used == [(head, 0) for head in heads]
        assert guest.packets(vector) == []
        assert sorted(driver.free) == list(range(size))
        assert guest.count(NODE) == {"bytes": sum(map(len, sent))}
    finally:
        guest.close()


@pytest.mark.parametrize("start", [0, 65533])
@pytest.mark.parametrize("size", [1, 2, 256])
@LAYOUTS
def test_many_rounds_of_a_full_queue(size, start, layout):
    guest = Guest(size, features=layout, start=start)
    data = [frame(60, seed) for seed in range(size)]
    at = guest.at
    for _ in range(300 if size < 256 else 5):
        guest.at = at
        for one in data:
            assert give(guest, one) is not None
        assert give(guest, data[0]) is None
        assert guest.packets() == data
        assert len(guest.drivers[1].take_used()) == size
    guest.close()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 65535), st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(0, 60)
)
def test_with_event_idx_the_driver_is_called_when_it_asked_for_it(start, batches, later):
    guest = Guest(32, features=FEATURES | vq.EVENT_IDX, start=start)
    driver = guest.drivers[1]
    driver.interrupt_at(start + later)
    done = start
    for n in batches:
        for _ in range(n):
            give(guest, frame(60))
        assert len(guest.packets()) == n
        assert guest.calls() == need_event((start + later) % 65536, done + n, done)
        done += n
        driver.take_used()
    guest.close()


def test_without_event_idx_the_flag_decides(either):
    give(either, frame(60))
    either.packets()
    assert either.calls() == 1
    either.drivers[1].no_interrupts()
    give(either, frame(60))
    either.packets()
    assert either.calls() == 0
    either.queues[1][vq.CALL] = np.int64(-1).view(np.uint64)
    either.drivers[1].no_interrupts(0)
    give(either, frame(60))
    assert len(either.packets()) == 1
    assert either.calls() == 0


def test_a_full_eventfd_is_not_waited_for(either):
    """The either may have made it blocking, and full: write(2) would wait for ever."""
    os.set_blocking(either.call, True)
    os.eventfd_write(either.call, 2**64 - 2)
    for _ in range(3):
        give(either, frame(60))
        assert len(either.packets()) == 1
    assert os.eventfd_read(either.call) >= 2**64 - 2


def test_many_calls(either):
    for _ in range(200):
        either.at = 0x10000
        give(either, frame(60))
        either.packets()
        either.drivers[1].take_used()
        assert either.calls() == 1


@LAYOUTS
@pytest.mark.parametrize("event_idx", [False, True])
def test_kicks_are_asked_for_when_nothing_comes(event_idx, layout):
    guest = Guest(features=layout | (vq.EVENT_IDX if event_idx else 0), start=7)
    driver = guest.drivers[1]

    def kick_wanted():
        old = driver.added
        give(guest, frame(60))
        return driver.must_kick(old)

    wanted = [kick_wanted()]
    guest.packets()
    for _ in range(vq.IDLE_POLLS - 1):
        guest.receive()
    wanted.append(kick_wanted())
    guest.packets()
    for _ in range(vq.IDLE_POLLS):
        guest.receive()
    wanted.append(kick_wanted())
    guest.packets()
    wanted.append(kick_wanted())
    # With EVENT_IDX what is asked for stays behind: the index itself comes once in 2**16.
    assert wanted == [event_idx and False, False, True, False]
    guest.close()


def test_a_needless_kick_is_taken_out_of_the_epoll(either):
    import select

    kick = os.eventfd(0, os.EFD_NONBLOCK)
    with select.epoll() as epoll:
        epoll.register(kick, select.EPOLLIN | select.EPOLLET)
        either.port[vhost_rx.EPOLL] = epoll.fileno()
        for _ in range(2):
            os.eventfd_write(kick, 1)
            assert select.select([epoll], [], [], 0)[0]
            for _ in range(vq.IDLE_POLLS + vhost_rx.DRAIN_EVERY):
                either.receive()
            assert not select.select([epoll], [], [], 0)[0]
    os.close(kick)


def header(flags=0, kind=0, hdr_len=0, gso_size=0, start=0, offset=0):
    return struct.pack("<BBHHHHH", flags, kind, hdr_len, gso_size, start, offset, 0)


ALL = FEATURES | 1 << 0 | 1 << 11 | 1 << 12 | 1 << 13


@LAYOUTS
def test_offloads_are_taken_over(layout):
    guest = Guest(features=ALL | layout)
    data = bytearray(frame(3000))
    data[34 + 12] = 0x50  # a TCP header of 20 bytes
    give(guest, bytes(data), header=header(1, 1, 54, 1000, 34, 16))
    give(guest, frame(100), header=header(1, 0, 0, 0, 34, 6))
    first, second = guest.receive()
    meta = guest.pool.meta
    assert int(meta[first]["flags"]) & (CSUM_PARTIAL | GSO) == CSUM_PARTIAL | GSO
    assert int(meta[first]["csum_start"]) == HEADROOM + 34
    assert (int(meta[first]["gso_size"]), int(meta[first]["hdr_len"])) == (1000, 54)
    assert int(meta[second]["flags"]) & (CSUM_PARTIAL | GSO) == CSUM_PARTIAL
    guest.pool.put(np.array([first, second]))
    guest.close()


@pytest.mark.parametrize(
    ("features", "wrong"),
    [
        (FEATURES, header(1, 0, 0, 0, 34, 6)),  # nothing was agreed on
        (FEATURES | 1, header(1, 1, 54, 1000, 34, 16)),
        (ALL, header(0, 1, 54, 1000, 34, 16)),  # a segment without a checksum to finish
        (ALL, header(1, 3, 42, 1000, 34, 6)),  # UFO
        (ALL, header(1, 5, 42, 1000, 34, 6)),
        (ALL, header(1, 1, 54, 0, 34, 16)),
        (ALL, header(1, 0, 0, 0, 99, 0)),  # the field ends behind the frame
        (ALL, header(1, 0, 0, 0, 65535, 65535)),
        (ALL, header(1, 0, 0, 0, 13, 6)),
        (ALL & ~(1 << 13), header(1, 0x81, 54, 1000, 34, 16)),
    ],
)
def test_wrong_offloads_are_dropped(features, wrong):
    guest = Guest(features=features)
    give(guest, frame(100), header=wrong)
    give(guest, frame(60))
    assert guest.packets() == [frame(60)]
    assert guest.count(NODE) == {"bytes": 60, "bad-offload": 1}
    assert len(guest.drivers[1].take_used()) == 2
    guest.close()


def test_a_flag_of_the_other_direction_means_nothing(either):
    give(either, frame(60), header=header(2))
    (row,) = either.receive()
    assert int(either.pool.meta[row]["flags"]) == 0
    either.pool.put(np.array([row]))


@pytest.mark.parametrize("length", [0, 1, 13, LONGEST + 1])
@pytest.mark.parametrize("cuts", [(), (12,), (5,)])
def test_no_frame_lengths(either, length, cuts):
    give(either, frame(length), cuts)
    give(either, frame(14))
    assert either.packets() == [frame(14)]
    assert either.count(NODE) == {"bytes": 14, "truncated": 1}


def test_a_buffer_shorter_than_the_header(either):
    either.drivers[1].add([(either.room(4), 4)], write=False)
    assert either.packets() == []
    assert either.count(NODE) == {"truncated": 1}
    assert vq.ready(either.queues[1])


@LAYOUTS
def test_a_short_pool_leaves_frames_where_they_are(layout):
    guest = Guest(features=layout, buffers=4)
    for seed in range(6):
        give(guest, frame(60, seed))
    rows = guest.receive()
    assert [guest.frame(int(row)) for row in rows] == [frame(60, seed) for seed in range(4)]
    guest.pool._own, guest.cache = guest.cache, guest.cache
    guest.pool.put(rows)
    assert guest.packets() == [frame(60, 4), frame(60, 5)]
    assert guest.count(NODE) == {"bytes": 360, "no-buffer": 1}
    guest.close()


@LAYOUTS
def test_a_short_pool_drops_chains(layout):
    guest = Guest(features=layout, buffers=3)
    give(guest, frame(9014))
    assert guest.packets() == []
    assert guest.count(NODE) == {"no-chain": 1}
    guest.close()


def descriptor(guest, number, where, length, flags, following=0):
    guest.drivers[1]._descriptor(guest.drivers[1].desc, number, where, length, flags, following)


def expose(guest, *heads):
    driver = guest.drivers[1]
    for head in heads:
        driver._store("<H", driver.avail + 4 + 2 * (driver.added % driver.size), head)
        driver.added = (driver.added + 1) % 65536
    driver._store("<H", driver.avail + 2, driver.added)


def too_many(guest):
    guest.drivers[1]._store("<H", guest.drivers[1].avail + 2, guest.drivers[1].added + 257)


def head_outside(guest):
    expose(guest, 256)


def next_outside(guest):
    descriptor(guest, 200, BASE, 20, NEXT, 256)
    expose(guest, 200)


def loop(guest):
    descriptor(guest, 200, BASE, 1, NEXT, 201)
    descriptor(guest, 201, BASE, 1, NEXT, 200)
    expose(guest, 200)


def address(where, length=100):
    def write(guest):
        descriptor(guest, 200, where, length, 0)
        expose(guest, 200)

    return write


def to_write(guest):
    descriptor(guest, 200, BASE, 100, 2)
    expose(guest, 200)


def indirect(length, where=None, flags=INDIRECT, inner=None):
    def write(guest):
        table = guest.room(1 << 16) if where is None else where
        if inner is not None:
            guest.drivers[1]._descriptor(table - BASE, 0, *inner)
        descriptor(guest, 200, table, length, flags, 0)
        expose(guest, 200)

    return write


F = vq.Fault
END = BASE + SIZE


@pytest.mark.parametrize(
    ("write", "fault"),
    [
        (too_many, F.INDEX),
        (head_outside, F.DESCRIPTOR),
        (next_outside, F.DESCRIPTOR),
        (loop, F.LENGTH),
        (address(0), F.ADDRESS),
        (address(BASE - 1), F.ADDRESS),
        (address(END - 99), F.ADDRESS),
        (address(END), F.ADDRESS),
        (address(2**64 - 50), F.ADDRESS),
        (address(BASE, 2**32 - 1), F.ADDRESS),
        (to_write, F.DIRECTION),
        (indirect(0), F.INDIRECT),
        (indirect(15), F.INDIRECT),
        (indirect(17), F.INDIRECT),
        (indirect(16, flags=INDIRECT | NEXT), F.INDIRECT),
        (indirect(16, where=END), F.ADDRESS),
        (indirect(2**32 - 16), F.ADDRESS),
        (indirect(16, inner=(BASE, 16, INDIRECT, 0)), F.INDIRECT),
        (indirect(16, inner=(BASE, 16, NEXT, 1)), F.DESCRIPTOR),
        (indirect(16, inner=(BASE, 16, NEXT, 0)), F.LENGTH),
    ],
)
def test_what_cannot_be_right_ends_the_queue(guest, write, fault):
    give(guest, frame(60))
    write(guest)
    got = guest.packets()
    assert got == ([] if fault == F.INDEX else [frame(60)])  # what was right before it is received
    assert int(guest.queues[1][vq.STATE]) == vq.BROKEN
    assert vq.Fault(int(guest.queues[1][vq.FAULT])) == fault
    give(guest, frame(60))
    assert guest.packets() == []  # for good


def test_memory_that_is_taken_away(either):
    give(either, frame(60))
    give(either, frame(9014))
    os.truncate(either.memory.fd, 1 << 16)
    assert either.packets() == []
    assert vq.Fault(int(either.queues[1][vq.FAULT])) == F.MEMORY
    # All of the memory is zeros from then on, so the second buffer has no length.
    assert either.count(NODE) == {"memory-gone": 1, "truncated": 1}


def test_a_queue_goes_on_where_its_memory_says():
    guest = Guest(start=100)
    for seed in range(3):
        give(guest, frame(60, seed))
    assert len(guest.packets(2)) == 2
    guest.queues[1][vq.NEXT] = 7  # another device, or this one started anew
    vq.resume(guest.queues[1])
    assert guest.packets() == [frame(60, 2)]
    guest.close()


def test_a_queue_that_is_off_is_left_alone(either):
    give(either, frame(60))
    either.queues[1][vq.STATE] = vq.OFF
    assert either.packets() == []
    assert either.drivers[1].take_used() == []
