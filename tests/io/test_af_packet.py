# SPDX-License-Identifier: Apache-2.0
"""AfPacketPort between namespaces: raw sockets, ping and the kernel's TCP on the other side."""

import contextlib
import errno
import hashlib
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from ctypes import CFUNCTYPE, c_int64, c_uint32
from types import SimpleNamespace

import numpy as np
import pytest

from vforward.errors import PortError
from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.node import Labels, Node
from vforward.graph.scheduler import run
from vforward.io import af_packet_raw, af_packet_ring, af_packet_tx, af_xdp_rx, linux, shim
from vforward.io import af_packet_rx as rx
from vforward.io.af_packet import AfPacketPort
from vforward.io.tap_rx import IDLE_ROUNDS
from vforward.jit.kernel import kernel
from vforward.layout import (
    BUF_ROOM,
    CSUM_PARTIAL,
    EDGE_HELD,
    GSO,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.arena import Arena
from vforward.memory.pool import CACHE_HEADER, Pool, push_batch, put
from vforward.testing import packets
from vforward.testing.namespaces import namespaces, offloads, veth

pytestmark = pytest.mark.root

A_MAC, B_MAC = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"
PACKET_AUXDATA_SIZE = 20
TPIDS = (0x8100, 0x88A8)
LENGTHS = (
    16,
    60,
    1510,
)  # 802.1ad counts to the MTU; the kernel drops tagged frames with less than 2 bytes of content


class Count(Labels):
    PACKETS = 0, "packets dropped"


@kernel
def sink(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64) -> None:
    count[Count.PACKETS] += np.uint64(idx.size)
    put(pool, meta, idx, idx.size)
    for i in range(idx.size):
        edge[i] = EDGE_HELD


@kernel
def keep(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, kept: U64) -> None:
    """Hold every packet: kept[0] is how many, their rows follow."""
    for i in range(idx.size):
        kept[1 + np.int64(kept[0])] = idx[i]
        kept[0] += np.uint64(1)
        edge[i] = EDGE_HELD


class NoEdges(Labels):
    pass


SINK = Node(name="test-sink", kernel=sink, edges=NoEdges, counters=Count)
KEEP = Node(name="test-keep", kernel=keep, edges=NoEdges)


class Raw(socket.socket):
    """A packet socket that counts what it sends."""

    sent = 0

    def send(self, *args):
        self.sent += 1
        return super().send(*args)


class Place:
    """Hosts a and b, each joined to the forwarder f by a veth pair: a:eth0 - f:a, b:eth0 - f:b."""

    def __init__(self, a, b, f):
        self.a, self.b, self.f = a, b, f
        self.sockets = []

    def raw(self, host):
        """A plain packet socket on a host's interface. Own transmissions are not seen."""
        with host.inside():
            opened = Raw(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(linux.ETH_P_ALL))
            opened.bind(("eth0", linux.ETH_P_ALL))
        self.sockets.append(opened)
        opened.setsockopt(linux.SOL_PACKET, 23, 1)  # PACKET_IGNORE_OUTGOING
        opened.setsockopt(linux.SOL_PACKET, linux.PACKET_AUXDATA, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        opened.settimeout(5)
        return opened


@pytest.fixture
def place():
    with namespaces("a", "b", "f") as (a, b, f):
        for host, name in ((a, "a"), (b, "b")):
            veth(host, "eth0", f, name)
        yield Place(a, b, f)


@pytest.fixture(params=["ring", "raw", "xdp"])
def mode(request):
    """By what a port receives."""
    return request.param


@pytest.fixture(params=["ring", "raw"])
def socket_mode(request):
    """The same, where it knows of super-frames and of checksums to be completed."""
    return request.param


class Wire:
    """What comes in at one port goes out at the other. rx only: what comes in is kept.

    By packet sockets alone; test_af_xdp.py has the other way out.
    """

    def __init__(self, place, buffers=4096, keeping=False, inside=True, **options):
        self.arena = Arena.create(f"test-{uuid.uuid4().hex[:12]}")
        self.pool = Pool(self.arena, buffers)
        self.ports = [AfPacketPort(name, xdp=False, **options) for name in "ab"]
        with place.f.inside() if inside else contextlib.nullcontext():
            for number, port in enumerate(self.ports):
                port.open(number, self.pool)
        self.graph = Graph(self.arena, self.pool)
        self.kept = np.zeros(1 + buffers, np.uint64)
        self._wire(keeping)
        self.plan = self.graph.build()
        self.plan.control[c.VECTOR] = 256
        self.words = self.plan.words()
        self.thread = None
        self.place = place
        self.seen = 0, self.arrived()

    def _wire(self, keeping):
        graph = self.graph
        graph.add(SINK, "drop")
        for port, name in zip(self.ports, "ab", strict=True):
            node, tables = port.rx()
            graph.add(node, f"{name}-rx", **tables)
            node, tables = port.tx()
            graph.add(node, f"{name}-tx", **tables)
            graph.wire(f"{name}-tx", "drop", "drop")
        if keeping:
            graph.add(KEEP, "keep", kept=self.kept)
        graph.wire("a-rx", "next", "keep" if keeping else "b-tx")
        graph.wire("b-rx", "next", "keep" if keeping else "a-tx")

    def arrived(self):
        """Frames that are in the rings of AF_XDP sockets, or were."""
        if self.ports[0].mode != "xdp":
            return 0
        tables = [port.rx()[1]["queues"].reshape(-1, af_xdp_rx.QUEUE_WORDS) for port in self.ports]
        producers = [int(words[0, af_xdp_rx.PRODUCER]) for words in tables]
        return sum(c_uint32.from_address(where).value for where in producers if where)

    def rounds(self):
        """Run until nothing moves. An idle raw socket is asked in one round of some only; an AF_XDP
        socket is given a frame some time after it was sent.
        """
        for _ in range(IDLE_ROUNDS + 1 if self.ports[0].mode == "raw" else 1):
            run(self.words, True)
        if self.ports[0].mode == "xdp":
            sent, arrived = self.seen
            now = sum(each.sent for each in self.place.sockets)
            until = time.monotonic() + 1
            while self.arrived() - arrived < now - sent and time.monotonic() < until:
                run(self.words, True)
            run(self.words, True)
            self.seen = now, self.arrived()

    def start(self):
        self.thread = threading.Thread(target=run, args=(self.words, False))
        self.thread.start()

    def stop(self):
        if self.thread is not None:
            self.plan.control[c.COMMAND] = c.STOP
            self.thread.join()
            self.plan.control[c.COMMAND] = c.RUN
            self.thread = None

    def counts(self, name):
        member = self.graph.members[name]
        return dict(zip(member.node.counter_labels, map(int, member.counts), strict=True))

    def clocks(self):
        """Clocks per packet and packets per call, by node."""
        found = {}
        for member in self.graph.order:
            stats = self.plan.stats[member.number * c.STATS :][: c.STATS].tolist()
            if stats[c.PACKETS]:
                per_call = stats[c.PACKETS] / stats[c.CALLS]
                found[member.name] = (stats[c.CLOCKS] / stats[c.PACKETS], per_call)
        return found

    def held(self):
        return [int(row) for row in self.kept[1 : 1 + int(self.kept[0])]]

    def frame(self, row):
        """The bytes of a packet, from all of its buffers."""
        parts = []
        total = (
            int(self.pool.meta[row]["end"])
            - int(self.pool.meta[row]["off"])
            + int(self.pool.meta[row]["rest"])
        )
        while row != 0xFFFFFFFF:
            meta = self.pool.meta[row]
            parts.append(bytes(self.pool.data[row, meta["off"] : int(meta["end"])]))
            row = int(meta["next"])
        whole = b"".join(parts)
        assert len(whole) == total
        return whole

    def close(self):
        self.stop()
        for port in self.ports:
            port.flush()
            port.close()
            port.close()
        self.pool.check(self.held())
        self.arena.close()


@contextlib.contextmanager
def wire(place, **options):
    made = Wire(place, **options)
    try:
        yield made
    finally:
        made.close()


def numbered(length, n=0, ethertype=b"\x88\xb5"):
    """A frame of that length whose bytes tell it from others; local experimental ethertype."""
    body = bytes((n * 31 + i * 7) % 251 for i in range(length))
    return (B_MAC + A_MAC + ethertype + body)[:length]


def tagged(frame, tpid, tci):
    return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]


def received(raw):
    """The next frame with its VLAN tag, which the kernel tells aside, put back."""
    frame, aside, _, _ = raw.recvmsg(1 << 17, socket.CMSG_SPACE(PACKET_AUXDATA_SIZE))
    for level, kind, value in aside:
        if (level, kind) == (linux.SOL_PACKET, linux.PACKET_AUXDATA):
            status, *_, tci, tpid = struct.unpack("IIIHHHH", value)
            if status & linux.TP_STATUS_VLAN_VALID:
                return tagged(frame, tpid, tci)
    return frame


def test_every_length_passes_both_ways_unchanged(place, mode):
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        for sender, receiver in ((a, b), (b, a)):
            frames = [numbered(length, length) for length in range(14, 1515)]
            for start in range(0, len(frames), 200):
                for frame in frames[start : start + 200]:
                    sender.send(frame)
                w.rounds()
                for frame in frames[start : start + 200]:
                    assert received(receiver) == frame
        octets = sum(range(14, 1515))
        for name in ("a-rx", "b-rx", "a-tx", "b-tx"):
            counts = w.counts(name)
            assert counts.pop("bytes") == octets
            assert not any(counts.values())
        assert w.counts("drop") == {"packets": 0}


@pytest.mark.parametrize("vector", [1, 3, 256])
def test_any_vector_size_goes_round_the_ring(place, vector):
    with wire(place, ring_mib=1) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        assert w.ports[0].slots == (512, 2048)
        w.plan.control[c.VECTOR] = vector
        for start in range(0, 1200, 300):
            for n in range(start, start + 300):
                a.send(numbered(64, n))
            w.rounds()
            for n in range(start, start + 300):
                assert received(b) == numbered(64, n)


@pytest.mark.parametrize("tpid", TPIDS)
@pytest.mark.parametrize("tci", [1, 0x0FFF, 0xE001])
def test_vlan_tag_comes_in_and_goes_out(place, mode, tpid, tci):
    with wire(place, mode=mode, keeping=True) as w, place.raw(place.a) as a:
        for length in LENGTHS:
            a.send(tagged(numbered(length), tpid, tci))
        w.rounds()
        frames = [w.frame(row) for row in w.held()]
        assert frames == [tagged(numbered(n), tpid, tci) for n in LENGTHS]
        w.pool.put(np.array(w.held(), np.uint32))
        w.kept[0] = 0
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        for length in LENGTHS:
            a.send(tagged(numbered(length), tpid, tci))
        w.rounds()
        for length in LENGTHS:
            assert received(b) == tagged(numbered(length), tpid, tci)


def test_two_vlan_tags(place, mode):
    frame = tagged(tagged(numbered(100), 0x8100, 7), 0x88A8, 9)
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        a.send(frame)
        w.rounds()
        assert received(b) == frame


def test_own_transmissions_are_not_received(place, mode):
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        a.send(numbered(60))
        w.rounds()
        assert received(b) == numbered(60)
        w.rounds()
        assert w.counts("b-rx")["bytes"] == 0
        assert w.counts("b-tx")["bytes"] == 60


def test_frames_to_others_come_in_only_when_promiscuous(place, mode):
    for promiscuous in (True, False):
        with wire(place, mode=mode, keeping=True, promiscuous=promiscuous) as w:
            shown = place.f.run("ip", "-d", "link", "show", "dev", "a")
            assert f"promiscuity {int(promiscuous)}" in shown
            assert len(w.ports[0].mac) == 6
            assert ":".join(f"{byte:02x}" for byte in w.ports[0].mac) in shown


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


@pytest.mark.parametrize("function", ["vf_packet_version2", "vf_packet_rx_ring", "vf_mmap_shared"])
@pytest.mark.parametrize("mode", ["auto", "ring"])
def test_a_ring_that_is_refused(place, monkeypatch, caplog, function, mode):
    monkeypatch.setattr(shim.lib, function, lambda *_: -errno.EOPNOTSUPP, raising=False)
    if mode == "ring":
        with (
            Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena,
            place.f.inside(),
            pytest.raises(PortError, match=r"'a'.*not supported"),
        ):
            AfPacketPort("a", mode=mode).open(0, Pool(arena, 16))
        return
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        said = w.ports[0].peer().split("; ")[0]
        assert re.fullmatch(r"receives by recvmmsg \(Linux refuses a ring: .*not supported\)", said)
        assert said in caplog.text
        a.send(numbered(60))
        run(w.words, True)
        assert received(b) == numbered(60)


def test_it_says_by_what_it_receives(place):
    with wire(place) as w:
        assert w.ports[0].peer().startswith("receives by a ring of 16384 slots of 2048 bytes; ")
    with wire(place, mode="raw") as w:
        assert w.ports[0].peer().startswith('receives by recvmmsg (mode = "raw"); ')


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


def test_in_a_namespace_by_its_path(place):
    with (
        wire(place, inside=False, netns=place.f.path) as w,
        place.raw(place.a) as a,
        place.raw(place.b) as b,
    ):
        a.send(numbered(60))
        w.rounds()
        assert received(b) == numbered(60)
    with pytest.raises(
        PortError, match="'a': network namespace 'no-such': there is no /run/netns/no-such"
    ):
        AfPacketPort("a", netns="no-such").open(0, None)


def test_in_a_namespace_what_is_wrong_is_to_be_seen_there(place):
    place.f.run("ip", "link", "set", "dev", "a", "down")
    there = f"nsenter --net={place.f.path} ip link"
    for name, text in (
        ("no-such", f"{there} shows those there"),
        ("a", f"{there} set dev a up, or"),
    ):
        with pytest.raises(PortError, match=rf"'{name}': .*{text}"):
            AfPacketPort(name, netns=place.f.path).open(0, None)


@pytest.mark.parametrize("inside", [False, True])
def test_one_that_was_made_anew_is_set_up_again(place, mode, inside):
    options = {"mode": mode, "set_up": True, "mtu": 1400}
    if not inside:
        options["netns"] = place.f.path
    with wire(place, inside=inside, **options) as w:
        place.f.run("ip", "link", "delete", "dev", "a")
        w.ports[0].statistics()
        assert "no interface 'a' now" in w.ports[0].peer()
        veth(place.a, "eth0", place.f, "a")
        place.f.run("ip", "link", "set", "dev", "a", "down")
        with place.f.inside() if inside else contextlib.nullcontext():
            w.ports[0].statistics()
        assert "receives by" in w.ports[0].peer()
        assert "mtu 1400" in place.f.run("ip", "link", "show", "dev", "a", "up")
        with place.raw(place.a) as a, place.raw(place.b) as b:
            until = time.monotonic() + 5
            while not select.select([b], [], [], 0.05)[0] and time.monotonic() < until:
                a.send(numbered(60))  # the carrier takes a moment
                w.rounds()
            assert received(b) == numbered(60)
    assert "mtu 1500" in place.f.run("ip", "link", "show", "dev", "a")


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        ("vf_packet_socket", errno.EAFNOSUPPORT, "lacks packet sockets: .*; modprobe af_packet"),
        ("vf_packet_socket", errno.EPERM, "needs CAP_NET_RAW: run as root or under unshare"),
        ("vf_packet_vnet_hdr", errno.ENOPROTOOPT, "PACKET_VNET_HDR: .*; Linux 4.20 has all"),
        ("vf_packet_ignore_outgoing", errno.ENOPROTOOPT, "PACKET_IGNORE_OUTGOING: .*; Linux 4.20"),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "raw"])
