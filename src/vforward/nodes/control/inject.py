# SPDX-License-Identifier: Apache-2.0
"""control-inject: frames that the control plane sends, whole, each to the port it names.

    inject   an rings.spsc ring of rows (u32) from the control plane to one worker

Reads   the ring
Writes  nothing
Drops   nothing
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.graph.node import Kind, Labels, Node
from vforward.jit.intrinsics import address
from vforward.jit.kernel import kernel
from vforward.layout import BUF_ROOM, NIL, SELF_MADE, U32, Counts, Data, Edges, Meta, Rows
from vforward.memory.chain import fill
from vforward.memory.pool import Pool, drain_cache, give_back, take_one
from vforward.rings.spsc import Ring, pop


class Edge(Labels):
    """Ways out."""

    OUTPUT = 0, "wire to interface-output"


@kernel
def control_inject(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, inject: U32
) -> int:
    n: int = pop(inject, idx, idx.size)
    for i in range(n):
        edge[i] = Edge.OUTPUT
    return n


NODE = Node("control-inject", control_inject, Edge, None, Kind.INPUT)


@kernel
def _make(data: Any, meta: Any, pool: Any, frame: Any, port: Any) -> Any:
    """A packet of the frame's bytes, to leave by the port; NIL when no buffer is free."""
    row = take_one(pool)
    if row != NIL:
        fill(data, meta, pool, row, address(frame), frame.size, port)
        meta[row].tx_port = port
        meta[row].flags = np.uint32(SELF_MADE)
    drain_cache(pool)
    return row


class Injector:
    """The control plane's end of the ring. Any thread may send, while a worker runs or not.

    Between calls it keeps no buffers but those that wait in the ring.
    """

    def __init__(self, pool: Pool, ring: NDArray[np.uint32]) -> None:
        """The ring is the array that control-inject takes as ``inject``."""
        self._pool = pool
        self._ring = Ring(ring)
        self._cache = pool.cache()
        self._lock = threading.Lock()

    def send(self, port: int, frame: bytes) -> bool:
        """Send a frame, link-layer header and tag included, by a port (or sub-interface).

        Returns False when it was not taken: the ring is full, or no buffer is free. The worker is
        the caller's to wake. Raises ValueError for a frame that is longer than a buffer's room.
        """
        if not 0 < len(frame) <= BUF_ROOM:
            msg = f"a frame of {len(frame)} bytes: 1 to {BUF_ROOM} can be injected"
            raise ValueError(msg)
        pool = self._pool
        source = np.frombuffer(bytearray(frame), np.uint8)
        with self._lock:
            if self._ring.free_slots() == 0:
                return False
            row = int(_make(pool.data, pool.meta, self._cache, source, port))
            return row != NIL and self._ring.push([row]) == 1

    def close(self) -> None:
        """Give back the buffers that wait in the ring: when the worker has stopped."""
        with self._lock:
            rows = self._ring.pop(self._ring.used_slots())
            give_back(self._cache, self._pool.meta, rows)
