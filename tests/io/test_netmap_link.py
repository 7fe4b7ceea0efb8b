# SPDX-License-Identifier: Apache-2.0
"""A netmap port whose server comes late, goes, is killed and comes again."""

import contextlib
import gc
import select
import signal
import socket
import subprocess
import sys
import threading

import pytest

from fuzzing import kinds_open, mapped
from netmap_worlds import FRAME, until, works, world
from vforward.io import netmap_link
from vforward.io.netmap import NetmapPort
from vforward.rings import netmap
from vforward.rings.netmap_message import REQUEST_SIZE
from vforward.rings.netmap_server import Server

LONG = 30  # seconds
NAMES = [("netmap:x{1@conf:slots=64", "netmap:x}1"), ("vale0:a@conf:slots=64", "vale0:b")]
SERVE = "from vforward.rings.netmap_server import Server; Server(); print(flush=True); input()"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("VFORWARD_NETMAP", str(tmp_path / "d" / "s"))
    monkeypatch.setattr(netmap_link, "AGAIN_S", 0.02)


@contextlib.contextmanager
def process():
    """A server in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as made:
        try:
            assert made.stdout.readline() == b"\n"
            yield made
        finally:
            made.kill()


def nothing_is_mapped():
    gc.collect()  # an exception's frames may still refer to a port that is closed
    return mapped("memfd:netmap") == 0


@pytest.mark.parametrize(("name", "peer"), NAMES)
def test_a_server_that_comes_late_and_again(name, peer):
    before = kinds_open()
    with world(name) as ours:
        assert ours.port.peer() == "no netmap server"
        ours.far.send([FRAME])
        ours.worker.wake()
        until(lambda: ours.wire.counts("tx0")["no-server"] == 1)
        for _ in range(3):
            with Server():
                works(ours, peer)
            until(lambda: ours.port.peer() == "no netmap server")
            until(nothing_is_mapped)
    assert kinds_open() <= before


@pytest.fixture
def mute(tmp_path):
    """A server that does not answer, where there is none yet."""
    (tmp_path / "d").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(tmp_path / "d" / "s"))
        listening.settimeout(LONG)
        yield listening


def test_a_port_is_opened_at_once_although_its_server_is_mute(mute, monkeypatch, caplog):
    """Who starts a forwarder, or reloads, does not wait for it."""
    monkeypatch.setattr(netmap, "ANSWER_S", 10 * LONG)
    monkeypatch.setattr(netmap_link, "FIRST_S", 0.05)
    mute.listen()
    port = NetmapPort("netmap:x{1")
    opening = threading.Thread(target=port.open, args=(0, None), daemon=True)
    opening.start()
    opening.join(LONG)
    assert not opening.is_alive()
    assert port.peer() == "no netmap server"
    port.close()
    assert "does not answer" in caplog.text


def test_a_port_that_asks_a_mute_server_closes_at_once(mute, monkeypatch):
    """It would wait for an answer for longer than anybody waits here."""
    monkeypatch.setattr(netmap, "ANSWER_S", 10 * LONG)
    before = kinds_open()
    with world("netmap:x{1") as ours:
        mute.listen()
        asking, _ = mute.accept()
        with asking:
            asking.settimeout(LONG)
            assert len(asking.recv(REQUEST_SIZE + 1)) == REQUEST_SIZE
            closing = threading.Thread(target=ours.close)
            closing.start()
            closing.join(LONG)
            assert not closing.is_alive()
    assert kinds_open() <= before


@pytest.mark.parametrize(("name", "peer"), NAMES)
def test_a_server_that_is_killed_in_traffic(name, peer):
    with world(name) as ours:
        for _ in range(2):
            with process() as server:
                works(ours, peer)
                stop = threading.Event()
                sending = threading.Thread(target=send_on, args=(peer, ours, stop))
                sending.start()
                try:
                    begun = ours.received()
                    until(lambda begun=begun: ours.received() > begun + 200)
                    server.send_signal(signal.SIGKILL)
                    until(lambda: ours.port.peer() == "no netmap server")
                finally:
                    stop.set()
                    sending.join()
            until(nothing_is_mapped)
        with Server():
            works(ours, peer)


def send_on(peer, ours, stop):
    """Traffic both ways, until told, or until the server is gone."""
    with netmap.open(peer) as other:
        while not stop.is_set():
            other.inject(FRAME)
            ours.far.send([FRAME])
            if other.poll(netmap.READ, 0.001) == netmap.ERROR:
                return
            other.dispatch(lambda _: None)
            ours.far.received()  # what lies there takes buffers from the pool


def test_the_port_is_in_use_for_a_while():
    """Somebody is quicker at the new server: then the port waits."""
    name, peer = NAMES[0]
    with world(name) as ours:
        with Server():
            until(lambda: ours.port.peer() == "at its server")
        until(lambda: ours.port.peer() == "no netmap server")
        ours.port._link._name = "vale9:busy"
        with Server(), netmap.open("vale9:busy"):
            select.select([], [], [], 0.1)
            assert ours.port.peer() == "no netmap server"
            ours.port._link._name = name
            works(ours, peer)
