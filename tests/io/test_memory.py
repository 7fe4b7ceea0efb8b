"""The memory port: frames through a graph, with run-until-idle and beside a worker."""

import select
import threading
import time

import pytest

from oracles import checksum as oracle
from vforward.errors import PortError
from vforward.graph import control
from vforward.graph.scheduler import run
from vforward.io.memory import MemoryPort, Offload
from vforward.layout import BUF_ROOM
from vforward.memory.arena import Arena
from vforward.testing import run_node
from wire import Wire

FRAMES = [b"", b"x", bytes(60), b"a" * BUF_ROOM, b"b" * (BUF_ROOM + 1), bytes(range(256)) * 256]


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    with Arena.create("memory") as made:
        yield made


@pytest.fixture
def wire(arena):
    made = Wire(arena, MemoryPort(), MemoryPort(mac=b"\2\0\0\0\0\7", room=8))
    yield made
    made.close()


@pytest.mark.parametrize("vector", [1, 2, 256])
def test_frames_go_through_unchanged_both_ways(wire, vector):
    a, b = wire.ports
    assert (a.send(FRAMES), b.send(FRAMES[:2])) == (6, 2)
    wire.run(vector)
    assert b.received() == FRAMES
    assert a.received() == FRAMES[:2]
    assert a.received() == []
    size = sum(map(len, FRAMES))
    assert wire.counts("rx0") == {"bytes": size, "no-buffer": 0}
    assert wire.counts("tx1") == {"bytes": size, "ring-full": 0}
    assert wire.pool.free == wire.pool.size
    wire.pool.check()


def test_a_full_outbox_drops_and_counts(wire):
    a, b = wire.ports
    frames = [bytes([i]) * (2000 + i) for i in range(11)]
    assert a.send(frames) == 11
    wire.run()
    assert wire.counts("tx1") == {"bytes": sum(map(len, frames[:8])), "ring-full": 3}
    assert wire.counts("drop") == {"bytes": sum(map(len, frames[8:]))}
    assert b.received() == frames[:8]
    wire.pool.check()


def test_a_full_inbox_takes_the_first_so_many(wire):
    a, b = wire.ports
    assert b.send([bytes([i]) for i in range(20)]) == 8
    assert b.send([b"more"]) == 0
    wire.run()
    assert a.received() == [bytes([i]) for i in range(8)]


def test_a_short_pool_takes_the_first_so_many(wire):
    a, b = wire.ports
    most = wire.pool.size // -(-65549 // BUF_ROOM)
    taken = a.send([b"q" * 65549] * 40)
    assert taken == most < 40
    wire.run()
    assert len(b.received()) == 8
    assert wire.pool.free == wire.pool.size


def test_closing_gives_back_what_waits(wire):
    a, _ = wire.ports
    a.send(FRAMES)
    wire.run()
    a.send(FRAMES)
    wire.close()
    wire.close()
    for use in (a.received, lambda: a.send([b""])):
        with pytest.raises(PortError, match="not open"):
            use()


def test_frames_too_long_are_refused_before_any_is_sent(wire):
    a, b = wire.ports
    with pytest.raises(PortError, match="frame 1: 65550 bytes; at most 65549"):
        a.send([b"ok", bytes(65550)])
    wire.run()
    assert b.received() == []


def test_mac_addresses(wire):
    a, b = wire.ports
    assert (a.mac, b.mac) == (b"\x02vf\0\0\0", b"\2\0\0\0\0\7")


@pytest.mark.parametrize("n", [60, 61, 5001])
def test_a_partial_checksum_is_complete_when_received(wire, n):
    a, b = wire.ports
    frame = bytearray(i * 31 & 255 for i in range(n))
    a.send([frame], Offload(csum_start=34, csum_off=6, gso_type=5, gso_size=1400, hdr_len=42))
    (got,) = (wire.run(), b.received())[1]
    want = oracle.internet(bytes(frame[34:])).to_bytes(2, "big")
    assert got == bytes(frame[:40]) + want + bytes(frame[42:])


