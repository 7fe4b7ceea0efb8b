# SPDX-License-Identifier: Apache-2.0
"""The memring port: another process sends and receives packets in the pool's own buffers.

    program (io/memring_client.py)              worker
    receive()  <-- full:  rows ---------------  memring-tx <-- graph
    new()      <-- empty: rows ---------------  memring-rx, which keeps it filled
    send()     --> sent:  rows -------------->  memring-rx --> graph
    free()     --> back:  rows -------------->  memring-rx, which gives them to the pool

Nothing is copied: the program maps the pool. So it is trusted with all packets of the forwarder, as
a process of the same user; one that breaks the rules loses its packets, counted, and no row is lost
or doubled (rings/memring.py: the ledger).

A program says that it is there by a connection to a socket in the arena, and gets two eventfds by
it. The connection ends when the program does, however it ends; the worker then takes what it had
sent, and reclaims the rest. The idea is that of DPDK's dpdkr ports and of QEMU's ivshmem.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from pathlib import Path

import numpy as np

from vforward.errors import PortError
from vforward.graph.node import Node
from vforward.io import unix
from vforward.io.libc import libc_address
from vforward.io.memring_nodes import REFILL, RX, TX
from vforward.io.port import Port, Tables, default_mac
from vforward.layout import (
    VECTOR_MAX,
)
from vforward.memory.pool import Pool, drain_cache
from vforward.rings import memring as ring
from vforward.rings.wait import readable

log = logging.getLogger(__name__)

PEERCRED = struct.Struct("iII")
LOOK_S = 0.01
"""How often the accepting thread looks whether the worker has reclaimed what a program had."""


class MemringPort(Port):
    """A port for one program at a time, of the same user, which attaches by vforward.attach.

    room: how many buffers it may hold with packets in them, and as many empty ones; rounded up to a
    power of two.

    Who writes this call shares the pool with that program: it can read and change all packets of all ports.
    A configuration, which others may write, has to say so besides (``trusted = true``).
    """

    kind = "memring"

    def __init__(self, *, mac: bytes | None = None, mtu: int = 1500, room: int = 1024) -> None:
        self._given = mac
        self.mtu = mtu
        self._room = 1 << (max(room, REFILL) - 1).bit_length()
        self._pool: Pool | None = None
        self._thread: threading.Thread | None = None
        self._path = Path()
        self._descriptors: list[int] = []

    def open(self, number: int, pool: Pool) -> None:
        """Lend buffers of this pool from now on, to who comes to the socket in its arena."""
        self.mac = self._given or default_mac(number)
        self._state = np.zeros(ring.STATE_WORDS, np.uint64)
        self._ledger = np.zeros(pool.size, np.uint8)
        self._spare = np.zeros(VECTOR_MAX, np.uint32)
        name = f"memring-{number}"
        segment = pool.arena.make(name, ring.words_for(self._room), np.uint64)
        self._rings = ring.rings(segment, self._room)
        self._cache = pool.cache()
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self._event, self._peer_event, self._stop = (os.eventfd(0, flags) for _ in range(3))
        self._descriptors = [self._event, self._peer_event, self._stop]
        self._state[ring.EVENT], self._state[ring.PEER_EVENT] = self._event, self._peer_event
        self._state[ring.READ], self._state[ring.WRITE] = map(libc_address, ("read", "write"))
        self._state[ring.ONE] = 1
        self._state[ring.PORT], self._state[ring.ROOM] = number, self._room
        self._pool = pool
        self._path = pool.arena.path / f"{name}.sock"
        self._listen()

    def rx(self) -> tuple[Node, Tables]:
        """The node that receives what the program sends."""
        return RX, {
            **self._rings._asdict(),
            "ledger": self._ledger,
            "spare": self._spare,
            "state": self._state,
        }

    def tx(self) -> tuple[Node, Tables]:
        """The node that sends what the program receives."""
        return TX, {
            "words": self._rings.words,
            "full": self._rings.full,
            "ledger": self._ledger,
            "spare": self._spare,
            "state": self._state,
        }

    def descriptors(self) -> list[int]:
        """An eventfd that is readable when the program has sent something."""
        return [self._event]

    def close(self) -> None:
        """Let go of the program, and reclaim what it had. Harmless when repeated, or not open."""
        if self._thread is not None:
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            self._thread = None
        if self._pool is not None:
            self._path.unlink(missing_ok=True)
            ring.reclaim(self._cache, self._ledger, self._state, *self._rings[1:])
            drain_cache(self._cache)
            self._pool = None
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def _listen(self) -> None:
        try:
            listener = unix.listen(self._path)
        except OSError as error:
            msg = f"memring port: {self._path}: {error.strerror or error}"
            raise PortError(msg) from error
        self._thread = threading.Thread(
            target=self._serve, args=(listener,), name=self._path.stem, daemon=True
        )
        self._thread.start()

    def _serve(self, listener: socket.socket) -> None:
        """Accept one program after the other, until told to stop."""
        program: socket.socket | None = None
        with listener:
            while True:
                watched = [listener, *([program] if program is not None else [])]
                found = readable([self._stop, *(one.fileno() for one in watched)])
                if self._stop in found:
                    break
                if program is not None and program.fileno() in found and not _lives(program):
                    self._gone(program)
                    program = None
                if listener.fileno() in found:
                    program = self._accept(listener, program)
            if program is not None:
                program.close()

    def _accept(
        self, listener: socket.socket, program: socket.socket | None
    ) -> socket.socket | None:
        """Answer who comes. Returns who is attached then."""
        try:
            new, _ = listener.accept()
        except OSError:  # descriptors have run out: it waits
            readable([self._stop], LOOK_S)
            return program
        with contextlib.suppress(OSError):
            refusal = _refusal(new) or ("another program is attached" if program else "")
            if not refusal and not self._is_free():
                refusal = (
                    "the worker has not yet reclaimed what the last program had: is it running?"
                )
            if refusal:
                new.send(json.dumps({"error": refusal}).encode())
                new.close()
                return program
            for event in (self._event, self._peer_event):
                _drain(event)
            self._rings.words[[ring.KICK, ring.ASLEEP]] = 0
            ring.hand_over(self._state, ring.LIVE)
            os.eventfd_write(self._event, 1)  # the worker lends empty buffers
            self._rings.words[ring.KICK] = 1
            answer = json.dumps({"room": self._room}).encode()
            try:
                socket.send_fds(new, [answer], [self._event, self._peer_event])
            except OSError:
                self._gone(new)
                return None
            return new
        return program

    def _gone(self, program: socket.socket) -> None:
        """Have the worker reclaim what it had."""
        program.close()
        os.eventfd_write(self._event, 1)  # first: the worker empties it when it has reclaimed
        ring.hand_over(self._state, ring.ENDED)

    def _is_free(self) -> bool:
        """Whether the worker has reclaimed what the last program had; waits a moment for that."""
        for _ in range(100):
            if ring.turn_of(self._state) == ring.FREE:
                return True
            if readable([self._stop], LOOK_S):
                break
        return False


def _refusal(new: socket.socket) -> str:
    """Why who has connected may not attach, or nothing."""
    data = new.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEERCRED.size)
    uid = PEERCRED.unpack(data)[1]
    if uid in (0, os.geteuid()):
        return ""
    return f"uid {uid} may not map the packets of uid {os.geteuid()}"


def _lives(program: socket.socket) -> bool:
    """Whether the connection stands. A program has nothing to say: if it does, it is let go."""
    try:
        program.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _drain(event: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(event)
