# SPDX-License-Identifier: Apache-2.0
"""Peers come one after the other, whatever the last one did. (With queues: test_vhost.py)"""

import re
import socket
import threading
import time
from pathlib import Path

import pytest

import vforward
from vforward.errors import PortError
from vforward.io import vhost_peers, vhost_rx
from vforward.io.vhost_peers import Peers
from vforward.rings import virtqueue, virtqueue_driver
from vforward.rings.vhost_message import BadPeer, receive


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(vhost_peers, "BAD_PEER_S", 0.01)


def call(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(5)
    peer.connect(str(path))
    return peer


ENDS = [
    None,
    BadPeer("word", "of a rule"),
    TimeoutError("in the middle of a message"),
    ZeroDivisionError(),
    ConnectionResetError(),
    BrokenPipeError(),
]


def test_each_is_counted_by_how_it_ended(tmp_path, caplog):
    ends = iter(ENDS)

    def attend(peer, endpoint):
        if (end := next(ends)) is not None:
            raise end

    told = []
    peers = Peers(str(tmp_path / "s"), attend, server=True, let_go=told.append)
    peers.open()
    peers.start()
    for _ in ENDS:
        with call(tmp_path / "s") as peer:
            assert peer.recv(1) == b""
    peers.close()
    assert peers.number == len(ENDS)
    assert peers.faults == {"word": 1, "socket": 1, "internal": 1}  # the last two have gone
    assert told == ["word", "socket", "internal"]
    assert "peers so far: 6; let go: 1 for its" in peers.text(ready=False)
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


@pytest.mark.parametrize("error", [BadPeer("answer", "none in time"), OSError("shut")])
def test_that_we_close_is_nobodys_fault(tmp_path, caplog, error):
    """A peer is let go by us in the middle of what it is asked."""
    there = threading.Event()

    def attend(peer, endpoint):
        there.set()
        endpoint.wait(peer, 60)
        raise error

    peers = Peers(str(tmp_path / "s"), attend, server=True)
    peers.open()
    peers.start()
    with call(tmp_path / "s") as peer:
        assert there.wait(5)
        peers.close()
        assert peer.recv(1) == b""
    assert not peers.faults
    assert not caplog.records


def test_who_stops_in_the_middle_of_a_message_does_not_hold_up_the_end(tmp_path, caplog):
    there = threading.Event()

    def attend(peer, endpoint):
        peer.settimeout(None)  # longer than anybody waits
        there.set()
        receive(peer)

    peers = Peers(str(tmp_path / "s"), attend, server=True)
    peers.open()
    peers.start()
    with call(tmp_path / "s") as peer:
        peer.sendall(b"123")
        assert there.wait(5)
        closing = threading.Thread(target=peers.close, daemon=True)
        closing.start()
        closing.join(20)
        assert not closing.is_alive()
        assert peer.recv(1) == b""
    assert not peers.faults
    assert not caplog.records


def test_a_listener_that_dies_is_no_peer_at_fault(tmp_path):
    """Who connects to it before it dies, and is never accepted, is reset."""
    path = str(tmp_path / "s")
    asked = threading.Event()

    def attend(peer, endpoint):
        asked.set()
        while not endpoint.stopped:
            if endpoint.wait(peer, 60):
                peer.recv(1)
                return

    peers = Peers(path, attend, server=False)
    with socket.socket(socket.AF_UNIX) as dying:
        dying.bind(path)
        dying.listen()
        peers.open()
        peers.start()
        assert asked.wait(5)
    end = time.monotonic() + 20
    while peers.connected:
        assert time.monotonic() < end
        time.sleep(0.002)
    peers.close()
    assert peers.number == 1
    assert not peers.faults


def test_a_path_in_use(tmp_path):
    peers, other = (Peers(str(tmp_path / "s"), lambda *_: None, server=True) for _ in range(2))
    peers.open()
    with pytest.raises(PortError, match="another process listens"):
        other.open()
    other.close()
    peers.close()


def test_each_reason_has_a_counter():
    """Those that the sources give, and of queues all faults; memory that is gone has one reason."""
    sources = [
        *Path(vforward.__file__).parent.glob("rings/vhost_*.py"),
        *Path(vforward.__file__).parent.glob("io/v*.py"),
    ]
    texts = "".join(source.read_text() for source in sources)
    given = set(re.findall(r'BadPeer\(\s*"([a-z-]+)"', texts)) | {"socket", "internal"}
    faults = {fault.name for kind in (virtqueue, virtqueue_driver) for fault in kind.Fault}
    given |= {f"queue-{name.lower()}" for name in faults - {"MEMORY"}}
    assert {f"let-go-{reason}" for reason in given} == {one.label for one in vhost_rx.REASONS}
    assert [int(one) for one in vhost_rx.REASONS] == [
        *range(vhost_rx.FIRST_REASON, vhost_rx.FIRST_REASON + vhost_rx.N_REASONS)
    ]
    assert vhost_rx.WHY + vhost_rx.N_REASONS <= vhost_rx.WHY_SEEN
    assert vhost_rx.WHY_SEEN + vhost_rx.N_REASONS <= vhost_rx.PORT_WORDS
