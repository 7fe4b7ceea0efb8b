# SPDX-License-Identifier: Apache-2.0
"""virtio-tx against the oracle's device: what it is sent, whatever order it gives buffers back in."""

import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import FEATURES, HEADER, SIZE, Net
from oracles.checksum import internet
from vforward.io.virtio_tx import NODE
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, GSO, HEADROOM
from vforward.memory.chain import LONGEST
from vforward.rings import virtqueue as vq
from vforward.rings.virtqueue import RING_PACKED
from vforward.rings.virtqueue_driver import IN_ORDER, STRIDE, Fault

LENGTHS = st.sampled_from(
    [0, 14, 60, 1514, STRIDE - HEADER, STRIDE - HEADER + 1, BUF_ROOM + 1, 2 * STRIDE, 9014, LONGEST]
)
PLAIN = bytes(12)


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
    st.lists(st.lists(LENGTHS, min_size=1, max_size=6), min_size=1, max_size=8),
    st.sampled_from([0, 65530]),
    st.sampled_from([0, vq.EVENT_IDX, IN_ORDER, IN_ORDER | vq.EVENT_IDX]),
    st.sampled_from([0, RING_PACKED]),
)
def test_what_is_sent_arrives(vectors, start, more, layout):
    """And what does not fit the queue is dropped, and counted."""
    net = Net(features=FEATURES | more | layout, start=start)
    try:
        lost = total = 0
        for seed, lengths in enumerate(vectors):
            frames = [frame(length, seed) for length in lengths]
            sent = net.send([net.packet(one) for one in frames])
            due, room = [], SIZE
            for one, done in zip(frames, sent, strict=True):
                needed = -(-(HEADER + len(one)) // STRIDE)
                assert done == (needed <= room)
                room -= needed * done
                due += [(PLAIN, one)] * done
            lost += len(frames) - len(due)
            total += sum(len(one) for _, one in due)
            assert net.sent() == due
        labels = net.count(NODE)
        assert (labels.get("bytes", 0), labels.get("ring-full", 0)) == (total, lost)
    finally:
        net.close()


@LAYOUTS
@pytest.mark.parametrize("features", [FEATURES, FEATURES | IN_ORDER])
def test_many_vectors_through_a_small_ring(features, layout):
    net = Net(features=features | layout, start=65500)
    for turn in range(20):
        frames = [frame(60 + k, turn) for k in range(100)]
        assert net.send([net.packet(one) for one in frames]).count(True) == SIZE
        assert [data for _, data in net.sent()] == frames[:SIZE]
    assert net.count(NODE)["ring-full"] == 20 * (100 - SIZE)
    net.close()


def test_buffers_given_back_in_any_order(net):
    device, rng = net.devices[1], np.random.default_rng(1)
    there = []
    for turn in range(40):
        lengths = rng.choice([60, 3000, 9000], 5)
        frames = [frame(int(length), turn) for length in lengths]
        sent = net.send([net.packet(one) for one in frames])
        new = device.take()
        data = [device.read(pieces)[HEADER:] for _, pieces in new]
        assert data == [one for one, done in zip(frames, sent, strict=True) if done]
        there += [head for head, _ in new]
        rng.shuffle(there)
        while len(there) > 3:
            device.use(there.pop(), 0)
    assert net.fault(1) == 0


@LAYOUTS
def test_a_batch_of_buffers_given_back_by_the_last_one(layout):
    """IN_ORDER, sections 2.7.9 and 2.8.8."""
    net = Net(features=FEATURES | IN_ORDER | layout)
    device = net.devices[1]
    for turn in range(20):
        frames = [frame(60 + 3000 * (k % 3), turn + k) for k in range(9)]
        assert all(net.send([net.packet(one) for one in frames]))
        taken = device.take()
        assert [device.read(pieces)[HEADER:] for _, pieces in taken] == frames
        device.use(taken[3][0], 0, batch=4)
        device.use(taken[8][0], 0, batch=5)
    assert net.fault(1) == 0
    net.close()


def test_kicks(net):
    net.devices[1].no_kicks(0)
    net.send([net.packet(frame(60)) for _ in range(3)])
    assert net.kicked(1) == 1
    net.devices[1].no_kicks()
    net.send([net.packet(frame(60))])
    assert net.kicked(1) == 0


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 65535),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(0, 40),
    st.sampled_from([0, RING_PACKED]),
)
def test_kicks_with_event_idx(start, batches, later, layout):
    net = Net(features=FEATURES | vq.EVENT_IDX | layout, start=start)
    net.devices[1].kick_after(later)
    done = 0
    for n in batches:
        net.send([net.packet(frame(60)) for _ in range(n)])
        assert net.kicked(1) == (done <= later < done + n)
        done += n
    net.close()


def test_a_full_eventfd_is_not_waited_for(net):
    """The device may have made it blocking, and full: write(2) would wait for ever."""
    net.devices[1].no_kicks(0)
    os.set_blocking(net.kicks[1], True)
    os.eventfd_write(net.kicks[1], 2**64 - 2)
    for _ in range(3):
        assert net.send([net.packet(frame(60))]) == [True]
    assert os.eventfd_read(net.kicks[1]) >= 2**64 - 2


def tcp(payload=400):
    """An Ethernet frame with TCP, the pseudo-header's sum in its checksum field."""
    data = bytearray(frame(14 + 20 + 20 + payload))
    data[34 + 12] = 0x50
    data[50:52] = b"\x12\x34"
    return bytes(data)


