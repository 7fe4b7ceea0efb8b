# SPDX-License-Identifier: Apache-2.0
"""AfPacketPort with what Linux leaves to be done: partial checksums, super-frames, and the kernel's TCP."""

import contextlib
import hashlib
import shutil
import socket
import threading
import time
import uuid
from types import SimpleNamespace

import numpy as np
import pytest

import packet_worlds
from packet_worlds import KEEP, numbered, received, send_with_vnet, udp_frame, vnet_frame, wire
from vforward.graph.build import Graph
from vforward.graph.scheduler import run
from vforward.io import af_packet_ring, linux
from vforward.io import af_packet_rx as rx
from vforward.layout import (
    BUF_ROOM,
    CSUM_PARTIAL,
    GSO,
)
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.testing.namespaces import offloads

pytestmark = pytest.mark.root


place = packet_worlds.place
socket_mode = packet_worlds.socket_mode


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
