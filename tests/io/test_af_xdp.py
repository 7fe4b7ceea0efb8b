# SPDX-License-Identifier: Apache-2.0
"""XdpSender and af-xdp-tx: a memory port's frames out of an AfPacketPort, a raw socket at the other end."""

import contextlib
import ctypes
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections import Counter

import numpy as np
import pytest

from fuzzing import open_fds
from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.node import Labels, Node
from vforward.graph.scheduler import run
from vforward.io import af_packet_life as life
from vforward.io import af_packet_tx, linux
from vforward.io import af_xdp_socket as xsk
from vforward.io import af_xdp_tx as tx
from vforward.io.af_packet import AfPacketPort
from vforward.io.af_xdp import XdpSender
from vforward.io.memory import MemoryPort, Offload
from vforward.jit.kernel import kernel
from vforward.layout import EDGE_HELD, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool, put
from vforward.testing import packets
from vforward.testing.namespaces import namespaces, offloads, veth

pytestmark = pytest.mark.root

NEAR_MAC, FAR_MAC = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"
AGAIN, BUSY, NO_BUFFERS, NETDOWN = 11, 16, 105, 100
PASSED = "complete frames of one buffer go out by AF_XDP, others by packet socket"


class Count(Labels):
    PACKETS = 0, "packets dropped"


class NoEdges(Labels):
    pass


@kernel
def sink(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64) -> None:
    count[Count.PACKETS] += np.uint64(idx.size)
    put(pool, meta, idx, idx.size)
    for i in range(idx.size):
        edge[i] = EDGE_HELD


SINK = Node(name="test-sink", kernel=sink, edges=NoEdges, counters=Count)


@pytest.fixture
def pair():
    """Namespaces f and b with f:out - b:eth0."""
    with namespaces("f", "b") as (f, b):
        veth(f, "out", b, "eth0")
        yield f, b


class Out:
    """What the memory port sends goes out at the interface out of f."""

    def __init__(self, f, b, **options):
        self.arena = Arena.create(f"test-{uuid.uuid4().hex[:12]}")
        self.pool = Pool(self.arena, 8192)
        self.memory, self.port = MemoryPort(), AfPacketPort("out", **options)
        self.memory.open(0, self.pool)
        with f.inside():
            self.port.open(1, self.pool)
        self.far = raw(b)
        self.graph = Graph(self.arena, self.pool)
        self.graph.add(SINK, "drop")
        for name, made in (
            ("memory-rx", self.memory.rx()),
            ("out-rx", self.port.rx()),
            ("out-tx", self.port.tx()),
        ):
            node, tables = made
            self.graph.add(node, name, **tables)
        self.graph.wire("memory-rx", "next", "out-tx")
        self.graph.wire("out-rx", "next", "drop")
        self.graph.wire("out-tx", "drop", "drop")
        self.plan = self.graph.build()
        self.plan.control[c.VECTOR] = 256
        self.words = self.plan.words()

    @property
    def xdp(self):
        return self.port.tx()[1]["xdp"]

    def send(self, *frames, offload=None):
        assert self.memory.send(frames, offload) == len(frames)

    def rounds(self):
        run(self.words, True)

    def counts(self):
        member = self.graph.members["out-tx"]
        counts = zip(member.node.counter_labels, map(int, member.counts), strict=True)
        return {label: count for label, count in counts if count}

    def dropped(self):
        return int(self.graph.members["drop"].counts[Count.PACKETS])

    def free(self):
        """How many slots are free, each once; the others are busy."""
        n = int(self.xdp[tx.FREE])
        stack = at(self.xdp[tx.STACK], tx.SLOTS, np.uint32)[:n]
        busy = at(self.xdp[tx.BUSY], tx.SLOTS, np.uint8)
        assert len(set(stack.tolist())) == n
        assert not busy[stack].any()
        assert int(busy.sum()) == tx.SLOTS - n
        return n

    def close(self):
        self.far.close()
        for port in (self.memory, self.port):
            port.close()
            port.close()
        self.pool.check()
        self.arena.close()


