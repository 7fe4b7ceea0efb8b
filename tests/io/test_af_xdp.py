# SPDX-License-Identifier: Apache-2.0
"""Sending by AF_XDP: frames of every kind, in order, and what goes by packet socket."""

import random
import socket
import threading
import uuid
from collections import Counter

import numpy as np
import pytest

import xdp_sender_worlds
from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.scheduler import run
from vforward.io import af_xdp_tx as tx
from vforward.io import linux
from vforward.io.af_packet import AfPacketPort
from vforward.io.memory import Offload
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.testing.namespaces import namespaces, offloads, veth
from xdp_sender_worlds import PARTIAL, PASSED, SINK, numbered, out, udp_frame

pytestmark = pytest.mark.root


pair = xdp_sender_worlds.pair


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
