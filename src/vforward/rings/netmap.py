# SPDX-License-Identifier: Apache-2.0
"""netmap's ports for Python programs, as net/netmap_user.h has them for C: pipes and VALE.

    with netmap.open("netmap:x{1") as port:         with netmap.open("netmap:x}1") as port:
        port.inject(frame)                              port.poll(READ)
        port.txsync()                                   frame = port.next_packet()

They need a netmap server (netmap_server.Server, or `vforward netmap-serve`). A Python program that moves
many packets does so in a kernel of its own: port.krings and port.memory are what that needs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import PortError
from vforward.rings import netmap_layout as layout
from vforward.rings.descriptors import receive
from vforward.rings.netmap_message import (
    DESCRIPTORS,
    REGISTER,
    REPLY_SIZE,
    Reply,
    Request,
    socket_path,
)
from vforward.rings.netmap_names import Kind, parse
from vforward.rings.netmap_pipe import pipe_begin, pipe_rxsync, pipe_txsync, pipe_waits
from vforward.rings.netmap_region import map_shared
from vforward.rings.netmap_ring import Ring
from vforward.rings.netmap_sync import (
    KRING,
    STAMP,
    VIOLATION,
    WAKE,
    port_begin,
    port_sync,
    port_waits,
)

READ, WRITE, ERROR = select.POLLIN, select.POLLOUT, select.POLLERR
LONGEST = layout.MAX_FRAGS * layout.BUF_SIZE
TX, RX = layout.TX, layout.RX
ANSWER_S = 60.0
"""For the server to answer: one whose first port this is may have to compile what switches."""


class NoServer(PortError):
    """Nobody listens at the netmap server's socket, or answers."""


def open(
    name: str,
    *,
    extra: int = 0,
    path: Path | None = None,
    stop: int | None = None,
    answer_s: float | None = None,
) -> Port:
    """Open a port by its name (netmap_names): it is this program's alone until it closes it.

    extra: buffers beyond those in the rings (port.extra has them). path: the server's socket. stop: a
    descriptor; no answer is waited for any longer when it becomes readable. answer_s: instead of
    ANSWER_S. Raises PortError, NoServer among them.
    """
    seconds = ANSWER_S if answer_s is None else answer_s
    wanted = parse(name)
    asked = Request(REGISTER, str(wanted.name), wanted.tx_slots, wanted.rx_slots, extra)
    where = path or socket_path()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(seconds)
    try:
        connection.connect(str(where))
        connection.send(asked.packed())
        _await(connection, stop, seconds)
        data, descriptors, _ = receive(connection, REPLY_SIZE + 1, DESCRIPTORS)
    except TimeoutError as error:
        connection.close()
        msg = (
            f"netmap port {name}: the server at {where} does not answer ({error.strerror or error})"
        )
        raise NoServer(msg) from error
    except OSError as error:
        connection.close()
        raise NoServer(
            f"netmap port {name}: no server at {where} ({error.strerror or error}); "
            "start one: vforward netmap-serve"
        ) from error
    try:
        return Port(name, _good(name, data, descriptors), connection, descriptors)
    except BaseException:
        connection.close()
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _await(connection: socket.socket, stop: int | None, seconds: float) -> None:
    """Wait until there is something to receive. Raises OSError: not in time, or not wanted any more."""
    poller = select.poll()
    for descriptor in (connection.fileno(), stop):
        if descriptor is not None:
            poller.register(descriptor, select.POLLIN)
    found = dict(poller.poll(seconds * 1000))
    if connection.fileno() not in found:
        raise TimeoutError(errno.ETIMEDOUT, "given up" if found else "timed out")


def _good(name: str, data: bytes, descriptors: list[int]) -> Reply:
    """The server's reply. Raises PortError when it is no port."""
    reply = Reply.unpacked(data)
    if reply.error or len(descriptors) != DESCRIPTORS:
        raise PortError(f"netmap port {name}: {os.strerror(reply.error or errno.EPROTO)}")
    return reply