def at(where, n, dtype):
    size = n * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(int(where)), dtype)


@contextlib.contextmanager
def out(pair, **options):
    made = Out(*pair, **options)
    try:
        yield made
    finally:
        made.close()


def raw(host):
    """A packet socket on the host's interface."""
    with host.inside():
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(linux.ETH_P_ALL))
        opened.bind(("eth0", linux.ETH_P_ALL))
    opened.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)  # SO_RCVBUFFORCE
    opened.settimeout(5)
    return opened


def numbered(length, n=0):
    """A frame of that length whose bytes tell it from others; local experimental ethertype."""
    body = struct.pack("!I", n) + bytes((n * 31 + i * 7) % 251 for i in range(length))
    return (FAR_MAC + NEAR_MAC + b"\x88\xb5" + body)[:length]


def udp_frame(length, n=0):
    udp = packets.udp("10.0.0.1", "10.0.0.2", 5, 6, struct.pack("!I", n) + bytes(length))
    ip = packets.ip4("10.0.0.1", "10.0.0.2", packets.PROTO_UDP, udp)
    return packets.eth(FAR_MAC, NEAR_MAC, packets.ETH_IP4, ip)


PARTIAL = Offload(csum_start=34, csum_off=6)
SUPER = Offload(34, 6, linux.VIRTIO_NET_HDR_GSO_UDP_L4, 1000, 42)


def test_every_length_goes_out_unchanged(pair):
    with out(pair) as o:
        assert o.port.peer().endswith(PASSED)
        lengths = range(14, 1515)
        for n in lengths:
            o.send(numbered(n, n))
            if n % 500 == 0:
                o.rounds()
        o.rounds()
        assert [o.far.recv(2000) for _ in lengths] == [numbered(n, n) for n in lengths]
        assert o.counts() == {"bytes": sum(lengths), "xdp": len(lengths)}
        assert o.free() == tx.SLOTS


@pytest.mark.parametrize("vector", [1, 3, 256])
def test_any_vector_goes_round_the_rings(pair, vector):
    with out(pair) as o:
        o.plan.control[c.VECTOR] = vector
        for start in range(0, 3 * tx.SLOTS, 256):
            o.send(*(numbered(60, n) for n in range(start, start + 256)))
            o.rounds()
        assert [o.far.recv(2000) for _ in range(3 * tx.SLOTS)] == [
            numbered(60, n) for n in range(3 * tx.SLOTS)
        ]
        assert o.counts()["xdp"] == 3 * tx.SLOTS
        assert o.free() == tx.SLOTS


@pytest.mark.parametrize(("seed", "mode"), [(0, "ring"), (1, "ring"), (2, "ring"), (3, "xdp")])
def test_frames_of_all_kinds_stay_in_order(pair, seed, mode):
    """Short, long, with a checksum to complete, super-frames: one after the other, at random."""
    dice = random.Random(seed)
    with out(pair, mode=mode) as o:
        sent, kinds = [], Counter()
        while len(sent) < 1500:
            kind = dice.choice(("short", "short", "partial", "super", "long"))
            for _ in range(dice.choice((1, 2, 3, 4, 5, 40))):
                n = len(sent)
                if kind == "short":
                    frame, offload = numbered(dice.randint(18, 1514), n), None
                elif kind == "partial":
                    frame, offload = udp_frame(dice.randint(20, 1400), n), PARTIAL
                elif kind == "super":
                    frame, offload = udp_frame(dice.randint(1001, 9000), n), SUPER
                else:  # with a VLAN tag the longest
                    frame = numbered(1514, n)
                    frame, offload = frame[:12] + b"\x81\x00\x00\x05" + frame[12:], None
                o.send(frame, offload=offload)
                sent.append(frame)
                kinds[kind] += 1
            if dice.random() < 0.3:
                o.rounds()
        o.rounds()
        for frame in sent:
            came = o.far.recv(1 << 16)
            if frame[12:14] == b"\x81\x00":  # the kernel tells the tag aside
                frame = frame[:12] + frame[16:]
            assert came == frame
        assert all(kinds.values())
        counts = o.counts()
        assert 0.5 * kinds["short"] < counts.pop("xdp") <= kinds["short"]
        assert counts == {"bytes": sum(map(len, sent))}
        assert o.free() == tx.SLOTS


