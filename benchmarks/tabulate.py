# SPDX-License-Identifier: Apache-2.0
"""Rows as people read them: the cells of a table, for a terminal, for Markdown and for HTML.

Ratios come first and absolute values second: of a case whose result is a ratio its last row leads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.loads import REAL, TSC, WALL

REMARKS = (
    "layout", "cpu_s", "knee", "plot", "mebibytes", "least", "ratio", "pages", "book",
    "offered", "lost", "busy_cpus", "foreign_cpus", "kibibytes", "fits", "routes", "protocol",
    "copies", "calls", "calls_spread", "functions", "cpus", "trial_s", "round_trip", "peer",
)  # fmt: skip
"""Keys of what some rows have besides, that a table shows."""
NOTES = ("missing", "note", "text")
"""Sentences: they stand below the table."""
COLUMNS = (
    "case",
    "value",
    "unit",
    "spread",
    "runs",
    "vector",
    "clock",
    "bytes",
    "flows",
    "touched",
)
SHOWN = 7
"""So many of them a terminal has room for. The others stand below its table: see packets."""
OF_CURVES = ("routes", "kibibytes", "fits", "bytes", "flows", "touches", "clock")
"""What a line of a table by sizes of vectors says of its rows; all of them have the same."""
MOST_NAMES = 4
"""In a line."""

Section = tuple[str, list[dict[str, Any]]]
"""A case's name and its rows."""


def cells(row: dict[str, Any]) -> list[str]:
    """A row's cells, in the order of COLUMNS."""
    value = "-" if row["value"] is None else number(row["value"])
    spread, runs = (
        ("-", "-") if row["value"] is None else (f"{row['spread']:.1%}", str(row["runs"]))
    )
    return [
        row["case"], value, row["unit"], spread, runs, str(row["vector"] or "-"),
        row.get("clock", "-"), str(row.get("bytes", "-")), str(row.get("flows", "-")),
        touches(row),
    ]  # fmt: skip


def number(value: float) -> str:
    """A figure with four digits or more, and no exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def remarks(row: dict[str, Any]) -> str:
    """What is left to say of a row in a cell; doubts first."""
    found = list(row.get("doubts", ()))
    found += [f"{name} {value:g}" for name, value in row.get("nodes", {}).items()]
    found += [f"{name} {value:g} x" for name, value in row.get("ratios", {}).items()]
    found += [
        f"{name} {value:g} ± {row['spreads'][name]:.1%}"
        for name, value in row.get("percentiles", {}).items()
    ]
    found += [f"{key} {row[key]}" for key in REMARKS if key in row]
    found += [row["what"]] if "what" in row else []
    return ", ".join(found)


def notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The sentences of rows."""
    return [f"{row['case']}: {row[key]}" for row in rows for key in NOTES if key in row]


def packets(sections: Sequence[Section]) -> list[str]:
    """What the packets of each case are like: a line for a case, or for each kind of its rows."""
    lines = []
    for name, rows in sections:
        kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in rows:
            if row["value"] is not None:
                kinds.setdefault((str(row.get("flows", "-")), touches(row)), []).append(row)
        for (flows, touched), found in kinds.items():
            whose = name if len(kinds) == 1 else ", ".join(_names(found))
            sizes = ", ".join(dict.fromkeys(str(row.get("bytes", "-")) for row in found))
            lines.append(f"{whose}: bytes {sizes}; flows {flows}; touched: {touched}")
    return lines


def touches(row: dict[str, Any]) -> str:
    """What is touched of each packet; where nobody says that, how many bytes are."""
    return str(row.get("touches", row["touched"]))


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Names of rows without those that begin with another one's; of more than MOST_NAMES first and last."""
    names = list(dict.fromkeys(row["case"] for row in rows))
    found = [n for n in names if not any(n.startswith(f"{other}-") for other in names)]
    return found if len(found) <= MOST_NAMES else [f"{found[0]} to {found[-1]}"]


def machine(rows: Sequence[dict[str, Any]]) -> str:
    """What the figures hold for, and the clocks that they go by."""
    row = rows[0]
    said = {name: f"{name} (nanoseconds)" for name in (WALL, REAL)}
    said[TSC] = f"TSC ({row['tsc_hz'] / 1e9:.3f} GHz)"
    clocks = dict.fromkeys(said[each["clock"]] for each in rows if "clock" in each)
    return (
        f"{row['cpu']}, clocks: {' and '.join(clocks) or '-'}, Linux {row['kernel']}, "
        f"Python {row['python']}, Numba {row['numba']}, llvmlite {row['llvmlite']}, "
        f"NumPy {row['numpy']}, commit {row['commit']}"
    )


def ratios_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with ratios before the others, else in their order."""
    return sorted(rows, key=lambda row: row["unit"] != "x")


def write_markdown(path: Path, sections: Sequence[Section], command: str) -> None:
    """All rows as Markdown tables, one for each case, with the machine and the command that made them.

    A case's own table, where it makes one, comes first. Rows that differ in the size of the vector only
    are one line of a table of theirs.
    """
    lines = [f"`{command}`: {machine([row for _, rows in sections for row in rows])}."]
    for name, rows in sections:
        curves = by_vector(rows)
        lines += ["", f"### {name}", ""]
        for table in tables(rows):
            lines += [*markdown_table(table), ""]
        lines += _curves(curves)
        rest = [row for row in ratios_first(rows) if row["case"] not in curves]
        if rest:
            lines += markdown_table(
                [[*COLUMNS, "remarks"], *([*cells(row), remarks(row)] for row in rest)]
            )
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


def tables(rows: Sequence[dict[str, Any]]) -> list[list[list[str]]]:
    """The tables that a case has made of its figures: lines of cells, the first of which heads them."""
    return [row["table"] for row in rows if "table" in row]


def figure(row: dict[str, Any]) -> str:
    """A row's value and its spread; in italics where something speaks against it."""
    if row["value"] is None:
        return "-"
    mark = "*" if row.get("doubts") else ""
    return f"{mark}{number(row['value'])} ± {row['spread']:.1%}{mark}"


def _curves(curves: dict[str, dict[int, dict[str, Any]]]) -> Iterator[str]:
    """A table with a column for each size."""
    if not curves:
        return
    sizes = sorted({size for rows in curves.values() for size in rows})
    unit = next(row["unit"] for rows in curves.values() for row in rows.values())
    lines = [[f"{unit} ± spread at packets per vector", *map(str, sizes), "runs", "of"]]
    for case, rows in curves.items():
        figures = [figure(rows[size]) if size in rows else "" for size in sizes]
        runs = sorted({row["runs"] for row in rows.values()})
        lines.append([case, *figures, " to ".join(map(str, runs[:: max(1, len(runs) - 1)])),
                      ", ".join(_what(rows))])  # fmt: skip
    yield from markdown_table(lines)
    yield ""


def _what(rows: dict[int, dict[str, Any]]) -> Iterator[str]:
    """What the rows of a line are of, and what speaks against which."""
    last = next(reversed(rows.values()))
    yield from (f"{key} {last[key]}" for key in OF_CURVES if key in last)
    doubtful: dict[str, list[str]] = {}
    for size, row in rows.items():
        for doubt in row.get("doubts", ()):
            doubtful.setdefault(doubt, []).append(str(size))
    yield from (f"at {', '.join(at)}: {doubt}" for doubt, at in doubtful.items())


def markdown_table(lines: Sequence[Sequence[str]]) -> list[str]:
    """Of lines of cells, the first of which is the head."""
    head, *rest = lines
    return [_line(*head), _line(*["---"] * len(head)), *(_line(*line) for line in rest)]


def _line(*words: str) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"
