# SPDX-License-Identifier: Apache-2.0
"""A memif port's connection: a thread that listens or connects, maps memory, and lets peers go.

    thread                                    worker
    handshake (rings/memif.py), maps, LIVE -> moves packets
    peer gone: ENDED ---------------------->  FREE: uses its memory no more; unmapped then
    DISCONNECT with the reason, ENDED <-----  FAULT: the peer broke a rule

Only a memory file that cannot become shorter (F_SEAL_SHRINK) and has ordinary pages is mapped: so no
access of ours fails, whatever the peer does to the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.errors import PortError
from vforward.io import unix
from vforward.io.bell import Bell
from vforward.memory.mapping import sealed_file
from vforward.rings import memif, memif_ring
from vforward.rings.descriptors import receive
from vforward.rings.eventfd import is_eventfd
from vforward.rings.memif import BadPeer, Bye
from vforward.rings.wait import readable

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0
AGAIN_S = 0.2
"""Between two attempts to connect, or to accept somebody when descriptors have run out."""
LOOK_S = 0.05
"""How often a live connection is looked at, for a fault that the worker has found."""
END_S = 2.0
"""For the thread to end, which does not wait for its peer."""
F_SEAL_SHRINK = 2
REASONS = {
    memif_ring.BAD_INDEX: "a ring's head or tail makes no sense",
    memif_ring.BAD_DESCRIPTOR: "a descriptor leads out of the memory",
    memif_ring.BAD_CHAIN: "a packet has no end or is too long",
}


class Settings(NamedTuple):
    """What a port is told."""

    path: Path
    server: bool
    interface: int
    secret: bytes
    log2: int
    buffer: int


class MemifLink:
    """See the module. Listens when it is made; close ends it. Raises PortError."""

    def __init__(self, settings: Settings, state: NDArray[np.uint64], epoll: select.epoll) -> None:
        self._settings = settings
        self._state = state
        self._epoll = epoll
        self._maps: list[mmap.mmap] = []
        self._arrays: list[NDArray[Any]] = []
        self._stopping = False
        self.peer = ""
        self._listener = self._listen() if settings.server else None
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self._stop, self._bell, self._wake = (os.eventfd(0, flags) for _ in range(3))
        epoll.register(self._wake, select.EPOLLIN | select.EPOLLET)
        self._peers_bell = Bell(np.zeros(3, np.uint64))
        if not self._peers_bell.open():
            path = settings.path
            log.warning("memif %s: no asynchronous I/O here: a hostile peer can stop it", path)
        state[memif_ring.BELL] = self._bell
        state[memif_ring.SERVER] = settings.server
        self._thread = threading.Thread(target=self._run, name="memif", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let the peer go. No worker may be using the port."""
        self._stopping = True
        os.eventfd_write(self._stop, 1)
        self._thread.join(END_S)
        if self._listener is not None:  # whatever the thread does, there may be another server
            self._listener.close()
            with contextlib.suppress(OSError):
                self._settings.path.unlink()
        if self._thread.is_alive():  # what it may still use is left to it
            log.warning("memif %s: its thread does not end, and is left alone", self._settings.path)
            return
        memif_ring.hand_over(self._state, memif_ring.FREE)
        self._unmap()
        self._peers_bell.close()
        os.close(self._stop)
        os.close(self._bell)
        os.close(self._wake)

    def _listen(self) -> socket.socket:
        path = self._settings.path
        try:
            if path.is_socket() and not _answers(path):
                path.unlink(missing_ok=True)  # a dead server's
            return unix.listen(path)
        except OSError as error:
            msg = f"memif port: {path}: {error.strerror}; is another server there?"
            raise PortError(msg) from error

    def _run(self) -> None:
        while not self._stopping:
            peer = self._come()
            if peer is None:
                continue
            with peer:
                link = self._new_link()
                try:
                    if isinstance(link, memif.Client):
                        self._lay_out(link)
                    self._shake_hands(peer, link)
                    self._live(peer, link)
                except BadPeer as error:
                    self._state[memif_ring.REFUSED] += np.uint64(1)
                    self._farewell(peer, str(error))
                except Bye as bye:
                    log.info("memif %s: peer %s left: %s", self._settings.path, link.peer, bye)
                except OSError as error:
                    log.info("memif %s: %s", self._settings.path, error)
                finally:
                    self._end(link)
            if self._listener is None:
                readable([self._stop], AGAIN_S)

    def _come(self) -> socket.socket | None:
        """The next peer, or None: look again."""
        if self._listener is not None:
            if not self._ready(self._listener):
                return None
            with contextlib.suppress(OSError):
                return self._listener.accept()[0]
        else:
            with contextlib.suppress(OSError):
                return unix.connect(self._settings.path, wait=False)
        readable([self._stop], AGAIN_S)
        return None

    def _new_link(self) -> memif.Server | memif.Client:
        to = self._settings
        if to.server:
            return memif.Server(to.interface, to.secret)
        return memif.Client(to.interface, to.secret, log2=to.log2)

    def _lay_out(self, link: memif.Client) -> None:
        """A client's memory: two rings, then the buffers of both."""
        slots, size = 1 << link.log2, self._settings.buffer
        ring_bytes = memif.RING_HEADER + memif.DESCRIPTOR * slots
        total = 2 * ring_bytes + 2 * slots * size
        total += -total % mmap.PAGESIZE
        link.regions.append(memif.Region(sealed_file("vforward-memif", total), total))
        for to_server, offset in ((True, 0), (False, ring_bytes)):
            event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            link.rings[to_server] = memif.RingPlace(0, offset, link.log2, event)
        base = self._map(link)[0]
        for ring in link.rings.values():
            self._arrays[0][ring.offset : ring.offset + 4] = np.frombuffer(
                memif.COOKIE.to_bytes(4, "little"), np.uint8
            )
        state, first = self._state, 2 * ring_bytes
        state[memif_ring.BUFFER] = size
        state[memif_ring.TX_OFFSET], state[memif_ring.RX_OFFSET] = first, first + slots * size
        state[memif_ring.TX_BUFFERS] = base + first
        state[memif_ring.RX_BUFFERS] = base + first + slots * size
        self._aim(link, [base])

    def _shake_hands(self, peer: socket.socket, link: memif.Server | memif.Client) -> None:
        self._say(peer, link.begin())
        deadline = time.monotonic() + HANDSHAKE_S
        while not link.connected:
            if not self._ready(peer, deadline - time.monotonic()):
                if self._stopping:
                    raise Bye("stopped")
                raise BadPeer(f"no handshake within {HANDSHAKE_S:g} s")
            replies = self._feed(peer, link)
            if link.connected:  # before the peer hears of it: what it sends then has a way
                self._begin(link)
            self._say(peer, replies)

    def _feed(self, peer: socket.socket, link: memif.Server | memif.Client) -> list[memif.Reply]:
        message, fds, flags = receive(peer, memif.MESSAGE + 1, 4)
        if not message:
            for fd in fds:
                os.close(fd)
            raise Bye("closed")
        if flags & socket.MSG_CTRUNC:
            message = b""  # refused for its size, whatever it is
        return link.feed(message, fds)

    def _say(self, peer: socket.socket, replies: list[memif.Reply]) -> None:
        peer.settimeout(HANDSHAKE_S)
        for message, fd in replies:
            socket.send_fds(peer, [message], [fd] if fd >= 0 else [])

    def _take_over(self, link: memif.Server) -> None:
        """Map a client's memory. Raises BadPeer."""
        bases = self._map(link)
        for ring in link.rings.values():
            # A copy: a view in an exception's traceback would keep the memory from being unmapped.
            cookie = self._maps[ring.region][ring.offset : ring.offset + 4]
            if int.from_bytes(cookie, "little") != memif.COOKIE:
                raise BadPeer("a ring has the wrong cookie")
        self._aim(link, bases)

    def _map(self, link: memif.Link) -> list[int]:
        """Map all regions. Returns their addresses. Raises BadPeer."""
        bases = []
        for n, region in enumerate(link.regions):
            _check_file(region)
            try:
                self._maps.append(mmap.mmap(region.fd, region.size))
            except (OSError, ValueError) as error:
                raise BadPeer(f"region {n} cannot be mapped: {error}") from error
            self._arrays.append(np.frombuffer(self._maps[-1], np.uint8))
            bases.append(int(self._arrays[-1].ctypes.data))
            at = memif_ring.FIRST + 2 * n
            self._state[at : at + 2] = bases[-1], region.size
        self._state[memif_ring.REGIONS] = len(bases)
        return bases

    def _aim(self, link: memif.Link, bases: list[int]) -> None:
        """Tell the worker where the rings are."""
        state, server = self._state, self._settings.server
        for to_server, ring in link.rings.items():
            address = bases[ring.region] + ring.offset
            words = (memif_ring.RX, memif_ring.RX_SLOTS)
            if to_server != server:
                words = (memif_ring.TX, memif_ring.TX_SLOTS)
            state[words[0]], state[words[1]] = address, 1 << ring.log2

    def _begin(self, link: memif.Server | memif.Client) -> None:
        """Let the worker move packets. Raises BadPeer."""
        if isinstance(link, memif.Server):
            self._take_over(link)
        for ring in link.rings.values():
            if not is_eventfd(ring.fd):
                raise BadPeer("a ring's descriptor is no eventfd")
        ours = link.rings[self._settings.server].fd
        self._epoll.register(ours, select.EPOLLIN | select.EPOLLET)
        self.peer = link.peer
        memif_ring.begin(self._state)
        memif_ring.hand_over(self._state, memif_ring.LIVE)
        os.eventfd_write(self._wake, 1)

    def _live(self, peer: socket.socket, link: memif.Server | memif.Client) -> None:
        """Attend to the peer until it goes. Raises BadPeer, Bye, OSError."""
        theirs = link.rings[not self._settings.server].fd
        while True:
            heard = self._ready(peer, LOOK_S)
            if self._stopping:
                self._farewell(peer, "shut down")
                raise Bye("stopped")
            if self._state[memif_ring.RANG]:
                _drain(self._bell)
                self._state[memif_ring.RANG] = 0
                self._peers_bell.ring(theirs)
            if heard:
                self._feed(peer, link)
                raise BadPeer("a message when connected")
            if memif_ring.turn_of(self._state) == memif_ring.FAULT:
                reason = REASONS[int(self._state[memif_ring.REASON])]
                log.warning(
                    "memif %s: peer %s is let go: %s", self._settings.path, self.peer, reason
                )
                self._farewell(peer, reason)
                raise Bye(reason)

    def _ready(self, what: socket.socket, seconds: float | None = None) -> bool:
        """Wait until that can be read, or stop or the bell can. Returns whether that can."""
        fd = what.fileno()
        return fd in readable([self._stop, self._bell, fd], seconds) and not self._stopping

    def _farewell(self, peer: socket.socket, reason: str) -> None:
        with contextlib.suppress(OSError):
            peer.settimeout(LOOK_S)
            peer.send(memif.farewell(reason))

    def _end(self, link: memif.Link) -> None:
        """The connection is over: have the worker let go, then unmap."""
        self.peer = ""
        if memif_ring.turn_of(self._state) != memif_ring.FREE:
            memif_ring.hand_over(self._state, memif_ring.ENDED)
            os.eventfd_write(self._wake, 1)
        for ring in link.rings.values():
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(ring.fd)
        link.close()
        while (turn := memif_ring.turn_of(self._state)) != memif_ring.FREE:
            if turn == memif_ring.FAULT:  # found by the worker while we said that it is over
                memif_ring.hand_over(self._state, memif_ring.ENDED)
            if readable([self._stop], LOOK_S / 10):
                return  # close unmaps
        _drain(self._bell)  # rung when we looked no more: it would end the next peer's handshake
        self._state[memif_ring.RANG] = 0
        self._unmap()

    def _unmap(self) -> None:
        self._state[memif_ring.REGIONS] = 0
        self._arrays.clear()
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()


def _check_file(region: memif.Region) -> None:
    """Raise BadPeer unless all of the region is there and stays."""
    status = os.fstat(region.fd)
    try:
        seals = fcntl.fcntl(region.fd, fcntl.F_GET_SEALS)
    except OSError:
        raise BadPeer("a region's file is no memfd") from None
    if not seals & F_SEAL_SHRINK:
        raise BadPeer("a region's file is not sealed against shrinking")
    if status.st_blksize != mmap.PAGESIZE:
        raise BadPeer("a region's file has huge pages, which can run out under us")
    if status.st_size < region.size:
        raise BadPeer(f"a region of {region.size} bytes in a file of {status.st_size}")


def _drain(event: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(event)


def _answers(path: Path) -> bool:
    """Whether somebody has that socket: also who has no time for us (EAGAIN), or is not for us."""
    try:
        unix.connect(path, wait=False).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        pass
    return True
