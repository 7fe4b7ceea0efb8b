# SPDX-License-Identifier: Apache-2.0
"""virtio-rx against the oracle's device: frames in one buffer and many, calls, offloads, faults."""

import os
import select
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import FEATURES, HEADER, NOTHING, SIZE, Net
from vforward.io import vhost_rx
from vforward.io.virtio_rx import NODE
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, GSO, HEADROOM
from vforward.memory.chain import LONGEST
from vforward.rings import virtqueue as vq
from vforward.rings.net_features import MRG_RXBUF
from vforward.rings.virtqueue import RING_PACKED
from vforward.rings.virtqueue_driver import IN_ORDER, STRIDE, Fault

LENGTHS = st.sampled_from(
    [14, 15, 60, 64, 1514, BUF_ROOM - 1, BUF_ROOM, BUF_ROOM + 1, STRIDE - HEADER,
     STRIDE - HEADER + 1, 2 * STRIDE, 9014, LONGEST]
)  # fmt: skip


def frame(length, seed=0):
    return bytes(np.random.default_rng(seed + length).integers(0, 256, length, np.uint8))


LAYOUTS = pytest.mark.parametrize("layout", [0, RING_PACKED], ids=["split", "packed"])


@pytest.fixture(params=[0, RING_PACKED], ids=["split", "packed"])
def net(request):
    made = Net(features=FEATURES | request.param)
    yield made
    made.close()


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(LENGTHS, st.integers(1, 9)), min_size=1, max_size=12),
    st.sampled_from([0, 65530]),
    st.sampled_from([1, 3, 256]),
    st.sampled_from([0, vq.EVENT_IDX, IN_ORDER, IN_ORDER | vq.EVENT_IDX]),
    st.sampled_from([0, RING_PACKED]),
)
def test_what_the_device_delivers_is_received(given_, start, vector, more, layout):
    net = Net(features=FEATURES | more | layout, start=start)
    sent, got = [], []
    try:
        for seed, (length, spread) in enumerate(given_):
            data = frame(length, seed)
            while not net.deliver(data, spread=spread):  # all buffers wait for the driver
                new = net.packets(vector)
                assert new
                got += new
            sent.append(data)
        while len(got) < len(sent):
            new = net.packets(vector)
            assert new
            got += new
        assert got == sent
        assert net.packets(vector) == []
        assert net.count(NODE) == {"bytes": sum(map(len, sent))}
        net.buffers += net.devices[0].take()
        assert len(net.buffers) == SIZE  # the device has all of them again
        assert {pieces[0][1:] for _, pieces in net.buffers} == {(STRIDE, True)}
    finally:
        net.close()


@LAYOUTS
@pytest.mark.parametrize("features", [FEATURES, FEATURES | IN_ORDER, FEATURES & ~MRG_RXBUF])
def test_many_rounds_of_a_full_queue(features, layout):
    net = Net(features=features | layout, start=65500)
    data = [frame(60, seed) for seed in range(SIZE)]
    for _ in range(5):
        for one in data:
            assert net.deliver(one)
        assert not net.deliver(data[0])
        assert net.packets() == data
    net.close()


def test_buffers_used_in_any_order(net):
    device = net.devices[0]
    for turn in range(5):
        net.buffers += device.take()
        net.buffers.reverse()
        frames = [frame(60, turn + n) for n in range(5)]
        for one in frames:
            assert net.deliver(one)
        assert net.packets() == frames


@LAYOUTS
def test_a_batch_of_full_buffers_said_by_its_last(layout):
    """Sections 2.7.9, 2.8.8: of a frame in three buffers only the last one's length is written."""
    net = Net(features=FEATURES | IN_ORDER | layout)
    device, there = net.devices[0], []
    for vector in (256, 1):
        data = frame(2 * STRIDE + 100 - HEADER)
        there += device.take()
        buffers, there = there[:3], there[3:]
        parts = bytes(10) + b"\x03\x00" + data
        for k, (_, pieces) in enumerate(buffers):
            device.write(pieces, parts[k * STRIDE : (k + 1) * STRIDE])
        device.use(buffers[-1][0], 100, batch=3)
        assert net.packets(vector) == [data]
    net.close()


