# SPDX-License-Identifier: Apache-2.0
"""netmap without a kernel module: a pipe with back-pressure, then a VALE switch that learns."""

from pathlib import Path
from tempfile import TemporaryDirectory

from vforward.rings import netmap
from vforward.rings.netmap_server import Server

with TemporaryDirectory() as directory, Server(Path(directory) / "socket") as server:

    def opened(name):
        return netmap.open(name, path=server.path)

    with opened("netmap:x{1@conf:slots=4") as left, opened("netmap:x}1") as right:
        taken = [left.inject(frame) for frame in (b"one", b"two", b"three", b"four")]
        print("bytes taken:", *taken)  # a ring of 4 holds 3
        left.txsync()
        right.poll()
        right.dispatch(print)

    with opened("vale0:a") as a, opened("vale0:b") as b, opened("vale0:c") as c:
        stations = {name: bytes([2, 0, 0, 0, 0, ord(name)]) for name in "abc"}
        for sender, source, target in ((a, "a", "b"), (b, "b", "a"), (a, "a", "b")):
            sender.inject(stations[target] + stations[source] + bytes(48))
            sender.txsync()
            there = {"a": a, "b": b}[target]
            there.poll()
            there.dispatch(len)
            c.poll(timeout=0.1)
            print(f"{source} to {target}; others got it:", c.dispatch(len))
