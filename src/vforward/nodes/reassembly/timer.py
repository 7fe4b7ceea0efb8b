# SPDX-License-Identifier: Apache-2.0
"""reassembly-timer: lets go of the pieces whose first piece did not come in time.

RFC 791 section 3.2 (timer), RFC 8200 section 4.5 (60 s). Asked in each round; a look at the two oldest
datagrams is all that it does while their time is not over.

Reads   the tables reassembly4 and reassembly6
Writes  the tables reassembly4 and reassembly6; meta.reason
Drops   pieces that waited, see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import Kind, Labels, Node
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import NIL, Counts, Data, Edges, Meta, Rows
from vforward.tables import reassembly as datagrams
from vforward.tables.reassembly import DatagramTable


class Edge(Labels):
    """Ways out."""

    DROP = 0, "waited too long"


class Count(Labels):
    """Reasons."""

    EXPIRED = 0, "waited, and no first piece came in time"


BUDGET = 64
"""Datagrams that one call forgets."""


@kernel
def _expire(meta: Any, idx: Any, edge: Any, n: Any, table: Any, now: Any) -> Any:
    """Put rows that waited too long behind the n that are in idx; returns how many there are then."""
    for _ in range(BUDGET):
        at = datagrams.oldest(table)
        if at == 0 or not datagrams.is_over(table, at, now):
            break
        while n < idx.size:
            row = datagrams.release(table, meta, at)
            if row == NIL:
                break
            meta[row].reason = Count.EXPIRED
            idx[n] = row
            edge[n] = Edge.DROP
            n += 1
        if table[at].n_rows:
            break
        datagrams.forget(table, at)
    return i64(n)


@kernel
def reassembly_timer(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    reassembly4: DatagramTable, reassembly6: DatagramTable,
) -> int:  # fmt: skip
    now = cycles()
    n = _expire(meta, idx, edge, i64(0), reassembly4, now)
    n = _expire(meta, idx, edge, n, reassembly6, now)
    count[Count.EXPIRED] += u64(n)
    return n


NODE = Node("reassembly-timer", reassembly_timer, Edge, Count, Kind.INPUT)