@LAYOUTS
def test_a_batch_of_frames_that_a_small_vector_divides(layout):
    """Full buffers, each a frame, said by their last."""
    net = Net(features=FEATURES | IN_ORDER | layout)
    device = net.devices[0]
    data = [frame(STRIDE - HEADER, seed) for seed in range(7)]
    buffers = device.take()[:7]
    for one, (_, pieces) in zip(data, buffers, strict=True):
        device.write(pieces, NOTHING + one)
    device.use(buffers[-1][0], STRIDE, batch=7)
    got = []
    while len(got) < 7:
        new = net.packets(2)
        assert new
        got += new
    assert got == data
    assert net.packets(2) == []
    net.close()


def test_a_frame_whose_end_is_not_there_yet(net):
    device = net.devices[0]
    (first, pieces), (second, more) = device.take()[:2]
    device.write(pieces, bytes(10) + b"\x02\x00" + bytes(20))
    device.use(first, 32)
    assert net.packets() == []
    device.write(more, b"end")
    device.use(second, 3)
    assert net.packets() == [bytes(20) + b"end"]


def test_the_device_is_kicked_if_it_wants(net):
    net.devices[0].no_kicks(0)
    net.deliver(frame(60))
    net.packets()
    assert net.kicked(0) == 1
    net.devices[0].no_kicks()
    net.deliver(frame(60))
    net.packets()
    assert net.kicked(0) == 0


@LAYOUTS
@pytest.mark.parametrize("event_idx", [False, True])
def test_calls_are_asked_for_when_nothing_comes(event_idx, layout):
    net = Net(features=FEATURES | layout | (vq.EVENT_IDX if event_idx else 0), start=7)

    def call_wanted():
        old = net.devices[0].given
        assert net.deliver(frame(60))
        return net.devices[0].must_call(old)

    wanted = [call_wanted()]
    net.packets()
    for _ in range(vq.IDLE_POLLS - 1):
        net.receive()
    wanted.append(call_wanted())
    net.packets()
    for _ in range(vq.IDLE_POLLS):
        net.receive()
    wanted.append(call_wanted())
    net.packets()
    wanted.append(call_wanted())
    assert wanted == [False, False, True, False]
    net.packets()
    net.close()


def test_a_needless_call_is_taken_out_of_the_epoll(net):
    call = os.eventfd(0, os.EFD_NONBLOCK)
    with select.epoll() as epoll:
        epoll.register(call, select.EPOLLIN | select.EPOLLET)
        net.port[vhost_rx.EPOLL] = epoll.fileno()
        os.eventfd_write(call, 1)
        assert select.select([epoll], [], [], 0)[0]
        for _ in range(vq.IDLE_POLLS + vhost_rx.DRAIN_EVERY):
            net.receive()
        assert not select.select([epoll], [], [], 0)[0]
    os.close(call)


def header(flags=0, kind=0, hdr_len=0, gso_size=0, start=0, offset=0):
    return struct.pack("<BBHHHHH", flags, kind, hdr_len, gso_size, start, offset, 1)


ALL = FEATURES | 1 << 1 | 1 << 7 | 1 << 8 | 1 << 9
"""GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN."""


def test_offloads_are_taken_over():
    net = Net(features=ALL)
    data = bytearray(frame(3000))
    data[34 + 12] = 0x50  # a TCP header of 20 bytes
    net.deliver(bytes(data), header=header(1, 1, 54, 1000, 34, 16))
    net.deliver(frame(100), header=header(1, 0, 0, 0, 34, 6))
    net.deliver(frame(100), header=header(2))
    first, second, third = net.receive()
    meta = net.pool.meta
    assert int(meta[first]["flags"]) & (CSUM_PARTIAL | GSO) == CSUM_PARTIAL | GSO
    assert int(meta[first]["csum_start"]) == HEADROOM + 34
    assert (int(meta[first]["gso_size"]), int(meta[first]["hdr_len"])) == (1000, 54)
    assert int(meta[second]["flags"]) & (CSUM_PARTIAL | GSO) == CSUM_PARTIAL
    assert int(meta[third]["flags"]) == 0  # that its checksum is right is not believed
    net.pool.put(np.array([first, second, third]))
    net.close()


