# SPDX-License-Identifier: Apache-2.0
"""vhost-user: a virtual machine, a DPDK program or any other virtio driver as a port.

The other side shares its memory and pairs of queues in it through a Unix socket: a virtual machine of QEMU
with its own virtio-net driver, or a program with DPDK's virtio_user. Frames are copied, between the
guest's buffers and ours, by the worker (io.vhost_rx, io.vhost_tx); the guest sees none of our memory.
What it says on the socket is followed by a thread of the port's (rings.vhost_user).

The peer is not trusted. Whatever it says or writes that cannot be right loses it its connection, with
the reason logged and counted (peer_faults); then it may come again (io.vhost_peers).

Limits: one thread for all queues; x86-64 or another little-endian machine.
"""

from __future__ import annotations

import logging
import select
import socket
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vforward.errors import PortError
from vforward.graph.node import Node
from vforward.io import shim, vhost_rx, vhost_steer, vhost_tx
from vforward.io.libc import libc_address
from vforward.io.port import Port, Tables, default_mac
from vforward.io.vhost_copy import PAIRS_MAX
from vforward.io.vhost_header import taken_whole
from vforward.io.vhost_memory import GuestMemory
from vforward.io.vhost_peers import Peers
from vforward.memory.pool import Pool
from vforward.rings import (
    guest_memory,
    position,
    vhost_inflight,
    vhost_message,
    vhost_user,
    vring,
)
from vforward.rings import virtqueue as vq
from vforward.rings.vhost_device import Mapped
from vforward.rings.vhost_socket import Endpoint
from vforward.rings.vhost_user import Session

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""How soon a queue that the worker gave up is noticed."""


class VhostUserPort(Port):
    """A port whose other end is a virtio-net driver, at the Unix socket path.

    server: we listen there (with QEMU's ``server=off``, DPDK's ``server=0``), else we connect and try
    again until there is somebody. mac: of the port, 6 bytes; the guest has its own. mtu: the longest IP
    packet sent there. queues: how many pairs the guest may use, 1 to PAIRS_MAX
    (else PortError). offloads: let the guest
    leave checksums and the cutting of super-frames to us, and us to it. trusted: its memory may lie in
    files of any kind.
    """

    def __init__(
        self,
        path: str,
        *,
        server: bool = True,
        mac: bytes | None = None,
        mtu: int = 1500,
        queues: int = 1,
        offloads: bool = True,
        trusted: bool = False,
    ) -> None:
        if not 1 <= queues <= PAIRS_MAX:
            raise PortError(
                f"vhost-user port at {path!r}: queues is {queues}; allowed: 1 to {PAIRS_MAX}"
            )
        self.path = path
        self.mtu = mtu
        self.whole: NDArray[np.uint64] = np.zeros(1, np.uint64)
        self.features = vhost_user.FEATURES | (vhost_user.OFFLOADS if offloads else 0)
        self.features |= vhost_user.MQ if queues > 1 else 0
        self.queues = vq.new(2 * queues)
        """By turns what the guest receives, and what it sends."""
        self._peers = Peers(path, self._attend, server=server)
        self._given_mac = mac
        self._memory = GuestMemory(trusted=trusted)
        self._flows = vhost_steer.new()
        self._kept = GuestMemory(trusted=trusted)
        self._port = np.zeros(vhost_rx.PORT_WORDS, np.uint64)
        self._events = np.zeros(2 * vhost_rx.EPOLL_EVENTS, np.uint64)
        self._epoll: select.epoll | None = None
        self._quiesce: Callable[[], bool] = lambda: True

    def open(self, number: int, pool: Pool) -> None:
        """Listen, where it is ours to. Raises PortError: the path is in use, or none to be had."""
        shim.address("vf_window_open")  # ShimMissing here, before anything is open
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
        return vhost_rx.NODE, self._tables()

    def tx(self) -> tuple[Node, Tables]:
        return vhost_tx.NODE, self._tables()

    def descriptors(self) -> list[int]:
        return [self._epoll.fileno()] if self._epoll is not None else []

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
        said = self._peers.text(ready=self.ready)
        return (
            said if len(self.queues) == 2 else f"{said}; pairs of queues: {self._moved() or 'none'}"
        )

    def close(self) -> None:
        self._peers.close()
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            shim.lib.vf_bell_close(shim.pointer(self._bell()))
            epoll.close()

    # What a session works on: vhost_device.Device.

    def map(self, wanted: list[vhost_message.Region], fds: list[int]) -> list[Mapped]:
        """Map a guest's memory. Raises BadPeer."""
        mapped = self._memory.map(wanted, fds)
        if not self._memory.sealed:
            log.info("%s: the peer can take back memory that it shares", self._name())
        return mapped

    def agreed(self, features: int) -> None:
        """Send those super-frames whole that the guest takes. A store; the worker reads it each time."""
        self.whole[0] = taken_whole(features)

    def unmap(self) -> None:
        """Forget it, and what the guest's side keeps."""
        self._memory.unmap()
        self._kept.unmap()

    def map_kept(self, size: int, offset: int, fd: int) -> int:
        """Map what the guest's side keeps for us (rings.inflight). Raises BadPeer."""
        (kept,) = self._kept.map([vhost_message.Region(0, size, 0, offset)], [fd])
        return kept.here

    def gone(self) -> bool:
        """Whether the guest has taken memory away that we used."""
        tables = (self._memory.table, self._kept.table)
        return any(table[guest_memory.GONE] for table in tables)

    def watch(self, fd: int) -> None:
        """Let the worker sleep on an eventfd."""
        assert self._epoll is not None
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)

    def unwatch(self, fd: int) -> None:
        """No longer."""
        assert self._epoll is not None
        try:
            self._epoll.unregister(fd)
        except OSError:  # it was none of those
            return

    def quiesce(self) -> None:
        """Wait for a quiet point, however long it takes: memory is unmapped after it."""
        while not self._quiesce():
            log.warning("%s: the worker does not come to a quiet point", self._name())

    def _bell(self) -> NDArray[np.uint64]:
        return self._port[vhost_rx.BELL : vhost_rx.BELL + 3]

    def _tables(self) -> Tables:
        return {
            "queues": self.queues,
            "flows": self._flows,
            "memory": self._memory.table,
            "port": self._port,
        }

    def _moved(self) -> str:
        """Frames from the guest and to it, by pair."""
        words = self.queues.reshape(-1, 2, vq.QUEUE_WORDS)
        runs = (words[:, :, vq.STATE] == vq.READY).all(1)
        return ", ".join(
            f"{pair} {'on' if runs[pair] else 'off'} (from the guest {got}, to it {sent})"
            for pair, (sent, got) in enumerate(words[:, :, vq.MOVED].tolist())
            if runs[pair] or got or sent
        )

    def _name(self) -> str:
        return f"vhost-user port at {self.path!r}"

    def _warm(self) -> None:
        """Compile what a peer would otherwise wait for."""
        (queue,) = vq.new(1)
        memory = np.zeros(32, np.uint64)
        queue[[vq.DESC, vq.AVAIL, vq.USED]] = memory.ctypes.data
        queue[vq.SIZE] = 1
        region = memory[16:].ctypes.data
        for features, known in ((0, True), (vq.RING_PACKED, True), (vq.RING_PACKED, False)):
            queue[vq.FEATURES] = features
            vhost_inflight.resume(queue, region, position.START, known=known)
            vring.available(queue)
            vring.number(queue)
        vq.start(queue)
        vq.ready(queue)

    def _attend(self, peer: socket.socket, endpoint: Endpoint) -> None:
        self._flows[:] = 0  # what the peer before this one has used and agreed to
        self.agreed(0)
        session = Session(self)
        try:
            while not endpoint.stopped:
                session.check()
                if endpoint.wait(peer, LOOK_S) and not _step(peer, session):
                    break
        finally:
            session.close()


def _step(peer: socket.socket, session: Session) -> bool:
    """Receive a message, do what it asks and answer. Returns whether the peer is still there."""
    message = vhost_message.receive(peer)
    if message is None:
        return False
    with vhost_message.closing(message):
        reply = session.handle(message)
    if reply is not None:
        with vhost_message.closing(reply):
            vhost_message.send(peer, reply)
    return True