def test_what_the_kernel_lacks_is_named(place, monkeypatch, caplog, function, error, text, mode):
    monkeypatch.setattr(shim.lib, function, lambda *_: -error, raising=False)
    port = AfPacketPort("a", mode=mode)
    with place.f.inside(), pytest.raises(PortError, match=text):
        port.open(0, None)
    assert port.descriptors() == []
    assert caplog.text == ""


def test_set_up_and_back(place):
    place.f.run("ip", "link", "set", "dev", "a", "down")
    before = place.f.run("ip", "link", "show", "dev", "a")
    with wire(place, set_up=True, mtu=9000, mac=A_MAC) as w:
        shown = place.f.run("ip", "-d", "link", "show", "dev", "a")
        assert "mtu 9000" in shown
        assert "02:00:00:00:00:0a" in shown
        assert re.search("<.*,UP.*>", shown)
        assert (w.ports[0].mac, w.ports[0].mtu) == (A_MAC, 9000)
    assert place.f.run("ip", "link", "show", "dev", "a") == before
    with (
        place.f.inside(),
        pytest.raises(PortError, match="'a': refuses an MTU of 67"),
    ):
        AfPacketPort("a", set_up=True, mtu=67).open(0, None)
    assert place.f.run("ip", "link", "show", "dev", "a") == before


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