def test_a_few_frames_in_between_go_with_the_others(pair):
    with out(pair) as o:
        for length, offload in ((60, None), (500, PARTIAL), (60, None), (500, PARTIAL)):
            o.send(*[udp_frame(length)] * (tx.RUN_MIN - 1), offload=offload)
        o.rounds()
        assert "xdp" not in o.counts()
        o.send(udp_frame(60))  # alone it does not
        o.rounds()
        assert o.counts()["xdp"] == 1


def test_without_slots_frames_go_by_packet_socket(pair):
    """As when the interface keeps them."""
    with out(pair) as o:
        o.xdp[tx.FREE] = 9
        o.send(*(numbered(60, n) for n in range(10)))
        o.rounds()
        assert "xdp" not in o.counts()
        o.send(*(numbered(60, n) for n in range(10, 19)))
        o.rounds()
        assert o.counts() == {"bytes": 19 * 60, "xdp": 9}
        assert [o.far.recv(2000) for _ in range(19)] == [numbered(60, n) for n in range(19)]
        assert o.xdp[tx.FREE] == 9


def test_frames_beyond_the_mtu_are_refused(pair):
    pair[0].run("ip", "link", "set", "dev", "out", "mtu", "1000")
    with out(pair) as o:
        o.send(*(numbered(n) for n in (60, 1014, 1019, 1500, 61)))
        o.rounds()
        assert [len(o.far.recv(2000)) for _ in range(3)] == [60, 1014, 61]
        assert o.counts()["refused"] == o.dropped() == 2


def test_an_mtu_that_becomes_less_is_heeded(pair):
    """AF_XDP does not look at it: what is too long would be lost, and nobody would count it."""
    with out(pair) as o:
        pair[0].run("ip", "link", "set", "dev", "out", "mtu", "600")
        o.port.statistics()
        o.send(*(numbered(n) for n in (60, 61, 62, 614, 1000)))
        o.rounds()
        assert [len(o.far.recv(2000)) for _ in range(4)] == [60, 61, 62, 614]
        assert o.counts() == {"bytes": 60 + 61 + 62 + 614, "xdp": 4, "refused": 1}


class Send:
    """In place of vf_sendmmsg: answers for the calls of the AF_XDP socket; real: the kernel does."""

    def __init__(self, o, answers):
        words = o.port.tx()[1]["socket"]
        kind = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 5)
        self.real, self.answers, self.calls = kind(int(words[af_packet_tx.SEND])), answers, 0
        self.fd = int(o.xdp[tx.FD])
        self.function = kind(self)
        words[af_packet_tx.SEND] = np.frombuffer(self.function, np.uint64)[0]

    def __call__(self, fd, messages, n, flags):
        if fd != self.fd:
            return self.real(fd, messages, n, flags)
        self.calls += 1
        answer = next(self.answers, "real")
        return self.real(fd, messages, n, flags) if answer == "real" else -answer


def budget(o, frames):
    """Let the kernel take so many frames in each call."""
    with socket.socket(xsk.AF_XDP, socket.SOCK_RAW, 0, os.dup(int(o.xdp[tx.FD]))) as sender:
        try:
            sender.setsockopt(xsk.SOL_XDP, xsk.XDP_MAX_TX_BUDGET, frames)
        except OSError:
            pytest.skip("needs Linux 6.17")


