# SPDX-License-Identifier: Apache-2.0
"""How peers come: to our socket and to theirs, before us and after us, and again."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from descriptors import SELECT_MAX, beyond, none_left
from fuzzing import open_fds
from vforward.errors import PortError
from vforward.rings.vhost_socket import Endpoint


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "vhost.sock")


def dial(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    return peer


def listen(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    return server


def test_peers_come_one_after_the_other(path):
    endpoint = Endpoint(path, server=True)
    for word in (b"one", b"two"):
        with dial(path) as theirs, endpoint.next_peer() as ours:
            theirs.sendall(word)
            assert endpoint.wait(ours, 5)
            assert ours.recv(9) == word
            assert not endpoint.wait(ours, 0)
    endpoint.stop()
    assert endpoint.next_peer() is None
    endpoint.close()
    assert not Path(path).exists()


def test_we_connect_when_somebody_is_there(path):
    endpoint = Endpoint(path, server=False)
    found = []

    def await_peer():
        thread = threading.Thread(target=lambda: found.append(endpoint.next_peer()), daemon=True)
        thread.start()
        return thread

    thread = await_peer()
    for _ in range(2):
        with listen(path) as server:
            theirs, _ = server.accept()
            thread.join(5)
            theirs.sendall(b"x")
            assert endpoint.wait(found[-1], 5)
            theirs.close()
            with found.pop() as ours:
                assert ours.recv(9) == b"x"
        Path(path).unlink()
        thread = await_peer()
    endpoint.stop()
    thread.join(5)
    assert found == [None]
    endpoint.close()


def test_stop_ends_waiting(path):
    endpoint = Endpoint(path, server=True)
    timer = threading.Timer(0.05, endpoint.stop)
    timer.start()
    begin = time.monotonic()
    assert endpoint.next_peer() is None
    assert not endpoint.wait(None, 60)
    assert time.monotonic() - begin < 30
    timer.join()
    endpoint.close()


def test_what_a_killed_process_leaves_is_removed(path):
    listen(path).close()
    assert Path(path).exists()
    endpoint = Endpoint(path, server=True)
    dial(path).close()
    endpoint.stop()
    endpoint.close()


def test_somebody_else_listens(path):
    before = open_fds()
    with listen(path), pytest.raises(PortError, match="another process listens"):
        Endpoint(path, server=True)
    assert open_fds() <= before


@pytest.mark.parametrize(
    ("bad", "text"),
    [("", "1 to 107 bytes"), ("x" * 108, "1 to 107 bytes"), ("/nowhere/at/all", "No such file")],
)
@pytest.mark.filterwarnings("error")
def test_no_path(bad, text):
    with pytest.raises(PortError, match=text):
        Endpoint(bad, server=True)


def test_a_file_is_not_removed(path):
    Path(path).write_text("mine")
    with pytest.raises(PortError, match="no socket"):
        Endpoint(path, server=True)
    assert Path(path).exists()


@pytest.mark.parametrize("server", [True, False])
def test_descriptors_of_any_number_are_waited_for(path, server):
    with contextlib.ExitStack() as stack:
        stack.enter_context(beyond())
        other = None if server else stack.enter_context(listen(path))
        endpoint = Endpoint(path, server=server)
        theirs = dial(path) if other is None else None
        with endpoint.next_peer() as ours:
            assert ours.fileno() >= SELECT_MAX
            with theirs or other.accept()[0] as peer:
                peer.sendall(b"x")
                assert endpoint.wait(ours, 5)
        endpoint.stop()
        endpoint.close()


@pytest.mark.parametrize("server", [True, False])
def test_when_descriptors_have_run_out_it_pauses_and_tries_again(path, server, monkeypatch):
    other = None if server else listen(path)
    endpoint = Endpoint(path, server=server)
    theirs = dial(path) if server else None
    paused, found, wait = threading.Event(), [], endpoint.wait

    def watched(peer, timeout_s):
        if peer is None:
            paused.set()
        return wait(peer, timeout_s)

    monkeypatch.setattr(endpoint, "wait", watched)
    thread = threading.Thread(target=lambda: found.append(endpoint.next_peer()), daemon=True)
    with none_left():
        thread.start()
        in_time = paused.wait(20)
        before = list(found)
    assert (in_time, before) == (True, [])
    thread.join(20)
    with theirs or other.accept()[0] as peer, found[0] as ours:
        peer.sendall(b"x")
        assert endpoint.wait(ours, 5)
    endpoint.stop()
    endpoint.close()
    if other is not None:
        other.close()
