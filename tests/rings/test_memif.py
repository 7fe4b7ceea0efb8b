"""memif's messages: both roles against each other, and against anything. (Sockets: tests/io.)"""

import contextlib
import os

import numpy as np
import pytest

from vforward.rings import memif


def talk(server, client):
    """Carry messages until nobody says anything; returns their types, in order."""
    said, waiting = (
        [],
        [(client, reply) for reply in server.begin()]
        + [(server, reply) for reply in client.begin()],
    )
    while waiting:
        to, (message, fd) = waiting.pop(0)
        said.append(memif.NAMES[int.from_bytes(message[:2], "little")])
        other = client if to is server else server
        waiting += [(other, reply) for reply in to.feed(message, [os.dup(fd)] if fd >= 0 else [])]
    return said


def client(**settings):
    made = memif.Client(5, b"secret", log2=6, **settings)
    made.regions.append(memif.Region(os.memfd_create("m"), 1 << 16))
    for to_server, offset in ((True, 0), (False, 8192)):
        made.rings[to_server] = memif.RingPlace(0, offset, 6, os.eventfd(0))
    return made


def test_a_handshake():
    server, other = memif.Server(5, b"secret"), client(name="x" * 40)
    assert talk(server, other) == [
        "HELLO", "INIT", "ACK", "ADD_REGION", "ACK", "ADD_RING", "ACK", "ADD_RING", "ACK",
        "CONNECT", "CONNECTED",
    ]  # fmt: skip
    assert server.connected
    assert other.connected
    assert (server.peer, other.peer) == ("x" * 31, "vforward")
    assert [region.size for region in server.regions] == [1 << 16]
    assert server.rings[True].offset == 0
    assert server.rings[False].offset == 8192
    for link in (server, other):
        link.close()
        link.close()


@pytest.mark.parametrize(
    ("server", "text"),
    [
        (memif.Server(5, b"other"), "Incorrect secret"),
        (memif.Server(6, b"secret"), "ID not found: 5"),
    ],
)
def test_who_may_not_come_in(server, text):
    other = client()
    with pytest.raises(memif.BadPeer, match=text):
        talk(server, other)
    other.close()


@pytest.mark.parametrize(
    ("hello", "text"),
    [
        ((b"", 0x300, 0x300, 0, 0, 0, 14), "Incompatible"),
        ((b"", 0x200, 0x200, 0, 0, 0, 5), "at most 2\\^5 slots"),
    ],
)
def test_servers_that_a_client_cannot_use(hello, text):
    other = client()
    with pytest.raises(memif.BadPeer, match=text):
        other.feed(memif.pack(memif.HELLO, *hello), [])
    other.close()


def test_a_farewell_ends_it_and_is_readable():
    for link in (memif.Server(0), memif.Client(0)):
        with pytest.raises(memif.Bye, match=r"^no more\?$"):
            link.feed(memif.farewell("no more\x07"), [])
    assert len(memif.farewell("x" * 500)) == memif.MESSAGE


def test_descriptors_that_nobody_asked_for_are_closed():
    for link in (memif.Server(0), memif.Client(0)):
        for fds in ([os.eventfd(0)], [os.eventfd(0), os.eventfd(0)]):
            with pytest.raises(memif.BadPeer):
                link.feed(memif.pack(memif.ACK), fds)
            for fd in fds:
                with pytest.raises(OSError, match="Bad file"):
                    os.fstat(fd)


def test_random_messages_never_raise_anything_else():
    rng = np.random.default_rng(6)
    for _ in range(20000):
        link = memif.Server(0) if rng.random() < 0.6 else memif.Client(0)
        with contextlib.suppress(memif.BadPeer, memif.Bye):
            link.begin()
            for _ in range(6):
                message = bytearray(rng.bytes(memif.MESSAGE))
                message[:2] = int(rng.integers(0, 10)).to_bytes(2, "little")
                if rng.random() < 0.5:
                    message[2:8] = (memif.VERSION).to_bytes(2, "little") + bytes(4)
                link.feed(bytes(message[: 128 if rng.random() < 0.9 else 50]), [])
        link.close()