@pytest.mark.parametrize("error", [AGAIN, NO_BUFFERS])
def test_a_kernel_that_takes_nothing_for_a_while_is_asked_again(pair, error):
    with out(pair) as o:
        asked = Send(o, iter([error] * 20))
        o.send(*(numbered(60, n) for n in range(10)))
        o.rounds()
        assert [o.far.recv(2000) for _ in range(10)] == [numbered(60, n) for n in range(10)]
        assert asked.calls == 21
        assert o.counts() == {"bytes": 600, "xdp": 10}


@pytest.mark.parametrize(
    ("error", "reason", "calls"),
    [
        (AGAIN, "ring-full", tx.TRIES),
        (NO_BUFFERS, "no-buffers", tx.TRIES),
        (NETDOWN, "link-down", 2),
        (22, "refused", 2),
    ],
)
def test_what_the_kernel_does_not_take_is_dropped_and_not_sent_later(pair, error, reason, calls):
    """It takes 32 of 100 and then nothing; then it works again."""
    with out(pair) as o:
        budget(o, 32)
        asked = Send(o, iter(["real"] + [error] * (calls - 1)))
        o.send(*(numbered(60, n) for n in range(100)))
        o.rounds()
        assert asked.calls == calls
        assert o.counts() == {"bytes": 32 * 60, "xdp": 32, reason: 68}
        assert o.dropped() == 68
        assert o.free() == tx.SLOTS
        o.send(*(numbered(70, n) for n in range(100, 200)))
        o.rounds()
        came = [o.far.recv(2000) for _ in range(132)]
        assert came[:32] == [numbered(60, n) for n in range(32)]
        assert came[32:] == [numbered(70, n) for n in range(100, 200)]
        assert o.counts()["xdp"] == 132
        assert o.free() == tx.SLOTS
        o.far.settimeout(0.05)
        with pytest.raises(TimeoutError):
            o.far.recv(2000)


def test_what_was_cancelled_does_not_fill_the_ring(pair):
    with out(pair) as o:
        answers = Send(o, iter([NETDOWN] * 100))
        for _ in range(20):
            o.send(*(numbered(60, n) for n in range(200)))
            o.rounds()
        assert o.counts() == {"link-down": 4000}
        assert o.free() == tx.SLOTS
        answers.answers = iter([])
        o.send(*(numbered(60, n) for n in range(200)))
        o.rounds()
        assert [o.far.recv(2000) for _ in range(200)] == [numbered(60, n) for n in range(200)]
        assert o.free() == tx.SLOTS


def test_a_frame_that_the_interface_drops_is_counted(pair):
    """The kernel says EBUSY behind it, and has taken it."""
    with out(pair) as o:
        budget(o, 32)
        Send(o, iter([BUSY]))
        o.send(*(numbered(60, n) for n in range(10)))
        o.rounds()
        assert o.counts() == {"bytes": 9 * 60, "xdp": 9, "no-buffers": 1}
        assert o.dropped() == 1
        assert o.free() == tx.SLOTS


def test_link_down_up_and_gone(pair):
    f = pair[0]
    with out(pair) as o:
        f.run("ip", "link", "set", "dev", "out", "down")
        for _ in range(20):
            o.send(*(numbered(60, n) for n in range(100)))
            o.rounds()
        assert o.counts() == {"link-down": 2000}
        f.run("ip", "link", "set", "dev", "out", "up")
        o.send(*(numbered(60, n) for n in range(100)))
        o.rounds()
        assert [o.far.recv(2000) for _ in range(100)] == [numbered(60, n) for n in range(100)]
        f.run("ip", "link", "delete", "dev", "out")
        o.send(*(numbered(60, n) for n in range(100)))
        o.rounds()
        assert o.counts()["link-down"] == 2100
        assert o.dropped() == 2100
        assert o.port.peer().endswith("; not by AF_XDP: the interface was gone")
        o.port.statistics()
        assert o.port.peer().startswith("no interface 'out' now")


