# SPDX-License-Identifier: Apache-2.0
"""XdpReceiver and af-xdp-rx, behind their port: what only mode = "xdp" has. The rest: test_af_packet.py.

A raw socket at the other end of a veth pair sends; the kernel is the judge of what arrives, and for what
it never does its rings are forged.
"""

import contextlib
import ctypes
import errno
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest

import bpf
from fuzzing import open_fds
from vforward.errors import PortError
from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.node import Labels, Node
from vforward.graph.scheduler import run
from vforward.io import af_xdp_receiver as receiver
from vforward.io import af_xdp_rx as rx
from vforward.io import af_xdp_socket as xsk
from vforward.io import linux, shim
from vforward.io.af_packet import AfPacketPort
from vforward.io.af_xdp_socket import XdpSocket
from vforward.io.memory import MemoryPort
from vforward.jit.kernel import kernel
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, EDGE_HELD, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.arena import Arena
from vforward.memory.pool import CACHE_HEADER, Pool, push_batch
from vforward.testing import packets
from vforward.testing.namespaces import namespaces, veth

pytestmark = pytest.mark.root

NEAR_MAC, FAR_MAC = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"
NATIVE = "receives by AF_XDP, copied, 1 queue of 16384 slots, native XDP"
PASSED = "complete frames of one buffer go out by AF_XDP, others by packet socket"
SOON_S = 20
UDP_SEGMENT = 103


class NoEdges(Labels):
    pass


@kernel
def keep(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, kept: U64) -> None:
    """Hold every packet: kept[0] is how many, their rows follow."""
    for i in range(idx.size):
        kept[1 + np.int64(kept[0])] = idx[i]
        kept[0] += np.uint64(1)
        edge[i] = EDGE_HELD


KEEP = Node(name="test-keep", kernel=keep, edges=NoEdges)


class Kept:
    """A graph that keeps what a receive node brings; memory's frames go out by the port, if any."""

    def __init__(self, node, tables, port=None, buffers=4096):
        self.arena = Arena.create(f"test-{uuid.uuid4().hex[:12]}")
        self.pool = Pool(self.arena, buffers)
        self.kept = np.zeros(1 + buffers, np.uint64)
        self.memory = MemoryPort()
        self.port = port
        self.node, self.tables = node, tables

    def build(self):
        self.graph = Graph(self.arena, self.pool)
        self.graph.add(KEEP, "keep", kept=self.kept)
        self.graph.add(self.node, "rx", **self.tables)
        self.graph.wire("rx", "next", "keep")
        if self.port is not None:
            self.memory.open(1, self.pool)
            node, tables = self.memory.rx()
            self.graph.add(node, "memory-rx", **tables)
            node, tables = self.port.tx()
            self.graph.add(node, "tx", **tables)
            self.graph.wire("memory-rx", "next", "tx")
            self.graph.wire("tx", "drop", "keep")
        self.plan = self.graph.build()
        self.plan.control[c.VECTOR] = 256
        self.words = self.plan.words()

    def rounds(self):
        run(self.words, True)

    def until(self, condition, what):
        """Run until it is so."""
        deadline = time.monotonic() + SOON_S
        self.rounds()
        while not condition():
            assert time.monotonic() < deadline, what
            self.rounds()

    def take(self, n):
        """The next n frames, in the order in which they came; their buffers are free again."""
        self.until(lambda: int(self.kept[0]) >= n, f"{n} frames do not come")
        rows = self.rows()
        assert len(rows) == n
        frames = [self.frame(row) for row in rows]
        self.put(rows)
        return frames

    def rows(self):
        return [int(row) for row in self.kept[1 : 1 + int(self.kept[0])]]

    def frame(self, row):
        parts = []
        while row != 0xFFFFFFFF:
            meta = self.pool.meta[row]
            parts.append(bytes(self.pool.data[row, meta["off"] : int(meta["end"])]))
            row = int(meta["next"])
        return b"".join(parts)

    def put(self, rows):
        self.pool.put(np.array(rows, np.uint32))
        self.kept[0] = 0
        own = self.pool.caches[0]  # to where the worker finds them
        push_batch(self.pool.stack, own[CACHE_HEADER:], int(own[0]))
        own[0] = 0

    def counts(self, name="rx"):
        member = self.graph.members[name]
        counts = zip(member.node.counter_labels, map(int, member.counts), strict=True)
        return {label: count for label, count in counts if count}

    def close(self):
        for port in (self.memory, self.port):
            if port is not None:
                port.close()
                port.close()
        self.pool.check(self.rows())
        self.arena.close()


