# SPDX-License-Identifier: Apache-2.0
"""An af_packet port that receives by AF_XDP, and what it has received kept; a host at the other end."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest

from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.node import Labels, Node
from vforward.graph.scheduler import run
from vforward.io import af_xdp_rx as rx
from vforward.io import linux
from vforward.io.af_packet import AfPacketPort
from vforward.io.memory import MemoryPort
from vforward.jit.kernel import kernel
from vforward.layout import EDGE_HELD, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.arena import Arena
from vforward.memory.pool import CACHE_HEADER, Pool, push_batch
from vforward.testing import packets
from vforward.testing.namespaces import namespaces, veth

NEAR_MAC, FAR_MAC = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"


NATIVE = "receives by AF_XDP, copied, 1 queue of 16384 slots, native XDP"


PASSED = "complete frames of one buffer go out by AF_XDP, others by packet socket"


SOON_S = 20


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
