# SPDX-License-Identifier: Apache-2.0
"""What a frontend says, to a backend in plain Python that holds it to the protocol, and to a bad one."""

import os
import select
import socket
import threading

import pytest

import backends
from backends import ACK, Backend
from fuzzing import open_fds
from vforward.rings.net_features import MRG_RXBUF, OFFLOADS
from vforward.rings.vhost_frontend import FEATURES, Ring, Talk, agree, negotiate, share
from vforward.rings.vhost_message import BadPeer, Region
from vforward.rings.vhost_user import PROTOCOL_FEATURES, VERSION_1

SIZE = 1 << 16
BASE = 1 << 40
ALL = FEATURES | OFFLOADS


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        ours.settimeout(5)
        yield ours, theirs


def talk(peer, timeout=5.0):
    return Talk(peer, lambda: bool(select.select([peer], [], [], timeout)[0]))


def set_up(peer, wanted=ALL, pairs=1):
    """All that a frontend says. Returns the features."""
    memory = os.memfd_create("frontend")
    os.truncate(memory, SIZE)
    n = 2 * pairs
    fds = [os.eventfd(1, os.EFD_NONBLOCK) for _ in range(2 * n)]
    try:
        say = talk(peer)
        features = negotiate(say, wanted, pairs)
        rings = [
            Ring(64, *(BASE + k * 8192 + at for at in (0, 1024, 2048)), fds[k], fds[n + k])
            for k in range(n)
        ]
        share(say, features, Region(BASE, SIZE, BASE, 0), memory, rings)
    finally:
        for fd in (memory, *fds):
            os.close(fd)
    return features


@pytest.mark.parametrize(
    ("offered", "protocol"),
    [(ALL | 1 << 24 | 1 << 34, ACK | 1), (ALL, 0), (VERSION_1, None), (1 << 63 | VERSION_1, None)],
)
def test_a_backend_is_set_up(ends, offered, protocol):
    backend = Backend(ends[1], offered, protocol)
    found = []
    thread = threading.Thread(target=lambda: found.append(set_up(ends[0])))
    thread.start()
    backend.begin()
    thread.join(5)
    assert found == [backend.features] == [offered & ALL]
    assert backend.acknowledges == bool(protocol and protocol & ACK)
    assert set(backend.sizes.values()) == {64}
    assert backend.said[0] == backends.SET_OWNER
    # Whatever a backend starts a queue by, the call is there before the kick.
    assert backend.said.index(backends.SET_CALL) < backend.said.index(backends.SET_KICK)
    assert (backends.ENABLE in backend.said) == bool(offered & PROTOCOL_FEATURES)
    backend.close()


@pytest.mark.parametrize("packed", [0, backends.RING_PACKED])
def test_several_pairs_of_queues(ends, packed):
    offered = ALL | backends.MANY | backends.RING_PACKED
    backend = Backend(ends[1], offered, ACK | backends.SEVERAL | 1 << 12, pairs=4)
    found = []
    thread = threading.Thread(target=lambda: found.append(set_up(ends[0], ALL | packed, 4)))
    thread.start()
    backend.begin()
    thread.join(5)
    assert found == [backend.features] == [ALL | backends.MANY | packed]
    assert backend.sizes == dict.fromkeys(range(8), 64)
    assert backend.enabled == set(range(8))
    said = [backends.GET_QUEUES, backends.SET_FEATURES, backends.SET_MEM_TABLE]
    assert sorted(said, key=backend.said.index) == said
    backend.close()


@pytest.mark.parametrize(
    ("offered", "missing"),
    [
        (ALL, 0),
        (ALL & ~MRG_RXBUF, 1 << 7 | 1 << 8 | 1 << 9),
        (ALL & ~(1 << 1), 1 << 7 | 1 << 8 | 1 << 9),
        (ALL & ~(1 << 0), 1 << 11 | 1 << 12 | 1 << 13),
        (ALL & ~(1 << 12), 1 << 13),
    ],
)
def test_features_go_with_those_that_they_need(offered, missing):
    assert agree(offered, ALL) == offered & ~missing
    assert agree(offered, FEATURES) == offered & FEATURES


def test_no_legacy_devices():
    with pytest.raises(BadPeer, match="no VERSION_1") as found:
        agree(ALL & ~VERSION_1, ALL)
    assert found.value.reason == "features"


def wrong_request(backend, request):
    backend.reply(request + 1, 0)


def no_reply_flag(backend, request):
    backend.reply(request, 0, flags=1)


def too_short(backend, request):
    backend.reply(request, 0, size=4)


def with_a_file(backend, request):
    backend.reply(request, VERSION_1, fds=[0])


def wrong_version(backend, request):
    backend.reply(request, 0, flags=4)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (wrong_request, "answer"),
        (no_reply_flag, "answer"),
        (too_short, "length"),
        (with_a_file, "answer"),
        (wrong_version, "version"),
    ],
)
def test_a_wrong_answer(ends, harm, reason):
    harm(Backend(ends[1]), backends.GET_FEATURES)
    before = open_fds()
    with pytest.raises(BadPeer) as found:
        negotiate(talk(ends[0]), ALL)
    assert found.value.reason == reason
    assert open_fds() <= before


def test_no_answer(ends):
    with pytest.raises(BadPeer, match="no answer in time"):
        negotiate(talk(ends[0], 0.01), ALL)


def test_it_leaves(ends):
    ends[1].shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        negotiate(talk(ends[0]), ALL)


def test_memory_is_refused(ends):
    backend = Backend(ends[1])
    for request, number in ((1, ALL), (15, ACK), (5, 7)):
        backend.reply(request, number)
    with pytest.raises(BadPeer, match="SET_MEM_TABLE: it answers 7") as found:
        set_up(ends[0])
    assert found.value.reason == "refused"
