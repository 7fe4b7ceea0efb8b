# SPDX-License-Identifier: Apache-2.0
"""memif: our server and our client opposite each other."""

import os
import select
import socket
from ctypes import CFUNCTYPE, c_int64, c_void_p, cast

import pytest

from descriptors import SELECT_MAX, beyond, none_left
from memif_worlds import Peer, ends_in, until
from vforward.errors import PortError
from vforward.io import memif_link, unix
from vforward.io.libc import libc_address
from vforward.io.memif_nodes import LOOK
from vforward.io.memory import Offload
from vforward.layout import BUF_ROOM
from vforward.rings import memif, memif_ring

FRAMES = [b"x", bytes(60), b"a" * BUF_ROOM, b"b" * (BUF_ROOM + 1), bytes(range(256)) * 37]


@pytest.fixture
def ends(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    with ends_in(tmp_path) as make:
        yield make


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


def test_a_client_that_hears_that_it_is_connected_can_be_sent_to(ends, monkeypatch):
    """Else what comes from another port for it would be dropped, for a moment that it cannot see."""
    server, say, turns = ends(), memif_link.MemifLink._say, []

    def watched(self, peer, replies):
        if any(message[0] == memif.CONNECTED for message, _ in replies):
            turns.append(server.turn)
        say(self, peer, replies)

    monkeypatch.setattr(memif_link.MemifLink, "_say", watched)
    client = ends(role="client")
    until(lambda: client.turn == memif_ring.LIVE)
    assert turns == [memif_ring.LIVE]


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
    for _ in range(memif_ring.LIVE + 2 * LOOK):
        server.run()
        if not select.select([descriptor], [], [], 0)[0]:
            break
    assert not select.select([descriptor], [], [], 0)[0]
    client.far.send([b"wake"])
    client.run()
    assert select.select([descriptor], [], [], 10)[0]


def test_what_rings_as_interrupts_are_forgotten_is_received_in_that_round(ends, tmp_path):
    """The worker may sleep when it is over, and nobody rings again."""
    server = ends()
    peer = Peer(tmp_path / "memif.sock").all()
    until(lambda: server.turn == memif_ring.LIVE)
    frame, taken = b"f" * 60, []

    def empty(*_):
        if not taken:
            peer.memory[8192:8252] = frame
            peer.describe(0, 0, 0, 0, 60, 8192)
            peer.head(0, 1)
            os.eventfd_write(peer.events[0], 1)
            taken.extend(server.port._epoll.poll(0))
        return 0

    function = CFUNCTYPE(*[c_int64] * 5)(empty)
    server.port._state[memif_ring.EPOLL_WAIT] = cast(function, c_void_p).value
    for _ in range(2 * LOOK):
        server.run()
        if taken:
            break
    server.port._state[memif_ring.EPOLL_WAIT] = libc_address("epoll_wait")
    assert len(taken) > 0
    assert server.far.received() == [frame]
    peer.close()


def test_a_worker_can_sleep_when_the_peer_has_gone(ends):
    server, client = pair(ends)
    client.close()
    until(lambda: server.turn == memif_ring.FREE, server)
    (descriptor,) = server.port.descriptors()
    for _ in range(2 * LOOK):
        server.run()
    assert not select.select([descriptor], [], [], 0)[0]
    client = ends(role="client", secret="s3cret")
    until(lambda: client.turn == memif_ring.LIVE)
    assert carry(server, client, FRAMES) == FRAMES


def test_two_servers_on_one_socket_are_refused(ends):
    ends()
    with pytest.raises(PortError, match="is another server there"):
        ends()


@pytest.fixture
def hung(tmp_path):
    """A server that takes nobody, where one waits already and no more can."""
    path = tmp_path / "memif.sock"
    with unix.listen(path, backlog=0) as listener, unix.connect(path):
        listener.settimeout(20)
        yield listener


@pytest.fixture
def waits(monkeypatch):
    """What the links' threads have waited for so far: lists of descriptors."""
    made, wait = [], memif_link.readable

    def watched(fds, timeout_s=None):
        made.append(fds)
        return wait(fds, timeout_s)

    monkeypatch.setattr(memif_link, "readable", watched)
    return made


@pytest.mark.timeout(60)  # who waits for it waits for ever
def test_a_server_that_hangs_is_a_server(ends, hung, tmp_path):
    with pytest.raises(PortError, match="is another server there"):
        ends()
    hung.accept()[0].close()
    unix.connect(tmp_path / "memif.sock").close()  # the path is still its own


def test_a_client_tries_again_while_the_server_hangs(ends, hung, waits):
    client = ends(role="client")
    link = client.port._link
    until(lambda: [link._stop] in waits, seconds=20)
    hung.accept()[0].close()
    with hung.accept()[0]:
        client.close()
        assert not link._thread.is_alive()


def test_a_client_of_a_server_that_hangs_ends(ends, hung, waits):
    client = ends(role="client")
    link = client.port._link
    until(lambda: [link._stop] in waits, seconds=20)
    client.close()
    assert not link._thread.is_alive()


def test_another_kind_of_socket_is_not_taken_for_a_dead_server(ends, tmp_path):
    path = tmp_path / "memif.sock"
    with unix.listen(path, socket.SOCK_STREAM):
        with pytest.raises(PortError, match="is another server there"):
            ends()
        unix.connect(path, socket.SOCK_STREAM).close()


def test_descriptors_of_any_number(ends):
    with beyond():
        server, client = pair(ends)
        assert server.port._link._stop >= SELECT_MAX
        assert carry(server, client, FRAMES) == FRAMES
        client.close()
        until(lambda: server.turn == memif_ring.FREE, server)


def test_a_server_whose_descriptors_have_run_out_pauses_and_tries_again(ends, tmp_path, waits):
    server = ends()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(20)
        with none_left():
            peer.connect(str(tmp_path / "memif.sock"))
            until(lambda: [server.port._link._stop] in waits)
        assert len(peer.recv(memif.MESSAGE)) == memif.MESSAGE