@pytest.mark.parametrize("idle", [True, False])
def test_an_interface_that_is_back_is_sent_to_by_af_xdp_again(pair, idle):
    """idle: nothing was sent while it was gone. Nothing is lost once it is back."""
    f, b = pair
    with out(pair) as o:
        f.run("ip", "link", "delete", "dev", "out")
        if not idle:
            o.send(numbered(60))
            o.rounds()
            assert o.counts() == {"link-down": 1}
        veth(f, "out", b, "eth0")
        o.far.close()
        o.far = raw(b)
        for _ in range(2):
            with f.inside():
                o.port.statistics()
            o.send(*(numbered(60, n) for n in range(20)))
            o.rounds()
            assert [o.far.recv(2000) for _ in range(20)] == [numbered(60, n) for n in range(20)]
        assert o.port.peer().endswith(PASSED)
        assert o.counts()["xdp"] == (20 if idle else 40)
        assert o.free() == tx.SLOTS


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda patch: patch.setattr(life, "SO_NETNS_COOKIE", 9999), "Linux before 5.14"),
        (
            lambda patch: patch.setattr(life, "is_in_our_namespace", lambda _: False),
            "another one",
        ),
    ],
)
def test_what_is_not_renewed_is_said_once(pair, monkeypatch, caplog, change, why):
    f, b = pair
    change(monkeypatch)
    with out(pair) as o:
        assert "renewed" not in o.port.peer()
        f.run("ip", "link", "delete", "dev", "out")
        o.send(numbered(60))
        o.rounds()
        veth(f, "out", b, "eth0")
        o.far.close()
        o.far = raw(b)
        for _ in range(3):
            with f.inside():
                o.port.statistics()
        assert why in o.port.peer()
        assert "not renewed for the interface that is back" in o.port.peer()
        assert caplog.text.count(why) == 1
        o.send(*(numbered(60, n) for n in range(20)))
        o.rounds()
        assert [o.far.recv(2000) for _ in range(20)] == [numbered(60, n) for n in range(20)]
        monkeypatch.undo()
        with f.inside():
            o.port.statistics()
        assert o.port.peer().endswith(PASSED)


def test_the_hosts_stack_is_kept_out_as_soon_as_that_can_be(pair, monkeypatch):
    """Of an interface that is back, when that could not be done at once."""
    f, b = pair
    with out(pair) as o:
        o.port.mute()

        def muted():
            return f.run("cat", "/proc/sys/net/ipv4/conf/out/arp_ignore").strip()

        assert muted() == "8"
        f.run("ip", "link", "delete", "dev", "out")
        veth(f, "out", b, "eth0")
        o.far.close()
        o.far = raw(b)
        monkeypatch.setattr(life, "is_in_our_namespace", lambda _: False)
        with f.inside():
            o.port.statistics()
        assert muted() == "0"
        assert "not renewed" in o.port.peer()
        monkeypatch.undo()
        with f.inside():
            o.port.statistics()
        assert muted() == "8"
        assert "renewed" not in o.port.peer()


def left_to_the_driver(o):
    """As if it sent without copies. Returns the ring's flags: 1, it is to be called."""
    o.xdp[tx.ZERO_COPY] = 1
    flags = ctypes.c_uint32.from_address(int(o.xdp[tx.WAKE]))
    assert flags.value == tx.NEED_WAKEUP
    return flags


def test_without_copies_frames_wait_for_the_driver(pair):
    """It is called only where it asks for that; what finds no slot is dropped, and not sent otherwise."""
    with out(pair) as o:
        flags, asked = left_to_the_driver(o), Send(o, iter([]))
        flags.value = 0
        for start in range(0, 1280, 256):
            o.send(*(numbered(60, n) for n in range(start, start + 256)))
            o.rounds()
        assert asked.calls == 0
        assert o.counts() == {"bytes": 1024 * 60, "xdp": 1024, "ring-full": 256}
        assert o.free() == 0
        flags.value = tx.NEED_WAKEUP
        o.send(numbered(70))  # finds no slot either, but the driver is called
        o.rounds()
        assert asked.calls == 1
        assert [o.far.recv(2000) for _ in range(1024)] == [numbered(60, n) for n in range(1024)]
        for n in range(3):  # frames that are in the ring, and others
            o.send(*(numbered(60, n) for n in range(40)), *[udp_frame(20)] * 2)
            o.send(*[udp_frame(20)] * 3, offload=PARTIAL)
            o.rounds()
            assert [o.far.recv(2000)[12:14] for _ in range(45)] == [b"\x88\xb5"] * 40 + [
                b"\x08\x00"
            ] * 5
        o.send(numbered(60))
        o.rounds()
        assert o.counts() == {
            "bytes": 1024 * 60 + 3 * (40 * 60 + 5 * len(udp_frame(20))) + 60,
            "xdp": 1024 + 3 * 42 + 1,
            "ring-full": 257,
        }
        assert o.far.recv(2000) == numbered(60)


