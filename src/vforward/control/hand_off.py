# SPDX-License-Identifier: Apache-2.0
"""The rings by which a forwarder's workers hand packets to each other (nodes.handoff, adr/0028).

KINDS   output: to be sent by a port of the other's; ip4, ip6: of a flow that is the other's
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.graph import control as c
from vforward.graph.workers import Workers
from vforward.io.libc import libc_address
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.rings.mpsc import HEAD, TAIL, Ring, words_for
from vforward.tables import handoff

OUTPUT, IP4, IP6 = KINDS = ("output", "ip4", "ip6")
ROOM = 2048
"""Packets that may wait for a worker in one of its rings."""


class HandOff:
    """The rings of all kinds, one for each worker. At most a sixteenth of the pool may wait in one."""

    def __init__(self, arena: Arena, pool: Pool, ports: NDArray[Any], n_workers: int) -> None:
        self._pool, self._ports = pool, ports
        room = max(8, min(ROOM, pool.size // 16))
        self._rings: dict[str, list[NDArray[np.uint64]]] = {
            kind: [
                arena.make(f"hand-off-{kind}-{worker}", words_for(room), np.uint64)
                for worker in range(n_workers)
            ]
            for kind in KINDS
        }
        self._tables = {kind: handoff.make(n_workers) for kind in KINDS}
        for kind, rings in self._rings.items():
            for worker, ring in enumerate(rings):
                handoff.set_ring(self._tables[kind], worker, ring)

    def giving(self, kind: str) -> NDArray[np.uint64]:
        """What a node that hands off takes as ``handoff``."""
        return self._tables[kind]

    def taking(self, kind: str) -> list[dict[str, NDArray[np.uint64]]]:
        """By worker, what a node that takes up takes."""
        return [{"handed": ring} for ring in self._rings[kind]]

    def connect(self, workers: Workers) -> None:
        """Tell how the workers are woken, who are there now."""
        for number, worker in enumerate(workers):
            asleep = worker.plan.control.ctypes.data + 8 * c.ASLEEP
            for table in self._tables.values():
                handoff.set_bell(table, number, asleep, worker.event, libc_address("write"))

    def taken_up(self, running: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until what is in the rings now was taken up. False: it was not in time."""
        rings = [ring for rings in self._rings.values() for ring in rings]
        tails = [int(ring[TAIL]) for ring in rings]
        deadline = time.monotonic() + timeout_s
        while any(int(ring[HEAD]) < tail for ring, tail in zip(rings, tails, strict=True)):
            if time.monotonic() > deadline or not running():
                return False
            time.sleep(0.0001)
        return True

    def pass_on(self, before: int, worker: int, edge: int) -> bool:
        """Give a worker what waits for another one to be sent by a port, while all are paused.

        edge: interface-output's to that port. False: there is no room for it, and nothing was done.
        """
        old, new = (Ring(self._rings[OUTPUT][k]) for k in (before, worker))
        if old.slots - old.free_slots() > new.free_slots():
            return False
        rows = old.pop(old.slots)
        theirs = self._ports["output"][self._pool.meta["tx_port"][rows]] == edge
        new.push(rows[theirs])
        old.push(rows[~theirs])
        return True

    def waiting(self) -> int:
        """How many packets wait in all rings."""
        rings = [Ring(ring) for rings in self._rings.values() for ring in rings]
        return sum(ring.slots - ring.free_slots() for ring in rings)

    def close(self) -> None:
        """Give back the packets that wait: when the workers have stopped. Harmless when repeated."""
        for rings in self._rings.values():
            for ring in map(Ring, rings):
                self._pool.put(ring.pop(ring.slots))
