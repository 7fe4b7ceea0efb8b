# SPDX-License-Identifier: Apache-2.0
"""The netmap server: what /dev/netmap is elsewhere. It makes ports, and is the VALE switches.

    program -- connect, REGISTER "vale0:a" -->  server     one connection is one port
            <-- where its rings are; memfd, two descriptors for wakeups --

A connection that ends closes its port, so a program that is killed leaves nothing behind. A pipe ends
with its second end, a switch with its last port. Every port has one owner: who opens it twice is refused.

Programs of the user's own may connect: the socket lies in a directory that is closed to others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from vforward.errors import PortError, PortInUse
from vforward.memory.place import refuse_foreign
from vforward.rings.netmap_layout import RING_SLOTS
from vforward.rings.netmap_message import INFO, REQUEST_SIZE, Reply, Request, socket_path
from vforward.rings.netmap_names import Kind, Name, parse_name
from vforward.rings.netmap_pair import Pair
from vforward.rings.vale_switch import MAX_AGE_S, Switch

SWITCHES_MAX = 8


class Server:
    """A server in a thread of this process. A context manager: leaving it closes all ports."""

    def __init__(self, path: Path | None = None, max_age_s: float = MAX_AGE_S) -> None:
        """Listen. Raises PortError, when another server does, too."""
        self.path = path or socket_path()
        self.max_age_s = max_age_s
        self.pipes: dict[str, Pair] = {}
        self.switches: dict[str, Switch] = {}
        self.idle_since = time.monotonic()
        self._ports: dict[socket.socket, Callable[[], None] | None] = {}
        self._lock = _lock(self.path)
        self._socket = _listen(self.path)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="netmap", daemon=True)
        self._thread.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """How many programs' connections there are."""
        return len(self._ports)

    def close(self) -> None:
        """Close all ports and end."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        for connection in list(self._ports):
            self._end(connection)
        self.path.unlink(missing_ok=True)
        self._socket.close()
        os.close(self._stop)
        os.close(self._lock)

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            for source in (self._socket, self._stop):
                selector.register(source, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj == self._stop:
                        return
                    if key.fileobj is self._socket:
                        self._accept(selector)
                    elif isinstance(key.fileobj, socket.socket) and not self._hear(key.fileobj):
                        selector.unregister(key.fileobj)
                        self._end(key.fileobj)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:  # it has gone already, or we have too many descriptors: it will come again
            time.sleep(0.01)
            return
        connection.setblocking(False)
        self._ports[connection] = None
        selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket) -> bool:
        """Answer a request. Returns whether the connection lives on."""
        descriptors: list[int] = []
        try:
            data = connection.recv(REQUEST_SIZE + 1)
            if not data:
                return False
            reply, descriptors = self._answer(connection, Request.unpacked(data))
        except PortInUse:
            reply = Reply(error=errno.EBUSY)
        except PortError as error:
            no_memory = isinstance(error.__cause__, OSError)
            reply = Reply(error=errno.ENOMEM if no_memory else errno.EINVAL)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return True
            reply = Reply(error=error.errno or errno.EIO)
        try:
            socket.send_fds(connection, [reply.packed()], descriptors)
        except OSError:
            return False
        return True

    def _answer(self, connection: socket.socket, asked: Request) -> tuple[Reply, list[int]]:
        name = parse_name(asked.name)
        if asked.kind == INFO:
            return self._info(name, asked), []
        if self._ports[connection] is not None:
            return Reply(error=errno.EBUSY), []
        make = self._pipe if name.kind is Kind.PIPE else self._vale
        reply, descriptors, self._ports[connection] = make(name, asked)
        return reply, descriptors

    def _info(self, name: Name, asked: Request) -> Reply:
        """What a port has, or would have."""
        pair = self.pipes.get(name.group) if name.kind is Kind.PIPE else None
        tx, rx = asked.tx_slots or RING_SLOTS, asked.rx_slots or RING_SLOTS
        if pair is None:
            return Reply(kind=name.kind.value, tx_slots=tx, rx_slots=rx)
        where = pair.region.where
        tx, rx = where.slots[name.end]
        return Reply(
            kind=name.kind.value, size=where.size, tx_slots=tx, rx_slots=rx,
            mem_id=pair.region.mem_id,
        )  # fmt: skip

    def _pipe(self, name: Name, asked: Request) -> tuple[Reply, list[int], Callable[[], None]]:
        pair = self.pipes.get(name.group)
        if pair is None:
            pair = Pair(name, asked.tx_slots, asked.rx_slots, asked.extra)
            self.pipes[name.group] = pair
        reply, descriptors = pair.take(name, asked.extra)

        def release() -> None:
            if pair.release(name.end):
                del self.pipes[name.group]

        return reply, descriptors, release

    def _vale(self, name: Name, asked: Request) -> tuple[Reply, list[int], Callable[[], None]]:
        switch = self.switches.get(name.group)
        made = switch is None
        if switch is None:
            if len(self.switches) == SWITCHES_MAX:
                raise PortError(f"netmap port {name}: there are {SWITCHES_MAX} switches already")
            switch = self.switches[name.group] = Switch(name.group, self.max_age_s)
        try:
            number, reply, descriptors = switch.attach(
                name.member, asked.tx_slots, asked.rx_slots, asked.extra
            )
            if made:
                switch.start()
        except BaseException:  # PortError, or descriptors have run out
            if made:
                self.switches.pop(name.group).close()
            raise

        def release() -> None:
            switch.detach(number)
            if not switch.members:
                self.switches.pop(name.group).close()

        return reply, descriptors, release

    def _end(self, connection: socket.socket) -> None:
        """Close the port of a connection, and that. It counts until its buffers are back."""
        release = self._ports[connection]
        connection.close()
        try:
            if release is not None:
                release()
        finally:
            del self._ports[connection]
            self.idle_since = time.monotonic()


def _lock(path: Path) -> int:
    """Take the lock of the server at this path. Raises PortError when another has it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        refuse_foreign(path.parent)
    except Exception as error:
        raise PortError(f"netmap server: {error}") from error
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise PortError(f"a netmap server runs at {path} already") from error
    return lock


def _listen(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # of a server that was killed: we have the lock
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listening.bind(str(path))
    except OSError as error:
        raise PortError(f"netmap server: {path}: {error.strerror}") from error
    listening.listen(64)
    listening.setblocking(False)
    return listening
