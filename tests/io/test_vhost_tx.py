# SPDX-License-Identifier: Apache-2.0
"""vhost-tx against the oracle's driver: what arrives in a guest's buffers, whatever their shape."""

import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guests import BASE, FEATURES, PACKED, SIZE, Guest
from oracles.checksum import internet
from oracles.virtqueue import NEXT, WRITE, need_event
from vforward.io.vhost_tx import MRG_RXBUF, NODE
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, GSO, HEADROOM
from vforward.memory.chain import LONGEST
from vforward.rings import virtqueue as vq

LENGTHS = st.sampled_from(
    [0, 14, 60, 64, 1514, BUF_ROOM, BUF_ROOM + 1, 2 * BUF_ROOM, 9014, LONGEST]
)
SHAPES = st.lists(st.integers(1, 3000), min_size=1, max_size=6).filter(
    lambda shape: sum(shape) >= 12  # section 5.1.6.3.1: each holds the header at least
)
MERGED = struct.pack("<10xH", 1)


def frame(length, seed=0):
    return bytes(np.random.default_rng(seed + length).integers(0, 256, length, np.uint8))


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


def offer(guest, lengths, indirect=False):
    """A buffer of pieces so long. Returns (head, pieces)."""
    pieces = [(guest.room(n + 5), n) for n in lengths]
    table = guest.room(16 * len(pieces)) if indirect else None
    return guest.drivers[0].add(pieces, write=True, indirect=table), pieces


def arrived(guest, offered):
    """(header, frame) of each packet in buffers that were used, put together as a driver would."""
    found = []
    used = guest.drivers[0].take_used()
    while used:
        head, length = used.pop(0)
        data = guest.read(offered[head])[:length]
        more = struct.unpack_from("<H", data, 10)[0]
        for _ in range(more - 1):
            head, length = used.pop(0)
            data += guest.read(offered[head])[:length]
        found.append((data[:12], data[12:]))
    return found


@settings(deadline=None, max_examples=150)
@given(
    st.lists(LENGTHS, min_size=1, max_size=8),
    st.lists(st.tuples(SHAPES, st.booleans()), min_size=1, max_size=40),
    st.sampled_from([0, 65530]),
    st.booleans(),
    st.sampled_from([FEATURES, PACKED]),
)
def test_mergeable_buffers(lengths, shapes, start, event_idx, layout):
    features = layout | (vq.EVENT_IDX if event_idx else 0)
    guest = Guest(256, features=features, start=start)
    try:
        offered, rooms = {}, []
        for shape, indirect in shapes:
            head, pieces = offer(guest, shape, indirect)
            offered[head] = pieces
            rooms.append(sum(shape))
        frames = [frame(length, seed) for seed, length in enumerate(lengths)]
        sent = guest.send([guest.packet(one) for one in frames])
        expected = []
        for one, done in zip(frames, sent, strict=True):
            n, held = 0, 0
            while held < 12 + len(one) and n < len(rooms):
                held += rooms[n]
                n += 1
            assert done == (held >= 12 + len(one))
            if done:
                expected.append((struct.pack("<10xH", n), one))
                del rooms[:n]
        assert arrived(guest, offered) == expected
        full = sent.count(False)
        total = sum(len(one) for _, one in expected)
        assert guest.count(NODE) == {
            k: v for k, v in {"bytes": total, "ring-full": full}.items() if v
        }
    finally:
        guest.close()


@LAYOUTS
@pytest.mark.parametrize("header", [10, 12])
def test_nothing_is_left_of_what_a_header_said(header, layout):
    """Whichever byte of it was another."""
    guest = Guest(features=layout if header == 12 else layout & ~MRG_RXBUF, header=header)
    guest.queues[0, vq.HEADER] = header
    try:
        wanted = MERGED[:header]
        for at in range(header + 1):  # the last time all of them are right
            head, pieces = offer(guest, [200])
            place = pieces[0][0] - BASE
            said = bytearray(wanted)
            if at < header:
                said[at] ^= 0xA5
            guest.memory.bytes[place : place + header] = bytes(said)
            data = frame(60, at)
            assert guest.send([guest.packet(data)]) == [True]
            assert guest.drivers[0].take_used() == [(head, header + 60)]
            assert guest.read(pieces)[: header + 60] == wanted + data
    finally:
        guest.close()


