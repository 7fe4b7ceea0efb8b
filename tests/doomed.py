"""Peers that are killed: python doomed.py KIND PATH STATE gets so far, says so, and stays or goes on.

What it says first is "ready"; in the state traffic it sends and receives from then on without end.
"""

import itertools
import os
import socket
import struct
import sys
import time
from pathlib import Path

KEPT = []
"""What lives as long as the process does."""
FRAMES = [bytes([n]) * (60 + 100 * n) for n in range(8)]
STATES = {
    "vhost": [
        "connected",
        "half",
        "before-memory",
        "memory",
        "one-queue",
        "disabled",
        "queues",
        "traffic",
    ],
    "memif": ["connected", "init", "region", "one-ring", "rings", "live", "traffic"],
    "memif-listening": ["connected", "hello", "acks", "live", "traffic"],
    "netmap": ["opened", "filled", "traffic"],
}
STATES["vhost-listening"] = STATES["vhost"]
STATES["vhost-packed"] = STATES["vhost-pairs"] = STATES["vhost"][4:]
HEARD = 16
"""Messages that a virtio device hears until its queues are there; killed after each of them."""
STATES["virtio"] = [*map(str, range(HEARD)), "queues", "traffic"]
STATES["virtio-listening"] = STATES["virtio"]
STATES["virtio-packed"] = ["6", "11", "queues", "traffic"]  # it has the memory; and one queue
STATES["virtio-pairs"] = ["5", "17", "queues", "traffic"]  # it has said how many; it has one pair
SHAPES = {"packed": (1 << 34, 1), "pairs": (1 << 22, 2)}
"""By the end of a kind's name: features that peers else do not have, and how many pairs of queues."""


def shape(kind):
    return SHAPES.get(kind.rpartition("-")[2], (0, 1))


def there_and_back(peer):
    """Send frames by each pair of queues. They come back, by any."""
    for pair in range(peer.pairs):
        peer.send(FRAMES, pair=pair)
    found, end = [], time.monotonic() + 60
    while len(found) < peer.pairs * len(FRAMES):
        assert time.monotonic() < end, len(found)
        for pair in range(peer.pairs):
            found += peer.receive(len(FRAMES), 0.001, pair)
    assert (found if peer.pairs == 1 else sorted(found)) == sorted(peer.pairs * FRAMES)


def make_frontend(peer, kind):
    """A driver of that kind. Returns it, and the features to negotiate."""
    from frontends import Frontend

    features, pairs = shape(kind)
    return Frontend(peer, pairs), 1 << 32 | 1 << 30 | 1 << 15 | features


def make_backend(peer, kind):
    """A device of that kind."""
    from backends import ACK, MERGED, PROTOCOL, SEVERAL, VERSION_1, Backend

    features, pairs = shape(kind)
    protocol = ACK | (SEVERAL if pairs > 1 else 0)
    return Backend(peer, VERSION_1 | PROTOCOL | MERGED | features, protocol, pairs)


def vhost(peer, state, kind):
    """Returns what to do without end."""
    from frontends import ENABLE

    frontend, features = make_frontend(peer, kind)
    queues = range(2 * frontend.pairs)
    KEPT.append(frontend)
    reached = STATES["vhost"].index(state)
    steps = [
        lambda: None,
        lambda: frontend.peer.sendall(struct.pack("=II", 1, 1)) if state == "half" else None,
        lambda: frontend.negotiate(features),
        frontend.share,
        lambda: frontend.set_up(0, 0),
        lambda: [frontend.set_up(n, 4096 * n) for n in queues[1:]],
        lambda: [frontend.say(ENABLE, struct.pack("=II", n, 1)) for n in queues],
    ]
    for step in steps[: reached + 1]:
        step()
    if state != "traffic":
        return lambda: time.sleep(1)
    frontend.offer()
    there_and_back(frontend)
    return lambda: there_and_back(frontend)


def virtio(peer, state, kind):
    backend = make_backend(peer, kind)
    KEPT.append(backend)
    if state in ("queues", "traffic"):
        backend.begin()
    else:
        for _ in range(int(state)):
            backend.hear()
    if state != "traffic":
        return lambda: time.sleep(1)
    there_and_back(backend)
    return lambda: there_and_back(backend)


def memif(path, state):
    from memif_worlds import Peer

    peer = Peer(path)
    KEPT.append(peer)
    steps = [
        peer.init,
        peer.region,
        lambda: peer.ring(True, 0),
        lambda: peer.ring(False, 4096),
    ]
    reached = STATES["memif"].index(state)
    if reached < len(steps) + 1:
        for step in steps[:reached]:
            step()
        return lambda: time.sleep(1)
    peer.all()
    if state == "live":
        return lambda: time.sleep(1)
    heads = itertools.count(1)

    def send():
        for slot in range(32):
            peer.describe(0, slot, 0, 0, 60, 8192)
        while int(peer.words[32]) != int(peer.words[3]):  # tail and head of the ring to it
            time.sleep(0.0005)
        peer.head(0, 16 * next(heads) & 0xFFFF)

    send()
    return send


def memif_listening(path, state):
    """A memif server by hand: it says its part without looking at the client's."""
    from vforward.io import unix
    from vforward.rings import memif as m

    if state == "traffic":
        return memif_server(path)
    listener = unix.listen(path)
    peer = listener.accept()[0]
    said = [m.pack(m.HELLO, b"doomed", m.VERSION, m.VERSION, 15, 0, 0, 14)]
    said += [m.pack(m.ACK)] * 4 + [m.pack(m.CONNECTED, b"doomed0")]
    for message in said[: {"connected": 0, "hello": 1, "acks": 4, "live": 6}[state]]:
        peer.send(message)
        if message[0] != m.CONNECTED:
            peer.recv(m.MESSAGE)
    KEPT.append((listener, peer))
    return lambda: time.sleep(1)


def memif_server(path):
    from memif_worlds import ends_in
    from vforward.rings import memif_ring

    os.environ["VFORWARD_RUNTIME_DIR"] = str(path.parent / "doomed")
    KEPT.append(ends_in(path.parent))
    end = KEPT[0].__enter__()()
    while end.turn != memif_ring.LIVE:
        time.sleep(0.005)

    def send():
        end.far.send(FRAMES)
        end.run()
        end.far.received()

    send()
    return send


def netmap(path, state):
    from vforward.rings import netmap as n

    port = n.open("netmap:x}1", path=path)
    KEPT.append(port)
    if state == "filled":
        port.inject(FRAMES[0])
    if state != "traffic":
        return lambda: time.sleep(1)

    def send():
        port.inject(FRAMES[0])
        port.poll(n.READ, 0.001)
        port.dispatch(lambda _: None)

    send()
    return send


def listen(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        return listener.accept()[0]


def dial(path):
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(path))
    return made


def begin(kind, path, state):
    """Returns what to do without end."""
    others = {"memif": memif, "memif-listening": memif_listening, "netmap": netmap}
    if kind in others:
        return others[kind](path, state)
    side = vhost if kind.startswith("vhost") else virtio
    return side((listen if kind.endswith("-listening") else dial)(path), state, kind)


if __name__ == "__main__":
    go_on = begin(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    print("ready", flush=True)
    while True:
        go_on()
