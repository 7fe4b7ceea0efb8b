# SPDX-License-Identifier: Apache-2.0
"""AfPacketPort where there is no room: rings, queues, buffers, the link, the kernel's memory."""

import socket
from ctypes import CFUNCTYPE, c_int64

import numpy as np
import pytest

import packet_worlds
from packet_worlds import A_MAC, B_MAC, numbered, received, vnet_frame, wire
from vforward.graph.scheduler import run
from vforward.io import af_packet_raw, af_packet_ring, af_packet_tx
from vforward.io.tap_rx import IDLE_ROUNDS
from vforward.memory.pool import CACHE_HEADER, push_batch

pytestmark = pytest.mark.root


mode = packet_worlds.mode
place = packet_worlds.place


def test_full_ring_is_counted(place):
    with wire(place, ring_mib=1) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        for n in range(700):
            a.send(numbered(64, n))
        w.rounds()
        assert [received(b) for _ in range(512)] == [numbered(64, n) for n in range(512)]
        assert w.ports[0].statistics() == {"kernel-ring-full": 188}
        assert w.ports[0].statistics() == {"kernel-ring-full": 188}
        a.send(numbered(64, 1))
        w.rounds()
        assert received(b) == numbered(64, 1)
        w.ports[0].close()
        assert w.ports[0].statistics() == {"kernel-ring-full": 188}


