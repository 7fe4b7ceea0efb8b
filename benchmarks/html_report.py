# SPDX-License-Identifier: Apache-2.0
"""A report of all rows, one HTML file with its plots in it: nothing else has to be kept beside it."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks import tabulate
from benchmarks.plot import plot_bars
from benchmarks.tabulate import Section

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; font-size: 13px }
td, th { border-bottom: 1px solid #ddd; padding: 2px 8px; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
tr.doubt td { color: #a40 }
img { max-width: 100% }
"""
NUMBERS = ("value", "spread", "runs", "vector")


def write(path: Path, sections: Sequence[Section], command: str, helps: dict[str, str]) -> None:
    """Write the report. helps: a line of text for each case."""
    every = [row for _, rows in sections for row in rows]
    body = [
        "<h1>vforward bench</h1>",
        f"<p><code>{escape(command)}</code></p><p>{escape(tabulate.machine(every))}</p>",
        "<p>A figure is the median of its runs; where a run takes milliseconds at most, of those that "
        "nobody disturbed. Where it is anything else its remarks say what. The spread is the distance of "
        "the runs' quartiles over their median. What speaks against a figure stands in its remarks, that "
        "it is of few runs too. Compare figures of one machine only.</p>",
    ]
    for name, rows in sections:
        body += _section(name, helps.get(name, ""), tabulate.ratios_first(rows))
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>vforward bench</title>'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)


def _section(name: str, text: str, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f'<h2 id="{escape(name)}">{escape(name)}</h2><p>{escape(text)}</p>'
    yield from (f"<p>{escape(note)}</p>" for note in tabulate.notes(rows))
    yield from (_image(picture, name) for picture in _pictures(name, rows))
    for table in tabulate.tables(rows):
        yield "<table>"
        for line in table:
            yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>"
        yield "</table>"
    yield "<table><tr>"
    yield "".join(f"<th>{column}</th>" for column in (*tabulate.COLUMNS, "remarks"))
    yield "</tr>"
    for row in rows:
        yield '<tr class="doubt">' if row.get("doubts") else "<tr>"
        for column, cell in zip(tabulate.COLUMNS, tabulate.cells(row), strict=True):
            kind = ' class="n"' if column in NUMBERS else ""
            yield f"<td{kind}>{escape(cell)}</td>"
        yield f"<td>{escape(tabulate.remarks(row))}</td></tr>"
    yield "</table>"


def _pictures(name: str, rows: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """The plots that the case has made; else one of bars for each unit of which it has several rows."""
    made = [Path(row["plot"]) for row in rows if "plot" in row]
    if made:
        yield from (path.read_bytes() for path in made)
        return
    with tempfile.TemporaryDirectory() as directory:
        for unit in dict.fromkeys(row["unit"] for row in rows):
            shown = [row for row in rows if row["unit"] == unit and row["value"] is not None]
            if len(shown) > 1:
                path = Path(directory) / "bars.png"
                plot_bars(path, name, shown)
                yield path.read_bytes()


def _image(picture: bytes, name: str) -> str:
    data = base64.b64encode(picture).decode()
    return f'<p><img alt="{escape(name)}" src="data:image/png;base64,{data}"></p>'
