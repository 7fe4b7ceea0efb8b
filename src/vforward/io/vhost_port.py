# SPDX-License-Identifier: Apache-2.0
"""What a vhost-user port of either side is: a peer at a Unix socket, and what its nodes work with.

The backend's side is io.vhost, the frontend's io.virtio; who comes and goes is io.vhost_peers'.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vforward.io import shim, vhost_rx
from vforward.io.bell import Bell
from vforward.io.libc import libc_address
from vforward.io.port import Port, default_mac
from vforward.io.vhost_peers import Peers
from vforward.io.vhost_rx import RxCount
from vforward.memory.pool import Pool
from vforward.rings import virtqueue as vq
from vforward.rings.vhost_socket import Endpoint

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""How soon a queue that the worker gave up is noticed."""


class PortTable:
    """The table ``port`` of a node that one worker at a time calls (io.vhost_rx): an epoll, for it to sleep
    on, and a bell.
    """

    def __init__(self) -> None:
        self.words = np.zeros(vhost_rx.PORT_WORDS, np.uint64)
        self._events = np.zeros(2 * vhost_rx.EPOLL_EVENTS, np.uint64)
        self._epoll: select.epoll | None = None
        self._bell = Bell(self.words[vhost_rx.BELL : vhost_rx.BELL + 3])

    def open(self, number: int) -> bool:
        """number: the port's. Returns whether its bell is one that nobody can make wait."""
        self._epoll = select.epoll()
        self.words[vhost_rx.RING] = shim.address("vf_bell_ring")
        self.words[vhost_rx.NUMBER] = number
        self.words[vhost_rx.EPOLL_WAIT] = libc_address("epoll_wait")
        self.words[vhost_rx.EPOLL] = self._epoll.fileno()
        self.words[vhost_rx.EVENTS] = self._events.ctypes.data
        return self._bell.open()

    def close(self) -> None:
        """Harmless when repeated, or not open."""
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            self._bell.close()
            epoll.close()

    def descriptors(self) -> list[int]:
        """What the worker sleeps on."""
        return [self._epoll.fileno()] if self._epoll is not None else []

    def count(self, reason: str) -> None:
        """A peer was let go. The node counts it when it is called next."""
        name = f"LET_GO_{reason.upper().replace('-', '_')}"
        why = RxCount.__members__.get(name, RxCount.LET_GO_INTERNAL)
        self.words[vhost_rx.WHY + why - vhost_rx.FIRST_REASON] += np.uint64(1)
        self.words[vhost_rx.LET_GO] += np.uint64(1)  # last: it says that there is more to count

    def watch(self, fd: int) -> None:
        """Let the worker sleep on an eventfd."""
        assert self._epoll is not None
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)

    def unwatch(self, fd: int) -> None:
        """No longer."""
        assert self._epoll is not None
        with contextlib.suppress(OSError):  # it was none of those
            self._epoll.unregister(fd)


class VhostPort(Port):
    """See the module. queues: a row each, in pairs, of which the first counts for ``ready``."""

    def __init__(
        self,
        path: str,
        queues: NDArray[np.uint64],
        *,
        server: bool,
        mac: bytes | None,
        mtu: int,
    ) -> None:
        self.path = path
        self.mtu = mtu
        self.queues = queues
        self.whole: NDArray[np.uint64] = np.zeros(1, np.uint64)
        self._given_mac = mac
        self._peers = Peers(path, self._attend, server=server, let_go=self._let_go)
        self._port_tables = [PortTable()]
        self._quiesce: Callable[[], bool] = lambda: True

    @abstractmethod
    def _warm(self) -> None:
        """Compile what a peer would otherwise wait for."""

    @abstractmethod
    def _attend(self, peer: socket.socket, endpoint: Endpoint) -> None:
        """Be with a peer, in the thread of Peers: see there."""

    def open(self, number: int, pool: Pool) -> None:
        """Listen, where it is ours to. Raises PortError: the path is in use, or none to be had."""
        shim.address("vf_bell_ring")  # ShimMissing before all else
        self._warm()
        self.mac = self._given_mac or default_mac(number)
        self._peers.open()
        sound = [table.open(number) for table in self._port_tables]
        if not all(sound):
            log.warning("%s: no asynchronous I/O here: a hostile peer can stop us", self._name())

    def attach(self, quiesce: Callable[[], bool]) -> None:
        self._quiesce = quiesce
        self._peers.start()

    def descriptors(self) -> list[int]:
        return [fd for table in self._port_tables for fd in table.descriptors()]

    @property
    def ready(self) -> bool:
        """Whether a peer is there and the first pair of queues runs."""
        return all(int(queue[vq.STATE]) == vq.READY for queue in self.queues[:2])

    @property
    def peers(self) -> int:
        """How many there were so far."""
        return self._peers.number

    @property
    def peer_faults(self) -> Counter[str]:
        """How many were let go, by reason."""
        return self._peers.faults

    def peer(self) -> str:
        moved = f"; pairs of queues: {self._moved() or 'none'}" if len(self.queues) > 2 else ""
        return self._peers.text(ready=self.ready) + moved

    def close(self) -> None:
        self._peers.close()
        for table in self._port_tables:
            table.close()

    def quiesce(self) -> None:
        """Wait for a quiet point, however long it takes: memory is unmapped after it."""
        while not self._quiesce():
            log.warning("%s: the worker does not come to a quiet point", self._name())

    def _let_go(self, reason: str) -> None:
        """Have the first receive node count it, though its worker sleeps."""
        self._port_tables[0].count(reason)
        self._quiesce()

    def _moved(self) -> str:
        """Frames that came and went, by pair."""
        said = []
        for pair in range(len(self.queues) // 2):
            both = self.queues[2 * pair : 2 * pair + 2]
            on = all(int(queue[vq.STATE]) == vq.READY for queue in both)
            to_driver, of_driver = (int(queue[vq.MOVED]) for queue in both)
            if on or to_driver or of_driver:
                said.append(f"{pair} {'on' if on else 'off'} ({self._both(to_driver, of_driver)})")
        return ", ".join(said)

    @abstractmethod
    def _both(self, to_driver: int, of_driver: int) -> str:
        """Say how many frames went each way."""

    def _name(self) -> str:
        return f"vhost-user port at {self.path!r}"
