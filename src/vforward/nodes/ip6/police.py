# SPDX-License-Identifier: Apache-2.0
"""ip6-police: mark packets and police them, as their treatment says. A feature of the arc ip6-input.

RFC 2474 section 3 (DSCP; the ECN bits beside it, RFC 3168 section 5, stay), RFC 8200 section 7 (traffic
class), RFC 2697, RFC 2698 (tables.policer). A packet counts with the bytes from its IP header on, of a
super-frame all of them.

Reads   meta.treatment, l3, end, rest
Writes  DSCP; meta.features, reason; the policers
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, store16
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, Counts, Data, Edges, Meta, Rows
from vforward.tables.policer import DROP, PolicerTable
from vforward.tables.treatment import KEEP, TreatmentTable, treat

ASIDE = EDGE_HELD
"""Mark of a packet that the first pass leaves to the second. Keeps the usual packet's loop short."""


class Edge(Labels):
    """Ways out, besides those of the arc."""

    DROP = 0, "see the counters"


class Count(Labels):
    """Reasons."""

    POLICED = 0, "more than its policer lets pass"


DSCP = 0x0FC0
"""In the header's first word."""


@kernel
def _mark(data: Any, row: Any, l3: Any, dscp: Any) -> None:
    store16(data, row, l3, load16(data, row, l3) & ~DSCP | dscp << 6)


@kernel
def _apply(data: Any, meta: Any, row: Any, count: Any, what: Any) -> Any:
    """Do with a packet what was decided; returns its edge."""
    if what == DROP:
        count[Count.POLICED] += u64(1)
        meta[row].reason = Count.POLICED
        return i64(Edge.DROP)
    if what != KEEP:
        _mark(data, row, i64(meta[row].l3), what)
    return arcs.proceed(meta, row)


@kernel
def ip6_police(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    treatments: TreatmentTable, policers: PolicerTable,
) -> None:  # fmt: skip
    aside = 0
    for i in range(idx.size):
        row = i64(idx[i])
        edge[i] = ASIDE
        if meta[row].treatment == 0:
            edge[i] = arcs.proceed(meta, row)
        else:
            aside += 1
    if aside == 0:
        return
    now = cycles()
    for i in range(idx.size):
        if edge[i] == ASIDE:
            row = i64(idx[i])
            n = i64(meta[row].end) - i64(meta[row].l3) + i64(meta[row].rest)
            what = treat(treatments, policers, i64(meta[row].treatment), n, now)
            edge[i] = _apply(data, meta, row, count, what)


NODE = Node("ip6-police", ip6_police, Edge, Count)