def vnet_frame(frame, flags=0, gso_type=0, hdr_len=0, gso_size=0, start=0, offset=0):
    return struct.pack("BBHHHH", flags, gso_type, hdr_len, gso_size, start, offset) + frame


def udp_frame(length, checksum=None):
    udp = packets.udp("10.0.0.1", "10.0.0.2", 5, 6, bytes(length), checksum=checksum)
    ip = packets.ip4("10.0.0.1", "10.0.0.2", packets.PROTO_UDP, udp)
    return packets.eth(B_MAC, A_MAC, packets.ETH_IP4, ip)


def send_with_vnet(raw, data):
    raw.setsockopt(linux.SOL_PACKET, 15, 1)  # PACKET_VNET_HDR
    raw.send(data)
    raw.setsockopt(linux.SOL_PACKET, 15, 0)


@pytest.mark.parametrize("tag", [b"", b"\x81\x00\x00\x05"])
@pytest.mark.parametrize("through", [False, True])
def test_partial_checksum_is_kept_as_such(place, socket_mode, tag, through):
    frame = udp_frame(30)
    frame = frame[:12] + tag + frame[12:]
    at = 34 + len(tag)
    with (
        wire(place, mode=socket_mode, keeping=not through) as w,
        place.raw(place.a) as a,
        place.raw(place.b) as b,
    ):
        send_with_vnet(a, vnet_frame(frame, flags=1, start=at, offset=6))
        w.rounds()
        if through:
            assert received(b) == frame  # bytes as they were: still to be completed
            return
        (row,) = w.held()
        meta = w.pool.meta[row]
        assert w.frame(row) == frame
        assert meta["flags"] & CSUM_PARTIAL
        assert (meta["csum_start"], meta["csum_off"]) == (meta["off"] + at, 6)


