# SPDX-License-Identifier: Apache-2.0
"""An af_packet port on each of two veth pairs, wired to each other, and hosts at the other ends."""

import contextlib
import socket
import struct
import threading
import time
import uuid
from ctypes import c_uint32

import numpy as np
import pytest

from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.node import Labels, Node
from vforward.graph.scheduler import run
from vforward.io import af_xdp_rx, linux
from vforward.io.af_packet import AfPacketPort
from vforward.io.tap_rx import IDLE_ROUNDS
from vforward.jit.kernel import kernel
from vforward.layout import (
    EDGE_HELD,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool, put
from vforward.testing import packets
from vforward.testing.namespaces import namespaces, veth

A_MAC, B_MAC = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"


PACKET_AUXDATA_SIZE = 20


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
