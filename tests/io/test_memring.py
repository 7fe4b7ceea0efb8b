"""The memring port, opposite a memory port: what crosses, what is refused, and that no row is lost."""

import json
import os
import socket
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descriptors import SELECT_MAX, beyond, none_left
from vforward.errors import ArenaError, PortError
from vforward.io import memring
from vforward.io.memory import MemoryPort, Offload
from vforward.io.memring import MemringPort
from vforward.io.memring_client import attach
from vforward.io.memring_nodes import TxCount, send
from vforward.io.port import TxEdge
from vforward.layout import BUF_ROOM, CHAINED, GSO, HEADROOM
from vforward.memory.arena import Arena
from vforward.rings import memring as ring
from vforward.rings.wait import readable
from wire import Wire

FRAMES = [b"", b"x", bytes(60), b"a" * BUF_ROOM, b"b" * (BUF_ROOM + 1), bytes(range(256)) * 256]
ROOM = 128
NO_DROPS = {"no-program": 0, "ring-full": 0, "too-long": 0}


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    with Arena.create("lab") as made:
        ports = [{"name": "app", "number": 0, "type": "memring"}]
        made.write_document("forwarder", {"ports": ports})
        yield made


@pytest.fixture
def wire(arena):
    made = Wire(arena, MemringPort(room=ROOM), MemoryPort())
    yield made
    made.close()


@pytest.fixture
def app(wire):
    with attach("lab") as made:
        yield made
    settle(wire)


def settle(wire):
    """Run rounds until what a program had is reclaimed."""
    state = wire.ports[0]._state
    for _ in range(500):
        wire.run()
        if ring.turn_of(state) == ring.FREE:
            break
        time.sleep(0.01)
    assert ring.turn_of(state) == ring.FREE
    assert wire.pool.free == wire.pool.size
    wire.pool.check()


def sends(app, frames):
    """Frames of the program's, in new buffers."""
    packets = app.new([len(frame) for frame in frames])
    for view, frame in zip(packets, frames, strict=True):
        view[:] = np.frombuffer(frame, np.uint8)
    return app.send(packets)


def test_frames_reach_the_program_and_are_the_pool_itself(wire, app):
    _, far = wire.ports
    far.send(FRAMES)
    wire.run()
    assert app.wait(0)
    packets = app.receive()
    assert [packets.copy(i) for i in range(len(packets))] == FRAMES
    assert packets.lengths.tolist() == [len(frame) for frame in FRAMES]
    assert [sum(map(len, packets.parts(i))) for i in range(6)] == [len(f) for f in FRAMES]
    assert packets[1:3][0].tobytes() == FRAMES[1]
    for i in range(1, 6):
        assert all(np.shares_memory(part, app.data) for part in packets.parts(i))
    packets[2][:] = 7  # the program's view is the forwarder's buffer: nothing was copied
    assert (wire.pool.data[packets.rows[2], HEADROOM : HEADROOM + 60] == 7).all()
    assert wire.counts("tx0") == NO_DROPS | {"bytes": sum(map(len, FRAMES))}
    assert app.free(packets) == 6
    assert len(app.receive()) == 0


def test_frames_of_the_program_go_out(wire, app):
    wire.run()
    assert sends(app, FRAMES[:4]) == 4
    wire.run()
    assert wire.ports[1].received() == FRAMES[:4]
    assert wire.counts("rx0")["bytes"] == sum(map(len, FRAMES[:4]))


def test_what_came_goes_back_in_place(wire, app):
    _, far = wire.ports
    far.send(FRAMES)
    wire.run()
    packets = app.receive()
    rows = packets.rows.tolist()
    packets[2][:] = 9
    assert app.send(packets, [0, 2, 4, 5]) == 4
    assert packets.rows.tolist() == [rows[1], rows[3]]
    assert app.send(packets, np.array([True, False])) == 1
    wire.run()
    assert far.received() == [FRAMES[0], b"\x09" * 60, FRAMES[4], FRAMES[5], FRAMES[1]]
    assert packets.copy(0) == FRAMES[3]


def test_offloads_stay_with_a_packet(wire, app):
    _, far = wire.ports
    frame = bytes(i * 31 & 255 for i in range(900))
    far.send([frame] * 2, Offload(csum_start=34, csum_off=6, gso_type=5, gso_size=400, hdr_len=42))
    wire.run()
    packets = app.receive()
    app.send(packets, [0])
    packets.complete_checksums()
    whole = packets.copy(0)
    row = int(packets.rows[0])
    app.send(packets)
    wire.run()
    assert far.received() == [whole, whole]
    assert whole[:40] == frame[:40]
    assert whole[42:] == frame[42:]
    record = wire.pool.meta[row]
    assert record["flags"] & GSO
    assert (record["gso_type"], record["gso_size"], record["hdr_len"]) == (5, 400, 42)


