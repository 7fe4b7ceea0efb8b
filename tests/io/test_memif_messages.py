# SPDX-License-Identifier: Apache-2.0
"""Messages of hostile memif peers: valid handshakes, spoiled. See fuzzing.py for how many.

A case is one message. Each is answered, or refused with a reason; whatever happens, nothing of the
peer's stays behind, and the next peer is served.
"""

import os
import select
import socket
from collections import Counter

import pytest

from fuzzing import LOOK_EVERY, MEMORY, Draw, cases, kinds_open, mapped, open_fds, palette
from memif_worlds import Peer, ends_in, until
from vforward.io import memif_link, unix
from vforward.rings import memif, memif_ring

pytestmark = pytest.mark.slow
CASES = cases(1_000_000)  # of each role: ten seconds; a tenth of them by sockets: as many
KINDS = list(memif.FIELDS)
LOG2 = 5


class Talk:
    """Makes what one side says in a handshake: lists of [message, kinds of descriptors]."""

    def __init__(self, draw, fds):
        self.draw = draw
        self.fds = fds

    def client(self):
        draw = self.draw
        memory = draw.choice(["memory", "memory", "memory", "unsealed", "sparse"])
        said = [
            [memif.pack(memif.INIT, memif.VERSION, 0, 0, b"", b"fuzz"), []],
            [memif.pack(memif.ADD_REGION, 0, MEMORY), [memory]],
        ]
        for to_server in draw.sample([1, 0], 2):
            event = draw.choice(["event", "event", "event", "path"])
            packed = memif.pack(memif.ADD_RING, to_server, 0, 0, 8192 * to_server, LOG2, 0)
            said.append([packed, [event]])
        return [*said, [memif.pack(memif.CONNECT, b"fuzz0"), []]]

    def server(self):
        hello = memif.pack(memif.HELLO, b"fuzz", memif.VERSION, memif.VERSION, 15, 0, 0, 14)
        acks = [[memif.pack(memif.ACK), []] for _ in range(4)]
        return [[hello, []], *acks, [memif.pack(memif.CONNECTED, b"fuzz0"), []]]

    def anything(self):
        draw = self.draw
        kind = draw.choice(KINDS) if draw.often(95) else draw.number(16)
        return [kind.to_bytes(2, "little") + draw.randbytes(memif.MESSAGE - 2), self.some_fds()]

    def some_fds(self):
        n = self.draw.choice([0, 0, 1, 1, 1, 2, 5, 40])
        return [self.draw.choice(self.fds.kinds) for _ in range(n)]

    def conversation(self, make):
        draw = self.draw
        said = make()
        kind = draw.randrange(5)
        if kind == 0:
            said.insert(draw.randrange(len(said) + 1), self.anything())
        elif kind == 1:
            said.insert(draw.randrange(len(said) + 1), list(draw.choice(said)))
        elif kind == 2:
            del said[draw.randrange(len(said))]
        for _ in range(draw.choice([0, 1, 1, 2])):
            message = draw.choice(said)
            if draw.often(40):
                message[1] = self.some_fds()
            else:
                message[0] = self.spoiled(message[0])
        return said

    def spoiled(self, message):
        """Mostly in the fields, which are a few bytes of the 128."""
        kind = int.from_bytes(message[:2], "little")
        fields = memif.FIELDS.get(kind)
        if fields is None or self.draw.often(10):
            return self.draw.spoiled(message)[:200]
        return self.draw.spoiled(message[: fields.size])[: memif.MESSAGE].ljust(
            memif.MESSAGE, b"\0"
        )


