# SPDX-License-Identifier: Apache-2.0
"""vhost-user, the frontend's side: a port that is the driver of a virtio-net device.

The device is a program with a vhost-user backend: DPDK's net_vhost, Open vSwitch, VPP, or a port of
io.vhost. We make the memory and share it through a Unix socket; frames are copied, between it and our
pool, by the worker (io.virtio_rx, io.virtio_tx). A thread of the port's sets the backend up
(rings.vhost_frontend) and notices when it goes.

The peer is not trusted: it sees the frames that go through this port, and nothing else. Each peer gets
memory of its own, since one that was let go still has what it had. What it writes or says that
cannot be right loses it its connection, with the reason logged and counted (peer_faults,
vhost_rx.RxCount).

Each pair of queues has a receive node, so that several workers can poll them. Where there is a pair for
each worker every worker sends by its own, else one sends by all; flows are spread over them by a hash.

Limits: queues of QUEUE descriptors; as many pairs as the device has at least; x86-64 or another
little-endian machine.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import numpy as np

from vforward.errors import PortError
from vforward.graph.node import Node
from vforward.io import virtio_rx, virtio_tx
from vforward.io.port import Receiver, Tables
from vforward.io.vhost_copy import PAIRS_MAX
from vforward.io.vhost_header import mirrored, taken_whole
from vforward.io.vhost_port import LOOK_S, PortTable, VhostPort
from vforward.io.virtio_memory import GUEST, DriverMemory
from vforward.memory.pool import Pool
from vforward.rings import net_features as net
from vforward.rings import vhost_frontend, vhost_message, vring_driver
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings.vhost_frontend import Ring, Talk
from vforward.rings.vhost_message import BadPeer
from vforward.rings.vhost_socket import Endpoint

QUEUE = 1024
ANSWER_S = 5.0
"""For a backend to answer: one that begins may be slow."""


class VirtioPort(VhostPort):
    """A port whose other end is a vhost-user backend, at the Unix socket path.

    server: we listen there (with DPDK's ``client=1``), else we connect and try again until there is
    somebody. mac: of the port, 6 bytes. mtu: the longest IP packet sent there. queues: how many pairs, 1
    to PAIRS_MAX (else PortError); a device that has fewer is let go. packed: let them be packed ones where
    the device offers that. offloads: leave checksums and the cutting of super-frames to the device where it
    offers that, and take such frames of it.
    """

    kind = "vhost-user"

    def __init__(
        self,
        path: str,
        *,
        server: bool = False,
        mac: bytes | None = None,
        mtu: int = 1500,
        queues: int = 1,
        packed: bool = False,
        offloads: bool = True,
    ) -> None:
        if not 1 <= queues <= PAIRS_MAX:
            raise PortError(
                f"vhost-user port at {path!r}: queues is {queues}; allowed: 1 to {PAIRS_MAX}"
            )
        made = np.stack([driver.new(QUEUE)] * (2 * queues))  # in turn: what we receive, and send
        super().__init__(path, made, server=server, mac=mac, mtu=mtu)
        self.features = vhost_frontend.FEATURES | (net.OFFLOADS if offloads else 0)
        self.features |= vq.RING_PACKED if packed else 0
        self._pairs = queues

    def open(self, number: int, pool: Pool) -> None:
        self._port_tables = [PortTable() for _ in range(self._pairs + self._senders)]
        super().open(number, pool)

    @property
    def _senders(self) -> int:
        """How many workers send."""
        return self.workers if self.workers <= self._pairs else 1

    def rx(self) -> tuple[Node, Tables]:
        node, tables, _ = self.receivers()[0]
        return node, tables

    def receivers(self) -> list[Receiver]:
        pairs = zip(self.queues[::2], self._port_tables, strict=False)
        return [
            Receiver(virtio_rx.NODE, {"queue": queue, "port": table.words}, table.descriptors())
            for queue, table in pairs
        ]

    def tx(self) -> tuple[Node, Tables]:
        node, tables = self.senders()
        return node, tables[0]

    def senders(self) -> tuple[Node, list[Tables]]:
        n = self._senders
        where = np.array([queue.ctypes.data for queue in self.queues[1::2]], np.uint64)
        tables = self._port_tables[self._pairs :]
        return virtio_tx.NODE, [
            {"queues": where[worker::n].copy(), "port": tables[worker].words} for worker in range(n)
        ]

    def descriptors(self) -> list[int]:
        return [fd for table in self._port_tables[: self._pairs] for fd in table.descriptors()]

    def peer(self) -> str:
        packed = self.ready and int(self.queues[0][vq.FEATURES]) & vq.RING_PACKED
        return super().peer() + ("; packed queues" if packed else "")

    def _both(self, to_driver: int, of_driver: int) -> str:
        return f"from the device {to_driver}, to it {of_driver}"

    def _warm(self) -> None:
        for features in (0, vq.RING_PACKED):
            memory, queue = DriverMemory(1, 1), driver.new(1)
            queue[vq.FEATURES] = features
            memory.begin(0, queue, receives=True)
            vring_driver.ask_for_calls(queue)
            vq.start(queue)
            memory.close()

    def _attend(self, peer: socket.socket, endpoint: Endpoint) -> None:
        talk = Talk(peer, lambda: endpoint.wait(peer, ANSWER_S))
        features = vhost_frontend.negotiate(talk, self.features, self._pairs)
        self.whole[0] = taken_whole(mirrored(features))  # a store; the worker reads it each time
        with self._eventfds() as (kicks, calls), self._memory() as memory:
            rings = []
            for k, queue in enumerate(self.queues):
                queue[vq.FEATURES] = mirrored(features)
                queue[vq.CALL] = kicks[k]
                queue[vq.IDLE] = queue[vq.FAULT] = 0
                memory.begin(k, queue, receives=k % 2 == 0)
                desc, avail, used = (GUEST + at for at in memory.parts[k][:3])
                rings.append(Ring(QUEUE, desc, avail, used, kicks[k], calls[k]))
            vhost_frontend.share(talk, features, memory.region, memory.fd, rings)
            for queue in self.queues[::2]:
                queue[vq.IDLE] = vq.IDLE_POLLS  # the worker may be asleep
                vring_driver.ask_for_calls(queue)
            # those to send by first: what comes may have to go at once
            for k in (*range(1, len(rings), 2), *range(0, len(rings), 2)):
                vq.start(self.queues[k])
            self.quiesce()  # a worker that sleeps looks: no call comes for what is there already
            self._watch(peer, endpoint)

    def _watch(self, peer: socket.socket, endpoint: Endpoint) -> None:
        """Return when the peer goes. Raises BadPeer when it says something, or has broken a queue."""
        while not endpoint.stopped:
            for k, queue in enumerate(self.queues):
                if int(queue[vq.STATE]) == vq.BROKEN:
                    fault = driver.Fault(int(queue[vq.FAULT]))
                    raise vhost_message.broken(k, fault, driver.FAULTS[fault])
            if endpoint.wait(peer, LOOK_S):
                message = vhost_message.receive(peer)
                if message is None:
                    return
                with vhost_message.closing(message):
                    raise BadPeer("request", f"{message.name}: it was asked nothing")

    @contextlib.contextmanager
    def _memory(self) -> Iterator[DriverMemory]:
        """Memory for all queues, which are stopped when it goes."""
        memory = DriverMemory(len(self.queues), QUEUE)
        try:
            yield memory
        finally:
            for queue in self.queues:
                queue[vq.STATE] = vq.OFF
            self.quiesce()
            memory.close()

    @contextlib.contextmanager
    def _eventfds(self) -> Iterator[tuple[list[int], list[int]]]:
        """Of each queue that to kick and that to be called by; its worker sleeps on who receives.

        All are signalled already: a queue starts when it is first kicked, and later on a peer that
        has filled a counter could make us wait.
        """
        with contextlib.ExitStack() as stack:
            made = []
            for _ in range(2 * len(self.queues)):
                made.append(os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
                stack.callback(os.close, made[-1])
            kicks, calls = made[: len(self.queues)], made[len(self.queues) :]
            for table, call in zip(self._port_tables, calls[::2], strict=False):
                table.watch(call)
                stack.callback(table.unwatch, call)
            yield kicks, calls