PARTIAL = {"flags": CSUM_PARTIAL, "csum_start": HEADROOM + 34, "csum_off": 16}
SEGMENTS = PARTIAL | {"flags": CSUM_PARTIAL | GSO, "gso_type": 1, "gso_size": 100, "hdr_len": 54}
TAKES = 1 << 0 | 1 << 11
"""CSUM, HOST_TSO4."""


def test_offloads_go_to_a_device_that_takes_them():
    net = Net(features=FEATURES | TAKES)
    packets = [net.packet(tcp(), **kind) for kind in (PARTIAL, SEGMENTS, {})]
    assert net.send(packets) == [True] * 3
    assert net.sent() == [
        (struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 16, 0), tcp()),
        (struct.pack("<BBHHHHH", 1, 1, 54, 100, 34, 16, 0), tcp()),
        (PLAIN, tcp()),
    ]
    net.close()


@pytest.mark.parametrize("features", [FEATURES, FEATURES | 1 << 1 | 1 << 7])
def test_what_a_device_does_not_take_is_done_or_dropped(features):
    net = Net(features=features)
    packets = [net.packet(tcp(), **kind) for kind in (PARTIAL, SEGMENTS, {})]
    assert net.send(packets) == [True, False, True]
    whole = bytearray(tcp())
    whole[50:52] = struct.pack(">H", internet(tcp()[34:]))
    assert net.sent() == [(PLAIN, bytes(whole)), (PLAIN, tcp())]
    assert net.count(NODE) == {"bytes": 2 * len(whole), "refused": 1}
    net.close()


@pytest.mark.parametrize(
    "wrong",
    [
        PARTIAL | {"csum_start": HEADROOM - 1},
        PARTIAL | {"csum_start": 60000},
        SEGMENTS | {"gso_type": 4},
        SEGMENTS | {"flags": GSO},
        {"end": 4095},
    ],
)
def test_packets_that_cannot_be_sent(wrong):
    net = Net(features=FEATURES | TAKES)
    assert net.send([net.packet(tcp(), **wrong)]) == [False]
    assert net.count(NODE) == {"refused": 1}
    assert net.sent() == []
    net.close()


def test_nobody_there(net):
    net.queues[1][vq.STATE] = vq.OFF
    assert net.send([net.packet(frame(60))]) == [False]
    assert net.count(NODE) == {"no-peer": 1}
    assert net.sent() == []


@pytest.mark.parametrize(
    ("layout", "number", "batch", "fault"),
    [
        (0, 0, 3, Fault.INDEX),
        (0, SIZE, 1, Fault.NUMBER),
        (0, 7, 1, Fault.NUMBER),
        (0, 1 << 31, 1, Fault.NUMBER),
        (RING_PACKED, SIZE, 1, Fault.NUMBER),
        (RING_PACKED, 7, 1, Fault.NUMBER),
        (RING_PACKED, 65535, 1, Fault.NUMBER),
        (RING_PACKED | IN_ORDER, 7, 1, Fault.NUMBER),
    ],
)
def test_what_cannot_be_right_ends_the_queue(layout, number, batch, fault):
    net = Net(features=FEATURES | layout)
    assert net.send([net.packet(frame(60))] * 1) == [True]
    net.devices[1].use(number, 0, batch)
    assert net.send([net.packet(frame(60)) for _ in range(2)]) == [False, False]
    assert net.fault(1) == fault
    assert net.count(NODE) == {"bytes": 60, "broken": 2}
    assert net.send([net.packet(frame(60))]) == [False]
    assert net.count(NODE)["no-peer"] == 1
    net.close()


def flow(number, turn):
    """An Ethernet frame with UDP of a flow, marked with its turn."""
    header = bytes(12) + b"\x08\x00" + bytes([0x45]) + bytes(8) + bytes([17]) + bytes(2)
    ports = struct.pack(">HHHH", 1000 + number, 53, 0, 0)
    return header + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + ports + struct.pack("<II", number, turn)


@LAYOUTS
@pytest.mark.parametrize("pairs", [2, 3, 8])
def test_flows_have_a_queue_each(pairs, layout):
    """All of a flow goes by one, in its order, and all queues are used."""
    net = Net(features=FEATURES | layout, pairs=pairs)
    by = {}
    for turn in range(10):
        rows = [net.packet(flow(n, turn)) for n in range(40)]
        assert net.send(rows) == [True] * 40
        found = 0
        for pair in range(pairs):
            for _, data in net.sent(pair):
                number, at = struct.unpack("<II", data[-8:])
                assert (at, data) == (turn, flow(number, turn))
                assert by.setdefault(number, pair) == pair
                found += 1
        assert found == 40
    assert set(by.values()) == set(range(pairs))
    moved = [int(queue[vq.MOVED]) for queue in net.queues[1::2]]
    assert moved == [10 * list(by.values()).count(pair) for pair in range(pairs)]
    net.close()


def test_a_full_queue_of_several_drops_its_own():
    net = Net(features=FEATURES, pairs=2)
    rows = [net.packet(flow(n % 40, n)) for n in range(250)]
    sent = net.send(rows)
    got = [len(net.sent(pair)) for pair in range(2)]
    assert sum(got) == sent.count(True)
    assert max(got) == SIZE
    assert net.count(NODE)["ring-full"] == 250 - sum(got)
    net.queues[3][vq.STATE] = vq.OFF
    sent = net.send([net.packet(flow(n, 0)) for n in range(40)])
    assert 0 < sent.count(True) == len(net.sent(0)) < 40
    assert net.count(NODE)["no-peer"] == 40 - sent.count(True)
    net.close()
