# SPDX-License-Identifier: Apache-2.0
"""The virtio port between a worker and a backend: in plain Python, and our own; bad ones; ones that die."""

import logging
import os
import socket
import time

import pytest

from backends import (
    ACK,
    EVENT_IDX,
    IN_ORDER,
    MANY,
    MERGED,
    PROTOCOL,
    RING_PACKED,
    SEVERAL,
    VERSION_1,
    Backend,
)
from fuzzing import kinds_open
from vforward.errors import PortError
from vforward.graph import control
from vforward.io import vhost_peers, virtio
from vforward.io.virtio import QUEUE, VirtioPort
from vforward.memory.arena import Arena
from vforward.rings import virtqueue as vq
from vforward.rings.net_features import OFFLOADS
from vhost_worlds import World, let_go
from virtio_worlds import FrontWorld

FRAMES = [bytes([n]) * (60 + 700 * n) for n in range(8)]
SHORT = [bytes([n]) * (60 + 100 * n) for n in range(8)]


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(vhost_peers, "BAD_PEER_S", 0.01)
    before = kinds_open()
    with Arena.create("virtio") as made:
        yield made
    assert kinds_open() <= before


@pytest.fixture
def path(tmp_path):
    return tmp_path / "virtio.sock"


@pytest.fixture
def echo(arena, path):
    with FrontWorld(arena, path, server=True) as made:
        yield made


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def bounce(backend, frames=FRAMES, pair=0):
    """There by one pair; back by any, flows in their order."""
    backend.send(frames, pair=pair)
    found, end = [], time.monotonic() + 5
    while len(found) < len(frames) and time.monotonic() < end:
        for back in range(backend.pairs):
            found += backend.receive(len(frames), timeout_s=0.001, pair=back)
    if backend.pairs == 1:
        assert found == frames
    else:
        assert sorted(found) == sorted(frames)


@pytest.mark.parametrize(
    ("offered", "protocol"),
    [
        (VERSION_1 | PROTOCOL | MERGED, 8),
        (VERSION_1 | PROTOCOL | MERGED | IN_ORDER | EVENT_IDX, 8),
        (VERSION_1 | MERGED, None),
        (VERSION_1 | PROTOCOL | MERGED | EVENT_IDX | OFFLOADS | 1 << 34 | 1 << 22, 9),
        (VERSION_1 | PROTOCOL, 0),
    ],
)
def test_frames_there_and_back(echo, path, offered, protocol):
    backend = Backend.connect(path, offered=offered, protocol=protocol).begin()
    frames = FRAMES if offered & MERGED else SHORT
    for _ in range(5):
        bounce(backend, frames)
    until(lambda: echo.port.ready)
    assert "forwarding; peers so far: 1; let go: none" in echo.port.peer()
    backend.close()
    until(lambda: not echo.port.ready)
    total = 5 * sum(map(len, frames))
    assert echo.counts("rx")["bytes"] == echo.counts("tx")["bytes"] == total
    assert not echo.port.peer_faults


ALL = VERSION_1 | PROTOCOL | MERGED
KINDS = [
    ALL | RING_PACKED,
    ALL | RING_PACKED | IN_ORDER,
    ALL | RING_PACKED | EVENT_IDX | OFFLOADS,
    VERSION_1 | MERGED | RING_PACKED,
]


@pytest.mark.parametrize("offered", KINDS)
def test_packed_queues(arena, path, offered):
    with FrontWorld(arena, path, server=True, packed=True) as echo:
        backend = Backend.connect(path, offered=offered).begin()
        assert backend.features & RING_PACKED
        for _ in range(150):  # more than a lap
            bounce(backend)
        assert "packed queues" in echo.port.peer()
        backend.close()
        until(lambda: not echo.port.ready)
        assert not echo.port.peer_faults
        again = Backend.connect(path).begin()  # one that has no packed queues
        bounce(again)
        assert "packed queues" not in echo.port.peer()
        again.close()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pairs", [2, 3, 8])
def test_several_pairs(arena, path, pairs, packed):
    with FrontWorld(arena, path, server=True, queues=pairs, packed=packed) as echo:
        offered = ALL | MANY | (RING_PACKED if packed else 0)
        for _ in range(2):
            backend = Backend.connect(path, offered, SEVERAL | ACK, pairs).begin()
            for pair in range(pairs):
                bounce(backend, pair=pair)
            backend.close()
            until(lambda: not echo.port.ready)
        assert echo.port.peer().count("from the device 16") == pairs
        assert echo.counts("tx")["bytes"] == 2 * pairs * sum(map(len, FRAMES))
        assert not echo.port.peer_faults