def test_what_a_used_element_said_is_replaced_lap_after_lap():
    """Whether the same buffer comes back in its place, of the same length, or another one."""
    guest = Guest(4)
    try:
        for lap in range(6):
            offered = dict(offer(guest, [200]) for _ in range(4))
            sizes = [n + (lap == 3) for n in (60, 60, 64, 60)]
            sent = guest.send([guest.packet(frame(n, lap)) for n in sizes])
            assert sent == [True] * 4
            assert arrived(guest, offered) == [(MERGED, frame(n, lap)) for n in sizes]
    finally:
        guest.close()


@LAYOUTS
@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("shape", [[1526], [12, 1514], [10, 2, 1514], [1, 2000]])
def test_buffers_that_are_not_merged(shape, indirect, layout):
    guest = Guest(features=layout & ~MRG_RXBUF)
    offered = dict([offer(guest, shape, indirect), offer(guest, shape, indirect)])
    frames = [frame(sum(shape) - 12), frame(sum(shape) - 11), frame(60)]
    assert guest.send([guest.packet(one) for one in frames]) == [True, False, True]
    assert arrived(guest, offered) == [(MERGED, frames[0]), (MERGED, frames[2])]
    assert guest.count(NODE) == {"bytes": len(frames[0]) + 60, "too-long": 1}
    guest.close()


def test_a_legacy_header_has_ten_bytes():
    guest = Guest(features=0, header=10)
    (head, pieces), (other, others) = offer(guest, [1524]), offer(guest, [100, 1424])
    assert guest.send([guest.packet(frame(1514)), guest.packet(frame(60))]) == [True, True]
    assert guest.drivers[0].take_used() == [(head, 1524), (other, 70)]
    assert guest.read(pieces) == bytes(10) + frame(1514)
    assert guest.read(others)[:70] == bytes(10) + frame(60)
    guest.close()


@LAYOUTS
def test_many_vectors_through_a_small_ring(layout):
    guest = Guest(64, features=layout, start=65500)
    at = guest.at
    for turn in range(20):
        guest.at = at
        offered = dict(offer(guest, [1526]) for _ in range(64))
        frames = [frame(60 + k, turn) for k in range(100)]
        assert guest.send([guest.packet(one) for one in frames]).count(True) == 64
        assert [data for _, data in arrived(guest, offered)] == frames[:64]
    assert guest.count(NODE)["ring-full"] == 20 * 36
    guest.close()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 65535), st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(0, 40)
)
def test_interrupts_with_event_idx(start, batches, later):
    guest = Guest(128, features=FEATURES | vq.EVENT_IDX, start=start)
    guest.drivers[0].interrupt_at(start + later)
    for _ in range(sum(batches)):
        offer(guest, [1526])
    done = start
    for n in batches:
        guest.send([guest.packet(frame(60)) for _ in range(n)])
        assert guest.calls() == need_event((start + later) % 65536, done + n, done)
        done += n
    guest.close()


def tcp(payload=400):
    """An Ethernet frame with TCP, the pseudo-header's sum in its checksum field."""
    data = bytearray(frame(14 + 20 + 20 + payload))
    data[34 + 12] = 0x50
    data[50:52] = b"\x12\x34"
    return bytes(data)


PARTIAL = {"flags": CSUM_PARTIAL, "csum_start": HEADROOM + 34, "csum_off": 16}
SEGMENTS = PARTIAL | {"flags": CSUM_PARTIAL | GSO, "gso_type": 1, "gso_size": 100, "hdr_len": 54}
TAKES = 1 << 1 | 1 << 7


@LAYOUTS
def test_offloads_go_to_a_guest_that_takes_them(layout):
    guest = Guest(features=layout | TAKES)
    offered = dict(offer(guest, [2048]) for _ in range(3))
    packets = [guest.packet(tcp(), **kind) for kind in (PARTIAL, SEGMENTS, {})]
    assert guest.send(packets) == [True] * 3
    assert arrived(guest, offered) == [
        (struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 16, 1), tcp()),
        (struct.pack("<BBHHHHH", 1, 1, 54, 100, 34, 16, 1), tcp()),
        (MERGED, tcp()),
    ]
    guest.close()