@pytest.mark.parametrize("error", [AGAIN, BUSY, NO_BUFFERS, NETDOWN])
def test_without_copies_the_driver_may_come_to_it_later(pair, error):
    with out(pair) as o:
        left_to_the_driver(o)
        asked = Send(o, iter([error] * 2))
        for start in range(0, 30, 10):
            o.send(*(numbered(60, n) for n in range(start, start + 10)))
            o.rounds()
        assert asked.calls == 3
        assert [o.far.recv(2000) for _ in range(30)] == [numbered(60, n) for n in range(30)]
        assert o.counts() == {"bytes": 1800, "xdp": 30}


def test_without_copies_an_interface_that_is_gone(pair):
    with out(pair) as o:
        left_to_the_driver(o)
        pair[0].run("ip", "link", "delete", "dev", "out")
        for _ in range(2):
            o.send(*(numbered(60, n) for n in range(10)))
            o.rounds()
        assert o.counts() == {"bytes": 600, "xdp": 10, "link-down": 10}
        assert o.port.peer().endswith("; not by AF_XDP: the interface was gone")


def sends_by_packet_socket(pair, why, **options):
    with out(pair, **options) as o:
        assert re.search(why, o.port.peer()), o.port.peer()
        o.send(*(numbered(60, n) for n in range(10)))
        o.rounds()
        assert [o.far.recv(2000) for _ in range(10)] == [numbered(60, n) for n in range(10)]
        assert o.counts() == {"bytes": 600}


def test_switched_off(pair):
    sends_by_packet_socket(pair, r'packet socket \(xdp = "off"\)$', xdp=False)


def test_a_queueing_discipline_refuses(pair):
    pair[0].run("tc", "qdisc", "add", "dev", "out", "root", "pfifo")
    sends_by_packet_socket(pair, "not by AF_XDP: .*queueing discipline pfifo")