def test_without_a_program_frames_are_dropped_and_counted(wire):
    wire.ports[1].send(FRAMES)
    wire.run()
    assert wire.counts("tx0") == NO_DROPS | {"bytes": 0, "no-program": 6}
    assert wire.counts("drop")["bytes"] == sum(map(len, FRAMES))


def test_a_program_that_does_not_fetch_gets_no_more(wire, app):
    _, far = wire.ports
    far.send([bytes([i]) for i in range(ROOM)])
    far.send([b"too many"] * 3)
    wire.run()
    assert wire.counts("tx0") == NO_DROPS | {"bytes": ROOM, "ring-full": 3}
    packets = app.receive(ROOM)
    assert [p[0] for p in packets] == list(range(ROOM))
    app.free(packets, [0, 1])
    wire.run()
    far.send([b"a", b"b", b"c"])
    wire.run()
    assert wire.counts("tx0")["ring-full"] == 4


def test_buffers_of_a_chain_count_too(wire, app):
    long = bytes(20 * BUF_ROOM)
    wire.ports[1].send([long] * 7)
    wire.run()
    assert wire.counts("tx0")["ring-full"] == 1
    assert len(app.receive()) == ROOM // 20


def test_a_packet_in_very_many_buffers_is_refused_for_that(wire, app):
    """However much the program may hold: it does not help to give it more room."""
    rows = wire.pool.take(ring.BUFFERS_MAX + 1)
    too_many(wire.pool.meta, rows)
    edge, count = np.zeros(1, np.uint8), np.zeros(len(TxCount), np.uint64)
    tables = wire.ports[0].tx()[1].values()
    send(wire.pool.data, wire.pool.meta, rows[:1], edge, count, *tables)
    assert (int(edge[0]), int(wire.pool.meta["reason"][rows[0]])) == (TxEdge.DROP, TxCount.TOO_LONG)
    assert np.flatnonzero(count).tolist() == [TxCount.TOO_LONG]
    wire.pool.put(rows[:1])


def test_empty_buffers_are_limited_and_come_again(wire, app):
    wire.run()
    packets = app.new([60] * (ROOM + 5))
    assert len(packets) == ROOM
    wire.run()
    assert len(app.new(1)) == 0
    app.free(packets, np.arange(100))
    wire.run()
    assert len(app.new([1] * ROOM)) == 100


@pytest.mark.parametrize(
    ("room", "kept"), [(64, 1), (64, 40), (64, 63), (128, 1), (128, 100), (128, 127)]
)
def test_a_program_that_keeps_empty_buffers_gets_all_others_again(arena, room, kept):
    wire = Wire(arena, MemringPort(room=room), MemoryPort())
    with attach("lab") as app:
        wire.run()
        mine = app.new([60] * kept)
        for _ in range(3):
            others = app.new([60] * room)
            assert len(others) == room - kept
            app.send(others)
            wire.run()
            assert len(wire.ports[1].received()) == room - kept
        assert len(mine) == kept
        assert app.new([60] * room).rows.size == room - kept
    settle(wire)
    wire.close()


def test_few_empty_buffers_wait_for_more(wire, app):
    """While some are there: each lot costs a line of memory between two CPUs."""
    wire.run()
    packets = app.new([60] * 65)
    app.free(packets, np.arange(63))
    wire.run()
    assert app._empty.used_slots() == ROOM - 65
    app.free(packets, [0])
    wire.run()
    assert app._empty.used_slots() == ROOM - 1


@pytest.mark.parametrize("lengths", [[1975], [-1], [0, 5000]])
def test_frames_longer_than_a_buffer_are_refused(wire, app, lengths):
    with pytest.raises(PortError, match="allowed are 0 to 1974"):
        app.new(lengths)


def test_a_frame_may_get_another_length(wire, app):
    wire.run()
    packets = app.new([10, 10])
    packets.resize(0, 3)[:] = 1
    packets.resize(1, 12)[:] = 2
    for wrong in (-1, 1975):
        with pytest.raises(PortError, match="cannot get"):
            packets.resize(0, wrong)
    app.send(packets)
    wire.run()
    assert wire.ports[1].received() == [b"\1" * 3, b"\2" * 12]