@pytest.mark.parametrize(
    ("features", "wrong"),
    [
        (FEATURES, header(1, 0, 0, 0, 34, 6)),  # nothing was agreed on
        (FEATURES | 1 << 0 | 1 << 11, header(1, 0, 0, 0, 34, 6)),  # nor for this direction
        (ALL, header(0, 1, 54, 1000, 34, 16)),
        (ALL, header(1, 3, 42, 1000, 34, 6)),
        (ALL, header(1, 0, 0, 0, 65535, 65535)),
        (ALL & ~(1 << 9), header(1, 0x81, 54, 1000, 34, 16)),
    ],
)
def test_wrong_offloads_are_dropped(features, wrong):
    net = Net(features=features)
    net.deliver(frame(100), header=wrong)
    net.deliver(frame(60))
    assert net.packets() == [frame(60)]
    assert net.count(NODE) == {"bytes": 60, "bad-offload": 1}
    net.close()


@pytest.mark.parametrize("length", [0, 1, 13, LONGEST + 1])
def test_no_frame_lengths(net, length):
    net.deliver(frame(length))
    net.deliver(frame(14))
    assert net.packets() == [frame(14)]
    assert net.count(NODE) == {"bytes": 14, "truncated": 1}


def test_a_short_pool_leaves_frames_where_they_are():
    net = Net(buffers=4)
    for seed in range(6):
        net.deliver(frame(60, seed))
    rows = net.receive()
    assert [net.frame(int(row)) for row in rows] == [frame(60, seed) for seed in range(4)]
    net.pool._own, net.cache = net.cache, net.cache
    net.pool.put(rows)
    assert net.packets() == [frame(60, 4), frame(60, 5)]
    assert net.count(NODE) == {"bytes": 360, "no-buffer": 1}
    net.close()


def test_a_short_pool_drops_chains():
    net = Net(buffers=3)
    net.deliver(frame(9014))
    assert net.packets() == []
    assert net.count(NODE) == {"no-chain": 1}
    net.close()


def used(head, length, batch=1, data=NOTHING):
    def write(net):
        device = net.devices[0]
        for _, pieces in net.buffers + device.take():
            device.write(pieces, data)
        device.use(head, length, batch)

    return write


BAD = [
    (used(SIZE, 60), Fault.NUMBER),
    (used((1 << 32) - 1, 60), Fault.NUMBER),
    (used(1, STRIDE + 1), Fault.LENGTH),
    (used(1, (1 << 32) - 1), Fault.LENGTH),
    (used(1, HEADER - 1), Fault.LENGTH),
    (used(1, 0), Fault.LENGTH),
    (used(1, 60, data=bytes(12)), Fault.MERGED),
    (used(1, 60, data=bytes(10) + bytes([SIZE + 1, 0])), Fault.MERGED),
    (used(1, 60, data=bytes(10) + b"\xff\xff"), Fault.MERGED),
]


@pytest.mark.parametrize(("harm", "fault"), BAD)
def test_what_cannot_be_right_ends_the_queue(net, harm, fault):
    net.deliver(frame(60))
    harm(net)
    assert net.packets() == [frame(60)]
    assert net.fault(0) == fault
    assert net.packets() == []


def test_more_buffers_than_it_had():
    net = Net()
    net.deliver(frame(60))
    used(0, 60, batch=SIZE + 1)(net)
    assert net.packets() == []
    assert net.fault(0) == Fault.INDEX
    net.close()


def test_a_later_piece_that_is_too_long(net):
    device = net.devices[0]
    (first, pieces), (second, _) = device.take()[:2]
    device.write(pieces, bytes(10) + b"\x02\x00" + bytes(20))
    device.use(first, 32)
    device.use(second, STRIDE + 1)
    assert net.packets() == []
    assert net.fault(0) == Fault.LENGTH


def test_nobody_there(net):
    net.deliver(frame(60))
    net.queues[0][vq.STATE] = vq.OFF
    assert net.packets() == []