def test_what_a_guest_does_not_take_is_done_or_dropped(either):
    offered = dict(offer(either, [2048]) for _ in range(3))
    packets = [either.packet(tcp(), **kind) for kind in (PARTIAL, SEGMENTS, {})]
    assert either.send(packets) == [True, False, True]
    whole = bytearray(tcp())
    whole[50:52] = struct.pack(">H", internet(tcp()[34:]))
    assert arrived(either, offered) == [(MERGED, bytes(whole)), (MERGED, tcp())]
    assert either.count(NODE) == {"bytes": 2 * len(whole), "refused": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        PARTIAL | {"csum_start": HEADROOM - 1},
        PARTIAL | {"csum_start": 60000},
        SEGMENTS | {"gso_type": 5},
        SEGMENTS | {"gso_type": 0x81},
        SEGMENTS | {"gso_type": 4},
        SEGMENTS | {"flags": GSO},
        {"end": 4095},
    ],
)
def test_packets_that_cannot_be_sent(wrong):
    guest = Guest(features=FEATURES | TAKES)
    offer(guest, [2048])
    assert guest.send([guest.packet(tcp(), **wrong)]) == [False]
    assert guest.count(NODE) == {"refused": 1}
    guest.close()


def test_nobody_there(either):
    offer(either, [2048])
    either.queues[0][vq.STATE] = vq.OFF
    assert either.send([either.packet(frame(60))]) == [False]
    assert either.count(NODE) == {"no-peer": 1}
    assert either.drivers[0].take_used() == []


def test_no_buffers(either):
    assert either.send([either.packet(frame(60))] * 1) == [False]
    assert either.count(NODE) == {"ring-full": 1}


F = vq.Fault


@pytest.mark.parametrize(
    ("where", "length", "flags", "following", "fault"),
    [
        (BASE + SIZE - 100, 101, WRITE, 0, F.ADDRESS),
        (0, 2048, WRITE, 0, F.ADDRESS),
        (BASE, 2048, 0, 0, F.DIRECTION),
        (BASE + (1 << 20), 16, WRITE | NEXT, 256, F.DESCRIPTOR),
        (BASE + (1 << 20), 16, WRITE | NEXT, 7, F.LENGTH),
    ],
)
def test_what_cannot_be_right_ends_the_queue(guest, where, length, flags, following, fault):
    driver = guest.drivers[0]
    offered = dict([offer(guest, [2048])])
    driver._descriptor(driver.desc, 7, where, length, flags, following)
    driver._store("<HH", driver.avail + 2, driver.added + 1, *offered)
    driver._store("<H", driver.avail + 6, 7)
    sent = guest.send([guest.packet(frame(60, n)) for n in range(3)])
    assert sent == [True, False, False]
    assert guest.read(offered.popitem()[1])[12:72] == frame(60, 0)
    assert vq.Fault(int(guest.queues[0][vq.FAULT])) == fault
    assert guest.count(NODE) == {"bytes": 60, "broken": 2}
    assert guest.send([guest.packet(frame(60))]) == [False]


def test_more_buffers_than_the_queue_has(guest):
    driver = guest.drivers[0]
    driver._store("<H", driver.avail + 2, 257)
    assert guest.send([guest.packet(frame(60))]) == [False]
    assert vq.Fault(int(guest.queues[0][vq.FAULT])) == F.INDEX


@pytest.mark.parametrize("shape", [[0], [2048, 0], [0, 0, 2048]])
def test_buffers_with_pieces_without_room(either, shape):
    """A guest that offers a million of them would have each packet look at all."""
    for _ in range(3):
        offer(either, shape)
    packets = [either.packet(frame(60 if shape == [0] else 4000)) for _ in range(2)]
    assert either.send(packets) == [False, False]
    assert vq.Fault(int(either.queues[0][vq.FAULT])) == F.LENGTH
    assert either.count(NODE) == {"broken": 2}


def test_memory_that_is_taken_away(either):
    """Nobody knows what of it has arrived: nothing counts as sent."""
    for _ in range(4):
        offer(either, [2048])
    os.truncate(either.memory.fd, 1 << 16)
    frames = [frame(60), frame(1514), frame(3000), frame(60)]
    assert either.send([either.packet(one) for one in frames]) == [False] * 4
    counted = either.count(NODE)  # a packed queue is gone before its third buffer is looked at
    assert counted["broken"] + counted.get("ring-full", 0) == 4
    assert "bytes" not in counted
    assert vq.Fault(int(either.queues[0][vq.FAULT])) == F.MEMORY
    assert not vq.ready(either.queues[0])
