# SPDX-License-Identifier: Apache-2.0
"""Messages of a hostile vhost-user peer: valid conversations, spoiled. See fuzzing.py for how many.

A case is one message. Each is done, or refused for a reason that is counted; whatever happens, nothing
of the peer's stays behind, and the next peer is served.
"""

import array
import contextlib
import os
import select
import socket
from collections import Counter

import pytest

from frontends import Frontend
from fuzzing import (
    LOOK_EVERY,
    MEMORY,
    Draw,
    cases,
    cut,
    kinds_open,
    mapped,
    open_fds,
    palette,
    watched,
)
from vforward.io import vhost, vhost_peers
from vforward.memory.arena import Arena
from vforward.rings import position, vhost_message, virtqueue
from vforward.rings.net_features import OFFLOADS
from vforward.rings.vhost_inflight import LAYOUT as INFLIGHT
from vforward.rings.vhost_message import (
    ADDRESS,
    HEADER,
    REGION,
    STATE,
    TABLE,
    U64,
    BadPeer,
    Request,
)
from vforward.rings.vhost_user import FEATURES, PROTOCOL, Session
from vhost_worlds import World, let_go

R = Request
pytestmark = pytest.mark.slow
CASES = cases(500_000)  # half a minute; a quarter of them to a port at work: ten seconds
REASONS = {"request", "features", "length", "queue", "descriptor", "memory", "version"}
FAULTS = {f"queue-{fault.name.lower()}" for fault in virtqueue.Fault}
GUEST, USER = 0x4000_0000, 0x7000_0000_0000
FRAMES = [bytes([n]) * (60 + 100 * n) for n in range(8)]


