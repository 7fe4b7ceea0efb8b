# SPDX-License-Identifier: Apache-2.0
"""What arp-resolve and nd-resolve share: holding packets whose next hop's MAC is not known."""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import Labels
from vforward.jit.kernel import inline, kernel, u64
from vforward.layout import CHAINED, EDGE_HELD, NIL
from vforward.memory.pool import put_one, put_rest
from vforward.nodes.neighbor import events as ev
from vforward.tables import held as table


class Edge(Labels):
    """Ways out, besides being held."""

    DROP = 0, "see the counters"


class Count(Labels):
    """Reasons."""

    QUEUE_FULL = 0, "was held, the oldest of its next hop's, and had to make place; freed here"
    TABLE_FULL = 1, "as many packets, by their buffers, or next hops wait as may"
    EVENTS_FULL = 2, "the control plane is too slow to be told of its next hop"


@inline
def _refusal(held: Any, slot: Any, n: Any, events: Any, port: Any, high: Any, low: Any) -> Any:
    """Why the first packet (of n buffers) of a next hop cannot be held, or -1: control is told."""
    if slot == 0 or not table.has_room(held, n):
        return np.int64(Count.TABLE_FULL)
    if not ev.post(events, ev.RESOLVE, 0, port, high, low, u64(0)):
        return np.int64(Count.EVENTS_FULL)
    return np.int64(-1)


@kernel
def hold(meta: Any, row: Any, port: Any, high: Any, low: Any, tables: Any) -> Any:
    """Hold a packet for a next hop. Returns its edge and whether the control plane was told.

    tables: count, held, events, pool.
    """
    count, held, events, pool = tables
    slot = table.probe(held, port, high, low)
    first = slot == 0 or held[slot].n == 0
    n = table.buffers(meta, row)
    reason = np.int64(-1)
    if first:
        reason = _refusal(held, slot, n, events, port, high, low)
    elif n > 1 and not table.has_room(held, n):  # the oldest may have less
        reason = np.int64(Count.TABLE_FULL)
    if reason >= 0:
        count[reason] += u64(1)
        meta[row].reason = reason
        return np.int64(Edge.DROP), False
    oldest = table.append(held, meta, slot, port, high, low, row)
    if oldest != NIL:
        count[Count.QUEUE_FULL] += u64(1)
        if meta[oldest].flags & CHAINED:
            put_rest(pool, meta, oldest)
        put_one(pool, oldest)
    return np.int64(EDGE_HELD), first
