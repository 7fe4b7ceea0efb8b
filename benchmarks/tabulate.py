# SPDX-License-Identifier: Apache-2.0
"""Rows as people read them: the cells of a table, for a terminal, for Markdown and for HTML.

Ratios come first and absolute values second: of a case whose result is a ratio its last row leads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

REMARKS = (
    "layout", "cpu_s", "knee", "plot", "mebibytes", "least", "ratio", "pages", "book",
    "offered", "busy_cpus", "foreign_cpus", "kibibytes", "fits", "routes", "protocol",
    "copies", "calls", "functions", "cpus", "trial_s",
)  # fmt: skip
"""Keys of what some rows have besides, that a table shows."""
NOTES = ("missing", "note", "text")
"""Sentences: they stand below the table."""
COLUMNS = ("case", "value", "unit", "spread", "runs", "vector", "bytes", "flows", "touched")

Section = tuple[str, list[dict[str, Any]]]
"""A case's name and its rows."""


def cells(row: dict[str, Any]) -> list[str]:
    """A row's cells, in the order of COLUMNS."""
    value = "-" if row["value"] is None else number(row["value"])
    spread, runs = (
        ("-", "-") if row["value"] is None else (f"{row['spread']:.1%}", str(row["runs"]))
    )
    return [
        row["case"], value, row["unit"], spread, runs,
        str(row["vector"] or "-"), str(row.get("bytes", "-")), str(row.get("flows", "-")),
        str(row.get("touches", row["touched"])),
    ]  # fmt: skip


def number(value: float) -> str:
    """A figure with four digits or more, and no exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def remarks(row: dict[str, Any]) -> str:
    """What is left to say of a row in a cell; doubts first."""
    found = list(row.get("doubts", ()))
    found += [f"{name} {value:g}" for name, value in row.get("nodes", {}).items()]
    found += [f"{name} {value:g} x" for name, value in row.get("ratios", {}).items()]
    found += [f"{name} {value:g}" for name, value in row.get("percentiles", {}).items()]
    found += [f"{key} {row[key]}" for key in REMARKS if key in row]
    found += [row["what"]] if "what" in row else []
    return ", ".join(found)


def notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The sentences of rows."""
    return [f"{row['case']}: {row[key]}" for row in rows for key in NOTES if key in row]


def machine(row: dict[str, Any]) -> str:
    """What the figures hold for."""
    return (
        f"{row['cpu']}, {row['tsc_hz'] / 1e9:.3f} GHz TSC, Linux {row['kernel']}, "
        f"Python {row['python']}, Numba {row['numba']}, llvmlite {row['llvmlite']}, "
        f"NumPy {row['numpy']}, commit {row['commit']}"
    )


def ratios_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with ratios before the others, else in their order."""
    return sorted(rows, key=lambda row: row["unit"] != "x")


def write_markdown(path: Path, sections: Sequence[Section], command: str) -> None:
    """All rows as Markdown tables, one for each case, with the machine and the command that made them.

    Rows that differ in the size of the vector only are one line of a table of their own.
    """
    lines = [f"`{command}`: {machine(next(row for _, rows in sections for row in rows))}."]
    for name, rows in sections:
        curves = by_vector(rows)
        lines += ["", f"### {name}", "", *_curves(curves)]
        rest = [row for row in ratios_first(rows) if row["case"] not in curves]
        if rest:
            lines += [_line(*COLUMNS, "remarks"), _line(*["---"] * (len(COLUMNS) + 1))]
            lines += [_line(*cells(row), remarks(row)) for row in rest]
        if said := notes(rows):
            lines += ["", *(f"- {note}" for note in said)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def by_vector(rows: Sequence[dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    """Of each case with rows of three sizes of vector or more: the rows by size."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        if row["value"] is not None:
            found.setdefault(row["case"], {})[row["vector"]] = row
    return {case: sizes for case, sizes in found.items() if len(sizes) > 2}


def _curves(curves: dict[str, dict[int, dict[str, Any]]]) -> Iterator[str]:
    """A table with a column for each size; what is doubtful in italics."""
    if not curves:
        return
    sizes = sorted({size for rows in curves.values() for size in rows})
    unit = next(row["unit"] for rows in curves.values() for row in rows.values())
    yield _line(f"{unit} at packets per vector", *map(str, sizes), "of")
    yield _line(*["---"] * (len(sizes) + 2))
    for case, rows in curves.items():
        figures = [number(rows[size]["value"]) if size in rows else "" for size in sizes]
        marked = [
            f"*{figure}*" if size in rows and rows[size].get("doubts") else figure
            for size, figure in zip(sizes, figures, strict=True)
        ]
        last = next(reversed(rows.values()))
        what = [f"{key} {last[key]}" for key in ("routes", "kibibytes", "fits") if key in last]
        yield _line(case, *marked, ", ".join(what))
    yield ""


def _line(*words: str) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"
