"""Ports as Python programs use them: inject, sync, poll, next_packet, dispatch; two processes."""

import select
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from vforward.errors import PortError
from vforward.rings import netmap
from vforward.rings.netmap_layout import NS_BUF_CHANGED, NS_MOREFRAG, address_of, ring_at
from vforward.rings.netmap_server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("run") / "d" / "s") as running:
        yield running


@pytest.fixture
def pipe(server):
    with (
        netmap.open("netmap:x{1@conf:slots=8", path=server.path, extra=2) as one,
        netmap.open("netmap:x}1", path=server.path) as two,
    ):
        yield one, two


def closed(server, left=0):
    while server.connections > left:
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _all_closed(server):
    yield
    closed(server)


SIZES = [0, 1, 60, 2047, 2048, 2049, 4096, 4097, 7 * 2048]


@pytest.mark.parametrize("size", SIZES)
def test_frames_arrive_whole(pipe, size):
    one, two = pipe
    frame = bytes(i * 31 % 251 for i in range(size))
    assert one.inject(frame) == size
    assert two.poll(timeout=0) == 0
    one.txsync()
    assert two.poll(timeout=1) == netmap.READ
    assert two.next_packet() == frame
    assert two.next_packet() is None


def test_what_does_not_fit_is_not_taken(pipe):
    one, _ = pipe
    assert one.inject(bytes(7 * 2048 + 1)) == 0
    assert [one.inject(b"x") for _ in range(8)] == [1] * 7 + [0]
    assert one.tx.space() == 0


def test_dispatch(pipe):
    one, two = pipe
    for i in range(5):
        one.inject(bytes([i]))
    one.txsync()
    two.rxsync()
    got = []
    assert two.dispatch(got.append, 2) == 2
    assert two.dispatch(got.append) == 3
    assert two.dispatch(got.append) == 0
    assert got == [bytes([i]) for i in range(5)]


def test_slots_and_buffers_without_a_copy(pipe):
    """Zero copy: the receiver puts an extra buffer in the place of one that it keeps."""
    one, two = pipe
    one.inject(b"keep me")
    one.txsync()
    two.rxsync()
    slot = two.rx.slots[two.rx.head]
    kept, given = int(slot["buf_idx"]), one.extra[0]
    assert np.shares_memory(two.buffer(kept), two.memory)
    slot["buf_idx"] = given
    slot["flags"] |= NS_BUF_CHANGED
    two.rx.advance()
    two.rxsync()
    assert bytes(two.buffer(kept)[:7]) == b"keep me"
    one.txsync()
    back = one.tx.slots[0]
    assert (int(back["buf_idx"]), int(back["flags"])) == (given, NS_BUF_CHANGED)


def test_poll_blocks_as_long_as_tail_is_not_past_cur(pipe):
    one, two = pipe
    for _ in range(7):
        one.inject(b"x")
    assert one.poll(netmap.WRITE, 0) == 0
    assert two.poll(netmap.READ, 0) == netmap.READ
    two.rx.move(cur=two.rx.tail)  # seen, and not given back: wake me for more
    assert two.poll(netmap.READ, 0) == 0
    two.rx.move(head=3)
    two.rxsync()
    assert one.poll(netmap.WRITE, 0) == netmap.WRITE
    assert one.tx.space() == 3
    one.inject(b"more")
    assert one.poll(netmap.READ, 0) == 0  # pushes what is pending, whatever is asked for
    assert two.poll(netmap.READ, 0) == netmap.READ


def test_poll_wakes(pipe):
    one, two = pipe

    def later():
        time.sleep(0.05)
        one.inject(b"late")
        one.txsync()

    thread = threading.Thread(target=later)
    thread.start()
    assert two.poll(netmap.READ, 20) == netmap.READ
    thread.join()
    assert two.next_packet() == b"late"
    assert two.poll(netmap.READ, 0.01) == 0


def test_the_descriptor_is_for_select(pipe):
    one, two = pipe
    assert two.poll(netmap.READ, 0) == 0
    assert select.select([two], [], [], 0)[0] == []
    one.inject(b"x")
    one.txsync()
    assert select.select([two], [], [], 5)[0] == [two]
    assert two.poll(netmap.READ, 0) == netmap.READ
    assert two.next_packet() == b"x"
    assert two.poll(netmap.READ, 0) == 0
    assert select.select([two], [], [], 0)[0] == []


