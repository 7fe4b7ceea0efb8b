# SPDX-License-Identifier: Apache-2.0
"""A program's end of a memring port: whole vectors of packets as NumPy views of the pool.

    with vforward.attach("lab") as port:
        for packets in port:                # waits; ends when the forwarder does
            for frame in packets:           # u8 views of the pool's own memory
                frame[0:6], frame[6:12] = frame[6:12].copy(), frame[0:6].copy()
            port.send(packets)

What a program received and did not send is given back: by ``free``, at the next turn of the loop, or
when it detaches, even by kill -9. For one thread at a time. What crosses is described in
rings/memring.py.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vforward.errors import ArenaError, PortError
from vforward.io import unix
from vforward.io.libc import libc_address
from vforward.layout import BUF_ROOM, CHAINED, HEADROOM, NIL, VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.packet.checksum import complete
from vforward.rings import memring as ring
from vforward.rings.descriptors import receive
from vforward.rings.spsc import Ring

ANSWER_S = 5.0
ANSWER_BYTES = 4096
SIGNALS_S = 1.0
"""How long Python may not hear of a signal that came just before its program went to sleep."""


class Packets(Sequence[NDArray[np.uint8]]):
    """Packets that the program holds, a vector of them.

    packets[i] is the frame as u8[n], a view of the pool: what is written there is the packet. Of a
    frame in several buffers it is the first one's part; see parts.
    """

    def __init__(self, data: NDArray[np.uint8], meta: NDArray[Any], rows: NDArray[Any]) -> None:
        self.data = data
        self.meta = meta
        self.rows: NDArray[np.uint32] = rows
        """Rows of data and of meta, u32[n]."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each frame, over all of its buffers."""
        meta = self.meta
        first = meta["end"][self.rows].astype(np.int64) - meta["off"][self.rows]
        return first + meta["rest"][self.rows]

    @overload
    def __getitem__(self, i: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, i: slice) -> list[NDArray[np.uint8]]: ...
    def __getitem__(self, i: int | slice) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """The frame's bytes, or those in the first buffer of a long one."""
        if isinstance(i, slice):
            return [self._view(int(row)) for row in self.rows[i]]
        return self._view(int(self.rows[i]))

    def __len__(self) -> int:
        """How many are left."""
        return int(self.rows.size)

    def parts(self, i: int) -> list[NDArray[np.uint8]]:
        """All of a frame, a view for each buffer."""
        row, views = int(self.rows[i]), []
        while True:
            views.append(self._view(row))
            if not self.meta["flags"][row] & CHAINED or len(views) == ring.BUFFERS_MAX:
                return views
            row = int(self.meta["next"][row])

    def copy(self, i: int) -> bytes:
        """All of a frame, copied."""
        return b"".join(part.tobytes() for part in self.parts(i))

    def resize(self, i: int, n: int) -> NDArray[np.uint8]:
        """Let frame i, of one buffer, end after n bytes. Returns its view; raises PortError."""
        row = int(self.rows[i])
        off = int(self.meta["off"][row])
        room = self.data.shape[1] - off
        if self.meta["flags"][row] & CHAINED or not 0 <= n <= room:
            msg = f"frame {i} cannot get {n} bytes: it has one buffer of at most {room}"
            raise PortError(msg)
        self.meta["end"][row] = off + n
        return self._view(row)

    def complete_checksums(self) -> None:
        """Finish checksums that a sender left to be done (meta.flags has CSUM_PARTIAL)."""
        for row in self.rows:
            complete(self.data, self.meta, np.int64(row))

    def _view(self, row: int) -> NDArray[np.uint8]:
        record = self.meta[row]
        view: NDArray[np.uint8] = self.data[row, int(record["off"]) : int(record["end"])]
        return view