def test_all_queues_to_send_by_run_before_frames_come(arena, path, monkeypatch):
    """Else a frame whose flow goes by a later pair is dropped."""
    start, begun = vq.start, []

    def noted(queue):
        begun.append(queue.ctypes.data)
        start(queue)

    with FrontWorld(arena, path, server=True, queues=3) as echo:
        monkeypatch.setattr(vq, "start", noted)
        Backend.connect(path, ALL | MANY, SEVERAL | ACK, 3).begin().close()
        until(lambda: len(begun) == 6)
        numbers = {queue.ctypes.data: k for k, queue in enumerate(echo.port.queues)}
        assert [numbers[at] for at in begun] == [1, 3, 5, 0, 2, 4]


@pytest.mark.parametrize("packed", [False, True])
def test_a_worker_that_sleeps_is_called_by_any_pair(arena, path, packed):
    with FrontWorld(arena, path, server=True, queues=2, packed=packed) as echo:
        offered = ALL | MANY | EVENT_IDX | RING_PACKED
        backend = Backend.connect(path, offered, SEVERAL | ACK, 2).begin()
        words = echo.worker.plan.control
        for pair in (1, 0, 1, 1, 0):
            before = int(words[control.SLEEPS])
            until(lambda before=before: int(words[control.SLEEPS]) > before)
            assert backend.send(FRAMES[:1], pair=pair)
            found, end = [], time.monotonic() + 5
            while not found and time.monotonic() < end:
                found = backend.receive(1, 0.001, 0) + backend.receive(1, 0.001, 1)
            assert found == FRAMES[:1]
        backend.close()


@pytest.mark.parametrize(
    ("offered", "protocol", "has"),
    [(ALL | MANY, ACK, 2), (ALL | MANY, SEVERAL | ACK, 1), (ALL, SEVERAL, 2), (VERSION_1, 0, 2)],
)
def test_a_device_with_fewer_pairs_is_let_go(arena, path, offered, protocol, has, caplog):
    with FrontWorld(arena, path, server=True, queues=2) as echo:
        backend = Backend.connect(path, offered, protocol, has)
        with pytest.raises(ConnectionError):
            backend.begin()
        until(lambda: echo.port.peer_faults == {"queues": 1})
        assert "1 of 2 pairs of queues" in caplog.text
        backend.close()


@pytest.mark.parametrize("queues", [0, 9])
def test_so_many_pairs_there_are_not(path, queues):
    with pytest.raises(PortError, match="allowed: 1 to 8"):
        VirtioPort(str(path), queues=queues)


def test_one_backend_after_the_other(echo, path):
    """Each has memory of its own: an earlier one sees nothing of what comes later, nor does it cost us."""
    gone = []
    for _ in range(3):
        backend = Backend.connect(path).begin()
        bounce(backend)
        assert any(bytes(backend.memory))
        backend.peer.close()
        gone.append(backend)
        until(lambda: not echo.port.ready)
    assert echo.port.peers == 3
    until(lambda: not any(bytes(gone[-1].memory)))
    for backend in gone:
        assert not any(bytes(backend.memory)), "its pages were given back"
        backend.close()


def test_we_connect_until_somebody_listens_and_again(arena, path):
    with FrontWorld(arena, path, server=False) as echo:
        for _ in range(3):
            time.sleep(0.02)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
                server.listen()
                server.settimeout(5)
                backend = Backend(server.accept()[0]).begin()
                bounce(backend)
                path.unlink()
            backend.close()
            until(lambda: not echo.port.ready)


@pytest.mark.parametrize("more", [0, EVENT_IDX])
def test_a_sleeping_worker_is_called_awake(echo, path, more):
    backend = Backend.connect(path, offered=VERSION_1 | PROTOCOL | MERGED | more).begin()
    words = echo.worker.plan.control
    called = 0
    for frame in FRAMES * 3:
        before = int(words[control.SLEEPS])
        until(lambda before=before: int(words[control.SLEEPS]) > before)
        called += backend.send([frame])
        assert backend.receive(1) == [frame]
    assert called > 2 * len(FRAMES)
    backend.close()


def test_a_sleeping_worker_looks_at_queues_that_start(echo, path, monkeypatch):
    """By EVENT_IDX no call comes for what was given back before they ran."""
    running, quiesce = [], echo.port._quiesce

    def watched():
        running.append([int(queue[vq.STATE]) for queue in echo.port.queues])
        return quiesce()

    monkeypatch.setattr(echo.port, "_quiesce", watched)
    backend = Backend.connect(path).begin()
    until(lambda: running)
    assert running[0] == [vq.READY, vq.READY]
    backend.close()


def test_the_device_is_kicked(echo, path):
    backend = Backend.connect(path).begin()
    bounce(backend)
    assert [os.eventfd_read(backend.kicks[k]) > 0 for k in range(2)] == [True, True]
    for device in backend.devices:
        device.no_kicks()
    bounce(backend)
    for k in range(2):
        with pytest.raises(BlockingIOError):
            os.eventfd_read(backend.kicks[k])
    backend.close()


