# SPDX-License-Identifier: Apache-2.0
"""vhost-user: a virtual machine, a DPDK program or any other virtio driver as a port.

The other side shares its memory and pairs of queues in it through a Unix socket: a virtual machine of QEMU
with its own virtio-net driver, or a program with DPDK's virtio_user. Frames are copied, between the
guest's buffers and ours, by the worker (io.vhost_rx, io.vhost_tx); the guest sees none of our memory.
What it says on the socket is followed by a thread of the port's (rings.vhost_user).

The peer is not trusted. Whatever it says or writes that cannot be right loses it its connection, with
the reason logged and counted (peer_faults, vhost_rx.RxCount); then it may come again (io.vhost_peers).

Limits: one thread for all queues; x86-64 or another little-endian machine.
"""

from __future__ import annotations

import logging
import socket

import numpy as np

from vforward.errors import PortError
from vforward.graph.node import Node
from vforward.io import vhost_rx, vhost_steer, vhost_tx
from vforward.io.bell import Bell
from vforward.io.port import Tables
from vforward.io.vhost_copy import PAIRS_MAX
from vforward.io.vhost_header import taken_whole
from vforward.io.vhost_memory import GuestMemory
from vforward.io.vhost_port import LOOK_S, VhostPort
from vforward.memory.pool import Pool
from vforward.rings import (
    guest_memory,
    position,
    vhost_inflight,
    vhost_message,
    vhost_user,
    vring,
)
from vforward.rings import net_features as net
from vforward.rings import virtqueue as vq
from vforward.rings.vhost_device import Mapped
from vforward.rings.vhost_socket import Endpoint
from vforward.rings.vhost_user import Session

log = logging.getLogger(__name__)


class VhostUserPort(VhostPort):
    """A port whose other end is a virtio-net driver, at the Unix socket path.

    server: we listen there (with QEMU's ``server=off``, DPDK's ``server=0``), else we connect and try
    again until there is somebody. mac: of the port, 6 bytes; the guest has its own. mtu: the longest IP
    packet sent there. queues: how many pairs the guest may use, 1 to PAIRS_MAX (else PortError).
    offloads: let the guest leave checksums and the cutting of super-frames to us, and us to it.
    trusted: its memory may lie in files of any kind.
    """

    kind = "vhost-user"

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
        super().__init__(path, vq.new(2 * queues), server=server, mac=mac, mtu=mtu)
        self.features = vhost_user.FEATURES | (net.OFFLOADS if offloads else 0)
        self.features |= net.MQ if queues > 1 else 0
        self._memory = GuestMemory(trusted=trusted)
        self._flows = vhost_steer.new()
        self._kept = GuestMemory(trusted=trusted)
        self._bell = Bell(np.zeros(3, np.uint64))

    def open(self, number: int, pool: Pool) -> None:
        super().open(number, pool)
        self._bell.open()  # where it cannot be, nor could those of the tables: that is said

    def close(self) -> None:
        super().close()
        self._bell.close()

    def rx(self) -> tuple[Node, Tables]:
        return vhost_rx.NODE, self._tables()

    def tx(self) -> tuple[Node, Tables]:
        return vhost_tx.NODE, self._tables()

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

    def watch(self, fd: int) -> None:
        """Let the worker sleep on an eventfd."""
        self._port_tables[0].watch(fd)

    def unwatch(self, fd: int) -> None:
        """No longer."""
        self._port_tables[0].unwatch(fd)

    def signal(self, fd: int) -> None:
        """Write an eventfd of the guest's. By the thread that is with the peer."""
        self._bell.ring(fd)

    def gone(self) -> bool:
        """Whether the guest has taken memory away that we used."""
        tables = (self._memory.table, self._kept.table)
        return any(table[guest_memory.GONE] for table in tables)

    def _tables(self) -> Tables:
        return {
            "queues": self.queues,
            "flows": self._flows,
            "memory": self._memory.table,
            "port": self._port_tables[0].words,
        }

    def _both(self, to_driver: int, of_driver: int) -> str:
        return f"from the guest {of_driver}, to it {to_driver}"

    def _warm(self) -> None:
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