@pytest.mark.parametrize("which", ["tx", "rx"])
def test_violations_are_an_error_and_repaired(pipe, which):
    one, _ = pipe
    ring = getattr(one, which)
    ring.move(head=7, cur=7) if which == "rx" else ring.move(head=7, cur=8)
    with pytest.raises(PortError, match=f"{which} ring reinitialised"):
        one.txsync() if which == "tx" else one.rxsync()
    assert (ring.head, ring.cur) == (0, 0)
    one.txsync(), one.rxsync()
    ring.move(cur=9)
    assert one.poll(netmap.READ | netmap.WRITE, 0) == netmap.ERROR
    assert one.poll(netmap.WRITE, 0) == netmap.WRITE


def test_time_stamps(pipe):
    one, two = pipe
    two.rx.words["flags"] = 2
    before = time.time()
    two.rxsync()
    assert before - 1 <= two.rx.ts_sec + two.rx.ts_usec / 1e6 <= time.time()
    assert one.tx.ts_sec == 0


def test_extra_buffers(pipe):
    one, two = pipe
    assert len(one.extra) == 2
    assert two.extra == []
    used = one.tx.slots["buf_idx"].tolist() + two.tx.slots["buf_idx"].tolist()
    assert not set(one.extra) & set(used)
    for index in (0, 1, 2**31):
        with pytest.raises(IndexError):
            one.buffer(index)


@pytest.mark.parametrize("away", [-(2**40), 2**40])
def test_buffers_are_where_the_server_says(server, pipe, away):
    """Not where a ring says: of that the other end can write any word, before an end is opened again."""
    one, two = pipe
    at, ring = two.bufs - address_of(two.memory), ring_at(one.memory, two._reply.tx)
    two.close()
    closed(server, 1)
    ring["buf_ofs"] = away
    with netmap.open("netmap:x}1", path=server.path) as again:
        assert again.bufs == address_of(again.memory) + at
        again.inject(b"back")
        again.txsync()
        one.rxsync()
        assert one.next_packet() == b"back"


def test_a_ring_has_netmaps_fields_only(pipe):
    assert (pipe[0].tx.num_slots, pipe[0].tx.nr_buf_size) == (8, 2048)
    with pytest.raises(AttributeError):
        _ = pipe[0].tx.nothing


def test_closed_is_closed(pipe):
    pipe[0].close()
    pipe[0].close()
    with pytest.raises(PortError, match="closed"):
        pipe[0].txsync()


def test_a_partial_read_is_back_pressure(pipe):
    """netmap's own test 008."""
    one, two = pipe
    for i in range(7):
        one.inject(bytes([i]))
    one.txsync()
    two.rxsync()
    assert [two.next_packet() for _ in range(4)] == [bytes([i]) for i in range(4)]
    two.rxsync()
    one.txsync()
    assert (one.tx.space(), two.rx.space()) == (4, 3)
    assert one.inject(b"y") == 1


def test_a_server_that_goes_is_an_error(tmp_path):
    server = Server(tmp_path / "d" / "s")
    port = netmap.open("vale0:a", path=server.path)
    threading.Timer(0.05, server.close).start()
    assert port.poll(netmap.READ, 20) == netmap.ERROR
    port.close()


CHILD = """
import sys
from pathlib import Path
from vforward.rings import netmap
n = int(sys.argv[3])
with netmap.open(sys.argv[1], path=Path(sys.argv[2])) as port:
    print("open", flush=True)
    sent = 0
    while sent < n:
        while sent < n and port.inject(sent.to_bytes(4, "big") * (1 + sent % 700)):
            sent += 1
        port.poll(netmap.WRITE)
    port.rxsync()
    while port.tx.space() < port.tx.n - 1:
        port.poll(netmap.READ, 0.01)
"""


def test_two_processes(server):
    """A pipe loses nothing and changes nothing, whichever side is slow."""
    n = 3000
    with netmap.open("netmap:two}p@conf:slots=37", path=server.path) as port:
        child = [sys.executable, "-c", CHILD, "netmap:two{p", str(server.path), str(n)]
        with subprocess.Popen(child, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"open\n"
            for i in range(n):
                frame = port.next_packet()
                while frame is None:
                    assert port.poll(netmap.READ, 20) == netmap.READ
                    frame = port.next_packet()
                assert frame == i.to_bytes(4, "big") * (1 + i % 700)
            port.rxsync()
            assert process.wait(20) == 0


def test_frames_of_many_slots_are_whole_or_not_there(pipe):
    one, two = pipe
    one.inject(bytes(3 * 2048))
    one.tx.move(head=2, cur=2)
    one.txsync()
    assert two.poll(netmap.READ, 0) == 0
    one.tx.move(head=3, cur=3)
    one.txsync()
    assert two.poll(netmap.READ, 0) == netmap.READ
    flags = two.rx.slots["flags"][two.rx.owned()] & NS_MOREFRAG
    assert flags.tolist() == [NS_MOREFRAG, NS_MOREFRAG, 0]
    assert two.next_packet() == bytes(3 * 2048)
