# SPDX-License-Identifier: Apache-2.0
"""Puts a report's first line and first table into another document: what README shows a command wrote.

    python -m benchmarks.into_readme build/bench/fig79.md README.md

The line says which command, machine and commit. What is between the document's two marks is replaced; `make
fig79` does all of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

BEGIN, END = "<!-- fig79: written by `make fig79` -->", "<!-- /fig79 -->"


def excerpt(report: str) -> str:
    """First line and first table of what tabulate.write_markdown writes. Raises ValueError: no table."""
    first, *rest = report.splitlines()
    at = next((n for n, line in enumerate(rest) if line.startswith("|")), len(rest))
    table = rest[at:]
    table = table[
        : next((n for n, line in enumerate(table) if not line.startswith("|")), len(table))
    ]
    if not table:
        msg = "the report has no table"
        raise ValueError(msg)
    return "\n".join([first, "", *table])


def put(document: str, report: str) -> str:
    """The document with the report's excerpt between its marks. Raises ValueError: it has not both."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"the document has no {BEGIN} ... {END}"
        raise ValueError(msg)
    return f"{before}{BEGIN}\n{excerpt(report)}\n{END}{after}"


def main(arguments: list[str]) -> None:
    """The program: a report, and the document that is changed."""
    report, document = map(Path, arguments)
    document.write_text(put(document.read_text(), report.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