@pytest.fixture
def pair():
    """Namespaces f and b with f:near - b:eth0."""
    with namespaces("f", "b") as (f, b):
        veth(f, "near", b, "eth0")
        yield f, b


@contextlib.contextmanager
def opened(pair, buffers=4096, **options):
    """A port on near."""
    f, _ = pair
    port = AfPacketPort("near", mode="xdp", **options)
    made = Kept(rx.NODE, {}, port, buffers)
    try:
        with f.inside():
            port.open(0, made.pool)
        node, made.tables = port.rx()
        assert node is rx.NODE
        made.build()
        yield made
    finally:
        made.close()


def raw(host, interface="eth0"):
    """A packet socket there. Own transmissions are not seen."""
    with host.inside():
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(linux.ETH_P_ALL))
        made.bind((interface, linux.ETH_P_ALL))
    made.setsockopt(linux.SOL_PACKET, 23, 1)  # PACKET_IGNORE_OUTGOING
    made.setsockopt(linux.SOL_PACKET, 15, 1)  # PACKET_VNET_HDR
    made.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)  # SO_RCVBUFFORCE
    made.settimeout(5)
    return made


PLAIN = bytes(10)  # a virtio_net_hdr


def numbered(length, n=0):
    """A frame of that length whose bytes tell it from others; local experimental ethertype."""
    body = n.to_bytes(4, "big") + bytes((n * 31 + i * 7) % 251 for i in range(length))
    return (FAR_MAC + NEAR_MAC + b"\x88\xb5" + body)[:length]


def udp_frame(length, n=0, port=6):
    udp = packets.udp("10.0.0.1", "10.0.0.2", 5, port, n.to_bytes(4, "big") + bytes(length))
    ip = packets.ip4("10.0.0.1", "10.0.0.2", packets.PROTO_UDP, udp)
    return packets.eth(FAR_MAC, NEAR_MAC, packets.ETH_IP4, ip)


def on_interface(host, name="near"):
    """How the program there runs, as ip shows it; "": there is none."""
    found = re.search(r" (xdp\w*) ", host.run("ip", "link", "show", "dev", name))
    return found[1] if found else ""


def test_it_says_by_what_it_receives_and_sends(pair):
    f, _ = pair
    with opened(pair) as k:
        assert k.port.peer() == f"{NATIVE}; {PASSED}"
        assert on_interface(f) == "xdp"
    assert on_interface(f) == ""
    with opened(pair, xdp=False) as k:
        assert k.port.peer() == f'{NATIVE}; frames go out by packet socket (xdp = "off")'
    with opened(pair, ring_mib=1) as k:
        assert "1 queue of 512 slots" in k.port.peer()


@pytest.mark.parametrize("vector", [1, 3, 256])
def test_any_vector_goes_round_the_rings(pair, vector):
    with opened(pair, ring_mib=1) as k, raw(pair[1]) as far:
        k.plan.control[c.VECTOR] = vector
        for start in range(0, 1800, 200):
            for n in range(start, start + 200):
                far.send(PLAIN + numbered(60, n))
            assert k.take(200) == [numbered(60, n) for n in range(start, start + 200)]
        assert k.counts() == {"bytes": 1800 * 60}


@pytest.mark.parametrize("mtu", [1500, 1770, 1771, 3500, 3818])
def test_frames_up_to_the_mtu(mtu):
    """In slots of 2 KiB or of a page, one buffer or two; the kernel has long ones in two pieces."""
    with namespaces("f", "b") as (f, b):
        veth(f, "near", b, "eth0", mtu=mtu)
        with opened((f, b), mtu=mtu) as k, raw(b) as far:
            assert k.tables["queues"][rx.SLOT] == (2048 if mtu < 1771 else 4096)
            lengths = [60, BUF_ROOM, BUF_ROOM + 1, 3519, 3520, 3521, mtu + 13, mtu + 14]
            lengths = [length for length in lengths if length <= mtu + 14]
            for n, length in enumerate(lengths):
                far.send(PLAIN + numbered(length, n))
            assert k.take(len(lengths)) == [numbered(length, n) for n, length in enumerate(lengths)]
            k.memory.send([numbered(length) for length in lengths])
            k.rounds()
            sent = [far.recv(5000)[10:] for _ in lengths]
            assert sent == [numbered(length) for length in lengths]


def test_an_mtu_that_is_too_long():
    with namespaces("f", "b") as (f, b):
        veth(f, "near", b, "eth0", mtu=9000)
        text = '\'near\': mode = "xdp": an MTU of 9000 is more than the 3818 .* use mode = "auto"'
        with f.inside(), pytest.raises(PortError, match=text):
            AfPacketPort("near", mode="xdp").open(0, None)