def test_super_frames_are_chains(place, socket_mode):
    """A UDP super-frame of 40 KB, in between short ones, by way of the socket's queue."""
    frame = udp_frame(40_000)
    with wire(place, mode=socket_mode, keeping=True) as w, place.raw(place.a) as a:
        for n in range(3):
            a.send(numbered(60, n))
            gso = vnet_frame(frame, 1, linux.VIRTIO_NET_HDR_GSO_UDP_L4, 42, 1000, 34, 6)
            send_with_vnet(a, gso)
        w.rounds()
        rows = w.held()
        assert [len(w.frame(row)) for row in rows] == [60, len(frame)] * 3
        for row in rows[1::2]:
            meta = w.pool.meta[row]
            assert w.frame(row) == frame
            assert int(meta["end"]) - int(meta["off"]) == BUF_ROOM
            assert meta["flags"] & GSO
            assert (meta["gso_type"], meta["gso_size"]) == (linux.VIRTIO_NET_HDR_GSO_UDP_L4, 1000)
            assert meta["hdr_len"] == 42


@pytest.mark.parametrize("way", ["ring", "small queue", "raw"])
def test_super_frames_pass_in_order(place, monkeypatch, way):
    """small queue: as where the socket's queue may not grow, so that the ring holds them."""
    if way == "small queue":
        monkeypatch.setattr(af_packet_ring, "queue_room", lambda fd, wanted: 0)
    frame = udp_frame(60_000)
    with (
        wire(place, mode="raw" if way == "raw" else "ring") as w,
        place.raw(place.a) as a,
        place.raw(place.b) as b,
    ):
        slots = {"ring": (16384, 2048), "small queue": (480, 69632), "raw": (0, 0)}
        assert w.ports[0].slots == slots[way]
        gso = vnet_frame(frame, 1, linux.VIRTIO_NET_HDR_GSO_UDP_L4, 42, 1000, 34, 6)
        for n in range(20):
            send_with_vnet(a, gso)
            a.send(numbered(60, n))
        w.rounds()
        for n in range(20):
            assert received(b) == frame
            assert received(b) == numbered(60, n)
        assert not sum(w.counts("a-rx").values()) - w.counts("a-rx")["bytes"]