def test_a_packet_that_grew_at_its_front_gets_its_headroom_back(wire, app):
    wire.ports[1].send([b"frame"])
    wire.run()
    packets = app.receive()
    row = packets.rows[0]
    app.meta["off"][row] -= 4
    packets[0][:4] = np.frombuffer(b"tag ", np.uint8)
    app.send(packets)
    wire.run()
    assert wire.ports[1].received() == [b"tag frame"]
    assert wire.pool.meta["off"][row] == HEADROOM


def test_rows_that_it_has_not_are_refused(wire, app):
    wire.run()
    mine = app.new([60])
    row = mine.rows.copy()
    app.send(mine)
    for rows in (row, [wire.pool.size, 2**32 - 1], [5], row):
        app._sent.push(rows)
    wire.run()
    assert len(wire.ports[1].received()) == 1
    for rows in (row, [wire.pool.size, 2**32 - 1], [5], row):
        app._back.push(rows)
    wire.run()
    assert wire.counts("rx0")["not-lent"] == 10


def wrong_end(meta, rows):
    meta["end"][rows[0]] = 2113


def wrong_order(meta, rows):
    meta["off"][rows[0]] = meta["end"][rows[0]] + 1


def no_room(meta, rows):
    meta["off"][rows[0]], meta["end"][rows[0]] = 0, 2112


def loop(meta, rows):
    meta["flags"][rows[:2]] = CHAINED
    meta["next"][rows[:2]] = rows[1], rows[0]


def foreign(meta, rows):
    meta["flags"][rows[0]], meta["next"][rows[0]] = CHAINED, meta.size


def too_many(meta, rows):
    meta["flags"][rows[:-1]] = CHAINED
    meta["next"][rows[:-1]] = rows[1:]


def too_long(meta, rows):
    too_many(meta, rows[:40])


def wrong_second(meta, rows):
    too_many(meta, rows[:2])
    meta["end"][rows[1]] = 0xFFFF


@pytest.mark.parametrize(
    "spoil",
    [wrong_end, wrong_order, no_room, loop, foreign, too_many, too_long, wrong_second],
    ids=lambda f: f.__name__,
)
def test_a_wrong_packet_is_counted_and_its_buffers_are_free(wire, app, spoil):
    wire.run()
    packets = app.new([BUF_ROOM] * 100)
    spoil(app.meta, packets.rows)
    app.send(packets, [0])
    wire.run()
    assert wire.counts("rx0")["bad-packet"] == 1
    assert wire.ports[1].received() == []


def test_a_chain_of_the_programs_own(wire, app):
    wire.run()
    packets = app.new([3, 4])
    packets[0][:], packets[1][:] = 1, 2
    too_many(app.meta, packets.rows)
    app.send(packets, [0])
    wire.run()
    assert wire.ports[1].received() == [b"\1\1\1\2\2\2\2"]


def test_one_program_at_a_time(wire, app):
    with pytest.raises(PortError, match="another program is attached"):
        attach("lab", "app")


def test_who_detaches_gives_everything_back(wire):
    for n in range(3):
        wire.ports[1].send(FRAMES)
        with attach("lab") as app:
            wire.run()
            app.receive(4)
            app.new([1] * 5)
        settle(wire)
        assert wire.counts("rx0")["reclaimed"] == n + 1
    app.close()
    with pytest.raises(PortError, match="detached"):
        app.free(app.receive())


def test_a_worker_can_sleep_when_the_program_has_gone(wire):
    (descriptor,) = wire.ports[0].descriptors()
    for _ in range(3):
        with attach("lab") as app:
            wire.run()
            app.new([1])
        settle(wire)
        assert not readable([descriptor], 0)


def test_what_was_sent_before_the_end_goes_out(wire):
    with attach("lab") as app:
        wire.run()
        assert sends(app, FRAMES[:4]) == 4
    for _ in range(500):
        wire.run()
        if ring.turn_of(wire.ports[0]._state) == ring.FREE:
            break
        time.sleep(0.01)
    assert wire.ports[1].received() == FRAMES[:4]
    settle(wire)


def test_a_forwarder_that_does_not_reclaim_is_named(wire, monkeypatch):
    attach("lab").close()
    with pytest.raises(PortError, match="is it running"):
        attach("lab")
    settle(wire)