@pytest.fixture
def ends(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(memif_link, "LOOK_S", 0.002)
    monkeypatch.setattr(memif_link, "AGAIN_S", 0.0)
    before = kinds_open()
    with ends_in(tmp_path) as make:
        yield make
    assert kinds_open() <= before


@pytest.mark.parametrize("role", ["server", "client"])
def test_messages_are_answered_or_refused_and_leave_nothing(tmp_path, role):
    """The roles alone, without sockets."""
    draw, outcomes, said, talks = Draw(), Counter(), 0, 0
    with palette(tmp_path) as fds:
        talk, before = Talk(draw, fds), open_fds()
        theirs = talk.client if role == "server" else talk.server
        while said < CASES:
            ours = memif.Server(0) if role == "server" else offering()
            ours.begin()
            try:
                for message, kinds in talk.conversation(theirs):
                    said += 1
                    ours.feed(message, [os.dup(fds.fds[kind]) for kind in kinds])
                    outcomes["done"] += 1
            except memif.BadPeer as error:
                outcomes[str(error).split()[0]] += 1
            except memif.Bye:
                outcomes["bye"] += 1
            outcomes["connected"] += ours.connected
            ours.close()
            talks += 1
            if talks % LOOK_EVERY == 0:  # what stays open stays
                assert open_fds() <= before
        assert open_fds() <= before
    assert outcomes["connected"] > said // 100, outcomes
    assert outcomes["bye"] > 0, outcomes
    assert len(outcomes) > 6, outcomes
    print(role, said, dict(outcomes))


def offering():
    made = memif.Client(0, log2=LOG2)
    made.regions.append(memif.Region(os.memfd_create("offered"), MEMORY))
    for to_server in (True, False):
        made.rings[to_server] = memif.RingPlace(0, 8192 * to_server, LOG2, os.eventfd(0))
    return made


def send(theirs, said, fds):
    """Say all of it without waiting for answers, and no more."""
    done = 0
    for message, kinds in said:
        try:
            socket.send_fds(theirs, [message], [fds.fds[kind] for kind in kinds])
        except ConnectionError:  # it has let us go
            break
        done += 1
    theirs.shutdown(socket.SHUT_WR)
    return done


def hear(theirs, end):
    """What the port says until it closes; end is its worker. Returns the messages."""
    heard = []
    while True:
        if not select.select([theirs], [], [], 0.0005)[0]:
            end.run()
            continue
        try:
            message = theirs.recv(memif.MESSAGE + 1)
        except ConnectionError:
            return heard
        if not message:
            return heard
        assert len(message) == memif.MESSAGE
        heard.append(message)


def serves(path, end):
    """A good client is connected, and goes."""
    good = Peer(path).all()
    until(lambda: end.turn == memif_ring.LIVE, end)
    good.close()
    until(lambda: end.turn == memif_ring.FREE, end)


def test_messages_to_a_server_at_work(ends, tmp_path):
    end, draw, said, heard = ends(), Draw(), 0, Counter()
    with palette(tmp_path) as fds:
        talk, before = Talk(draw, fds), open_fds()
        for offset in (0, 8192):
            os.pwrite(fds.fds["memory"], memif.COOKIE.to_bytes(4, "little"), offset)
        while said < CASES // 10:
            with unix.connect(tmp_path / "memif.sock") as theirs:
                said += send(theirs, talk.conversation(talk.client), fds)
                heard.update(int.from_bytes(m[:2], "little") for m in hear(theirs, end))
        until(lambda: open_fds() <= before, end)
        assert mapped() == 0
        assert open_fds() <= before
    serves(tmp_path / "memif.sock", end)
    refused = end.counts("rx0")["refused"]
    # Who has said more than was read misses its farewell.
    assert refused >= heard[memif.DISCONNECT] > said // 50, heard
    assert heard[memif.CONNECTED] > said // 100, heard
    print(said, "refused:", refused, {memif.NAMES[kind]: n for kind, n in heard.items()})


def test_messages_to_a_client_at_work(ends, tmp_path):
    draw, said, heard = Draw(), 0, Counter()
    path = tmp_path / "memif.sock"
    with palette(tmp_path) as fds:
        talk = Talk(draw, fds)
        listener = unix.listen(path)
        listener.settimeout(30)
        end = ends(role="client", log2=LOG2)
        while said < CASES // 10:
            with listener.accept()[0] as theirs:
                said += send(theirs, talk.conversation(talk.server), fds)
                heard.update(int.from_bytes(m[:2], "little") for m in hear(theirs, end))
        listener.close()
        path.unlink()
    good = ends()
    until(lambda: good.turn == end.turn == memif_ring.LIVE, end, good)
    assert mapped("memfd:vforward-memif") == 2  # of the good ones, in both
    assert end.counts("rx0")["refused"] > said // 50, heard
    assert heard[memif.CONNECT] > said // 50, heard
    print(said, {memif.NAMES[kind]: n for kind, n in heard.items()})