def test_offload_fields_out_of_bounds_are_dropped():
    """The ring's own bytes, forged: a kernel that sent such would be caught as well."""
    cases = [
        ({"flags": 1, "start": 34, "offset": 6}, True),
        ({"flags": 1, "start": 34, "offset": 64}, True),
        ({"flags": 1, "start": 34, "offset": 65}, False),
        ({"flags": 1, "start": 13, "offset": 6}, False),
        ({"flags": 1, "start": 65535, "offset": 65535}, False),
        ({"flags": 1, "gso_type": 1, "gso_size": 0, "start": 34, "offset": 6}, False),
        ({"flags": 1, "gso_type": 2, "gso_size": 9, "start": 34, "offset": 6}, False),
        ({"flags": 1, "gso_type": 0x81, "gso_size": 9, "start": 34, "offset": 16}, True),
        (
            {"flags": 1, "gso_type": 5, "gso_size": 9, "hdr_len": 65535, "start": 34, "offset": 6},
            True,
        ),
        ({"gso_type": 1, "gso_size": 9, "hdr_len": 65535}, True),
        ({"flags": 2}, True),
    ]
    with forged_ring(len(cases) + 2) as (w, slots):
        for slot, (fields, _) in zip(slots, cases, strict=False):
            forge(slot, vnet_frame(udp_frame(58), **fields))  # 100 bytes
        forge(slots[-2], vnet_frame(bytes(13)))
        forge(slots[-1], vnet_frame(bytes(200)), length=5000)
        run(w.words, True)
        good = [vnet for vnet, valid in cases if valid]
        assert len(w.held) == len(good)
        for row in w.held:
            assert w.pool.meta[row]["hdr_len"] <= 100
        counts = list(map(int, w.graph.members[rx.NODE.name].counts))
        assert counts[rx.RxCount.BAD_OFFLOAD] == len(cases) - len(good)
        assert counts[rx.RxCount.TRUNCATED] == 2
        assert not slots["status"].any()


