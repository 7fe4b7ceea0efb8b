# SPDX-License-Identifier: Apache-2.0
"""Messages through a socket pair: as they were sent, or refused, and no descriptor is lost."""

import os
import socket
import struct

import pytest

from fuzzing import open_fds
from vforward.rings import vhost_message
from vforward.rings.vhost_message import (
    FDS_MAX,
    NEED_REPLY,
    STATE,
    U64,
    BadPeer,
    Message,
    Region,
    Request,
    closing,
    receive,
    regions,
    send,
)


@pytest.fixture
def pair():
    before = open_fds()
    ends = socket.socketpair()
    for end in ends:
        end.settimeout(2)
    yield ends
    for end in ends:
        end.close()
    assert open_fds() <= before


def test_a_message_arrives_as_it_was_sent(pair):
    ours, theirs = pair
    read, write = os.pipe()
    send(theirs, Message(Request.SET_VRING_KICK, 1 | NEED_REPLY, U64.pack(1), [read, write]))
    os.close(read)
    os.close(write)
    with closing(receive(ours)) as got:
        assert (got.request, got.flags, got.unpack(U64)) == (12, 9, (1,))
        assert len(got.fds) == 2
        first = got.take_fd()
        assert os.get_inheritable(first) is False
        os.close(first)


def test_it_may_come_in_pieces(pair):
    ours, theirs = pair
    whole = struct.pack("=III", 8, 1, 8) + STATE.pack(1, 256)
    for at in range(3, len(whole), 3):
        theirs.sendall(whole[at - 3 : at])
    theirs.sendall(whole[at:])
    assert receive(ours).unpack(STATE) == (1, 256)


def test_the_end(pair):
    ours, theirs = pair
    theirs.close()
    assert receive(ours) is None


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (struct.pack("=III", 1, 2, 0), "version"),
        (struct.pack("=III", 1, 0, 0), "version"),
        (struct.pack("=III", 1, 1, 513), "length"),
        (struct.pack("=III", 1, 1, 2**32 - 1), "length"),
        (struct.pack("=II", 1, 1), "length"),
        (struct.pack("=III", 1, 1, 8) + b"1234567", "length"),
    ],
)
def test_what_is_no_message(pair, sent, reason):
    ours, theirs = pair
    theirs.sendall(sent)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(BadPeer) as caught:
        receive(ours)
    assert caught.value.reason == reason


@pytest.mark.parametrize("n", [FDS_MAX + 1, 200])
def test_too_many_descriptors(pair, n):
    ours, theirs = pair
    read, write = os.pipe()
    send(theirs, Message(1, fds=[read] * n))
    os.close(read)
    os.close(write)
    with pytest.raises(BadPeer) as caught:
        receive(ours)
    assert caught.value.reason == "descriptor"


def test_a_peer_that_stops_in_the_middle_is_not_waited_for(pair):
    ours, theirs = pair
    ours.settimeout(0.05)
    theirs.sendall(b"123")
    with pytest.raises(TimeoutError):
        receive(ours)


def test_descriptors_are_counted_with_each_piece_and_not_at_the_end(pair):
    """Who sends a message in many pieces, each with some, would have us hold all that there can be."""
    ours, theirs = pair
    read, write = os.pipe()
    whole = struct.pack("=III", 8, 1, 8) + STATE.pack(1, 256)
    for at in range(len(whole)):
        socket.send_fds(theirs, [whole[at : at + 1]], [read] * FDS_MAX)
    os.close(read)
    os.close(write)
    with pytest.raises(BadPeer) as caught:
        receive(ours)
    assert caught.value.reason == "descriptor"
    theirs.close()
    rest = b""
    while part := ours.recv(len(whole)):
        rest += part
    assert rest == whole[2:]


class Dripping:
    """A peer that sends a byte each 1.9 seconds, on a clock of its own."""

    def __init__(self, whole, timeout_s):
        self.whole = whole
        self.timeout_s = timeout_s
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def gettimeout(self):
        return self.timeout_s

    def settimeout(self, timeout_s):
        self.timeout_s = timeout_s

    def recvmsg(self, n, room, flags):
        pause = 1.9
        if self.timeout_s is not None and self.timeout_s < pause:
            self.now += self.timeout_s
            raise TimeoutError
        self.now += pause
        byte, self.whole = self.whole[:1], self.whole[1:]
        return byte, [], 0, None


def test_a_message_has_one_deadline_in_however_many_pieces_it_comes(monkeypatch):
    whole = struct.pack("=III", 8, 1, 8) + STATE.pack(1, 256)
    for timeout_s, received in ((2.0, 1), (20.0, 10), (38.5, 20), (None, 20)):
        peer = Dripping(whole, timeout_s)
        monkeypatch.setattr(vhost_message, "time", peer)
        if received == len(whole):
            assert receive(peer).unpack(STATE) == (1, 256)
        else:
            with pytest.raises(TimeoutError):
                receive(peer)
            assert peer.now == pytest.approx(1000 + timeout_s)
        assert len(peer.whole) == len(whole) - received
        assert peer.timeout_s == timeout_s


def test_a_memory_table():
    given = [Region(1, 2, 3, 4), Region(2**64 - 1, 5, 6, 7)]
    payload = struct.pack("=II", 2, 0) + b"".join(struct.pack("=QQQQ", *one) for one in given)
    assert regions(Message(5, 1, payload, [10, 11])) == given
    assert regions(Message(5, 1, payload + bytes(64), [10, 11])) == given


@pytest.mark.parametrize(
    ("n", "size", "fds"), [(2, 64, 1), (1, 32, 2), (1, 31, 1), (9, 9 * 32, 9), (2**32 - 1, 0, 0)]
)
def test_a_wrong_memory_table(n, size, fds):
    message = Message(5, 1, struct.pack("=II", n, 0) + bytes(size), list(range(fds)))
    with pytest.raises(BadPeer) as caught:
        regions(message)
    assert caught.value.reason == "memory"


def test_too_short_for_anything():
    with pytest.raises(BadPeer):
        regions(Message(5, 1, b"\0" * 7))
    with pytest.raises(BadPeer):
        Message(2, 1, bytes(7)).unpack(U64)
    with pytest.raises(BadPeer):
        Message(12).take_fd()
    assert Message(99).name == "request 99"