class Attachment:
    """A program's hold on a memring port; made by attach. A context manager and an iterator.

    data, meta: the pool of the forwarder, for kernels of one's own: packet i of a vector has its
    bytes in data[rows[i], off:end] and its record in meta[rows[i]].
    """

    def __init__(self, arena: Arena, number: int, name: str) -> None:
        self.name = name
        self._socket = _connect(arena, number, name)
        self._events: list[int] = []
        try:
            room = self._shake_hands()
            segment = arena.open(f"memring-{number}", writable=True)
            rings = ring.rings(segment, room)
            self.data: NDArray[np.uint8] = arena.open("data", writable=True)
            self.meta: NDArray[Any] = arena.open("meta", writable=True)
        except BaseException:
            self.close()
            raise
        self._words = rings.words
        self._full, self._empty, self._sent, self._back = (Ring(r) for r in rings[1:])
        self._polled = ring.polled_words(
            self._events[1], self._socket.fileno(), libc_address("poll"), libc_address("read")
        )
        self._ended = False

    def receive(self, most: int = VECTOR_MAX) -> Packets:
        """Up to so many packets that wait, oldest first; none when there are none. Never waits."""
        return self._packets(self._full.pop(most))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until packets do, at most timeout seconds. Returns whether they do.

        False also when the forwarder has ended: see ended.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ended:
            left = SIGNALS_S if deadline is None else max(0.0, deadline - time.monotonic())
            some = _milliseconds(min(left, SIGNALS_S))
            if ring.wait(self._words, self._full.array, self._polled, some):
                return True
            self._ended = ring.other_ready(self._polled)  # it says nothing but that it is gone
            if left == 0.0:
                break
        return self._full.used_slots() > 0

    def arm(self) -> bool:
        """Have the eventfd of fileno written when packets come; False if they wait already.

        For programs with a select loop of their own: arm, then select, then receive. wait does that
        for others.
        """
        if self._full.used_slots():
            return False
        ring.fall_asleep(self._words)
        return not self._full.used_slots()

    def __iter__(self) -> Iterator[Packets]:
        """Vectors of packets as they come, until the forwarder ends.

        What the loop's body leaves in one is given back at the next turn.
        """
        while self.wait():
            packets = self.receive()
            try:
                yield packets
            finally:
                if self._events:
                    self.free(packets)

    def new(self, lengths: ArrayLike) -> Packets:
        """Buffers for frames of these lengths in bytes, to be filled and sent; contents undefined.

        The first so many, when fewer buffers are free just now. Raises PortError for a frame that is
        longer than a buffer (1974 bytes).
        """
        wanted = np.atleast_1d(np.asarray(lengths, np.int64))
        if wanted.size and not 0 <= wanted.min() <= wanted.max() <= BUF_ROOM:
            msg = f"frames of {wanted.min()} to {wanted.max()} bytes: allowed are 0 to {BUF_ROOM}"
            raise PortError(msg)
        rows = self._empty.pop(wanted.size)
        meta = self.meta
        meta["off"][rows] = HEADROOM
        meta["end"][rows] = HEADROOM + wanted[: rows.size]
        meta["flags"][rows] = 0
        meta["next"][rows] = NIL
        meta["rest"][rows] = 0
        return self._packets(rows)

    def send(self, packets: Packets, which: ArrayLike | None = None) -> int:
        """Hand packets to the forwarder: all of them, or those that an index or a mask names.

        Returns how many. They are then no longer in packets. Never waits, never fails to send.
        """
        return self._hand_over(self._sent, packets, which)

    def free(self, packets: Packets, which: ArrayLike | None = None) -> int:
        """Give packets back unsent, as send does."""
        return self._hand_over(self._back, packets, which)

    @property
    def ended(self) -> bool:
        """Whether the forwarder has ended, or has let go of this program."""
        return self._ended

    def fileno(self) -> int:
        """The eventfd for select and its kind, see arm. Readable once: read 8 bytes, and arm again."""
        return self._events[1]

    def close(self) -> None:
        """Detach; the forwarder reclaims what is held. Harmless when repeated."""
        self._ended = True
        self._socket.close()
        for event in self._events:
            os.close(event)
        self._events = []

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _packets(self, rows: NDArray[np.uint32]) -> Packets:
        return Packets(self.data, self.meta, rows)

    def _hand_over(self, to: Ring, packets: Packets, which: ArrayLike | None) -> int:
        if not self._events:
            msg = f"port {self.name}: detached"
            raise PortError(msg)
        mask = np.ones(len(packets), bool)
        if which is not None:
            mask[:] = False
            mask[np.asarray(which)] = True
        rows = packets.rows[mask]
        packets.rows = packets.rows[~mask]
        if not rows.size:
            return 0
        pushed = to.push(rows)
        assert pushed == rows.size, "more rows than are lent: one was sent or freed twice"
        if ring.kick(self._words):
            os.eventfd_write(self._events[0], 1)
            ring.kicked(self._words)
        return pushed

    def _shake_hands(self) -> int:
        self._socket.settimeout(ANSWER_S)
        try:
            answer, self._events, _ = receive(self._socket, ANSWER_BYTES, 2)
        except OSError as error:
            msg = f"port {self.name}: the forwarder does not answer: {error}"
            raise PortError(msg) from error
        said = json.loads(answer or b'{"error": "it has just ended"}')
        if "error" in said or len(self._events) != 2:
            msg = f"port {self.name}: refused: {said.get('error', 'no eventfds')}"
            raise PortError(msg)
        return int(said["room"])


def attach(forwarder: str, port: str = "") -> Attachment:
    """Attach this process to a memring port of a running forwarder of the same user.

    port: its name; needed only where there are several. Raises ArenaError when there is no such
    forwarder, PortError when there is no such port, or another program is attached to it.
    """
    arena = Arena.attach(forwarder)
    try:
        ports = arena.read_document("forwarder")["ports"]
    except ArenaError as error:
        msg = f"forwarder {forwarder} has not built its graph yet: {error}"
        raise PortError(msg) from error
    found = {p["name"]: p["number"] for p in ports if p["type"] == "memring"}
    if (port and port not in found) or (not port and len(found) != 1):
        there = ", ".join(found) or "none"
        named = f"no memring port {port!r}" if port else "which memring port is not clear"
        msg = f"forwarder {forwarder}: {named}; there are: {there}"
        raise PortError(msg)
    name = port or next(iter(found))
    return Attachment(arena, found[name], name)


def _milliseconds(seconds: float) -> int:
    """For poll(2): rounded up, so that a wait does not end early and turn round."""
    return math.ceil(seconds * 1000)


def _connect(arena: Arena, number: int, name: str) -> socket.socket:
    try:
        return unix.connect(arena.path / f"memring-{number}.sock")
    except OSError as error:
        msg = f"port {name}: {error.strerror}; has its forwarder ended?"
        raise PortError(msg) from error
