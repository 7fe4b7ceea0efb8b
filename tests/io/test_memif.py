"""memif: our server and our client opposite each other, peers that break the rules, and DPDK's."""

import contextlib
import fcntl
import mmap
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from vforward.errors import PortError
from vforward.io import unix
from vforward.io.memif import MemifPort
from vforward.io.memory import MemoryPort, Offload
from vforward.layout import BUF_ROOM
from vforward.memory.arena import Arena
from vforward.rings import memif, memif_ring
from wire import Wire

FRAMES = [b"x", bytes(60), b"a" * BUF_ROOM, b"b" * (BUF_ROOM + 1), bytes(range(256)) * 37]


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    with Arena.create("memif") as made:
        yield made


class End:
    """A memif port wired to a memory port, with buffers of its own."""

    def __init__(self, arena, path, **settings):
        arena.make(f"mark-{len(arena._arrays)}", 1, np.uint8)
        self.port = MemifPort(path, **settings)
        self.wire = Wire(arena, self.port, MemoryPort())
        self.far = self.wire.ports[1]
        self.run, self.counts, self.close = self.wire.run, self.wire.counts, self.wire.close

    @property
    def turn(self):
        return memif_ring.turn_of(self.port._state)


@pytest.fixture
def ends(tmp_path, monkeypatch):
    """Makes ends, each in an arena of its own, and closes them."""
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    with contextlib.ExitStack() as stack:
        made = []

        def make(**settings):
            arena = stack.enter_context(Arena.create(f"memif{len(made)}"))
            end = End(arena, tmp_path / "memif.sock", **settings)
            stack.callback(end.close)
            end.run()  # compiles, if need be, before anybody waits
            made.append(end)
            return end

        yield make


def descriptors():
    return len([*Path("/proc/self/fd").iterdir()])