def forge(slot, data, length=None):
    slot["bytes"][66 - 32 : 66 - 32 + len(data)] = np.frombuffer(data, np.uint8)
    slot["length"] = length or len(data) - 10
    slot["snaplen"] = len(data) - 10
    slot["mac"] = 76
    slot["status"] = 1


@contextlib.contextmanager
def forged_ring(n):

    kind = np.dtype(
        [
            ("status", np.uint32),
            ("length", np.uint32),
            ("snaplen", np.uint32),
            ("mac", np.uint16),
            ("rest", np.uint8, 18),
            ("bytes", np.uint8, 2016),
        ]
    )
    slots = np.zeros(n, kind)
    ring = np.zeros(rx.RING_WORDS, np.uint64)
    vnet = np.zeros(10, np.uint8)
    ring[rx.RING], ring[rx.SLOT], ring[rx.SLOTS] = slots.ctypes.data, 2048, n
    ring[rx.VNET] = vnet.ctypes.data
    with Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena:
        pool = Pool(arena, 1024)
        graph = Graph(arena, pool)
        kept = np.zeros(1025, np.uint64)
        graph.add(rx.NODE, ring=ring)
        graph.add(KEEP, kept=kept)
        graph.wire(rx.NODE.name, "next", KEEP.name)
        w = SimpleNamespace(pool=pool, graph=graph, plan=graph.build(), held=[])
        w.words = w.plan.words()
        rows = kept[1:]

        class Held:
            def __iter__(self):
                return (int(row) for row in rows[: int(kept[0])])

            def __len__(self):
                return int(kept[0])

        w.held = Held()
        yield w, slots
        pool.check(w.held)