def test_frames_that_find_no_slot_are_counted(pair):
    with opened(pair, ring_mib=1) as k, raw(pair[1]) as far:
        for n in range(700):
            far.send(PLAIN + numbered(64, n))
        lost = {"kernel-ring-full": 188, "kernel-too-long": 0}
        deadline = time.monotonic() + SOON_S
        while k.port.statistics() != lost:
            assert time.monotonic() < deadline, k.port.statistics()
        assert k.take(512) == [numbered(64, n) for n in range(512)]
        far.send(PLAIN + numbered(64, 1))
        assert k.take(1) == [numbered(64, 1)]
        assert k.port.statistics() == lost
        k.port.close()
        assert k.port.statistics() == lost


def test_frames_longer_than_a_slot_are_counted(pair):
    """The MTU was made more since."""
    f, b = pair
    with opened(pair) as k, raw(b) as far:
        for host, name in ((b, "eth0"), (f, "near")):
            host.run("ip", "link", "set", "dev", name, "mtu", "3000")
        for n, length in enumerate((60, 1793, 3014, 1792)):
            far.send(PLAIN + numbered(length, n))
        assert k.take(2) == [numbered(60), numbered(1792, 3)]
        assert k.port.statistics() == {"kernel-ring-full": 0, "kernel-too-long": 2}


def test_without_buffers_frames_wait_in_their_slots(pair):
    with opened(pair, buffers=64) as k, raw(pair[1]) as far:
        for n in range(100):
            far.send(PLAIN + numbered(64, n))
        k.until(lambda: len(k.rows()) == 64 and k.counts().get("no-buffer"), "they do not come")
        assert k.take(64) == [numbered(64, n) for n in range(64)]
        assert k.take(36) == [numbered(64, 64 + n) for n in range(36)]


def test_the_worker_can_sleep_on_it(pair):
    """On one descriptor, whatever sockets there are."""
    f, b = pair
    with opened(pair) as k:
        (fd,) = k.port.descriptors()
        for _ in range(2):
            assert select.select([fd], [], [], 0)[0] == []
            with raw(b) as far:
                far.send(PLAIN + numbered(60))
                assert select.select([fd], [], [], SOON_S)[0] == [fd]
                assert k.take(1) == [numbered(60)]
            assert select.select([fd], [], [], 0)[0] == []
            f.run("ip", "link", "delete", "dev", "near")
            veth(f, "near", b, "eth0")
            with f.inside():
                k.port.statistics()
            assert k.port.descriptors() == [fd]


def test_checksums_that_are_left_are_told(pair):
    """By the stack of b, and by a raw socket; a whole one is none."""
    _, b = pair
    b.address("eth0", "10.0.0.2/24")
    b.run("ip", "neighbor", "add", "10.0.0.1", "lladdr", "02:00:00:00:00:0b", "dev", "eth0")
    with opened(pair) as k, b.inside():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.sendto(b"left", ("10.0.0.1", 9))
            k.until(k.rows, "it does not come")
            (row,) = k.rows()
            meta = k.pool.meta[row]
            assert meta["flags"] & CSUM_PARTIAL
            assert (meta["csum_start"], meta["csum_off"]) == (meta["off"] + 34, 6)
            k.put([row])
            b.run("ethtool", "-K", "eth0", "tx", "off")
            far.sendto(b"whole", ("10.0.0.1", 9))
            k.until(k.rows, "it does not come")
            (row,) = k.rows()
            assert not k.pool.meta[row]["flags"] & CSUM_PARTIAL
        assert k.counts()["partial"] == 1


def has_tags(k):
    return "VLAN tags only if in the frame" not in k.port.peer()


@pytest.mark.parametrize("ethertype", [0x8100, 0x88A8])
def test_a_vlan_tag_beside_the_frame_is_put_into_it(pair, ethertype):
    """As a VLAN interface of b's would send it: to a driver that says it does that by itself."""
    _, b = pair
    tag = ethertype.to_bytes(2, "big") + b"\x00\x2a"
    with opened(pair) as k, raw(b) as far, b.inside():
        if not has_tags(k):
            pytest.skip("needs Linux 6.8")
        index = socket.if_nametoindex("eth0")
        with bpf.tags_beside(index, 42, ethertype):
            far.send(PLAIN + numbered(60))
            far.send(PLAIN + numbered(1514))
        far.send(PLAIN + numbered(60))
        wanted = [numbered(60), numbered(1514)]
        wanted = [frame[:12] + tag + frame[12:] for frame in wanted]
        assert k.take(3) == [*wanted, numbered(60)]


