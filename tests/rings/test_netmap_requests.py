# SPDX-License-Identifier: Apache-2.0
"""Requests of hostile programs to the netmap server, valid ones spoiled. See fuzzing.py for how many.

A case is one request; one in twenty goes to a server, which makes ports. Each is answered, with a port
or an error; whatever happens, nothing of the program's stays behind, and the next one is served.
"""

import errno
import gc
import os
import socket
import time
from collections import Counter

import pytest

from fuzzing import Draw, cases, mapped, open_fds, palette
from vforward.errors import PortError
from vforward.rings import netmap
from vforward.rings.netmap_message import (
    DESCRIPTORS,
    INFO,
    REGISTER,
    REPLY_SIZE,
    REQUEST_SIZE,
    Reply,
    Request,
)
from vforward.rings.netmap_names import Kind, parse_name
from vforward.rings.netmap_server import Server

pytestmark = pytest.mark.slow
CASES = cases(1_000_000)  # 12 seconds; those to a server: half a minute
ERRORS = {0, errno.EBUSY, errno.EINVAL, errno.ENOMEM}
NAMES = [
    "x{1",
    "x}1",
    "y{2",
    "y}2",
    "vale0:a",
    "vale0:b",
    "vale1:c",
    "eth0",
    "x{",
    "vale:",
    "",
    "{",
]
NAMES += [
    "a" * 63,
    "vale0:" + "p" * 57,
    "vale0:a@conf",
    "../x{1",
    "x{1\n",
    "vale\x7f:a",
    "netmap:x{1",
]


class Talk:
    """Makes requests, and how they are sent."""

    def __init__(self, draw, fds):
        self.draw = draw
        self.fds = fds

    def request(self):
        draw = self.draw
        # Many buffers take their time: few cases have them.
        slots = [draw.number(32) if draw.often(4) else draw.choice([8, 16]) for _ in range(2)]
        extra = draw.number(32) if draw.often(0.5) else draw.choice([0, 0, 4])
        name = draw.choice(NAMES[:7] if draw.often(70) else NAMES)
        packed = Request(draw.choice([REGISTER, REGISTER, INFO]), name, *slots, extra).packed()
        kind = draw.randrange(10)
        if kind < 3:
            packed = draw.spoiled(packed)
        elif kind == 3:
            packed = packed[:32] + draw.randbytes(64)
        return packed or b"\0"  # nothing at all would be its farewell

    def descriptors(self):
        if self.draw.often(85):
            return []
        return [
            self.fds.fds[self.draw.choice(self.fds.kinds)]
            for _ in range(self.draw.choice([1, 3, 9]))
        ]


def ask(connection, request, fds):
    """Send it. Returns the server's reply, closing what came with it."""
    socket.send_fds(connection, [request], fds)
    data, descriptors, flags, _ = socket.recv_fds(connection, REPLY_SIZE + 1, 16)
    for descriptor in descriptors:
        os.close(descriptor)
    assert not flags & socket.MSG_CTRUNC
    reply = Reply.unpacked(data)
    assert len(descriptors) == (DESCRIPTORS if not reply.error and reply.nifp else 0)
    return reply


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "run" / "s") as running:
        yield running


def serves(server):
    with (
        netmap.open("netmap:good{1@conf:slots=8", path=server.path) as one,
        netmap.open("netmap:good}1", path=server.path) as other,
    ):
        assert one.inject(bytes(60)) == 60
        one.txsync()
        assert other.poll(netmap.READ, 20) == netmap.READ
        assert other.next_packet() == bytes(60)


def test_requests_are_read_or_refused(tmp_path):
    draw, found = Draw(), Counter()
    with palette(tmp_path) as fds:
        talk = Talk(draw, fds)
    for _ in range(CASES):
        try:
            asked = Request.unpacked(talk.request())
            name = parse_name(asked.name)
            assert parse_name(str(name)) == name
            found[name.kind] += 1
        except PortError as error:
            found[str(error).split()[-1]] += 1
    assert found[Kind.PIPE] > CASES // 20, found
    assert found[Kind.VALE] > CASES // 20, found
    print(dict(found.most_common(8)))


def test_requests_are_answered_and_leave_nothing(server, tmp_path):
    draw, said, found = Draw(), 0, Counter()
    with palette(tmp_path) as fds:
        gc.collect()  # what other tests left
        talk, before = Talk(draw, fds), (open_fds(), mapped("memfd:netmap"))
        connections = []
        while said < CASES // 20:
            if not connections or (len(connections) < 12 and draw.often(30)):
                made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                made.settimeout(60)
                made.connect(str(server.path))
                connections.append(made)
            connection = draw.choice(connections)
            if draw.often(20):
                connection.close()
                connections.remove(connection)
                continue
            request = talk.request()
            reply = ask(connection, request, talk.descriptors())
            said += 1
            assert reply.error in ERRORS
            assert reply.error or len(request) == REQUEST_SIZE
            assert not reply.error or reply == Reply(error=reply.error)
            found[errno.errorcode.get(reply.error, "done")] += 1
        for connection in connections:
            connection.close()
        wait_until_alone(server)
        assert open_fds() <= before[0]
        assert mapped("memfd:netmap") == before[1]
    assert not server.pipes
    assert not server.switches
    serves(server)
    assert found["done"] > said // 20, found
    assert found["EBUSY"] > said // 100, found
    assert found["EINVAL"] > said // 5, found
    print(said, dict(found))


def wait_until_alone(server):
    for _ in range(1000):
        if not server.connections:
            return
        time.sleep(0.01)
    raise AssertionError(server.connections)
