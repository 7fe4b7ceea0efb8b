"""The netmap port: frames between a pipe and a VALE switch, through a graph; peers that lie."""

import contextlib
import os
import select
import socket
import threading
import time

import numpy as np
import pytest

from netmap_worlds import received, until
from vforward.errors import PortError
from vforward.io import netmap_link
from vforward.io.netmap import NetmapPort
from vforward.io.null import NullPort
from vforward.layout import BUF_ROOM
from vforward.memory.arena import Arena
from vforward.rings import netmap
from vforward.rings.netmap_layout import RX
from vforward.rings.netmap_pipe import pipe_waits
from vforward.rings.netmap_server import Server
from wire import Wire

HEADER = b"\xff" * 6 + b"\2\0\0\0\0\1"
SIZES = [60, 2048, 2049, BUF_ROOM, BUF_ROOM + 1, 65549]
FRAMES = [HEADER + bytes((i * size) % 251 for i in range(size - 12)) for size in SIZES]


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("VFORWARD_NETMAP", str(tmp_path / "d" / "s"))
    monkeypatch.setattr(
        netmap_link, "FIRST_S", netmap.ANSWER_S
    )  # there is no thread for a next attempt
    with Server() as running:
        yield running


@pytest.fixture
def wire(server):
    with Arena.create("netmap") as arena:
        made = Wire(
            arena,
            NetmapPort("netmap:x{1@conf:slots=64"),
            NetmapPort("vale0:a@conf:slots=64", mac=b"\2\0\0\0\0\7"),
        )
        yield made
        made.close()


@pytest.fixture
def peers(wire):
    with netmap.open("netmap:x}1") as pipe, netmap.open("vale0:b@conf:slots=64") as station:
        yield pipe, station


def came(wire, n, vector=256):
    """Run until n bytes have come in by the VALE port: the switch has a thread of its own."""
    end = time.monotonic() + 20
    while wire.counts("rx1")["bytes"] < n:
        assert time.monotonic() < end
        wire.run(vector)


@pytest.mark.parametrize("vector", [1, 2, 256])
def test_frames_go_through_unchanged_both_ways(wire, peers, vector):
    pipe, station = peers
    for frame in FRAMES:
        assert pipe.inject(frame) == len(frame)
    pipe.txsync()
    wire.run(vector)
    assert received(station, len(FRAMES)) == FRAMES
    for frame in FRAMES[:2]:
        station.inject(frame)
    station.txsync()
    came(wire, len(FRAMES[0]) + len(FRAMES[1]), vector)
    assert received(pipe, 2) == FRAMES[:2]
    size = sum(map(len, FRAMES))
    assert wire.counts("rx0") == {"bytes": size, "no-buffer": 0, "bad": 0}
    assert wire.counts("tx1") == {"bytes": size, "ring-full": 0, "too-long": 0, "no-server": 0}
    assert wire.pool.free == wire.pool.size
    wire.pool.check()


def test_a_peer_that_does_not_read_loses_packets(wire, peers):
    pipe, station = peers
    frame = HEADER + bytes(48)
    for i in range(3 * 63):
        while not station.inject(frame):
            assert station.poll(netmap.WRITE, 20) == netmap.WRITE
        station.txsync()
        came(wire, (i + 1) * len(frame))
    assert wire.counts("tx0")["ring-full"] == 3 * 63 - 63
    assert len(received(pipe, 63)) == 63
    wire.pool.check()


def test_a_long_frame_is_bad(wire, peers):
    pipe, station = peers
    pipe.inject(bytes(40 * 2048))
    pipe.inject(FRAMES[0])
    pipe.txsync()
    wire.run()
    assert wire.counts("rx0") == {"bytes": 60, "no-buffer": 0, "bad": 1}
    assert received(station, 1) == [FRAMES[0]]


@pytest.mark.parametrize(
    ("field", "value"), [("buf_idx", 0), ("buf_idx", 1), ("buf_idx", 2**32 - 1), ("len", 2049)]
)
def test_slots_that_make_no_sense_are_skipped(wire, peers, field, value):
    pipe, station = peers
    for _ in range(3):
        pipe.inject(FRAMES[0])
    pipe.txsync()
    rx = wire.ports[0]._link.port.rx
    rx.slots[field][1] = value  # as a hostile peer can: it maps our ring
    wire.run()
    assert wire.counts("rx0")["bad"] == 1
    assert received(station, 2) == FRAMES[:1] * 2
    wire.pool.check()


def test_random_memory_harms_only_the_port(wire, peers):
    pipe, _ = peers
    rng = np.random.default_rng(2)
    for _ in range(200):
        end = int(rng.choice([128, 4096, 12000]))
        pipe.memory[:end] = rng.integers(0, 256, end, np.uint8)
        wire.run()
        wire.pool.check()


def test_a_sleeping_worker_is_woken(wire, peers):
    pipe, station = peers
    woken = [port.descriptors()[0] for port in wire.ports]
    for sender, which in ((pipe, 0), (station, 1)):
        wire.run()
        wire.run()
        assert select.select(woken, [], [], 0)[0] == []
        sender.inject(HEADER + bytes(48))
        sender.txsync()
        assert select.select(woken, [], [], 20)[0] == [woken[which]]
        wire.run()
        wire.run()
        assert select.select(woken, [], [], 0)[0] == []


@pytest.mark.parametrize("while_away", [False, True])
def test_a_worker_that_takes_over_an_end_sleeps(server, while_away):
    """The end's last owner was killed while it slept: it had asked for a wakeup."""
    frame = HEADER + bytes(48)
    with Arena.create("netmap") as arena, netmap.open("netmap:x}1@conf:slots=64") as peer:
        with netmap.open("netmap:x{1") as dead:
            assert dead.poll(netmap.READ, 0) == 0
            if not while_away:
                peer.inject(frame)
                peer.txsync()
        until(lambda: server.connections == 1)
        if while_away:
            peer.inject(frame)
            peer.txsync()
        with contextlib.closing(Wire(arena, NetmapPort("netmap:x{1"), NullPort())) as wire:
            for _ in range(3):
                wire.run()
            assert wire.counts("rx0")["bytes"] == len(frame)
            woken = wire.ports[0].descriptors()
            assert select.select(woken, [], [], 0)[0] == []
            peer.inject(frame)
            peer.txsync()
            assert select.select(woken, [], [], 20)[0] == woken
            wire.run()
            wire.run()
            assert select.select(woken, [], [], 0)[0] == []


def test_a_peer_cannot_make_the_worker_wait(wire, peers):
    """It does not read what wakes it, and takes requests back unanswered; and the descriptor blocks."""
    pipe, station = peers
    ours = wire.ports[0]._link.port
    for port in (pipe, ours):
        os.set_blocking(port.bell, True)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours._bell.send(bytes(4096), socket.MSG_DONTWAIT)
    wire.run()
    pipe_waits(ours.krings, RX, 0)
    pipe_waits(pipe.krings, RX, 1)
    station.inject(HEADER + bytes(48))
    station.txsync()
    running = threading.Thread(target=came, args=(wire, 60), daemon=True)
    running.start()
    running.join(30)
    assert not running.is_alive()
    assert received(pipe, 1) == [HEADER + bytes(48)]


def test_what_cannot_be_opened(server):
    port = NetmapPort("vale0:a")
    with pytest.raises(PortError, match="not open"):
        port.rx()
    with netmap.open("vale0:a"), pytest.raises(PortError, match="busy"):
        port.open(1, None)
    assert port.peer() == "no netmap server"
    port.close()
    port.close()
    assert port.descriptors() == []