def test_in_skb_mode_a_tag_beside_the_frame_is_lost_unless_the_other_end_puts_it_in():
    frame = numbered(60)
    with (
        queues(1, 2) as pair,
        opened(pair) as k,
        raw(pair[1]) as far,
        pair[1].inside(),
        bpf.tags_beside(socket.if_nametoindex("eth0"), 42),
    ):
        far.send(PLAIN + frame)
        assert k.take(1) == [frame]
        pair[1].run("ethtool", "-K", "eth0", "txvlan", "off")
        far.send(PLAIN + frame)
        assert k.take(1) == [frame[:12] + b"\x81\x00\x00\x2a" + frame[12:]]


def test_where_tags_cannot_be_asked_for_the_driver_leaves_them(pair, monkeypatch):
    """As long as the port is open."""
    f, _ = pair
    monkeypatch.setattr("vforward.io.af_xdp_program.function_id", lambda name: 0)

    def taken():
        return "rx-vlan-offload: on" in f.run("ethtool", "-k", "near")

    assert taken()
    with opened(pair) as k:
        assert not has_tags(k)
        assert not taken()
    assert taken()


@contextlib.contextmanager
def queues(receive, send):
    """A pair whose near has so many queues, and eth0 sends by so many."""
    if (os.cpu_count() or 1) < 2 or not shutil.which("ethtool", path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("needs two CPUs, and ethtool")
    with namespaces("f", "b") as (f, b):
        veth(f, "near", b, "eth0")
        f.run("ethtool", "-L", "near", "rx", str(receive), "tx", "1")
        b.run("ethtool", "-L", "eth0", "rx", "1", "tx", str(send))
        yield f, b


@pytest.mark.parametrize("vector", [1, 7, 256])
def test_several_queues(vector):
    """Each flow in its order, and none is left out for others."""
    with queues(2, 2) as pair, opened(pair) as k, raw(pair[1]) as far:
        assert "copied, 2 queues of 8192 slots, native XDP" in k.port.peer()
        k.plan.control[c.VECTOR] = vector
        flows = 32
        for n in range(0, 640, flows):
            for port in range(flows):
                far.send(PLAIN + udp_frame(20, n, port))
        came = {port: [] for port in range(flows)}
        for frame in k.take(640):
            came[int.from_bytes(frame[36:38], "big")].append(int.from_bytes(frame[42:46], "big"))
        assert all(numbers == list(range(0, 640, flows)) for numbers in came.values())
        frames = k.tables["queues"].reshape(-1, rx.QUEUE_WORDS)[:, rx.FRAMES]
        assert frames[:2].all()
        assert frames.sum() == 640


def test_a_full_queue_does_not_keep_others_out():
    with queues(2, 2) as pair, opened(pair) as k:
        words = k.tables["queues"].reshape(-1, rx.QUEUE_WORDS)
        k.plan.control[c.VECTOR] = 4
        asked = []
        for _ in range(4):
            asked.append(int(words[0, rx.FIRST]))
            with raw(pair[1]) as far:
                for port in range(64):
                    far.send(PLAIN + udp_frame(20, 0, port))
            k.take(64)
        assert words[:2, rx.FRAMES].sum() == 256


def test_queues_that_come_later_get_sockets():
    with queues(1, 1) as pair, opened(pair) as k:
        f, b = pair
        f.run("ethtool", "-L", "near", "rx", "2")
        b.run("ethtool", "-L", "eth0", "tx", "2")
        with f.inside():
            k.port.statistics()
        assert "copied, 2 queues of 8192 slots" in k.port.peer()
        with raw(b) as far:
            for port in range(64):
                far.send(PLAIN + udp_frame(20, 0, port))
            assert len(k.take(64)) == 64
        words = k.tables["queues"].reshape(-1, rx.QUEUE_WORDS)
        assert words[:2, rx.FRAMES].all()


def test_more_queues_than_are_taken(monkeypatch):
    monkeypatch.setattr(rx, "QUEUES_MAX", 1)
    with queues(2, 2) as pair:
        refused(pair, "2 queues are more than the 1 that are taken; ethtool -L near combined 1")


def test_in_skb_mode_where_the_driver_refuses(caplog):
    """A veth does when the other end sends by more queues than it receives by."""
    with queues(1, 2) as pair, opened(pair) as k, raw(pair[1]) as far:
        said = k.port.peer()
        assert "in SKB mode, where super-frames, and VLAN tags beside frames, are lost (" in said
        assert "(native XDP: veth: the other end sends by more queues than this one has" in said
        assert "ethtool -L near rx N)" in said
        assert "in SKB mode" in caplog.text
        assert on_interface(pair[0]) == "xdpgeneric"
        for n in range(200):
            far.send(PLAIN + numbered(60 + n, n))
        assert k.take(200) == [numbered(60 + n, n) for n in range(200)]
        k.memory.send([numbered(60, n) for n in range(200)])
        k.rounds()
        assert [far.recv(2000)[10:] for _ in range(200)] == [numbered(60, n) for n in range(200)]
        assert k.counts("tx")["xdp"] == 200


def test_in_skb_mode_super_frames_are_lost():
    """And counted, if they are longer than a slot; shorter ones are one frame. Natively veth has them
    cut before.
    """
    for send, mode in ((1, "native XDP"), (2, "SKB mode")):
        with queues(1, send) as pair, opened(pair) as k:
            assert mode in k.port.peer()
            _, b = pair
            b.address("eth0", "10.0.0.2/24")
            neighbor = ("10.0.0.1", "lladdr", "02:00:00:00:00:0b", "dev", "eth0")
            b.run("ip", "neighbor", "add", *neighbor)
            with b.inside():
                far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with far:
                far.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
                far.sendto(bytes(10_000), ("10.0.0.1", 9))
                far.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 500)
                far.sendto(bytes(1000), ("10.0.0.1", 9))
            came = [1000] * 10 + [500] * 2 if send == 1 else [1000]
            assert [len(frame) - 42 for frame in k.take(len(came))] == came
            assert k.port.statistics()["kernel-too-long"] == send - 1