def until(condition, *ends, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        for one in ends:
            one.run()
        time.sleep(0.002)


def pair(ends, **client):
    server = ends(secret="s3cret")
    client = ends(role="client", secret="s3cret", **client)
    until(lambda: server.turn == client.turn == memif_ring.LIVE)
    return server, client


def carry(one, other, frames):
    """Send frames from behind one end; what comes out behind the other."""
    assert one.far.send(frames) == len(frames)
    for _ in range(4):
        one.run()
        other.run()
    return other.far.received()


@pytest.mark.parametrize("settings", [{}, {"log2": 5, "buffer": 512}])
def test_frames_cross_both_ways(ends, settings):
    server, client = pair(ends, **settings)
    assert (server.port.peer(), client.port.peer()) == ("vforward", "vforward")
    for n in range(40):  # far enough for the indices to wrap, and 70000 slots further below
        some = FRAMES if n % 2 else FRAMES[::-1]
        assert carry(server, client, some[: 2 + n % 3]) == some[: 2 + n % 3]
        assert carry(client, server, some[: 2 + n % 3]) == some[: 2 + n % 3]
    assert server.counts("rx0")["no-buffer"] == client.counts("rx0")["no-buffer"] == 0


def test_the_indices_wrap(ends):
    server, client = pair(ends, log2=6)
    for end in (server, client):
        for word in (memif_ring.RX_NEXT, memif_ring.TX_NEXT):
            assert end.port._state[word] == 0
    frames = [bytes([n]) * 60 for n in range(50)]
    for _ in range(1350):  # 67500 slots each way
        assert carry(server, client, frames) == frames
        assert carry(client, server, frames) == frames


def test_what_does_not_fit_is_dropped_and_counted(ends):
    server, client = pair(ends, log2=5)
    frames = [bytes([n]) * 60 for n in range(40)]
    for one, other in ((server, client), (client, server)):
        one.far.send(frames)
        one.run()
        other.run()
        assert other.far.received() == frames[:32]
        assert one.counts("tx0")["ring-full"] == 8


def test_checksums_are_finished_and_super_frames_refused(ends):
    server, client = pair(ends)
    server.far.send([bytes(range(100))], Offload(csum_start=34, csum_off=6))
    (got,) = carry(server, client, []) or [b""]
    assert got[:40] + got[42:] == bytes(range(40)) + bytes(range(42, 100))
    assert got[40:42] != bytes([40, 41])
    server.far.send([bytes(9000)], Offload(gso_size=1400, gso_type=1))
    server.run()
    assert server.counts("tx0")["super-frame"] == 1


def test_without_a_peer_frames_are_dropped_and_counted(ends):
    server = ends()
    server.far.send(FRAMES)
    server.run()
    assert server.counts("tx0")["no-peer"] == len(FRAMES)


def test_either_side_may_go_and_come_again(ends):
    server, client = pair(ends)
    client.close()
    until(lambda: server.turn == memif_ring.FREE, server)
    again = ends(role="client", secret="s3cret")
    until(lambda: server.turn == again.turn == memif_ring.LIVE, server)
    assert carry(server, again, FRAMES) == FRAMES
    server.close()
    until(lambda: again.turn == memif_ring.FREE, again)
    server = ends(secret="s3cret")
    until(lambda: server.turn == again.turn == memif_ring.LIVE, again)
    assert carry(again, server, FRAMES) == FRAMES


def test_interrupts_come_by_the_descriptor(ends):
    server, client = pair(ends)
    (descriptor,) = server.port.descriptors()
    for _ in range(memif_ring.LIVE + 2 * 1024):
        server.run()
        if not select.select([descriptor], [], [], 0)[0]:
            break
    assert not select.select([descriptor], [], [], 0)[0]
    client.far.send([b"wake"])
    client.run()
    assert select.select([descriptor], [], [], 10)[0]


def test_two_servers_on_one_socket_are_refused(ends):
    ends()
    with pytest.raises(PortError, match="is another server there"):
        ends()


# Peers that break the rules: by hand, message by message.


class Peer:
    """A client by hand."""

    def __init__(self, path):
        self.socket = unix.connect(path)
        self.socket.settimeout(10)
        self.hello = self.socket.recv(memif.MESSAGE)
        self.memory, self.fds, self.events = None, [], []

    def say(self, message, *fds):
        socket.send_fds(self.socket, [message], list(fds))

    def answer(self):
        """The type of what the server says, and its text if that is a farewell."""
        message = self.socket.recv(memif.MESSAGE)
        kind = int.from_bytes(message[:2], "little")
        return kind, message[6:].split(b"\0")[0].decode() if kind == memif.DISCONNECT else ""

    def init(self, **changes):
        given = {"version": memif.VERSION, "id": 0, "mode": 0, "secret": b"", "name": b"by hand"}
        self.say(memif.pack(memif.INIT, *(given | changes).values()))
        return self.answer()

    def region(self, size=1 << 16, seals=fcntl.F_SEAL_SHRINK, declared=None, index=0):
        fd = os.memfd_create("peer", os.MFD_ALLOW_SEALING)
        self.fds.append(fd)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        declared = size if declared is None else declared
        self.say(memif.pack(memif.ADD_REGION, index, declared), fd)
        return self.answer()

    def ring(self, to_server, offset, log2=5, region=0, index=0, private=0, fd=None):
        event = os.eventfd(0) if fd is None else os.dup(fd)
        self.fds.append(event)
        self.events.append(event)
        flags = int(to_server)
        said = memif.pack(memif.ADD_RING, flags, index, region, offset, log2, private)
        self.say(said, event)
        return self.answer()

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def connect(self):
        self.say(memif.pack(memif.CONNECT, b"peer0"))
        return self.answer()

    def all(self):
        """Everything as it should be: rings of 32 slots at 0 and 4096, buffers behind."""
        assert self.init()[0] == memif.ACK
        assert self.region()[0] == memif.ACK
        self.memory = mmap.mmap(self.fds[0], 1 << 16)
        self.words = np.frombuffer(self.memory, np.uint16)
        for offset in (0, 4096):
            self.memory[offset : offset + 4] = memif.COOKIE.to_bytes(4, "little")
        assert self.ring(True, 0)[0] == memif.ACK
        assert self.ring(False, 4096)[0] == memif.ACK
        assert self.connect()[0] == memif.CONNECTED
        return self

    def describe(self, ring, slot, flags, region, length, offset):
        at = ring + 128 + 16 * slot
        words = [flags & 0xFFFF, region & 0xFFFF]
        self.memory[at : at + 16] = np.array(
            [words[0] | words[1] << 16, length, offset, 0], np.uint32
        ).tobytes()

    def head(self, ring, value):
        self.words[(ring + 6) // 2] = value


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
    before = descriptors()
    kind, reason = talk(peer)
    assert kind == memif.DISCONNECT
    assert text in reason
    until(lambda: server.counts("rx0")["refused"] == 1, server)
    assert descriptors() <= before + 4  # those of the peer's own making
    again = Peer(tmp_path / "memif.sock").all()
    until(lambda: server.turn == memif_ring.LIVE)
    again.close()


def test_an_eventfd_that_is_none_is_refused(server, peer):
    read, write = os.pipe()
    peer.init(), peer.region()
    memory = mmap.mmap(peer.fds[0], 1 << 16)
    memory[0:4] = memory[4096:4100] = memif.COOKIE.to_bytes(4, "little")
    peer.ring(True, 0, fd=read), peer.ring(False, 4096, fd=write)
    peer.connect()
    assert peer.answer() == (memif.DISCONNECT, "a ring's descriptor is no eventfd")
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


def test_an_eventfd_that_blocks_stops_the_link_and_not_the_worker(server, peer):
    peer.all()
    until(lambda: server.turn == memif_ring.LIVE)
    os.eventfd_write(peer.events[1], 2**64 - 2)  # who writes one more waits
    for n in range(3):
        peer.describe(4096, n, 0, 0, 100, 30000)
        peer.head(4096, n + 1)
        server.far.send([b"rings the bell %d" % n])
        server.run()
        assert peer.memory[30000:30016] == b"rings the bell %d" % n
        time.sleep(0.1)
    os.eventfd_read(peer.events[1])


FUZZ = int(os.environ.get("VFORWARD_FUZZ_CASES", "1000"))


def test_random_memory_never_gets_out(server, tmp_path):
    """What a client writes at random, everywhere, while packets are sent to it."""
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


# DPDK's net_memif.

TESTPMD = shutil.which("dpdk-testpmd")
needs_dpdk = pytest.mark.skipif(TESTPMD is None, reason="dpdk-testpmd is not installed (dpdk-dev)")
PATTERN = re.compile(r"(RX|TX)-packets: (\d+)")


@contextlib.contextmanager
def dpdk(path, role, mode, *more):
    device = f"net_memif0,role={role},id=0,socket={path},socket-abstract=no,rsize=8"
    command = [
        TESTPMD, "--lcores", "0@0,1@0", "-n", "1", "--no-pci", "--no-huge", "-m", "128",
        "--no-telemetry", "--file-prefix", f"vfm{os.getpid()}", f"--vdev={device}", "--",
        "--nb-cores=1", "--total-num-mbufs=4096", "--stats-period=1", "--auto-start",
        f"--forward-mode={mode}", *more,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = []
    try:
        yield process, said
        process.send_signal(signal.SIGINT)
        said.append(process.communicate(timeout=30)[0])
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def last_counts(text):
    found = {}
    for name, n in PATTERN.findall(text):
        found[name] = max(found.get(name, 0), int(n))
    return found


@needs_dpdk
@pytest.mark.parametrize("ours", ["server", "client"])
def test_dpdk_receives_what_we_send(ends, tmp_path, ours):
    theirs = {"server": "client", "client": "server"}[ours]
    end = ends(role=ours, log2=8)
    with dpdk(tmp_path / "memif.sock", theirs, "rxonly") as (_, said):
        until(lambda: end.turn == memif_ring.LIVE, end)
        sent = 0
        for n in range(60):
            end.far.send([bytes([n]) * 60] * 100)
            end.run()
            time.sleep(0.02)
        sent = 6000 - int(sum(end.counts("tx0")[k] for k in ("ring-full", "no-peer")))
        time.sleep(1.5)
    assert sent > 1000
    assert last_counts(said[0])["RX"] == sent


@needs_dpdk
@pytest.mark.parametrize("ours", ["server", "client"])
@pytest.mark.parametrize("shape", [(), ("--txpkts=64,900,300",)])
def test_we_receive_what_dpdk_sends(ends, tmp_path, ours, shape):
    theirs = {"server": "client", "client": "server"}[ours]
    end = ends(role=ours, log2=8)
    with dpdk(tmp_path / "memif.sock", theirs, "txonly", *shape) as (_, said):
        until(lambda: end.turn == memif_ring.LIVE, end)
        got = []
        until(lambda: got.extend(end.far.received()) or len(got) > 2000, end)
    size = 1264 if shape else 64
    assert {len(frame) for frame in got} == {size}
    assert {frame[12:14] for frame in got} == {b"\x08\x00"}
    assert last_counts(said[0])["TX"] > 0
    assert [v for k, v in end.counts("rx0").items() if k.startswith("bad")] == [0, 0, 0]


@needs_dpdk
@pytest.mark.parametrize("ours", ["server", "client"])
def test_dpdk_sends_back_what_it_gets(ends, tmp_path, ours):
    theirs = {"server": "client", "client": "server"}[ours]
    end = ends(role=ours, log2=8)
    with dpdk(tmp_path / "memif.sock", theirs, "macswap") as (_, _said):
        until(lambda: end.turn == memif_ring.LIVE, end)
        frames = [b"\2" * 6 + b"\4" * 6 + bytes([8, n]) * 30 for n in range(100)]
        got = []
        time.sleep(0.5)
        for n in range(10):
            end.far.send(frames)
            until(lambda n=n: got.extend(end.far.received()) or len(got) == 100 * (n + 1), end)
    assert got == [f[6:12] + f[:6] + f[12:] for f in frames] * 10


@needs_dpdk
def test_dpdk_killed_and_started_again(ends, tmp_path):
    end = ends()
    for _ in range(2):
        with dpdk(tmp_path / "memif.sock", "client", "txonly") as (process, _):
            until(lambda: end.turn == memif_ring.LIVE, end)
            until(lambda: len(end.far.received()) > 0, end)
            process.kill()
            until(lambda: end.turn == memif_ring.FREE, end)
