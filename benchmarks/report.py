# SPDX-License-Identifier: Apache-2.0
"""Run cases and show their rows: a table, one JSON object per line, Markdown, a report in HTML."""

from __future__ import annotations

import json as text
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import compare, html_report, tabulate
from benchmarks.cases import CASES
from benchmarks.harness import missing
from benchmarks.session import Session

WIDTH = 150
"""Columns of a table that does not go to a terminal."""
REGRESSION, CANNOT = 1, 2
"""Exit statuses of compare."""


def unknown(names: Sequence[str]) -> list[str]:
    """Those of the names that are no case."""
    return [name for name in names if name not in CASES]


def listing() -> list[tuple[str, str]]:
    """Name and one line of help of every case."""
    return [(case.name, case.help) for case in CASES.values()]


def run(
    names: Sequence[str],
    *,
    json: bool,
    plot: Path | None = None,
    html: Path | None = None,
    markdown: Path | None = None,
) -> list[str]:
    """Run the cases, all when none is named, and print their rows on stdout, progress on stderr.

    With json a row is printed when it is measured, and nothing else ever is. Returns the names of cases
    that failed: that of one does not end the others, and its row says why.
    """
    sections: list[tabulate.Section] = []
    failed: list[str] = []
    with _progress() as progress:
        progress("gauge", 0, 0)
        session = Session(plot=plot, progress=progress)
        for name in names or CASES:
            progress(f"{name}: preparing", 0, 0)
            sections.append((name, []))
            for row in _rows(name, session, failed):
                sections[-1][1].append(row)
                if json:
                    print(text.dumps(row), flush=True)
        session.gauge.remember()
    rows = [row for _, found in sections for row in found]
    if not rows:
        return failed
    command = f"vforward bench {' '.join(names)}".rstrip()
    if html:
        html_report.write(html, sections, command, dict(listing()))
    if markdown:
        tabulate.write_markdown(markdown, sections, command)
    if not json:
        _show(sections)
    return failed


def _rows(name: str, session: Session, failed: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a case; should it fail, one that says so, and its name in failed."""
    try:
        yield from CASES[name].run(session)
    except Exception as error:  # whatever it is, the others have their turn
        failed.append(name)
        traceback.print_exc()
        why = f"FAILED: {type(error).__name__}: {error}"
        yield missing(name, "-", session.gauge, why)


def run_compare(a: str, b: str, names: Sequence[str], *, json: bool) -> int:
    """Compare two checkouts or commits. Returns the exit status: 1 when B is slower, 2 if it cannot."""
    try:
        compare.check(names)
        with compare.checkout(a) as one, compare.checkout(b) as other, _progress() as progress:
            judged = compare.compare(one, other, names or compare.USUAL, progress)
    except compare.CompareError as error:
        sys.stderr.write(f"vforward bench compare: {error}\n")
        return CANNOT
    rows = compare.rows(judged)
    if json:
        for row in rows:
            print(text.dumps(row))
    else:
        compare.show(rows)
    return REGRESSION if any(said.regression for said in judged.values()) else 0


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr when that is a terminal: what, how much is done, and of how much (0: unknown)."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),  # else rows for a file would go to the terminal
    ) as bar:  # fmt: skip
        bar.add_task("", total=None)
        (task,) = bar.tasks

        def progress(label: str, done: int, wanted: int) -> None:
            task.total = wanted or None  # by update a total never gets unknown again
            bar.update(task.id, description=label, completed=done)

        yield progress


def _show(sections: Sequence[tabulate.Section]) -> None:
    """A table of all rows, of each case the ratios first."""
    rows = [row for _, found in sections for row in found]
    table = Table(title=None, caption=tabulate.machine(rows), caption_justify="left")
    for name in tabulate.COLUMNS[: tabulate.SHOWN]:
        right = name in ("value", "spread", "runs", "vector")
        whole = name in ("case", "value", "unit")
        table.add_column(name, justify="right" if right else "left", no_wrap=whole)
    table.add_column("by node, and remarks")
    for _, found in sections:
        for row in tabulate.ratios_first(found):
            table.add_row(*tabulate.cells(row)[: tabulate.SHOWN], tabulate.remarks(row))
        table.add_section()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    for line in (*tabulate.packets(sections), *tabulate.notes(rows)):
        console.print(line, highlight=False, markup=False)