def refused(pair, text, **options):
    """The port cannot be opened, says why, and leaves nothing."""
    f, _ = pair
    before = open_fds()
    port = AfPacketPort("near", mode="xdp", **options)
    with f.inside(), pytest.raises(PortError, match=f"'near': mode = \"xdp\": .*{text}"):
        port.open(0, None)
    assert port.descriptors() == []
    assert open_fds() <= before
    port.close()


@pytest.mark.parametrize("flags", [0, bpf.SKB_MODE])
def test_another_xdp_program_is_left_alone(pair, flags):
    with pair[0].inside():
        index = socket.if_nametoindex("near")
    with contextlib.ExitStack() as stack:
        with pair[0].inside():
            stack.enter_context(bpf.xdp(index, flags=flags))
        before = on_interface(pair[0])
        refused(pair, "another XDP program is on the interface; ip link set dev near xdp off")
        assert on_interface(pair[0]) == before != ""


def test_another_socket_on_a_queue(pair):
    with pair[0].inside():
        other = XdpSocket(receive=64)
        other.bind(socket.if_nametoindex("near"))
    refused(pair, "another program has an AF_XDP socket on the interface")
    assert on_interface(pair[0]) == ""
    other.close()


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        ("vf_xsk_map", errno.EPERM, "needs CAP_NET_ADMIN and CAP_BPF: run as root"),
        ("vf_xsk_map", errno.ENOSYS, r"has no bpf\(2\)"),
        ("vf_xsk_map", errno.EINVAL, "too old; Linux 5.9 has all"),
        ("vf_xsk_map_set", errno.E2BIG, "a place in the XSKMAP: Argument list too long"),
        ("vf_xdp_program", errno.EPERM, "needs CAP_NET_ADMIN and CAP_BPF"),
        ("vf_xdp_program", errno.EINVAL, "too old; Linux 5.9 has all"),
        ("vf_xdp_attach", errno.EPERM, "needs CAP_NET_ADMIN and CAP_BPF"),
        ("vf_xdp_attach", errno.EINVAL, "to attach it: Invalid argument; Linux 5.9 has all"),
    ],
)
def test_each_step_that_the_kernel_refuses(pair, monkeypatch, function, error, text):
    if function != "vf_xsk_map_set":
        monkeypatch.setattr("vforward.io.af_xdp_program.function_id", lambda name: 0)
    monkeypatch.setattr(shim.lib, function, lambda *_: -error, raising=False)
    refused(pair, text)


def test_a_kernel_without_af_xdp(pair, monkeypatch):
    monkeypatch.setattr(xsk, "AF_XDP", 200)
    refused(pair, r"the kernel has no AF_XDP \(CONFIG_XDP_SOCKETS\)")


PROGRAM = """
import sys
from vforward.errors import PortError
from vforward.io.af_packet import AfPacketPort
port = AfPacketPort("near", mode="xdp")
try:
    port.open(0, None)
except PortError as error:
    print(error)
else:
    print(port.peer())
sys.stdout.flush()
sys.stdin.read()
"""


