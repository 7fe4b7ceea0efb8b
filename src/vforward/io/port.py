# SPDX-License-Identifier: Apache-2.0
"""What a port is: two nodes of the graph and what they need from outside.

A port's receive node is an input: its kernel takes buffers from the pool, fills them and gives each
meta record (memory.buffer.begin_packet); its one edge is NEXT. The send node's kernel sends, gives
the buffers back (memory.pool.put) and answers EDGE_HELD; what could not be sent leaves by DROP with
its reason counted. Both move up to a vector per call and nothing of Python is in their way.

A port of several receive queues has a receive node for each (``receivers``), which different workers may
poll at a time; one by which each worker may send has tables of each for its send node (``senders``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.graph.node import INFO, Labels, Node
from vforward.jit.kernel import inline, u64
from vforward.memory.pool import Pool


class RxEdge(Labels):
    """Ways out of a receive node."""

    NEXT = 0, "received: wire to what reads the link layer"


class TxEdge(Labels):
    """Ways out of a send node. What was sent goes nowhere (EDGE_HELD)."""

    DROP = 0, "could not be sent"


class RxCount(Labels):
    """Counters that every receive node begins with."""

    BYTES = 0, "bytes received", INFO
    NO_BUFFER = 1, "frames left where they were, since no buffer was free: calls", INFO


class TxCount(Labels):
    """Counters that every send node begins with."""

    BYTES = 0, "bytes sent", INFO


@inline
def drop(meta: Any, row: Any, edge: Any, i: Any, count: Any, reason: Any) -> None:
    """Drop the i-th packet, in a send node's kernel, for a reason: one of its counters."""
    meta[row].reason = reason
    edge[i] = TxEdge.DROP
    count[reason] += u64(1)


Tables = dict[str, NDArray[Any]]


class Receiver(NamedTuple):
    """A receive queue: its node, that one's tables (``pool`` excepted), and what wakes a worker for it."""

    node: Node
    tables: Tables
    descriptors: list[int]


def default_mac(number: int) -> bytes:
    """The Ethernet address of a port that is given none: local, and unlike other ports'."""
    return b"\x02vf" + number.to_bytes(3, "big")


class Port(ABC):
    """A port. Opened by the forwarder before the graph is built, closed after it has stopped."""

    kind: str = ""
    """What a configuration calls such ports; of one that none knows of, the name of its class is shown."""

    mac: bytes = b"\x02\x00\x00\x00\x00\x00"
    """The port's Ethernet address, 6 bytes; final once open has returned."""

    mtu: int = 1500
    """Longest IP packet, bytes."""

    workers = 1
    """How many the forwarder has: told before open."""

    whole: NDArray[np.uint64] | None = None
    """u64[1]: types of super-frames (bit n is virtio's gso_type n, bit 7 ECN) that it sends whole; the
    others are cut up before it. None: it sends all of them whole."""

    @abstractmethod
    def open(self, number: int, pool: Pool) -> None:
        """Get ready: number is what the receive node writes to meta.rx_port. Raises PortError."""

    @abstractmethod
    def rx(self) -> tuple[Node, Tables] | None:
        """The receive node and its tables (``pool`` excepted), or None: nothing comes in here."""

    @abstractmethod
    def tx(self) -> tuple[Node, Tables]:
        """The send node and its tables (``pool`` excepted)."""

    def receivers(self) -> list[Receiver]:
        """Its receive queues, each of which one worker polls. Of most ports: one, what rx says."""
        received = self.rx()
        return [] if received is None else [Receiver(*received, self.descriptors())]

    def senders(self) -> tuple[Node, list[Tables]]:
        """The send node, and by worker its tables; one of them only: one worker sends for all."""
        node, tables = self.tx()
        return node, [tables]

    def descriptors(self) -> list[int]:
        """File descriptors that become readable when packets wait, for a worker about to sleep."""
        return []

    def statistics(self) -> dict[str, int]:
        """Drops that the graph cannot see (a kernel's full ring), by reason. Any thread."""
        return {}

    def peer(self) -> str:
        """How it stands with what is outside, for users: who is there, what was chosen. Any thread."""
        return ""

    def carrier(self) -> bool:
        """Whether somebody can be at the other end. Any thread."""
        return True

    def attach(self, quiesce: Callable[[], bool]) -> None:  # noqa: B027 most ports need no worker
        """The graph is built: a port that changes what its nodes use may begin to.

        quiesce waits until no worker holds what it read before; False: it has not come to that yet.
        """

    def mute(self) -> None:  # noqa: B027 most ports are nobody else's
        """Keep the host's own IP stack out of what comes in here: it has the router's addresses."""

    def flush(self) -> None:  # noqa: B027 most ports buffer nothing
        """Write out what is buffered. Called when the worker has stopped."""

    @abstractmethod
    def close(self) -> None:
        """Give back everything. Harmless when repeated, or when open failed."""
