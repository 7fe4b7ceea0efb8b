# SPDX-License-Identifier: Apache-2.0
"""Which connections are let go, by what uvicorn's protocols say of themselves; and a server that does."""

import contextlib
import socket
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_forwarder as fake
from vforward.control import api_patience, api_server
from vforward.control.api_patience import Patience
from vforward.io import unix
from vforward.memory.place import API_SOCKET


class One:
    """A connection in some state."""

    def __init__(self, *, asked=True, more=False, begun=False, paused=False, unread=0):
        self.cycle = SimpleNamespace(more_body=more, response_started=begun) if asked else None
        self.flow = SimpleNamespace(write_paused=paused)
        self.unread = unread
        self.ended = False
        self.transport = self

    def get_write_buffer_size(self):
        return self.unread

    def abort(self):
        self.ended = True


BEGUN = b"POST /traces HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
WAITING = [{"asked": False}, {"more": True}, {"begun": True, "paused": True, "unread": 9}]
BUSY = [{}, {"begun": True}, {"more": True, "begun": True}, {"begun": True, "unread": 9}]


@pytest.mark.parametrize("state", WAITING)
def test_who_waits_for_its_client_too_long(state):
    one = One(**state)
    patience = Patience(lambda: [one], 30)
    for now in range(30):
        patience.look(now)
        assert not one.ended
    patience.look(30)
    assert one.ended


@pytest.mark.parametrize("state", BUSY)
def test_who_is_answered_has_all_the_time(state):
    one = One(**state)
    patience = Patience(lambda: [one], 30)
    for now in range(100):
        patience.look(now)
    assert not one.ended


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_reading_a_little_counts(reads):
    """It is let go when it has read nothing for so long, and not before."""
    one = One(begun=True, paused=True, unread=1000)
    patience, still = Patience(lambda: [one], 5), 0
    patience.look(0)
    for now, n in enumerate(reads, 1):
        one.unread -= n
        still = 0 if n else still + 1
        patience.look(now)
        assert one.ended == (still >= 5)
        if one.ended:
            return


def test_a_connection_that_has_gone_is_forgotten():
    one, there = One(asked=False), True
    patience = Patience(lambda: [one] if there else [], 5)
    patience.look(0)
    there = False
    patience.look(1)
    assert patience._waiting == {}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /ports HTTP/1.1\r\nHost",
        BEGUN,
    ],
)
def test_a_server_lets_them_go(tmp_path, monkeypatch, caplog, said):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "r"))
    monkeypatch.setattr(
        api_server, "Patience", lambda connections: _quick(Patience(connections, 0.05))
    )
    with fake.served() as arena, unix.connect(arena.path / API_SOCKET, socket.SOCK_STREAM) as made:
        made.settimeout(60)
        made.sendall(said)
        with contextlib.suppress(ConnectionError):
            assert made.recv(1) == b""
    assert "did not say what it wants" in caplog.text


def _quick(patience):
    watch = patience.watch
    patience.watch = lambda: watch(0.01)
    return patience


def test_the_look_is_seldom():
    assert api_patience.LOOK_S <= api_patience.PATIENCE_S / 10