def process(pair, *before):
    """The port, open in a process of its own; what that says."""
    command = pair[0].command(*before, sys.executable, "-c", PROGRAM)
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return started, started.stdout.readline()


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (("setpriv", "--bounding-set=-bpf,-sys_admin"), "needs CAP_NET_ADMIN and CAP_BPF"),
        (("setpriv", "--bounding-set=-net_admin,-sys_admin"), "needs CAP_NET_ADMIN and CAP_BPF"),
        (("setpriv", "--bounding-set=-net_raw"), "needs CAP_NET_RAW"),
        (("unshare", "-Ur"), "needs CAP_NET_"),
    ],
)
def test_without_a_capability_it_says_so(pair, before, text):
    if os.geteuid() or not shutil.which(before[0]):
        pytest.skip("cannot give up a capability here")
    started, said = process(pair, *before)
    with started:
        started.stdin.close()
    assert text in said, said
    assert on_interface(pair[0]) == ""


def test_a_process_that_is_killed_leaves_no_program(pair):
    f, b = pair
    started, said = process(pair)
    with started:
        assert said.startswith(NATIVE)
        assert on_interface(f) == "xdp"
        started.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + SOON_S
    while on_interface(f):
        assert time.monotonic() < deadline, "it is still there"
    with raw(f, "near") as near, raw(b) as far:
        far.send(PLAIN + numbered(60))
        assert near.recv(2000)[10:] == numbered(60)
    with opened(pair) as k:
        assert k.port.peer().startswith(NATIVE)


def test_linux_is_given_nothing_of_what_comes_in(pair):
    f, b = pair
    with raw(f, "near") as near, raw(b) as far:
        with opened(pair) as k:
            far.send(PLAIN + numbered(60, 1))
            assert k.take(1) == [numbered(60, 1)]
        deadline = time.monotonic() + SOON_S
        near.settimeout(0.05)
        got = b""
        while not got:  # an interface without a program, again
            assert time.monotonic() < deadline
            far.send(PLAIN + numbered(60, 2))
            with contextlib.suppress(TimeoutError):
                got = near.recv(2000)[10:]
        assert got == numbered(60, 2)


def test_both_ways_at_once(pair):
    dice = random.Random(1)
    with opened(pair) as k, raw(pair[1]) as far:
        sent, got = [], []
        for n in range(60):
            here = [numbered(dice.randint(18, 1514), n) for _ in range(dice.randint(0, 40))]
            there = [numbered(dice.randint(18, 1514), n) for _ in range(dice.randint(0, 40))]
            k.memory.send(here)
            for frame in there:
                far.send(PLAIN + frame)
            got += k.take(len(there))
            sent += there
            k.rounds()
            assert [far.recv(2000)[10:] for _ in here] == here
        assert got == sent
        counts = k.counts("tx")
        assert set(counts) == {"bytes", "xdp"}


def test_gone_and_back(pair):
    f, b = pair
    with opened(pair) as k:
        for _ in range(3):
            f.run("ip", "link", "delete", "dev", "near")
            k.memory.send([numbered(60)])
            k.rounds()
            with f.inside():
                k.port.statistics()
            assert k.port.peer() == "no interface 'near' now; it is waited for"
            assert not k.port.carrier()
            k.memory.send([numbered(60)])
            k.rounds()
            veth(f, "near", b, "eth0")
            with f.inside():
                k.port.statistics()
            assert k.port.carrier()
            assert k.port.peer() == f"{NATIVE}; {PASSED}"
            assert len(k.rows()) == 2  # dropped
            k.put(k.rows())
            with raw(b) as far:
                far.send(PLAIN + numbered(60, 5))
                assert k.take(1) == [numbered(60, 5)]
                k.memory.send([numbered(60, 6)])
                k.rounds()
                assert far.recv(2000)[10:] == numbered(60, 6)
        assert k.counts("tx")["link-down"] == 6


def test_gone_and_back_before_anybody_looks(pair):
    f, b = pair
    with opened(pair) as k:
        f.run("ip", "link", "delete", "dev", "near")
        veth(f, "near", b, "eth0")
        with f.inside():
            k.port.statistics()
        with raw(b) as far:
            far.send(PLAIN + numbered(60, 5))
            assert k.take(1) == [numbered(60, 5)]
            k.memory.send([numbered(60, 6)])
            k.rounds()
            assert far.recv(2000)[10:] == numbered(60, 6)


@contextlib.contextmanager
def taken_by_a_socket(index):
    other = XdpSocket(receive=64)
    other.bind(index)
    yield
    other.close()


