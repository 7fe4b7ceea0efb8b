# SPDX-License-Identifier: Apache-2.0
"""Peers come one after the other, whatever the last one did. (With queues: test_vhost.py)"""

import socket
import threading

import pytest

from vforward.errors import PortError
from vforward.io import vhost_peers
from vforward.io.vhost_peers import Peers
from vforward.rings.vhost_message import BadPeer


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(vhost_peers, "BAD_PEER_S", 0.01)


def call(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(5)
    peer.connect(str(path))
    return peer


ENDS = [None, BadPeer("word", "of a rule"), ConnectionResetError(), ZeroDivisionError(), None]


def test_each_is_counted_by_how_it_ended(tmp_path, caplog):
    ends = iter(ENDS)

    def attend(peer, endpoint):
        if (end := next(ends)) is not None:
            raise end

    peers = Peers(str(tmp_path / "s"), attend, server=True)
    peers.open()
    peers.start()
    for _ in ENDS:
        with call(tmp_path / "s") as peer:
            assert peer.recv(1) == b""
    peers.close()
    assert peers.number == len(ENDS)
    assert peers.faults == {"word": 1, "socket": 1, "internal": 1}
    assert "peers so far: 5; let go: 1 for its" in peers.text(ready=False)
    assert "of a rule" in caplog.text
    peers.close()


def test_the_one_that_is_there_is_let_go_at_the_end(tmp_path):
    there = threading.Event()

    def attend(peer, endpoint):
        there.set()
        while not endpoint.stopped:
            endpoint.wait(peer, 10)

    peers = Peers(str(tmp_path / "s"), attend, server=True)
    peers.open()
    peers.start()
    with call(tmp_path / "s") as peer:
        assert there.wait(5)
        assert peers.text(ready=True).startswith("forwarding")
        assert peers.text(ready=False).startswith("connected")
        peers.close()
        assert peer.recv(1) == b""
    assert peers.text(ready=False).startswith("nobody there")


def test_a_path_in_use(tmp_path):
    peers, other = (Peers(str(tmp_path / "s"), lambda *_: None, server=True) for _ in range(2))
    peers.open()
    with pytest.raises(PortError, match="another process listens"):
        other.open()
    other.close()
    peers.close()
