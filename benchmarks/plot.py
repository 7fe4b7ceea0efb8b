# SPDX-License-Identifier: Apache-2.0
"""Plots, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plot_vector_sizes(path: Path, rows: Sequence[dict[str, Any]], knee: int) -> None:
    """Clocks per packet by size of vector, stacked by node."""
    from matplotlib.figure import Figure  # takes a second to import: not for the other cases

    sizes = [row["vector"] for row in rows]
    names = list(rows[0]["nodes"])
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.stackplot(sizes, *([row["nodes"][name] for row in rows] for name in names), labels=names)
    axes.plot(sizes, [row["value"] for row in rows], "k.-", label="sum")
    axes.axvline(knee, color="grey", linestyle=":", label=f"knee: {knee}")
    for row in rows:
        spot = (row["vector"], row["value"])
        axes.annotate(f"{row['value']:.0f}", spot, textcoords="offset points", xytext=(3, 5))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("packets per vector")
    axes.set_ylabel("TSC clocks per packet")
    axes.set_title(f"IPv4 path, {rows[0]['cpu']}, commit {rows[0]['commit']}")
    axes.legend()
    figure.savefig(path, dpi=120)