@pytest.mark.parametrize(
    ("taken", "why"),
    [
        (bpf.xdp, "another XDP program is on the interface"),
        (taken_by_a_socket, "another program has an AF_XDP socket on the interface"),
    ],
)
def test_back_but_taken_by_another_program(pair, caplog, taken, why):
    """That is told once, however often it is tried."""
    f, b = pair
    with opened(pair) as k:
        f.run("ip", "link", "delete", "dev", "near")
        veth(f, "near", b, "eth0")
        with f.inside():
            with taken(socket.if_nametoindex("near")):
                for _ in range(3):
                    k.port.statistics()
                    assert k.port.peer().startswith(f"receives nothing: {why}")
            assert caplog.text.count(why) == 1
            k.port.statistics()
        assert k.port.peer().startswith(NATIVE)
        with raw(b) as far:
            far.send(PLAIN + numbered(60))
            assert k.take(1) == [numbered(60)]


def test_back_where_the_port_is_not(pair):
    f, b = pair
    with opened(pair) as k:
        f.run("ip", "link", "delete", "dev", "near")
        veth(f, "near", b, "eth0")
        k.port.statistics()
        assert k.port.peer().startswith(
            "receives nothing: the interface is back, but in a namespace"
        )
        with f.inside():
            k.port.statistics()
        assert k.port.peer().startswith(NATIVE)


def test_moved_away_it_has_no_program_any_more(pair):
    f, b = pair
    with namespaces("elsewhere") as (elsewhere,), opened(pair) as k:
        f.run("ip", "link", "set", "dev", "near", "netns", str(elsewhere.pid))
        with f.inside():
            k.port.statistics()
        assert on_interface(elsewhere) == ""
        elsewhere.run("ip", "link", "set", "dev", "near", "netns", str(f.pid))
        f.run("ip", "link", "set", "dev", "near", "up")
        with f.inside():
            k.port.statistics()
        with raw(b) as far:
            far.send(PLAIN + numbered(60, 5))
            assert k.take(1) == [numbered(60, 5)]


def test_set_down_and_up(pair):
    f, b = pair
    with opened(pair) as k:
        for _ in range(3):
            f.run("ip", "link", "set", "dev", "near", "down")
            k.memory.send([numbered(60)])
            k.rounds()
            with f.inside():
                k.port.statistics()
            f.run("ip", "link", "set", "dev", "near", "up")
            with raw(b) as far:
                far.send(PLAIN + numbered(60, 5))
                assert k.take(2)[1] == numbered(60, 5)
        assert k.counts("tx") == {"link-down": 3}


def test_it_is_not_closed_under_a_worker(pair):
    """Rings are unmapped at a quiet point, however long that takes."""
    f, _ = pair
    with opened(pair) as k:
        answers = iter([False, False, True])
        seen = []

        def quiesce():
            seen.append(int(k.tables["queues"][rx.OPEN]))
            where = int(k.tables["queues"][rx.PRODUCER])
            assert ctypes.c_uint32.from_address(where).value == 0  # and no crash
            return next(answers)

        k.port.attach(quiesce)
        f.run("ip", "link", "delete", "dev", "near")
        k.port.statistics()
        assert seen == [0, 0, 0]
        k.port.attach(lambda: True)


class Forged:
    """The memory and the rings of a socket, in plain memory; the test is the kernel."""

    def __init__(self, slots=8, slot=2048):
        self.memory = np.zeros(slots * slot, np.uint8)
        self.received = np.zeros(slots, rx.XDP_DESC)
        self.free = np.zeros(slots, np.uint64)
        self.indices = np.zeros(4, np.uint32)  # received, taken, free, flags
        self.calls = []
        kind = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 5)
        self.function = kind(self.call)
        self.table = np.zeros(rx.QUEUES_MAX * rx.QUEUE_WORDS, np.uint64)
        words, at = self.table, self.indices.ctypes.data
        words[rx.PORT], words[rx.FD], words[rx.OPEN] = 3, 77, 1
        words[rx.MEMORY], words[rx.SIZE] = self.memory.ctypes.data, self.memory.size
        words[rx.SLOT], words[rx.SLOTS] = slot, slots
        words[rx.RING], words[rx.PRODUCER] = self.received.ctypes.data, at
        words[rx.CONSUMER], words[rx.FILL] = at + 4, self.free.ctypes.data
        words[rx.FILL_PRODUCER] = at + 8
        words[rx.RECEIVE] = np.frombuffer(self.function, np.uint64)[0]
        words[rx.MESSAGE] = 5

    def call(self, *arguments):
        self.calls.append(arguments)
        return 0

    def start(self, index, filled):
        """Where the indices are."""
        self.table[rx.AT], self.table[rx.FILLED] = index, filled
        self.indices[:3] = index, index, filled

    def give(self, *descriptors):
        """As the kernel: (address, length)."""
        for where, length in descriptors:
            at = int(self.indices[0])
            entry = self.received[at % self.received.size]
            entry["addr"], entry["len"] = where & 0xFFFFFFFFFFFFFFFF, length
            self.indices[0] = (at + 1) & 0xFFFFFFFF

    def put(self, where, frame):
        self.memory[where : where + len(frame)] = np.frombuffer(frame, np.uint8)
        return where, len(frame)


