# SPDX-License-Identifier: Apache-2.0
"""outcome: what nodes that hand off have in common: their ways out, their counters, the handing off."""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, VECTOR_MAX
from vforward.tables import flow_home, strays
from vforward.tables import handoff as table
from vforward.tables import session as t

STAYS = 0xFFFFFFFFFFFFFFFF
"""In place of a worker: the packet is this one's own."""
NO_FLOW = 0
"""In place of a hash: the packet is of no flow, and stays where it is."""


class Edge(Labels):
    """Ways out. What was handed off goes nowhere (EDGE_HELD)."""

    DROP = 0, "the other worker's ring is full"


class Count(Labels):
    """What became of packets that are another worker's."""

    HANDED_OFF = 0, "packets handed to other workers", INFO
    RING_FULL = 1, "the other worker does not take packets up as fast as they come"


@kernel
def hand_off(meta: Any, idx: Any, edge: Any, count: Any, handoff: Any, work: Any) -> None:
    """Hand each packet to worker work[i], or leave it alone where that is STAYS. Sets their edges.

    Packets for one worker lie in its ring side by side, in the order in which they came.
    """
    rows = work[VECTOR_MAX : 2 * VECTOR_MAX].view(np.uint32)
    for worker in range(table.workers(handoff)):
        n = i64(0)
        for i in range(idx.size):
            rows[n] = idx[i]
            n += i64(work[i] == u64(worker))
        if n == 0:
            continue
        left = done = i64(table.give(handoff, worker, rows, n))
        for i in range(idx.size):
            if work[i] != u64(worker):
                continue
            if left > 0:
                edge[i] = EDGE_HELD
            else:
                edge[i] = Edge.DROP
                meta[idx[i]].reason = Count.RING_FULL
            left -= 1
        count[Count.HANDED_OFF] += u64(done)
        count[Count.RING_FULL] += u64(n - done)


@kernel
def sort(meta: Any, idx: Any, edge: Any, count: Any, s: Any, handoff: Any, work: Any) -> None:
    """Hand off the packets whose flows others have; send the rest on along the arc.

    work[2 * VECTOR_MAX + i]: the hash of packet i's flow, or NO_FLOW.
    """
    mixed = work[2 * VECTOR_MAX :]
    me = i64(s.head[t.WORKER])
    others = flow_home.table(s)[0]
    astray = not strays.is_empty(others)
    if astray:
        for i in range(idx.size):
            strays.ask_for(others, mixed[i])
    given = 0
    for i in range(idx.size):
        worker = flow_home.home(s, mixed[i])
        if astray:
            found = strays.find(others, mixed[i])
            worker = found if found >= 0 else worker
        if mixed[i] == u64(NO_FLOW) or worker == me:
            work[i] = u64(STAYS)
            edge[i] = arcs.proceed(meta, i64(idx[i]))
        else:
            work[i] = u64(worker)
            given += 1
    if given:
        hand_off(meta, idx, edge, count, handoff, work)