class Port:
    """An open port, with one tx and one rx ring. For one thread at a time."""

    def __init__(
        self, name: str, reply: Reply, connection: socket.socket, descriptors: list[int]
    ) -> None:
        self.name = name
        self.kind = Kind(reply.kind)
        self.memory = map_shared(descriptors[0], reply.size)
        self.tx = Ring(self.memory, reply.tx, reply.tx_slots)
        self.rx = Ring(self.memory, reply.rx, reply.rx_slots)
        self.krings = np.zeros(2, KRING)
        """The kernel's side of tx and rx: what pipe_txsync and port_sync get."""
        self.interface = layout.if_at(self.memory, reply.nifp)
        self._reply = reply
        self.bufs = layout.address_of(self.memory) + reply.bufs_at
        """Address of buffer 0, for kernels."""
        self._connection = connection
        self._memfd, self.bell = descriptors
        base = layout.address_of(self.memory)
        places = (
            (reply.tx, reply.tx_peer, reply.tx_link, reply.tx_slots),
            (reply.rx, reply.rx_peer, reply.rx_link, reply.rx_slots),
        )
        for kring, (ring, peer, link, n) in zip(self.krings, places, strict=True):
            kring["ring"], kring["peer"], kring["link"] = base + ring, base + peer, base + link
            kring["n"], kring["bufs"], kring["buf_size"] = n, reply.bufs, reply.buf_size
            kring["data"] = base + reply.bufs_at
        if self.kind is Kind.PIPE:
            pipe_begin(self.krings)
        else:
            for which in (TX, RX):
                port_begin(self.krings, which)
        self._bell = socket.socket(fileno=self.bell)  # the last: from now on it is closed by close

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the port; its rings may not be touched any more. Harmless when repeated."""
        if self._memfd < 0:
            return
        self._connection.close()
        self._bell.close()
        os.close(self._memfd)
        self._memfd = -1

    @property
    def connection(self) -> int:
        """The descriptor of the connection to the server: poll(2) says POLLHUP when that is gone."""
        return self._connection.fileno()

    def buffer(self, index: int) -> NDArray[np.uint8]:
        """A buffer's bytes. Raises IndexError for an index that is none."""
        if not layout.FIRST_BUF <= index < self._reply.bufs:
            raise IndexError(index)
        at = self._reply.bufs_at + index * layout.BUF_SIZE
        return self.memory[at : at + layout.BUF_SIZE]

    @property
    def extra(self) -> list[int]:
        """The list of extra buffers that begins at ni_bufs_head."""
        found: list[int] = []
        index = int(self.interface["ni_bufs_head"])
        while index and len(found) <= self._reply.bufs:
            found.append(index)
            index = int(self.buffer(index)[:4].view(np.uint32)[0])
        return found

    def txsync(self) -> None:
        """NIOCTXSYNC: send the slots up to head, and see what is free. Raises PortError (EINVAL).

        When it raises, the ring broke netmap's rules and was reinitialised.
        """
        self._sync(TX)

    def rxsync(self) -> None:
        """NIOCRXSYNC: return the slots up to head, and see what has come. As txsync."""
        self._sync(RX)

    def _sync(self, which: int) -> None:
        if self._memfd < 0:
            raise PortError(f"netmap port {self.name} is closed")
        if self.kind is Kind.PIPE:
            answer = pipe_txsync(self.krings) if which == TX else pipe_rxsync(self.krings)
        else:
            answer = port_sync(self.krings, which)
        if answer == VIOLATION:
            ring = "rx" if which else "tx"
            raise PortError(f"netmap port {self.name}: {ring} ring reinitialised: head or cur was "
                            "outside of [head, tail), or a slot had no buffer or was too long")  # fmt: skip
        if answer & WAKE:
            self._wake()
        if answer & STAMP:
            now = time.time_ns()
            words = (self.tx, self.rx)[which].words
            words["ts_sec"], words["ts_usec"] = now // 10**9, now % 10**9 // 1000

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is gone, or has been woken already
            self._bell.send(b"w", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _waits(self, which: int, wanted: bool) -> None:
        waits = pipe_waits if self.kind is Kind.PIPE else port_waits
        waits(self.krings, which, wanted)

    def poll(self, events: int = READ, timeout: float | None = None) -> int:
        """poll(2) as netmap has it: sync, and wait up to timeout seconds. Returns events, 0: none.

        Pending tx slots are pushed whatever is asked for; rx is synced for READ. READ: the rx ring's
        tail is past cur; WRITE: the tx ring's. ERROR: a ring was reinitialised, or the server is gone.
        """
        end = None if timeout is None else time.monotonic() + timeout
        try:
            ready = self._ready(events)
            while not ready:
                for which, event in ((TX, WRITE), (RX, READ)):
                    if events & event:
                        self._waits(which, True)
                ready = self._ready(events)  # what came before they knew that we wait
                left = None if end is None else max(0.0, end - time.monotonic())
                # Without time left, too: what has rung is read there.
                if ready or not self._sleep(left):
                    break
                ready = self._ready(events)
                if left == 0:
                    break
        except PortError:
            return ERROR
        return ready

    def _ready(self, events: int) -> int:
        self.txsync()
        ready = WRITE if events & WRITE and self.tx.cur != self.tx.tail else 0
        if events & READ:
            self.rxsync()
            ready |= READ if self.rx.cur != self.rx.tail else 0
        return ready

    def _sleep(self, seconds: float | None) -> bool:
        """Wait for a wakeup. Returns False after that time. Raises PortError: the server is gone."""
        poller = select.poll()
        poller.register(self.bell, READ)
        poller.register(self.connection, 0)
        found = dict(poller.poll(None if seconds is None else seconds * 1000))
        gone = self.connection in found
        if self.bell in found:
            try:
                self._bell.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except ConnectionError:  # a killed server's sockets end one after the other
                gone = True
        if gone:
            raise PortError(f"netmap port {self.name}: the server is gone")
        return bool(found)

    def fileno(self) -> int:
        """A descriptor that becomes readable when poll would return.

        Only after a poll(events, 0) that returned 0: that asks the other side for a wakeup.
        """
        return self.bell

    def inject(self, frame: bytes | NDArray[np.uint8]) -> int:
        """nm_inject: put a frame into the tx ring. Returns its length, or 0: there is no room.

        It is sent by the next txsync or poll. A frame longer than a buffer takes several slots.
        """
        data = np.frombuffer(frame, np.uint8) if isinstance(frame, bytes) else frame
        count = max(1, -(-data.size // layout.BUF_SIZE))
        if count > self.tx.space() or data.size > LONGEST:
            return 0
        at = self.tx.head
        for i in range(count):
            part = data[i * layout.BUF_SIZE : (i + 1) * layout.BUF_SIZE]
            slot = self.tx.slots[at]
            self.buffer(int(slot["buf_idx"]))[: part.size] = part
            slot["len"] = part.size
            slot["flags"] = layout.NS_MOREFRAG if i + 1 < count else 0
            at = (at + 1) % self.tx.n
        self.tx.move(head=at, cur=at)
        return int(data.size)

    def next_packet(self) -> bytes | None:
        """nm_nextpkt: the next frame that an rxsync or poll has brought, whole; None: no more."""
        parts, at = [], self.rx.head
        for _ in range(self.rx.space()):
            slot = self.rx.slots[at]
            size = min(int(slot["len"]), layout.BUF_SIZE)
            parts.append(self.buffer(int(slot["buf_idx"]))[:size].tobytes())
            at = (at + 1) % self.rx.n
            if not slot["flags"] & layout.NS_MOREFRAG:
                self.rx.move(head=at, cur=at)
                return b"".join(parts)
        return None

    def dispatch(self, callback: Callable[[bytes], Any], count: int = 0) -> int:
        """nm_dispatch: give up to count frames (0: all that are there) to a function; how many."""
        done = 0
        while not count or done < count:
            frame = self.next_packet()
            if frame is None:
                break
            callback(frame)
            done += 1
        return done