def of_mtu(mtu, n):
    """The n-th frame of a burst, as long as may be."""
    return B_MAC + A_MAC + b"\x88\xb5" + (n.to_bytes(4, "big") * (mtu // 4 + 1))[:mtu]


def burst(place, w, mtu, n):
    """Send so many frames of the MTU while the worker sleeps; asserts that none is lost."""
    with place.raw(place.a) as a:
        for k in range(n):
            a.send(of_mtu(mtu, k))
    w.rounds()
    assert w.ports[0].statistics() == {"kernel-ring-full": 0}
    assert len(w.held()) == n
    assert all(w.frame(row) == of_mtu(mtu, k) for k, row in enumerate(w.held()))
    counted = w.counts("a-rx")
    assert counted.pop("bytes") == n * (14 + mtu)
    assert not any(counted.values())


@pytest.mark.parametrize("mtu", [1280, 1500, 2000, 4000, 9000, 33_000, 65535])
def test_a_burst_of_the_longest_frames_does_not_overflow_the_ring(place, mtu):
    """Nearly half of the ring's bytes: 10 000 frames of 1500 bytes, 230 of 64 KB."""
    for host, name in ((place.a, "eth0"), (place.f, "a")):
        host.run("ip", "link", "set", "dev", name, "mtu", str(mtu))
    with wire(place, mode="ring", mtu=mtu, keeping=True, buffers=16384) as w:
        burst(place, w, mtu, int(0.45 * (32 << 20)) // (mtu + 14))


@pytest.mark.parametrize("mtu", [1500, 65535])
def test_nor_does_one_of_a_vector_where_slots_hold_the_longest(place, monkeypatch, mtu):
    """As for an ordinary user, whose socket's queue may not grow."""
    monkeypatch.setattr(af_packet_ring, "queue_room", lambda fd, wanted: 0)
    for host, name in ((place.a, "eth0"), (place.f, "a")):
        host.run("ip", "link", "set", "dev", name, "mtu", str(mtu))
    with wire(place, mode="ring", mtu=mtu, keeping=True, buffers=16384) as w:
        burst(place, w, mtu, 400)


def test_slots_are_filled_by_the_longest_frames():
    for mtu in range(1000, 65536):
        slot = af_packet_ring.slot_for(mtu)
        assert slot >= mtu + af_packet_ring.SLOT_EXTRA
        assert mtu + 14 > 0.45 * slot


def test_full_queue_of_a_raw_socket_is_counted(place):
    with wire(place, ring_mib=1, mode="raw") as w, place.raw(place.a) as a, place.raw(place.b) as b:
        for n in range(6000):
            a.send(numbered(64, n))
        lost = w.ports[0].statistics()["kernel-queue-full"]
        assert 0 < lost < 6000
        w.rounds()
        assert [received(b) for _ in range(6000 - lost)] == [
            numbered(64, n) for n in range(6000 - lost)
        ]
        assert w.ports[0].statistics() == {"kernel-queue-full": lost}


def test_an_idle_raw_socket_is_asked_seldom(place):
    with wire(place, mode="raw") as w, place.raw(place.a) as a, place.raw(place.b) as b:
        words = w.ports[0].rx()[1]["raw"]
        w.rounds()
        while int(words[af_packet_raw.SKIP]) != IDLE_ROUNDS - 1:
            run(w.words, True)
        a.send(numbered(60))
        for _ in range(IDLE_ROUNDS - 1):
            run(w.words, True)
            assert w.counts("a-rx")["bytes"] == 0
        run(w.words, True)
        assert received(b) == numbered(60)


def test_what_a_raw_socket_is_given_is_checked(place):
    """The kernel gives none such: by a socket pair in the packet socket's place."""
    with wire(place, mode="raw", keeping=True) as w:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = w.ports[0].rx()[1]["raw"]
        mine = int(words[af_packet_raw.FD])
        with left, right:
            right.setblocking(False)
            words[af_packet_raw.FD] = right.fileno()
            left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            left.send(vnet_frame(numbered(100), flags=1, start=33))
            left.send(vnet_frame(numbered(9000), gso_type=2, gso_size=9))
            left.send(vnet_frame(bytes(13)))
            left.send(bytes(9))
            left.send(vnet_frame(numbered(80_000)))
            left.send(vnet_frame(numbered(100)))
            left.send(vnet_frame(numbered(9000)))
            w.rounds()
            words[af_packet_raw.FD] = mine
        counts = w.counts("a-rx")
        assert (counts["bad-offload"], counts["truncated"]) == (2, 3)
        assert [w.frame(row) for row in w.held()] == [numbered(100), numbered(9000)]


def test_a_long_frame_that_finds_no_buffers_is_counted(place):
    place.a.run("ip", "link", "set", "dev", "eth0", "mtu", "9000")
    place.f.run("ip", "link", "set", "dev", "a", "mtu", "9000")
    with (
        wire(place, mode="raw", buffers=4, keeping=True) as w,
        place.raw(place.a) as a,
    ):
        a.send(numbered(9014))
        a.send(numbered(60))
        w.rounds()
        assert w.counts("a-rx")["no-chain"] == 1
        assert [w.frame(row) for row in w.held()] == [numbered(60)]


def test_no_buffer_leaves_frames_where_they_are(place, mode):
    with wire(place, mode=mode, buffers=64, keeping=True) as w, place.raw(place.a) as a:
        for n in range(100):
            a.send(numbered(64, n))
        for first, n in ((0, 64), (64, 36)):
            w.rounds()
            assert [w.frame(row) for row in w.held()] == [numbered(64, first + i) for i in range(n)]
            w.pool.put(np.array(w.held(), np.uint32))
            w.kept[0] = 0
            give_back(w)
        assert w.counts("a-rx")["no-buffer"] >= 1


def give_back(w):
    """What the test put back lies in the pool's own cache; move it to the shared stack."""
    own = w.pool.caches[0]
    push_batch(w.pool.stack, own[CACHE_HEADER:], int(own[0]))
    own[0] = 0


def test_frame_longer_than_the_mtu_is_refused_and_the_rest_sent(place):
    place.b.run("ip", "link", "set", "dev", "eth0", "mtu", "1000")
    place.f.run("ip", "link", "set", "dev", "b", "mtu", "1000")
    with wire(place) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        for length in (60, 1500, 61, 1400, 1100, 62, 1014, 1019):
            a.send(numbered(length))
        w.rounds()
        assert [len(received(b)) for _ in range(4)] == [60, 61, 62, 1014]
        assert w.counts("b-tx")["refused"] == 4
        assert w.counts("drop")["packets"] == 4


def test_link_down_is_counted(place, mode):
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        place.f.run("ip", "link", "set", "dev", "b", "down")
        for n in range(10):
            a.send(numbered(60, n))
        w.rounds()
        assert w.counts("b-tx")["link-down"] == 10
        place.f.run("ip", "link", "set", "dev", "b", "up")
        a.send(numbered(60, 10))
        w.rounds()
        assert received(b) == numbered(60, 10)
        b.send(numbered(60, 11))
        w.rounds()
        assert received(a) == numbered(60, 11)
        place.f.run("ip", "link", "delete", "dev", "b")
        a.send(numbered(60, 10))
        w.rounds()
        assert w.counts("b-tx")["link-down"] == 11
        assert w.counts("drop")["packets"] == 11


class Full:
    """In place of vf_sendmmsg: sends two of a vector, then fails a number of times."""

    def __init__(self, real, error, times):
        self.error, self.times, self.calls = error, times, 0
        self.function = CFUNCTYPE(c_int64, c_int64, c_int64, c_int64, c_int64)(self)
        self.real = CFUNCTYPE(c_int64, c_int64, c_int64, c_int64, c_int64)(real)
        self.address = np.frombuffer(self.function, np.uint64)[0]

    def __call__(self, fd, messages, n, flags):
        self.calls += 1
        if self.calls == 1:
            return self.real(fd, messages, min(n, 2), flags)
        if self.times:
            self.times -= 1
            return -self.error
        return self.real(fd, messages, n, flags)


@pytest.mark.parametrize(
    ("error", "reason"), [(11, "ring-full"), (105, "no-buffers"), (4, "ring-full")]
)
@pytest.mark.parametrize("times", [1, 1000])
def test_full_socket_is_retried_a_while(place, error, reason, times):
    with wire(place) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        words = w.ports[1].tx()[1]["socket"]
        full = Full(int(words[af_packet_tx.SEND]), error, times)
        words[af_packet_tx.SEND] = full.address
        for n in range(10):
            a.send(numbered(60, n))
        w.rounds()
        passed = 10 if times == 1 else 2
        assert [received(b) for _ in range(passed)] == [numbered(60, n) for n in range(passed)]
        assert w.counts("b-tx")[reason] == w.counts("drop")["packets"] == 10 - passed
        assert full.calls < 100
