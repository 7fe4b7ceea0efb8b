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
HEARD = 16
"""Messages that a virtio device hears until its queues are there; killed after each of them."""
STATES["virtio"] = [*map(str, range(HEARD)), "queues", "traffic"]


def vhost(peer, state):
    """Returns what to do without end."""
    from frontends import ENABLE, Frontend

    frontend = Frontend(peer)
    KEPT.append(frontend)
    reached = STATES["vhost"].index(state)
    steps = [
        lambda: None,
        lambda: frontend.peer.sendall(struct.pack("=II", 1, 1)) if state == "half" else None,
        frontend.negotiate,
        frontend.share,
        lambda: frontend.set_up(0, 0),
        lambda: frontend.set_up(1, 4096),
        lambda: [frontend.say(ENABLE, struct.pack("=II", n, 1)) for n in range(2)],
    ]
    for step in steps[: reached + 1]:
        step()
    if state != "traffic":
        return lambda: time.sleep(1)
    frontend.offer()

    def there_and_back():
        frontend.send(FRAMES)
        assert frontend.receive(len(FRAMES)) == FRAMES

    there_and_back()
    return there_and_back


def virtio(peer, state):
    from backends import Backend

    backend = Backend(peer)
    KEPT.append(backend)
    if state in ("queues", "traffic"):
        backend.begin()
    else:
        for _ in range(int(state)):
            backend.hear()
    if state != "traffic":
        return lambda: time.sleep(1)

    def there_and_back():
        backend.send(FRAMES)
        assert backend.receive(len(FRAMES)) == FRAMES

    there_and_back()
    return there_and_back


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


KINDS = {
    "vhost": lambda path, state: vhost(dial(path), state),
    "vhost-listening": lambda path, state: vhost(listen(path), state),
    "virtio": lambda path, state: virtio(dial(path), state),
    "virtio-listening": lambda path, state: virtio(listen(path), state),
    "memif": memif,
    "memif-listening": memif_listening,
    "netmap": netmap,
}

if __name__ == "__main__":
    go_on = KINDS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
    print("ready", flush=True)
    while True:
        go_on()
