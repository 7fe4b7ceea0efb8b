# SPDX-License-Identifier: Apache-2.0
"""Run cases and show their rows: a table, or one JSON object per line."""

from __future__ import annotations

import json as text
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.cases import CASES
from benchmarks.session import Session

REMARKS = (
    "layout", "cpu_s", "knee", "plot", "what", "mebibytes", "least", "ratio", "pages",
    "offered", "busy_cpus", "foreign_cpus",
)  # fmt: skip
"""Keys of what some rows have besides, that a table shows."""
NOTES = ("missing", "note")
"""Sentences: they stand below the table."""


def unknown(names: Sequence[str]) -> list[str]:
    """Those of the names that are no case."""
    return [name for name in names if name not in CASES]


def listing() -> list[tuple[str, str]]:
    """Name and one line of help of every case."""
    return [(case.name, case.help) for case in CASES.values()]


def run(names: Sequence[str], *, json: bool, plot: Path | None) -> None:
    """Run the cases, all when none is named, and print their rows on stdout, progress on stderr.

    With json a row is printed when it is measured, and nothing else ever is.
    """
    rows: list[dict[str, Any]] = []
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    hidden = not sys.stderr.isatty()
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("gauge", total=None)

        def progress(label: str, done: int, wanted: int) -> None:
            bar.update(task, description=label, completed=done, total=wanted)

        session = Session(plot=plot, progress=progress)
        for name in names or CASES:
            bar.reset(task, description=f"{name}: preparing", total=None)
            for row in CASES[name].rows(session):
                rows.append(row)
                if json:
                    print(text.dumps(row), flush=True)
        session.gauge.remember()
    if not json and rows:
        _show(rows)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(title=None, caption=_machine(rows[0]), caption_justify="left")
    for name in ("case", "vector"):
        table.add_column(name, no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for name in ("spread", "runs", "rejected"):
        table.add_column(name, justify="right")
    table.add_column("by node, and remarks")
    for row in rows:
        table.add_row(
            row["case"],
            str(row["vector"]),
            "-" if row["value"] is None else f"{row['value']:g}",
            row["unit"],
            f"{row['spread']:.1%}",
            str(row["runs"]),
            str(row["rejected"]),
            _remarks(row),
        )
    console = Console()
    console.print(table)
    for row in rows:
        for note in (row[key] for key in NOTES if key in row):
            console.print(f"{row['case']}: {note}", highlight=False, markup=False)


def _remarks(row: dict[str, Any]) -> str:
    remarks = [f"{name} {value:g}" for name, value in row.get("nodes", {}).items()]
    remarks += [f"{name} {value:g} x" for name, value in row.get("ratios", {}).items()]
    remarks += [f"{key} {row[key]}" for key in REMARKS if key in row]
    if row["disturbed"]:
        remarks.insert(0, "DISTURBED: the core was shared all the time")
    return ", ".join(remarks)


def _machine(row: dict[str, Any]) -> str:
    return (
        f"{row['cpu']}, {row['tsc_hz'] / 1e9:.3f} GHz TSC, Linux {row['kernel']}, "
        f"Python {row['python']}, Numba {row['numba']}, commit {row['commit']}"
    )