def bad_index(backend):
    backend.devices[0].use(0, 100, batch=QUEUE + 1)


def bad_number(backend):
    backend.devices[0].use(QUEUE, 100)


def bad_length(backend):
    backend.devices[0].use(5, 1 << 31)


def bad_tx_index(backend):
    backend.devices[1].use(0, 0, batch=100)
    backend.send(FRAMES[:1])


def talks(backend):
    backend.reply(1, 0)


def half_a_message(backend):
    backend.peer.sendall(b"half")
    backend.peer.shutdown(socket.SHUT_WR)


def with_files(backend):
    backend.reply(77, 0, fds=[0, 0])


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (bad_index, "queue-index"),
        (bad_number, "queue-number"),
        (bad_length, "queue-length"),
        (bad_tx_index, "queue-index"),
        (talks, "request"),
        (half_a_message, "length"),
        (with_files, "request"),
    ],
)
def test_a_bad_peer_loses_its_connection_and_nothing_else(echo, path, harm, reason, caplog):
    caplog.set_level(logging.WARNING)
    backend = Backend.connect(path).begin()
    bounce(backend)
    harm(backend)
    until(lambda: echo.port.peer_faults)
    assert echo.port.peer_faults == {reason: 1}
    until(lambda: let_go(echo) == {reason: 1})
    assert "the peer is let go" in caplog.text
    again = Backend.connect(path).begin()
    bounce(again)
    again.close()
    backend.close()


@pytest.mark.parametrize("done", range(16))
def test_a_backend_that_dies_at_any_step(echo, path, done):
    backend = Backend.connect(path)
    for _ in range(done):
        backend.hear()
    backend.close()
    again = Backend.connect(path).begin()
    bounce(again)
    again.close()


def test_one_that_never_answers(echo, path, monkeypatch):
    monkeypatch.setattr(virtio, "ANSWER_S", 0.02)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(path))
        until(lambda: echo.port.peer_faults == {"answer": 1})
    again = Backend.connect(path).begin()
    bounce(again)
    again.close()


def test_to_close_while_it_is_asked_is_no_fault(arena, path):
    with (
        FrontWorld(arena, path, server=True) as ours,
        socket.socket(socket.AF_UNIX) as silent,
    ):
        silent.connect(str(path))
        assert silent.recv(1)  # the first question
        ours.close()
    assert not ours.port.peer_faults


def test_the_path_is_in_use(echo, path):
    other = VirtioPort(str(path), server=True)
    with pytest.raises(PortError, match="another process listens"):
        other.open(2, echo.pool)
    other.close()


@pytest.mark.parametrize("offloads", [True, False])
def test_offloads_are_taken_or_not(arena, path, offloads):
    with FrontWorld(arena, path, server=True, offloads=offloads) as echo:
        backend = Backend.connect(path, offered=VERSION_1 | PROTOCOL | MERGED | OFFLOADS).begin()
        assert backend.features & OFFLOADS == (OFFLOADS if offloads else 0)
        assert int(echo.port.whole[0]) == (1 << 1 | 1 << 4 | 1 << 7 if offloads else 0)
        backend.close()


def there_and_back(front, back, queues, packed):
    """5000 packets from front, each of them accounted for on its way and on the way back."""
    until(lambda: front.port.ready and back.port.ready)
    front.worker.start()
    until(lambda: front.moved("tx") == 5000)
    sent = front.counts("tx")["bytes"] // 60
    assert sent + front.counts("tx")["ring-full"] == 5000
    until(lambda: back.moved("tx") == sent > 0)
    returned = back.counts("tx")["bytes"] // 60
    assert returned + back.counts("tx")["ring-full"] == sent
    until(lambda: front.moved("rx") == returned)
    assert not front.port.peer_faults
    assert not back.port.peer_faults
    wanted = IN_ORDER | (RING_PACKED if packed else 0)
    for k, queue in enumerate(front.port.queues):
        assert int(queue[vq.FEATURES]) & (IN_ORDER | RING_PACKED) == wanted
        if queues > 1:
            assert int(queue[vq.MOVED]) == int(back.port.queues[k][vq.MOVED]) > 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("queues", [1, 2, 4])
@pytest.mark.parametrize("we_listen", [False, True])
def test_our_frontend_on_our_backend(arena, path, we_listen, queues, packed):
    """There and back through both, and again when either has been another."""
    for _ in range(2):
        with (
            Arena.create("device") as other,
            Arena.create("driver") as mine,
            World(other, path, "echo", server=not we_listen, queues=queues) as back,
            FrontWorld(
                mine, path, "source", count=5000, server=we_listen, queues=queues, packed=packed
            ) as front,
        ):
            there_and_back(front, back, queues, packed)
