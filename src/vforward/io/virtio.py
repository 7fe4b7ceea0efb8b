# SPDX-License-Identifier: Apache-2.0
"""vhost-user, the frontend's side: a port that is the driver of a virtio-net device.

The device is a program with a vhost-user backend: DPDK's net_vhost, Open vSwitch, VPP, or a port of
io.vhost. We make the memory and share it through a Unix socket; frames are copied, between it and our
pool, by the worker (io.virtio_rx, io.virtio_tx). A thread of the port's sets the backend up
(rings.vhost_frontend) and notices when it goes.

The peer is not trusted: it sees the frames that go through this port, and nothing else. Each peer gets
memory of its own, since one that was let go still has what it had. What it writes or says that
cannot be right loses it its connection, with the reason logged and counted (peer_faults).

Limits: one pair of split queues of QUEUE descriptors; x86-64 or another little-endian machine.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vforward.graph.node import Node
from vforward.io import shim, vhost_rx, virtio_rx, virtio_tx
from vforward.io.libc import libc_address
from vforward.io.port import Port, Tables, default_mac
from vforward.io.vhost import LOOK_S
from vforward.io.vhost_header import mirrored, taken_whole
from vforward.io.vhost_peers import Peers
from vforward.io.virtio_memory import GUEST, DriverMemory
from vforward.memory.pool import Pool
from vforward.rings import vhost_frontend, vhost_message, vhost_user
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings.vhost_frontend import Ring, Talk
from vforward.rings.vhost_message import BadPeer
from vforward.rings.vhost_socket import Endpoint

log = logging.getLogger(__name__)

QUEUE = 1024
ANSWER_S = 5.0
"""For a backend to answer: one that begins may be slow."""


class VirtioPort(Port):
    """A port whose other end is a vhost-user backend, at the Unix socket path.

    server: we listen there (with DPDK's ``client=1``), else we connect and try again until there is
    somebody. mac: of the port, 6 bytes. mtu: the longest IP packet sent there. offloads: leave checksums
    and the cutting of super-frames to the device where it offers that, and take such frames of it.
    """

    def __init__(
        self,
        path: str,
        *,
        server: bool = False,
        mac: bytes | None = None,
        mtu: int = 1500,
        offloads: bool = True,
    ) -> None:
        self.path = path
        self.mtu = mtu
        self.whole: NDArray[np.uint64] = np.zeros(1, np.uint64)
        self.features = vhost_frontend.FEATURES | (vhost_user.OFFLOADS if offloads else 0)
        self.queues = [driver.new(QUEUE), driver.new(QUEUE)]  # what we receive; what we send
        self._given_mac = mac
        self._peers = Peers(path, self._attend, server=server)
        self._port = np.zeros(vhost_rx.PORT_WORDS, np.uint64)
        self._events = np.zeros(2 * vhost_rx.EPOLL_EVENTS, np.uint64)
        self._epoll: select.epoll | None = None
        self._quiesce: Callable[[], bool] = lambda: True

    def open(self, number: int, pool: Pool) -> None:
        """Listen, where it is ours to. Raises PortError: the path is in use, or none to be had."""
        shim.address("vf_bell_ring")  # ShimMissing here, before anything is open
        self._warm()
        self.mac = self._given_mac or default_mac(number)
        self._peers.open()
        self._epoll = select.epoll()
        self._port[vhost_rx.NUMBER] = number
        self._port[vhost_rx.RING] = shim.address("vf_bell_ring")
        if shim.lib.vf_bell_open(shim.pointer(self._bell())) < 0:
            log.warning("%s: no asynchronous I/O here: a hostile peer can stop us", self._name())
        self._port[vhost_rx.EPOLL_WAIT] = libc_address("epoll_wait")
        self._port[vhost_rx.EPOLL] = self._epoll.fileno()
        self._port[vhost_rx.EVENTS] = self._events.ctypes.data

    def attach(self, quiesce: Callable[[], bool]) -> None:
        self._quiesce = quiesce
        self._peers.start()

    def rx(self) -> tuple[Node, Tables]:
        return virtio_rx.NODE, {"queue": self.queues[0], "port": self._port}

    def tx(self) -> tuple[Node, Tables]:
        return virtio_tx.NODE, {"queue": self.queues[1], "port": self._port}

    def descriptors(self) -> list[int]:
        return [self._epoll.fileno()] if self._epoll is not None else []

    @property
    def ready(self) -> bool:
        """Whether a backend is there and both queues run."""
        return all(int(queue[vq.STATE]) == vq.READY for queue in self.queues)

    @property
    def peers(self) -> int:
        """How many there were so far."""
        return self._peers.number

    @property
    def peer_faults(self) -> Counter[str]:
        """How many were let go, by reason."""
        return self._peers.faults

    def peer(self) -> str:
        return self._peers.text(ready=self.ready)

    def close(self) -> None:
        self._peers.close()
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            shim.lib.vf_bell_close(shim.pointer(self._bell()))
            epoll.close()

    def _bell(self) -> NDArray[np.uint64]:
        return self._port[vhost_rx.BELL : vhost_rx.BELL + 3]

    def _name(self) -> str:
        return f"vhost-user port at {self.path!r}"

    def _warm(self) -> None:
        """Compile what a peer would otherwise wait for."""
        memory, queue = DriverMemory(1, 1), driver.new(1)
        memory.begin(0, queue, receives=True)
        vq.start(queue)
        memory.close()

    def _attend(self, peer: socket.socket, endpoint: Endpoint) -> None:
        talk = Talk(peer, lambda: endpoint.wait(peer, ANSWER_S))
        features = vhost_frontend.negotiate(talk, self.features)
        self.whole[0] = taken_whole(mirrored(features))  # a store; the worker reads it each time
        with self._eventfds() as (kicks, calls), self._memory() as memory:
            rings = []
            for k, queue in enumerate(self.queues):
                queue[vq.FEATURES] = mirrored(features)
                queue[vq.CALL] = kicks[k]
                queue[vq.IDLE] = queue[vq.FAULT] = 0
                memory.begin(k, queue, receives=k == 0)
                desc, avail, used = (GUEST + at for at in memory.parts[k][:3])
                rings.append(Ring(QUEUE, desc, avail, used, kicks[k], calls[k]))
            vhost_frontend.share(talk, features, memory.region, memory.fd, rings)
            for queue in self.queues:
                vq.start(queue)
            self._watch(peer, endpoint)

    def _watch(self, peer: socket.socket, endpoint: Endpoint) -> None:
        """Return when the peer goes. Raises BadPeer when it says something, or has broken a queue."""
        while not endpoint.stopped:
            for k, queue in enumerate(self.queues):
                if int(queue[vq.STATE]) == vq.BROKEN:
                    fault = driver.Fault(int(queue[vq.FAULT]))
                    raise BadPeer("queue", f"queue {k}: {driver.FAULTS[fault]}")
            if endpoint.wait(peer, LOOK_S):
                message = vhost_message.receive(peer)
                if message is None:
                    return
                with vhost_message.closing(message):
                    raise BadPeer("request", f"{message.name}: it was asked nothing")

    @contextlib.contextmanager
    def _memory(self) -> Iterator[DriverMemory]:
        """Memory for both queues, which are stopped when it goes."""
        memory = DriverMemory(len(self.queues), QUEUE)
        try:
            yield memory
        finally:
            for queue in self.queues:
                queue[vq.STATE] = vq.OFF
            while not self._quiesce():
                log.warning("%s: the worker does not come to a quiet point", self._name())
            memory.close()

    @contextlib.contextmanager
    def _eventfds(self) -> Iterator[tuple[list[int], list[int]]]:
        """Of each queue that to kick and that to be called by; the worker sleeps on who receives.

        All are signalled already: a queue starts when it is first kicked, and later on a peer that
        has filled a counter could make us wait.
        """
        assert self._epoll is not None
        with contextlib.ExitStack() as stack:
            made = []
            for _ in range(2 * len(self.queues)):
                made.append(os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
                stack.callback(os.close, made[-1])
            kicks, calls = made[: len(self.queues)], made[len(self.queues) :]
            self._epoll.register(calls[0], select.EPOLLIN | select.EPOLLET)
            stack.callback(self._epoll.unregister, calls[0])
            yield kicks, calls
