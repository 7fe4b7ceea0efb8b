# SPDX-License-Identifier: Apache-2.0
"""memif: clients that break the rules, by hand, message by message and word by word."""

import mmap
import os
import threading

import numpy as np
import pytest

from fuzzing import cases, open_fds
from memif_worlds import Peer, ends_in, until
from vforward.io import memif_link, unix
from vforward.rings import memif, memif_ring


@pytest.fixture
def ends(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    with ends_in(tmp_path) as make:
        yield make


@pytest.fixture
def server(ends):
    return ends()


@pytest.fixture
def peer(server, tmp_path):
    made = Peer(tmp_path / "memif.sock")
    yield made
    made.close()


def test_the_hello(peer):
    kind, name, first, last, region, m2s, s2m, log2 = memif.FIELDS[memif.HELLO].unpack_from(
        peer.hello
    )
    assert (kind, first, last, m2s, s2m) == (memif.HELLO, 0x200, 0x200, 0, 0)
    assert name.rstrip(b"\0") == b"vforward"
    assert (region, log2) == (15, 14)


REFUSALS = [
    (lambda p: p.init(version=0x100), "Incompatible memif version 1.0"),
    (lambda p: p.init(id=7), "ID not found: 7"),
    (lambda p: p.init(mode=1), "Only ethernet"),
    (lambda p: p.region(), "out of turn"),
    (lambda p: (p.init(), p.region(seals=0), p.ring(True, 0), p.ring(False, 4096), p.connect())[4],
     "not sealed"),
    (lambda p: (p.init(), p.region(declared=1 << 20), p.ring(True, 0), p.ring(False, 4096),
                p.connect())[4], "1048576 bytes in a file of 65536"),
    (lambda p: (p.init(), p.region(declared=0))[1], "Invalid region"),
    (lambda p: (p.init(), p.region(index=1))[1], "Invalid region"),
    (lambda p: (p.init(), p.region(), p.ring(True, 0, log2=15))[2], "Invalid ring size"),
    (lambda p: (p.init(), p.region(), p.ring(True, 0, index=1))[2], "Invalid ring index"),
    (lambda p: (p.init(), p.region(), p.ring(True, 0, private=4))[2], "Private headers"),
    (lambda p: (p.init(), p.region(), p.connect())[2], "without a ring"),
    (lambda p: (p.init(), p.region(), p.ring(True, 0), p.ring(False, 65536 - 512), p.connect())[4],
     "not in its region"),
    (lambda p: (p.init(), p.region(), p.ring(True, 0), p.ring(False, 4100), p.connect())[4],
     "not aligned"),
    (lambda p: (p.init(), p.region(), p.ring(True, 0), p.ring(False, 64), p.connect())[4], "overlap"),
    (lambda p: (p.init(), p.region(), p.ring(True, 0), p.ring(False, 4096, region=3),
                p.connect())[4], "which is none"),
    (lambda p: (p.init(), p.region(), p.ring(True, 0), p.ring(False, 4096), p.connect())[4],
     "wrong cookie"),
    (lambda p: (p.say(b"short"), p.answer())[1], "Invalid message size: 5"),
    (lambda p: (p.say(memif.pack(memif.HELLO, b"", 0, 0, 0, 0, 0, 0)), p.answer())[1],
     "Invalid message type"),
    (lambda p: (p.say(memif.pack(memif.ADD_REGION, 0, 9)), p.answer())[1], "no file descriptor"),
    (lambda p: (p.say(memif.pack(memif.CONNECT, b""), 0, 1), p.answer())[1], "2 file descriptors"),
]  # fmt: skip


@pytest.mark.parametrize(("talk", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_who_says_something_wrong_is_refused_and_told_why(server, peer, tmp_path, talk, text):
    before = open_fds()
    kind, reason = talk(peer)
    assert kind == memif.DISCONNECT
    assert text in reason
    until(lambda: server.counts("rx0")["refused"] == 1, server)
    assert len(open_fds() - before) <= 4  # those of the peer's own making
    again = Peer(tmp_path / "memif.sock").all()
    until(lambda: server.turn == memif_ring.LIVE)
    again.close()


def test_an_eventfd_that_is_none_is_refused(server, peer):
    read, write = os.pipe()
    peer.init(), peer.region()
    memory = mmap.mmap(peer.fds[0], 1 << 16)
    memory[0:4] = memory[4096:4100] = memif.COOKIE.to_bytes(4, "little")
    peer.ring(True, 0, fd=read), peer.ring(False, 4096, fd=write)
    assert peer.connect() == (memif.DISCONNECT, "a ring's descriptor is no eventfd")
    os.close(read), os.close(write)


def test_a_client_by_hand(server, peer):
    peer.all()
    until(lambda: server.turn == memif_ring.LIVE)
    peer.memory[8192:8252] = b"h" * 60
    peer.memory[9000:9010] = b"0123456789"
    peer.describe(0, 0, 0, 0, 60, 8192)
    peer.describe(0, 1, 1, 0, 10, 9000)
    peer.describe(0, 2, 0, 0, 5, 9000)
    peer.head(0, 3)
    server.run()
    assert server.far.received() == [b"h" * 60, b"012345678901234"]
    assert peer.words[32] == 3  # the tail
    server.far.send([b"none"])
    server.run()
    assert server.counts("tx0")["ring-full"] == 1
    for n in range(3):
        peer.describe(4096, n, 0, 0, 8, 20000 + 100 * n)
    peer.head(4096, 3)
    server.far.send([b"twelve bytes", b"7 bytes", b"dropped"])
    server.run()
    assert peer.words[2048 + 32] == 3
    assert peer.memory[20000:20008] + peer.memory[20100:20104] == b"twelve bytes"
    assert peer.memory[20200:20207] == b"7 bytes"
    assert np.frombuffer(peer.memory[4096 + 128 : 4096 + 176], np.uint32).tolist() == [
        1, 8, 20000, 0, 0, 4, 20100, 0, 0, 7, 20200, 0
    ]  # fmt: skip
    assert server.counts("tx0")["ring-full"] == 2


WRONG = [
    ("bad-index", lambda p: p.head(0, 33)),
    ("bad-index", lambda p: p.head(0, 0xFFFF)),
    ("bad-index", lambda p: p.head(4096, 33)),
    ("bad-descriptor", lambda p: (p.describe(0, 0, 0, 1, 60, 8192), p.head(0, 1))),
    ("bad-descriptor", lambda p: (p.describe(0, 0, 0, 0xFFFF, 60, 8192), p.head(0, 1))),
    ("bad-descriptor", lambda p: (p.describe(0, 0, 0, 0, 60, 65536 - 59), p.head(0, 1))),
    ("bad-descriptor", lambda p: (p.describe(0, 0, 0, 0, 0xFFFFFFFF, 1), p.head(0, 1))),
    ("bad-descriptor", lambda p: (p.describe(0, 0, 0, 0, 1, 0xFFFFFFFF), p.head(0, 1))),
    ("bad-descriptor", lambda p: (p.describe(4096, 0, 0, 0, 9, 65530), p.head(4096, 1))),
    ("bad-descriptor", lambda p: (p.describe(4096, 0, 0, 0, 0, 0), p.head(4096, 1))),
    ("bad-chain", lambda p: ([p.describe(0, n, 1, 0, 9, 0) for n in range(32)], p.head(0, 32))),
    (
        "bad-chain",
        lambda p: ([p.describe(0, n, n < 2, 0, 40000, 0) for n in range(3)], p.head(0, 3)),
    ),
]


@pytest.mark.parametrize(("counter", "do"), WRONG, ids=range(len(WRONG)))
def test_who_writes_something_wrong_loses_its_port_only(server, peer, tmp_path, counter, do):
    peer.all()
    until(lambda: server.turn == memif_ring.LIVE)
    do(peer)
    server.far.send([b"something"])
    server.run()
    until(lambda: server.counts("rx0")[counter] == 1, server)
    assert peer.answer()[0] == memif.DISCONNECT
    until(lambda: server.turn == memif_ring.FREE, server)
    again = Peer(tmp_path / "memif.sock").all()
    until(lambda: server.turn == memif_ring.LIVE)
    again.close()


def test_a_packet_whose_end_is_not_there_yet_waits(server, peer):
    peer.all()
    until(lambda: server.turn == memif_ring.LIVE)
    peer.describe(0, 0, 1, 0, 4, 8192)
    peer.head(0, 1)
    server.run()
    assert (server.far.received(), int(peer.words[32])) == ([], 0)
    peer.describe(0, 1, 0, 0, 4, 8192)
    peer.head(0, 2)
    server.run()
    assert server.far.received() == [bytes(8)]


def test_an_eventfd_that_takes_no_more_stops_nobody(server, peer, tmp_path):
    peer.all()
    until(lambda: server.turn == memif_ring.LIVE)
    os.eventfd_write(peer.events[1], 2**64 - 2)  # who writes one more waits
    for n in range(3):
        peer.describe(4096, n, 0, 0, 100, 30000)
        peer.head(4096, n + 1)
        server.far.send([b"rings the bell %d" % n])
        server.run()
        assert peer.memory[30000:30016] == b"rings the bell %d" % n
        until(lambda: not server.port._state[memif_ring.RANG], seconds=20)
    kept = os.dup(peer.events[1])
    peer.close()
    until(lambda: server.turn == memif_ring.FREE, server, seconds=20)
    again = Peer(tmp_path / "memif.sock").all()
    until(lambda: server.turn == memif_ring.LIVE)
    again.close()
    assert os.eventfd_read(kept) == 2**64 - 1  # it was signalled all the same
    os.close(kept)


def test_a_thread_that_does_not_end_leaves_the_path_to_others(ends, tmp_path, monkeypatch, caplog):
    """It waits for something of ours, here."""
    server, release = ends(), threading.Event()
    link = server.port._link
    new_link, asked = link._new_link, threading.Event()

    def late():
        asked.set()
        release.wait(120)
        return new_link()

    monkeypatch.setattr(link, "_new_link", late)
    monkeypatch.setattr(memif_link, "END_S", 0.05)
    with unix.connect(tmp_path / "memif.sock"):
        assert asked.wait(20)
        server.port.close()
        assert "does not end" in caplog.text
        other = ends()
        peer = Peer(tmp_path / "memif.sock").all()
        until(lambda: other.turn == memif_ring.LIVE)
        peer.close()
        release.set()
        link._thread.join(20)
        assert not link._thread.is_alive()
    link._peers_bell.close()  # it could use all of that to its end
    for fd in (link._stop, link._bell, link._wake):
        os.close(fd)


def test_a_bell_that_is_rung_as_a_connection_ends_does_not_end_the_next_one(
    server, tmp_path, monkeypatch
):
    """By the worker, when the thread has looked for the last time."""
    link = server.port._link
    end = link._end

    def late(over):
        link._state[memif_ring.RANG] = 1
        os.eventfd_write(link._bell, 1)
        end(over)

    monkeypatch.setattr(link, "_end", late)
    for _ in range(3):
        peer = Peer(tmp_path / "memif.sock").all()
        until(lambda: server.turn == memif_ring.LIVE)
        peer.close()
        until(lambda: server.turn == memif_ring.FREE, server)
    assert server.counts("rx0")["refused"] == 0


FUZZ = cases(1000)  # each costs milliseconds; a million without sockets: test_memif_fuzz.py


def test_random_memory_never_gets_out(server, tmp_path, monkeypatch):
    """What a client writes at random, everywhere, while packets are sent to it."""
    monkeypatch.setattr(memif_link, "LOOK_S", 0.002)
    rng = np.random.default_rng(5)
    path = tmp_path / "memif.sock"
    peer = Peer(path).all()
    until(lambda: server.turn == memif_ring.LIVE)
    gone = 0
    for _ in range(FUZZ):
        if server.turn != memif_ring.LIVE:
            until(lambda: server.turn == memif_ring.FREE, server)
            peer.close()
            peer = Peer(path).all()
            gone += 1
            until(lambda: server.turn == memif_ring.LIVE)
        for ring in (0, 4096):
            for slot in rng.integers(0, 32, 6):
                edges = [0, 1, 60, 2048, 65535, 65536, 2**32 - 1, int(rng.integers(0, 70000))]
                length, offset = (edges[k] for k in rng.integers(0, 8, 2))
                if rng.random() < 0.7:
                    length, offset = int(rng.integers(0, 3000)), int(rng.integers(8192, 60000))
                region = 0 if rng.random() < 0.95 else int(rng.integers(0, 65536))
                flags = int(rng.random() < 0.3)
                peer.describe(ring, int(slot), flags, region, length, offset)
            step = int(rng.integers(0, 12)) if rng.random() < 0.95 else int(rng.integers(0, 65536))
            tail = int(peer.words[(ring + 64) // 2])
            peer.head(ring, (tail + step) & 0xFFFF)
        server.far.send([bytes(int(n)) for n in rng.integers(1, 5000, 3)])
        server.run()
        server.far.received()
    assert gone > FUZZ // 100
    counts = server.counts("rx0")
    assert counts["bad-descriptor"] > 0
    assert counts["bytes"] > 0
    peer.close()
