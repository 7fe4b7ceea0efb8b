# SPDX-License-Identifier: Apache-2.0
"""fig79's figures as a table that fits a page: clocks per packet of the graph and of all baselines.

A column for each of its tables of routes; what has none of them has the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.tabulate import figure
from vforward.layout import VECTOR_MAX

OF_LEVELS = (
    (f"the graph, vectors of {VECTOR_MAX}", "fig79-{}", VECTOR_MAX),
    ("the graph, vectors of 1", "fig79-{}", 1),
    (f"vectors of {VECTOR_MAX} without prefetch", "fig79-{}-plain", VECTOR_MAX),
    ("vectors of 1 without prefetch", "fig79-{}-plain", 1),
    ("a compiled loop, packet by packet", "fig79-{}-scalar", 1),
    ("its code called from Python for each packet", "fig79-{}-called", 1),
)
"""What it is, the case with the level left out, packets per vector."""
OF_NONE = (
    ("the same work in plain Python", "fig79-python"),
    ("scapy: a frame is parsed, not forwarded", "fig79-scapy"),
    ("dpkt: the same", "fig79-dpkt"),
)
NONE = "16 routes, or none"


def summary(rows: Sequence[dict[str, Any]], levels: Sequence[str]) -> list[list[str]]:
    """Lines of cells, the head first. rows: those of fig79."""
    found = {(row["case"], row["vector"]): row for row in rows}
    alone = {row["case"]: row for row in rows}
    made = [["clocks/packet ± spread", *(_level(found, level) for level in levels), NONE]]
    for what, case, vector in OF_LEVELS:
        each = [found.get((case.format(level), vector)) for level in levels]
        made.append([what, *(figure(row) if row else "" for row in each), ""])
    for what, case in OF_NONE:
        if case in alone:
            made.append([what, *[""] * len(levels), figure(alone[case])])
    return made


def _level(found: dict[tuple[str, int], dict[str, Any]], level: str) -> str:
    """The head of a level's column."""
    row = found[f"fig79-{level}", VECTOR_MAX]
    fits = "fit no cache" if row["fits"] == "memory" else f"fit {row['fits']}"
    return f"{row['routes']} routes, {fits}"
