# SPDX-License-Identifier: Apache-2.0
"""An af_packet port that sends by AF_XDP, fed by a memory port; a host at the other end."""

import contextlib
import ctypes
import socket
import struct
import uuid

import numpy as np
import pytest

from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.node import Labels, Node
from vforward.graph.scheduler import run
from vforward.io import af_xdp_tx as tx
from vforward.io import linux
from vforward.io.af_packet import AfPacketPort
from vforward.io.memory import MemoryPort, Offload
from vforward.jit.kernel import kernel
from vforward.layout import EDGE_HELD, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool, put
from vforward.testing import packets
from vforward.testing.namespaces import namespaces, veth

NEAR_MAC, FAR_MAC = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"


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