@pytest.mark.parametrize(
    ("offload", "text"),
    [
        (
            Offload(csum_start=65398, csum_off=0),
            "csum_start 65398, csum_off 0: .* 1974 bytes of frame 0",
        ),
        (Offload(csum_start=57, csum_off=2), "csum_start 57, csum_off 2: .* 60 bytes of frame 1"),
        (Offload(csum_start=-1, csum_off=6), "csum_start -1"),
        (Offload(csum_start=34, csum_off=-1), "csum_off -1"),
        (Offload(gso_size=65536), "gso_size is 65536; allowed: 0 to 65535"),
        (Offload(gso_size=-1), "gso_size is -1"),
        (Offload(gso_type=256), "gso_type is 256; allowed: 0 to 255"),
        (Offload(hdr_len=65536), "hdr_len is 65536; allowed: 0 to 65535"),
    ],
)
def test_offloads_that_cannot_be_are_refused_before_any_is_sent(wire, offload, text):
    a, b = wire.ports
    with pytest.raises(PortError, match=text):
        a.send([bytes(65549), bytes(60)], offload)
    assert wire.pool.free == wire.pool.size
    wire.run()
    assert b.received() == []


def test_a_checksum_lies_in_the_first_buffer(wire):
    a, b = wire.ports
    most = Offload(csum_start=BUF_ROOM - 8, csum_off=6)
    assert a.send([bytes(BUF_ROOM), bytes(9000)], most) == 2
    with pytest.raises(PortError, match=f"first {BUF_ROOM} bytes of frame 0"):
        a.send([bytes(9000)], Offload(csum_start=BUF_ROOM - 7, csum_off=6))
    wire.run()
    assert [len(frame) for frame in b.received()] == [BUF_ROOM, 9000]


def test_offloads_are_in_meta(wire):
    a, _ = wire.ports
    a.send([bytes(60)], Offload(csum_start=34, csum_off=6, gso_type=5, gso_size=1400, hdr_len=42))
    a.send([bytes(60)])
    node, tables = a.rx()
    result = run_node(node, tables=tables, pool=wire.pool)
    one, other = result.meta
    assert result.out == {"next": [bytes(60)] * 2}
    assert result.meta["rx_port"].tolist() == [0, 0]
    assert (one["csum_start"] - one["off"], one["csum_off"]) == (34, 6)
    assert (one["gso_type"], one["gso_size"], one["hdr_len"], one["flags"]) == (5, 1400, 42, 0x50)
    assert (other["gso_size"], other["flags"]) == (0, 0)
    wire.pool.put(result.rows)


def test_sending_wakes_a_sleeper_until_the_worker_has_looked(wire):
    a, _ = wire.ports
    poll = select.poll()
    poll.register(a.descriptors()[0], select.POLLIN)
    assert poll.poll(0) == []
    a.send([b"1"])
    a.send([b"2"])
    assert len(poll.poll(0)) == 1
    wire.run()
    assert poll.poll(0) == []
    a.send([])
    assert poll.poll(0) == []


def test_beside_a_worker(wire):
    a, b = wire.ports
    sent = [i.to_bytes(4, "big") * (1 + i % 700) for i in range(3000)]
    worker = threading.Thread(target=run, args=(wire.plan.words(), False))
    worker.start()
    got, at, deadline = [], 0, time.monotonic() + 60
    try:
        while len(got) < len(sent) and time.monotonic() < deadline:
            at += a.send(sent[at : at + 8 - (at - len(got))])  # as many as the outbox holds
            got += b.received()
    finally:
        wire.plan.control[control.COMMAND] = control.STOP
        worker.join()
    assert got == sent
    assert wire.counts("tx1")["ring-full"] == 0


def test_many_threads_may_send(wire):
    a = wire.ports[0]
    frames = [bytes([i]) * 3000 for i in range(50)]
    threads = [threading.Thread(target=a.send, args=([frame] * 4,)) for frame in frames]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    node, tables = a.rx()
    result = run_node(node, tables=tables, pool=wire.pool)
    assert sorted(result.frames) == sorted(frames * 4)
    wire.pool.put(result.rows)


def test_room_is_a_power_of_two_at_least():
    assert MemoryPort(room=5)._inbox.slots == 8
    assert MemoryPort()._inbox.slots == 4096


def test_a_chain_in_the_ring_is_one_row(wire):
    a, _ = wire.ports
    a.send([bytes(65549)])
    assert a._inbox.used_slots() == 1
    assert wire.pool.free == wire.pool.size - -(-65549 // BUF_ROOM)
    assert wire.pool.meta["rest"][a._inbox.array[32]] == 65549 - BUF_ROOM
