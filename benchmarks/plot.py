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


def plot_fig79(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Clocks per packet by size of vector and table, with prefetch and without; all baselines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    curves: dict[str, list[dict[str, Any]]] = {}
    bars: dict[str, float] = {}
    for row in rows:
        name = row["case"].removeprefix("fig79-")
        if "prefetch" in row:
            curves.setdefault(name, []).append(row)
        elif row["value"] is not None:
            bars[name] = row["value"]
    colors: dict[str, str] = {}
    for name, found in curves.items():
        level = name.removesuffix("-plain")
        colors.setdefault(level, f"C{len(colors)}")
        style = "-" if name == level else ":"
        label = f"{level}, {found[0]['kibibytes']} KiB" if name == level else None
        sizes, values = [r["vector"] for r in found], [r["value"] for r in found]
        left.plot(sizes, values, f"{style}o", markersize=3, color=colors[level], label=label)
        bars[f"{name} at {sizes[-1]}"] = values[-1]
    left.plot([], [], "k:", label="without prefetch")
    left.set_xscale("log", base=2)
    sizes = sorted({row["vector"] for found in curves.values() for row in found})
    left.set_xticks(sizes, [str(size) for size in sizes])
    left.set_yscale("log")
    left.set_xlabel("packets per vector")
    left.set_ylabel("TSC clocks per packet")
    left.legend(title="routes in")
    names = sorted(bars, key=lambda name: bars[name])
    right.barh(names, [bars[name] for name in names])
    right.bar_label(right.containers[0], fmt="%.0f", padding=2)  # type: ignore[arg-type]
    right.set_xscale("log")
    right.margins(x=0.15)
    right.set_xlabel("TSC clocks per packet")
    figure.suptitle(f"IPv4 path, {rows[0]['cpu']}, commit {rows[0]['commit']}")
    figure.savefig(path, dpi=120)


def plot_bars(path: Path, title: str, rows: Sequence[dict[str, Any]]) -> None:
    """The figures of rows of one unit as bars, with their spread."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    labels = [bar_label(row) for row in rows]
    values = [row["value"] for row in rows]
    spread = [row["value"] * row["spread"] / 2 for row in rows]
    bars = axes.barh(range(len(rows)), values, xerr=spread, capsize=2)
    axes.bar_label(bars, labels=[f"{value:g}" for value in values], padding=4)
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlim(left=0)
    axes.set_xlabel(rows[0]["unit"])
    axes.set_title(title)
    figure.savefig(path, dpi=100)


def bar_label(row: dict[str, Any]) -> str:
    """What tells a row from the others of its case."""
    said = [row["case"]]
    said += [f"{key} {row[key]}" for key in ("vector",) if row[key] > 1]
    said += [str(row[key]) for key in ("layout", "protocol", "family", "kibibytes") if key in row]
    return ", ".join(said)


def plot_chain(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Packets per second by length of a chain, a line for each way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for way in dict.fromkeys(row["way"] for row in rows):
        found = [row for row in rows if row["way"] == way]
        label = f"{way}: {found[-1]['copies']:g} copies at {found[-1]['functions']}"
        axes.plot([r["functions"] for r in found], [r["value"] for r in found], "o-", label=label)
    axes.set_yscale("log")
    axes.set_xlabel("functions in the chain")
    axes.set_ylabel("packets per second")
    axes.set_title(f"Service chain, {rows[0]['cpu']}, commit {rows[0]['commit']}")
    axes.legend()
    figure.savefig(path, dpi=120)