@contextlib.contextmanager
def forged(buffers=64, **options):
    kernel = Forged(**options)
    made = Kept(rx.NODE, {"queues": kernel.table}, None, buffers)
    try:
        made.build()
        yield made, kernel
    finally:
        made.close()


def test_what_cannot_lie_in_the_memory_is_dropped():
    size = 8 * 2048
    with forged() as (k, kernel):
        good = kernel.put(2048 + 256, numbered(100))
        for wrong in (
            (size, 60),
            (size - 59, 60),
            (-60, 60),
            (-1, 14),
            (1 << 62, 60),
            (0x7FFFFFFFFFFFFFFF, 60),
            (256, 13),
            (256, 0),
            (256, size),
            (256, 0xFFFFFFFF),
        ):
            kernel.give(wrong, good)
            k.rounds()
            assert k.take(1) == [numbered(100)]
        assert k.counts() == {"bytes": 1000, "truncated": 10}
        assert kernel.indices[1] == kernel.indices[0]
        kernel.give((size - 60, 60), (0, 14))
        k.rounds()
        assert len(k.take(2)) == 2


@pytest.mark.parametrize("start", [0, 5, 0xFFFFFFFA, 0x7FFFFFFD])
def test_indices_go_round(start):
    with forged() as (k, kernel):
        kernel.start(start, 0xFFFFFFFD)
        for n in range(40):
            slot = 2048 * (n * 5 % 8)
            kernel.give(kernel.put(slot + 256, numbered(60, n)))
            k.rounds()
            assert k.take(1) == [numbered(60, n)]
            assert kernel.indices[1] == (start + n + 1) & 0xFFFFFFFF
            filled = int(kernel.indices[2])
            assert filled == (0xFFFFFFFD + n + 1) & 0xFFFFFFFF
            assert kernel.free[(filled - 1) % 8] == slot


def test_an_index_that_cannot_be_is_bounded():
    """More frames than there are slots: no more than these are looked at."""
    with forged() as (k, kernel):
        kernel.received["addr"], kernel.received["len"] = 256, 60
        kernel.indices[0] = 1000
        run(k.words, True)
        assert kernel.indices[1] <= 1000
        assert k.counts()["bytes"] == 60 * len(k.rows())


def test_a_long_frame_that_finds_too_few_buffers():
    with forged(buffers=2, slots=8, slot=4096) as (k, kernel):
        long, short = kernel.put(256, numbered(3800)), kernel.put(4352, numbered(60))
        kernel.give(short, long, short)
        k.rounds()
        assert k.take(2) == [numbered(60)] * 2
        kernel.give(long)
        k.rounds()
        assert k.take(1) == [numbered(3800)]
        assert k.counts() == {"bytes": 3920, "no-chain": 1}


def test_meta_says_by_which_port_it_came():
    with forged() as (k, kernel):
        kernel.give(kernel.put(256, numbered(60)))
        k.rounds()
        assert [int(k.pool.meta[row]["rx_port"]) for row in k.rows()] == [3]


@pytest.mark.parametrize("flags", [0, 1])
def test_a_driver_that_sleeps_is_called(flags):
    """Only one without copies, and only if it asks for that: its flag is looked at in each round."""
    with forged() as (k, kernel):
        kernel.indices[3] = flags
        k.rounds()
        assert kernel.calls == []
        kernel.table[rx.WAKE] = kernel.indices.ctypes.data + 12
        run(k.words, True)
        calls = len(kernel.calls)
        assert calls >= 1 if flags else calls == 0
        kernel.give(kernel.put(256, numbered(60)))
        run(k.words, True)
        assert (len(kernel.calls) > calls) == bool(flags)
        assert all(call == (77, 5, 1, linux.MSG_DONTWAIT) for call in kernel.calls)


def test_a_closed_table_is_not_looked_at():
    with forged() as (k, kernel):
        kernel.give(kernel.put(256, numbered(60)))
        kernel.table[rx.OPEN] = 0
        kernel.table[rx.FIRST] = 7
        k.rounds()
        assert k.rows() == []
        kernel.table[rx.OPEN] = 1
        k.rounds()
        assert k.take(1) == [numbered(60)]


def test_the_most_slots_that_fit():
    assert [receiver._power_of_two(n) for n in (0, 1, 2, 3, 1023, 1024)] == [0, 1, 2, 2, 512, 1024]