def test_ping(place, mode):
    place.a.address("eth0", "10.0.0.1/24")
    place.b.address("eth0", "10.0.0.2/24")
    with wire(place, mode=mode) as w:
        w.start()
        said = place.a.run("ping", "-c", "20", "-i", "0.01", "-W", "2", "10.0.0.2")
        assert "20 received" in said
        print(said.splitlines()[-1])


def content(octets):
    return np.random.default_rng(1).bytes(octets)


def transfer(place, octets):
    """Move octets from a to b through the kernel's TCP; returns seconds."""
    data = content(octets)
    with place.b.inside():
        server = socket.create_server(("10.0.0.2", 5000))
    with place.a.inside():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    digest = hashlib.sha256()

    def serve():
        server.settimeout(20)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(20)
            while block := connection.recv(1 << 18):
                digest.update(block)

    thread = threading.Thread(target=serve)
    thread.start()
    start = time.monotonic()
    with server, client:
        client.settimeout(20)
        client.connect(("10.0.0.2", 5000))
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        thread.join()
    assert digest.digest() == hashlib.sha256(data).digest()
    return time.monotonic() - start


@pytest.mark.parametrize("way", ["ring", "small queue", "raw", "xdp"])
@pytest.mark.parametrize("hosts", [True, False])
@pytest.mark.parametrize("forwarder", [True, False])
def test_tcp_crosses_whatever_is_offloaded(place, monkeypatch, hosts, forwarder, way):
    if not (hosts and forwarder) and not shutil.which("ethtool", path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("no ethtool")
    if way == "small queue":
        monkeypatch.setattr(af_packet_ring, "queue_room", lambda fd, wanted: 0)
    place.a.address("eth0", "10.0.0.1/24")
    place.b.address("eth0", "10.0.0.2/24")
    if not hosts:
        offloads(place.a, "eth0", on=False)
        offloads(place.b, "eth0", on=False)
    if not forwarder:
        offloads(place.f, "a", "b", on=False)
    with wire(place, mode="ring" if way == "small queue" else way) as w:
        w.start()
        seconds = transfer(place, 20_000_000)
        w.stop()
        print(f"{20 * 8 / 1000 / seconds:.2f} Gbit/s", w.clocks(), w.ports[0].statistics())
        for name in ("a-rx", "b-rx"):
            all_is_well = ("bytes", "no-buffer", "partial")
            assert not any(v for k, v in w.counts(name).items() if k not in all_is_well)


def test_wrong_interfaces_are_named(place):
    with Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena, place.f.inside():
        pool = Pool(arena, 1024)
        for name in ("nosuch", "", "x" * 16):
            with pytest.raises(PortError, match="no such interface"):
                AfPacketPort(name).open(0, pool)
        with pytest.raises(PortError, match=r"'lo'.*not Ethernet"):
            AfPacketPort("lo").open(0, pool)
        place.f.run("ip", "link", "set", "dev", "a", "down")
        port = AfPacketPort("a")
        with pytest.raises(PortError, match="down; run: ip link set dev a up"):
            port.open(0, pool)
        assert port.descriptors() == []
        port.close()
        place.f.run("ip", "link", "set", "dev", "a", "up")
        port.open(0, pool)
        assert len(port.descriptors()) == 1
        port.close()


def test_the_mtu_is_no_more_than_the_interfaces(place, caplog):
    place.f.run("ip", "link", "set", "dev", "a", "mtu", "1400")
    with Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena, place.f.inside():
        pool = Pool(arena, 1024)
        for given, mtu in ((1500, 1400), (1000, 1000), (1400, 1400)):
            port = AfPacketPort("a", mtu=given)
            port.open(0, pool)
            assert port.mtu == mtu
            port.close()
        assert [r.getMessage() for r in caplog.records] == [
            "af_packet port on interface 'a': mtu is the interface's 1400, not 1500"
        ]
        port = AfPacketPort("a", mtu=1450)
        port.open(0, pool)
        port.close()
        place.f.run("ip", "link", "set", "dev", "a", "mtu", "9000")
        port.open(0, pool)
        assert port.mtu == 1450  # what was given counts, not what was found before
        port.close()


def test_statistics_take_the_error_of_an_interface_that_was_down(place):
    """Until it is read, poll returns at once, and a worker that may sleep does not. (recvmmsg reads it.)"""
    with wire(place, keeping=True) as w, place.raw(place.a) as a:
        (fd,) = w.ports[0].descriptors()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(0) == []
        place.f.run("ip", "link", "set", "dev", "a", "down")
        place.f.run("ip", "link", "set", "dev", "a", "up")
        w.rounds()
        assert poll.poll(0)[0][1] & select.POLLERR
        w.ports[0].statistics()
        assert poll.poll(0) == []
        until = time.monotonic() + 5
        while not w.held() and time.monotonic() < until:  # the carrier takes a moment
            a.send(bytes(60))
            w.rounds()
        assert w.held()


def test_given_mac_is_the_ports(place):
    with wire(place, mac=A_MAC) as w:
        assert [port.mac for port in w.ports] == [A_MAC] * 2


@pytest.mark.parametrize("length", [60, 9000])
def test_descriptor_is_readable_when_frames_wait(place, socket_mode, length):
    """Also for a frame whose slot is too small, as from a host with a longer MTU."""
    place.a.run("ip", "link", "set", "dev", "eth0", "mtu", "9000")
    with wire(place, mode=socket_mode, keeping=True) as w, place.raw(place.a) as a:
        (fd,) = w.ports[0].descriptors()
        assert select.select([fd], [], [], 0)[0] == []
        gso = vnet_frame(udp_frame(length), 1, linux.VIRTIO_NET_HDR_GSO_UDP_L4, 42, 1000, 34, 6)
        send_with_vnet(a, gso)
        assert select.select([fd], [], [], 5)[0] == [fd]
        w.rounds()
        assert [w.frame(row) for row in w.held()] == [udp_frame(length)]
        assert select.select([fd], [], [], 0)[0] == []


def test_without_the_capability_it_says_so():
    program = (
        "import uuid\n"
        "from vforward.io.af_packet import AfPacketPort\n"
        "from vforward.errors import PortError\n"
        "import socket\n"
        "name = next(n for _, n in socket.if_nameindex())\n"
        "AfPacketPort._look_up = lambda self: (1, 1500)\n"
        "try:\n"
        "    AfPacketPort(name).open(0, None)\n"
        "except PortError as error:\n"
        "    print(error)\n"
    )
    command = [
        "setpriv",
        "--bounding-set=-net_raw",
        "--inh-caps=-net_raw",
        sys.executable,
        "-c",
        program,
    ]
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("cannot give up a capability here")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "needs CAP_NET_RAW" in done.stdout, done.stderr