def test_names(arena, wire):
    with pytest.raises(ArenaError, match="no forwarder named 'lob'"):
        attach("lob")
    with pytest.raises(PortError, match="no memring port 'b'; there are: app"):
        attach("lab", "b")
    arena.write_document("forwarder", {"ports": []})
    with pytest.raises(PortError, match="which memring port is not clear; there are: none"):
        attach("lab")
    (arena.path / "forwarder.json").unlink()
    with pytest.raises(PortError, match="not built its graph"):
        attach("lab")


def test_waiting_ends_by_a_packet_by_time_and_by_the_end(wire):
    app = attach("lab")
    assert not app.wait(0)
    start = time.monotonic()
    assert not app.wait(0.05)
    assert time.monotonic() - start >= 0.05
    wire.ports[1].send([b"wake"])
    later = threading.Timer(0.05, wire.run)
    later.start()
    assert app.wait(10)
    later.join()
    assert app.receive().copy(0) == b"wake"
    assert app.arm()
    wire.ports[1].send([b"wake"])
    wire.run()
    assert os.eventfd_read(app.fileno()) == 1
    assert not app.arm()
    later = threading.Timer(0.05, wire.ports[0].close)
    later.start()
    seen = [packets.copy(0) for packets in app]
    later.join()
    assert (seen, app.ended) == ([b"wake"], True)
    app.close()


def test_a_loop_gives_back_what_it_leaves(wire, app):
    for _ in range(3):
        wire.ports[1].send([b"1", b"2", b"3"])
        wire.run()
        for packets in app:
            app.send(packets, [1])
            break
        wire.run()
        assert wire.ports[1].received() == [b"2"]
    assert int(wire.ports[0]._state[ring.LENT + ring.PACKET]) == 0


def test_descriptors_of_any_number(arena):
    with beyond():
        wire = Wire(arena, MemringPort(room=ROOM), MemoryPort())
        for _ in range(2):
            with attach("lab") as app:
                wire.run()
                assert app.fileno() >= SELECT_MAX
                assert sends(app, FRAMES[:4]) == 4
                wire.run()
                assert wire.ports[1].received() == FRAMES[:4]
            settle(wire)
        wire.close()


def test_when_descriptors_have_run_out_who_comes_is_taken_later(wire, monkeypatch):
    port, waits, wait = wire.ports[0], [], memring.readable

    def watched(fds, timeout_s=None):
        waits.append(list(fds))
        return wait(waits[-1], timeout_s)

    monkeypatch.setattr(memring, "readable", watched)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as program:
        program.settimeout(20)
        with none_left():
            program.connect(str(port._path))
            end = time.monotonic() + 20
            while [port._stop] not in waits and time.monotonic() < end:
                time.sleep(0.002)
        assert [port._stop] in waits
        answer, fds, _, _ = socket.recv_fds(program, 100, 2)
        assert (json.loads(answer), len(fds)) == ({"room": ROOM}, 2)
        for fd in fds:
            os.close(fd)
    settle(wire)


garbage = st.integers(0, 2**32 - 1) | st.integers(0, 1100) | st.sampled_from([0, 138, 2112, 2113])
acts = st.lists(
    st.one_of(
        st.tuples(
            st.just("meta"), st.sampled_from(["off", "end", "next", "flags", "rest"]), garbage
        ),
        st.tuples(st.sampled_from(["sent", "back", "full", "empty"]), st.integers(0, 40), garbage),
        st.tuples(st.sampled_from(["send", "free"]), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("run"), st.integers(0, 9), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=150)
@given(acts=acts)
def test_whatever_a_program_writes_no_row_is_lost(tmp_path_factory, acts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path_factory.mktemp("fuzz")))
        with Arena.create("lab") as arena:
            ports = [{"name": "app", "number": 0, "type": "memring"}]
            arena.write_document("forwarder", {"ports": ports})
            wire = Wire(arena, MemringPort(room=64), MemoryPort(room=64))
            with attach("lab") as app:
                wire.ports[1].send([bytes(100), bytes(5000)])
                wire.run()
                held = app.receive()
                for what, n, value in acts:
                    if what == "meta":
                        cut = value & (0xFFFF if n in ("off", "end") else 0xFFFFFFFF)
                        app.meta[n][held.rows[:2]] = cut
                    elif what == "run":
                        wire.ports[1].send([bytes(50)] * n)
                        wire.run()
                    elif what == "send":
                        app.send(held, np.arange(min(n, len(held))))
                    elif what == "free":
                        app.free(held, np.arange(min(n, len(held))))
                    else:
                        getattr(app, f"_{what}").array[n] = value
                wire.run()
            wire.run()
            wire.close()
