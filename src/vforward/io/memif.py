# SPDX-License-Identifier: Apache-2.0
"""The memif port: packets to and from VPP, DPDK or any program with libmemif, copied.

    peer  -- ring to us --> memif-rx: copies into buffers of our pool --> graph
    peer  <-- ring from us -- memif-tx: copies out of them <-------------- graph

The peer shares one memory with us, which the client makes, and nothing else: it may be hostile. What
lies there is read once and bounded (rings/memif_ring.py). A peer that breaks the rules is let go, with
a counted reason, and may come again; others notice nothing. The connection is io/memif_link.py's.

Our interrupts come by an eventfd that the peer may spoil, so it is watched through an epoll
descriptor of our own and never read. The peer's are signalled by the link's thread, through a bell, which
nobody can make wait (io/bell.py); it is told by the word RANG.
"""

from __future__ import annotations

import os
import select
from pathlib import Path

import numpy as np

from vforward.graph.node import Node
from vforward.io import shim
from vforward.io.libc import libc_address
from vforward.io.memif_link import MemifLink, Settings
from vforward.io.memif_nodes import RX, TX
from vforward.io.port import Port, Tables, default_mac
from vforward.memory.pool import Pool
from vforward.rings import memif_ring as ring


class MemifPort(Port):
    """A port for one memif peer at a time.

    path: of the Unix socket. role: "server" listens there and uses the
    peer's memory, "client" connects there and offers its own. interface: the number that both name.
    secret: what the client has to say. log2, buffer: of a client: slots of each ring, bytes of each
    buffer.
    """

    kind = "memif"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        role: str = "server",
        interface: int = 0,
        secret: str = "",
        log2: int = 10,
        buffer: int = 2048,
        mac: bytes | None = None,
        mtu: int = 1500,
    ) -> None:
        self._given = mac
        self.mtu = mtu
        self.whole = np.zeros(1, np.uint64)
        self._settings = Settings(
            Path(path), role == "server", interface, secret.encode(), log2, buffer
        )
        self._link: MemifLink | None = None
        self._epoll: select.epoll | None = None

    def open(self, number: int, pool: Pool) -> None:
        """Listen, or begin to connect. Raises PortError, ShimMissing."""
        shim.address("vf_bell_ring")  # ShimMissing before all else
        self.mac = self._given or default_mac(number)
        self._state = np.zeros(ring.STATE_WORDS, np.uint64)
        self._pieces = np.zeros(2 * ring.PIECES, np.uint64)
        self._place = np.zeros(4, np.uint64)
        self._epoll = select.epoll()
        self._state[ring.PORT] = number
        self._state[ring.EPOLL] = self._epoll.fileno()
        self._state[ring.EPOLL_WAIT] = libc_address("epoll_wait")
        self._state[ring.WRITE] = libc_address("write")
        self._state[ring.ONE] = 1
        self._link = MemifLink(self._settings, self._state, self._epoll)

    def rx(self) -> tuple[Node, Tables]:
        """The node that receives what the peer sends."""
        return RX, {"state": self._state, "pieces": self._pieces}

    def tx(self) -> tuple[Node, Tables]:
        """The node that sends what the peer receives."""
        return TX, {"state": self._state, "place": self._place}

    def descriptors(self) -> list[int]:
        """A descriptor that is readable when the peer has written its eventfd."""
        return [self._epoll.fileno()] if self._epoll else []

    def peer(self) -> str:
        """The name of the program that is connected, or nothing."""
        return self._link.peer if self._link else ""

    def close(self) -> None:
        """Say good-bye to the peer, and give its memory back. Harmless when repeated, or not open."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
