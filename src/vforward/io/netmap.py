# SPDX-License-Identifier: Apache-2.0
"""The netmap port: a graph at the end of a netmap pipe, or at a port of a VALE switch.

    peer -- tx ring --> rx ring of the port -- copied --> buffers --> graph
    peer <-- rx ring -- tx ring of the port <-- copied -- buffers <-- graph

What moves packets is io.netmap_nodes, what finds the server io.netmap_link.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable

import numpy as np

from vforward.errors import PortError
from vforward.graph.node import Node
from vforward.io.libc import libc_address
from vforward.io.netmap_link import NetmapLink
from vforward.io.netmap_nodes import (
    ASKED,
    BELL,
    BUFS,
    LIVE,
    NETMAP_RX,
    NETMAP_TX,
    NUMBER,
    PLACE_WORDS,
    RECV,
    SEND,
    VALE,
    hand_over,
)
from vforward.io.port import Port, Tables, default_mac
from vforward.memory.pool import Pool
from vforward.rings import netmap
from vforward.rings.netmap_layout import BUF_SIZE, MAX_FRAGS
from vforward.rings.netmap_names import Kind
from vforward.rings.netmap_sync import KRING


class NetmapPort(Port):
    """A netmap port of the forwarder: ``netmap:x{1`` or ``vale0:a`` (rings.netmap_names).

    Its server may be started after it, and again: until then the port is silent (io.netmap_link).
    """

    kind = "netmap"

    def __init__(self, name: str, mac: bytes | None = None, mtu: int = 1500) -> None:
        self.name = name
        self.mtu = mtu
        self.whole = np.zeros(1, np.uint64)
        self._given = mac
        self._link: NetmapLink | None = None
        self._epoll: select.epoll | None = None
        self._krings = np.zeros(2, KRING)
        self._place = np.zeros(PLACE_WORDS, np.int64)
        self._scratch = np.zeros(MAX_FRAGS * BUF_SIZE, np.uint8)

    def open(self, number: int, pool: Pool) -> None:
        """Open the port, if there is a server. Raises PortError: it is in use, or cannot be made."""
        self.mac = self._given or default_mac(number)
        self._place[[SEND, RECV, NUMBER]] = libc_address("send"), libc_address("recv"), number
        self._epoll = select.epoll()
        self._link = NetmapLink(self.name, self._take, self._lose)

    def attach(self, quiesce: Callable[[], bool]) -> None:
        """Find the next server from now on, when one has gone."""
        if self._link is not None:
            self._link.attach(quiesce)

    def rx(self) -> tuple[Node, Tables]:
        """The node that takes frames out of the rx ring."""
        return NETMAP_RX, self._tables()

    def tx(self) -> tuple[Node, Tables]:
        """The node that puts frames into the tx ring."""
        return NETMAP_TX, self._tables()

    def _tables(self) -> Tables:
        if self._link is None:
            raise PortError(f"netmap port {self.name}: not open")
        return {"krings": self._krings, "place": self._place, "scratch": self._scratch}

    def _take(self, port: netmap.Port) -> None:
        """Let the worker into a port that was opened."""
        assert self._epoll is not None
        self._krings[:] = port.krings
        vale = int(port.kind is Kind.VALE)
        self._place[[VALE, BUFS, ASKED, BELL]] = vale, port.bufs, 0, port.bell
        self._epoll.register(port.bell, select.EPOLLIN)
        hand_over(self._place, 1)

    def _lose(self, port: netmap.Port) -> None:
        """Have the worker leave a port that will be closed. Harmless when repeated."""
        assert self._epoll is not None
        hand_over(self._place, 0)
        with contextlib.suppress(OSError):
            self._epoll.unregister(port.bell)

    def descriptors(self) -> list[int]:
        """What the peer wakes the worker by."""
        return [self._epoll.fileno()] if self._epoll is not None else []

    def peer(self) -> str:
        """Whether there is a server."""
        return "at its server" if self._place[LIVE] else "no netmap server"

    def close(self) -> None:
        """Give the port back to the server."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