def test_several_queues_refuse():
    if not shutil.which("ethtool", path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("no ethtool")
    with namespaces("f", "b") as (f, b):
        veth(f, "out", b, "eth0")
        if os.cpu_count() == 1:
            pytest.skip("one CPU: one queue")
        f.run("ethtool", "-L", "out", "tx", "2")
        sends_by_packet_socket((f, b), "not by AF_XDP: .*2 queues")


def test_a_kernel_without_it_refuses(pair, monkeypatch):
    monkeypatch.setattr(xsk, "AF_XDP", 200)
    sends_by_packet_socket(pair, r"not by AF_XDP: the kernel has no AF_XDP \(CONFIG_XDP_SOCKETS\)")


def test_another_socket_on_the_queue_refuses(pair):
    with pair[0].inside():
        other = XdpSender()
        other.open("out", socket.if_nametoindex("out"), 1500)
    sends_by_packet_socket(pair, "not by AF_XDP: another program")
    other.close()
    with out(pair) as o:  # though the kernel lets go of it a moment later
        assert o.port.peer().endswith(PASSED)


def test_a_refused_sender_is_closed(pair):
    sender = XdpSender()
    before = open_fds()
    with pair[0].inside():
        sender.open("none", 99, 1500)
    assert "not by AF_XDP: [Errno 19] No such device" in sender.says()
    assert not sender.words.any()
    assert open_fds() <= before


PROGRAM = """
import ctypes, numba, os, resource, socket, subprocess, sys
from vforward.io.af_xdp import XdpSender
from vforward.io.af_xdp_tx import hand_over
hand_over.compile((numba.typeof(XdpSender().words), numba.uint64))  # Python's files are root's here
limit = int(sys.argv[1]) << 10
resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(4, 1)  # PR_SET_DUMPABLE: its files in /proc are its own
if libc.unshare(0x10000000 | 0x40000000):  # CLONE_NEWUSER, CLONE_NEWNET
    sys.exit("no user namespace: " + os.strerror(ctypes.get_errno()))
open("/proc/self/uid_map", "w").write("0 65534 1")
ip = ["ip", "link"]
subprocess.run([*ip, "add", "out", "type", "veth", "peer", "name", "far"], check=True)
subprocess.run([*ip, "set", "dev", "out", "up"], check=True)
sender = XdpSender()
sender.open("out", socket.if_nametoindex("out"), 1500)
print(sender.says())
"""


@pytest.mark.parametrize(("kib", "says"), [(4096, PASSED), (1024, "RLIMIT_MEMLOCK")])
def test_an_unprivileged_user_needs_room_to_lock_memory(kib, says):
    if os.geteuid():
        pytest.skip("cannot become an unprivileged user here")
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(kib)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path, "OPENBLAS_NUM_THREADS": "1"},  # unshare: one thread
    )
    if "no user namespace" in done.stderr:
        pytest.skip(done.stderr)
    assert says in done.stdout, done.stderr


@pytest.mark.parametrize("on", [True, False])
def test_tcp_crosses_whatever_is_offloaded(on):
    """From a through two ports to b and back."""
    octets = np.random.default_rng(1).bytes(5_000_000)
    with namespaces("a", "b", "f") as (a, b, f):
        for host, name, address in ((a, "near", "10.0.0.1/24"), (b, "out", "10.0.0.2/24")):
            veth(host, "eth0", f, name)
            host.address("eth0", address)
            if not on:
                offloads(host, "eth0", on=False)
        arena = Arena.create(f"test-{uuid.uuid4().hex[:12]}")
        pool = Pool(arena, 8192)
        graph = Graph(arena, pool)
        graph.add(SINK, "drop")
        ports = {name: AfPacketPort(name) for name in ("near", "out")}
        for number, (name, port) in enumerate(ports.items()):
            with f.inside():
                port.open(number, pool)
            graph.add(port.rx()[0], f"{name}-rx", **port.rx()[1])
            graph.add(port.tx()[0], f"{name}-tx", **port.tx()[1])
            graph.wire(f"{name}-tx", "drop", "drop")
        graph.wire("near-rx", "next", "out-tx")
        graph.wire("out-rx", "next", "near-tx")
        plan = graph.build()
        worker = threading.Thread(target=run, args=(plan.words(), False))
        worker.start()
        try:
            assert exchange(a, b, octets) == octets
        finally:
            plan.control[c.COMMAND] = c.STOP
            worker.join()
            counts = [graph.members[f"{name}-tx"].counts[tx.TxCount.XDP] for name in ports]
            for port in ports.values():
                port.close()
            pool.check()
            arena.close()
        assert all(counts)  # with offloads on, ARP


def exchange(a, b, octets):
    """What b gets of a."""
    with b.inside():
        server = socket.create_server(("10.0.0.2", 5000))
    with a.inside():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    got = bytearray()

    def serve():
        connection, _ = server.accept()
        with connection:
            connection.settimeout(60)
            while block := connection.recv(1 << 18):
                got.extend(block)

    thread = threading.Thread(target=serve)
    server.settimeout(60)
    thread.start()
    with server, client:
        client.settimeout(60)
        client.connect(("10.0.0.2", 5000))
        client.sendall(octets)
        client.shutdown(socket.SHUT_WR)
        thread.join()
    return bytes(got)