class Peer:
    """Makes conversations: lists of [request, flags, payload, kinds of descriptors]."""

    def __init__(self, draw, fds):
        self.draw = draw
        self.fds = fds
        self.packed = False

    def table(self):
        draw = self.draw
        n = draw.choice([1, 1, 1, 2, 3, 8])
        kinds = [draw.choice(["memory", "unsealed", "shrinking"]) for _ in range(n)]
        part = MEMORY // n & ~0xFFF
        places = [
            (GUEST + i * part, part, USER + i * part, i * part if draw.often(50) else 0)
            for i in range(n)
        ]
        return [
            R.SET_MEM_TABLE,
            1,
            TABLE.pack(n, 0) + b"".join(REGION.pack(*p) for p in places),
            kinds,
        ]

    def queue(self, index):
        draw = self.draw
        size = draw.choice([2, 64, 256])
        at = USER + index * 0x10000
        places = [at, at + 0x4000, at + 0x8000]
        return [
            [R.SET_VRING_NUM, 1, STATE.pack(index, size), []],
            [R.SET_VRING_BASE, 1, STATE.pack(index, self.base()), []],
            [R.SET_VRING_ADDR, 1, ADDRESS.pack(index, 0, *places, 0), []],
            [R.SET_VRING_CALL, 1, U64.pack(index), ["event"]],
            [R.SET_VRING_ERR, 1, U64.pack(index | 1 << 8), []],
            [R.SET_VRING_KICK, 1, U64.pack(index), ["event"]],
            [R.SET_VRING_ENABLE, 1, STATE.pack(index, 1), []],
        ]

    def base(self):
        """Where a queue goes on: of a packed one a position, else a number that does not matter."""
        if not self.packed or self.draw.often(10):
            return self.draw.number(32)
        place = self.draw.choice([position.START, position.START | 1, 0])
        return self.draw.choice([place << 16 | place, position.START])

    def begin(self):
        wanted = (FEATURES | OFFLOADS) & ~(
            self.draw.getrandbits(40) & (OFFLOADS | virtqueue.EVENT_IDX | virtqueue.RING_PACKED)
        )
        self.packed = bool(wanted & virtqueue.RING_PACKED)
        return [
            [R.GET_FEATURES, 1, b"", []],
            [R.GET_PROTOCOL_FEATURES, 1, b"", []],
            [R.SET_PROTOCOL_FEATURES, 1, U64.pack(PROTOCOL), []],
            [R.SET_OWNER, 1, b"", []],
            [R.SET_FEATURES, 1, U64.pack(wanted), []],
            [R.GET_QUEUE_NUM, 1, b"", []],
            [R.GET_INFLIGHT_FD, 1, INFLIGHT.pack(0, 0, 2, self.draw.choice([2, 64, 256])), []],
        ]

    def anything(self):
        draw = self.draw
        index = draw.choice([0, 0, 1, 1, draw.number(32)])
        request = draw.choice(list(R)) if draw.often(95) else draw.number(32)
        payload = draw.choice(
            [b"", U64.pack(draw.number(64)), STATE.pack(index, draw.number(32)), draw.randbytes(40)]
        )
        return [request, draw.choice([1, 1, 9]), payload, self.some_fds()]

    def some_fds(self):
        draw = self.draw
        n = draw.choice([0, 0, 0, 1, 1, 2, 8, 9, 40])
        return [draw.choice(self.fds.kinds) for _ in range(n)]

    def conversation(self):
        draw = self.draw
        said = self.begin() + [self.table()] + self.queue(0) + self.queue(1)
        if draw.often(30):
            part = said[draw.randrange(len(said)) :]
            draw.shuffle(part)
            said[len(said) - len(part) :] = part
        for _ in range(draw.randrange(12)):
            more = draw.choice(
                [self.table, self.anything, lambda: draw.choice(self.queue(draw.randrange(3)))]
            )
            said.insert(draw.randrange(len(said) // 2, len(said) + 1), more())
        if draw.often(20):
            del said[draw.randrange(len(said))]
        for _ in range(draw.choice([0, 1, 1, 2, 4, 8])):
            self.spoil(draw.choice(said))
        return said

    def spoil(self, message):
        draw = self.draw
        kind = draw.randrange(6)
        if kind == 0:
            message[1] = draw.number(32)
        elif kind == 1:
            message[3] = self.some_fds()
        elif kind == 2:
            message[3] = [draw.choice(self.fds.kinds) for _ in message[3]]
        elif kind == 3:
            message[0] = draw.choice(list(R))
        else:
            message[2] = draw.spoiled(message[2])

    def send(self, peer, message):
        """Send it, mostly whole. Returns whether more can follow."""
        draw = self.draw
        request, flags, payload, kinds = message
        size = (
            len(payload) if draw.often(99.5) else draw.choice([len(payload) + 1, draw.number(32)])
        )
        parts = cut(draw, HEADER.pack(request & 0xFFFFFFFF, flags, size) + payload)
        with_fds = draw.randrange(len(parts))
        if draw.often(0.5):
            parts[-1] = parts[-1][: len(parts[-1]) // 2]
        for i, part in enumerate(parts):
            fds = [self.fds.fds[kind] for kind in kinds] if i == with_fds else []
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            if part:
                peer.sendmsg([part], rights)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A port at work that echoes, and nobody there. Nothing is left behind."""
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(vhost_peers, "BAD_PEER_S", 0)
    before = kinds_open()
    with Arena.create("fuzz") as arena, World(arena, tmp_path / "sock") as made:
        yield made
    assert kinds_open() <= before


def serves(path):
    """Whether a good peer's frames come back."""
    frontend = Frontend.connect(path)
    frontend.begin()
    frontend.send(FRAMES)
    assert frontend.receive(len(FRAMES)) == FRAMES
    frontend.close()


def step(ours, session, outcomes):
    """What the port's thread does while there is something to read. Returns whether it goes on."""
    try:
        while select.select([ours], [], [], 0)[0]:
            session.check()
            if not vhost._step(ours, session):
                return False
            outcomes["done"] += 1
    except BadPeer as error:
        outcomes[error.reason] += 1
        return False
    except BlockingIOError:  # the rest of a message does not come
        outcomes["unfinished"] += 1
        return False
    return True


def replies(theirs):
    """What the port has answered, which has to be whole messages."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            data += theirs.recv(1 << 16, socket.MSG_DONTWAIT)
    found = 0
    while data:
        _, flags, size = HEADER.unpack_from(data)
        assert flags == vhost_message.VERSION | vhost_message.REPLY
        assert size in (U64.size, STATE.size, INFLIGHT.size)
        assert len(data) >= HEADER.size + size
        data = data[HEADER.size + size :]
        found += 1
    return found


def test_messages_are_done_or_refused_and_leave_nothing(world, tmp_path):
    """In this thread, on a second port that no worker uses: a million takes minutes."""
    draw, outcomes, ran, said, answered, talks = Draw(), Counter(), 0, 0, 0, 0
    port = vhost.VhostUserPort(str(tmp_path / "second"))
    port.open(2, world.pool)
    with palette(tmp_path) as fds:
        before, peer = open_fds(), Peer(draw, fds)
        while said < CASES:
            fds.grow()
            ours, theirs = socket.socketpair()
            ours.settimeout(0)
            session = Session(port)
            shrinks = draw.randrange(30) if draw.often(10) else -1
            for n, message in enumerate(peer.conversation()):
                peer.send(theirs, message)
                said += 1
                if n == shrinks:
                    fds.shrink()
                if not step(ours, session, outcomes):
                    break
            ran += port.ready
            session.close()
            answered += replies(theirs)
            ours.close()
            theirs.close()
            talks += 1
            if talks % LOOK_EVERY == 0:  # what stays open stays
                assert open_fds() <= before
            assert not any(int(queue[virtqueue.STATE]) for queue in port.queues)
        assert open_fds() <= before
        assert mapped() == 0
        assert watched(port.descriptors()[0]) == 0
    port.close()
    serves(tmp_path / "sock")
    assert outcomes.keys() == REASONS | {"done", "unfinished"}, outcomes
    assert ran > said // 500, ran
    assert answered > said // 20, answered
    print(said, dict(outcomes), "ran:", ran, "answered:", answered)


def test_messages_to_a_port_at_work(world, tmp_path):
    """By its socket, under its thread and its worker, and with memory that is full of anything."""
    draw, said, port = Draw(), 0, world.port
    with palette(tmp_path) as fds:
        before, peer = open_fds(), Peer(draw, fds)
        os.pwrite(fds.fds["memory"], draw.randbytes(MEMORY), 0)
        while said < CASES // 4:
            fds.grow()
            with socket.socket(socket.AF_UNIX) as theirs:
                theirs.connect(str(tmp_path / "sock"))
                theirs.settimeout(30)
                try:
                    for message in peer.conversation():
                        said += 1
                        peer.send(theirs, message)
                    if draw.often(50):
                        fds.shrink()
                    theirs.shutdown(socket.SHUT_WR)
                    while theirs.recv(1 << 16):
                        pass
                except ConnectionError:  # it has let us go
                    pass
        serves(tmp_path / "sock")
        assert "internal" not in port.peer_faults
        assert set(port.peer_faults) <= REASONS | FAULTS | {"socket"}
        assert len(port.peer_faults) > 4, port.peer_faults
        wait_until_alone(port)
        assert let_go(world) == port.peer_faults
        assert open_fds() <= before
        assert mapped() == 0
        assert watched(port.descriptors()[0]) == 0
    print(said, dict(port.peer_faults), "peers:", port.peers)


def wait_until_alone(port):
    for _ in range(1000):
        if port.peer().startswith("nobody"):
            return
        select.select([], [], [], 0.01)
    raise AssertionError(port.peer())
