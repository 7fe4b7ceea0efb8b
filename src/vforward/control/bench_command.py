# SPDX-License-Identifier: Apache-2.0
"""`vforward bench`: runs the cases of the checkout's benchmarks directory.

The benchmarks are no part of the package: they stand beside ``src`` in a checkout, and are found
there when the package is installed from it with ``pip install -e``.
"""

from __future__ import annotations

import importlib
import json as jsonlib
import sys
from pathlib import Path
from typing import Any, NoReturn

CHECKOUT = Path(__file__).resolve().parents[3]
FAILED_STATUS, USAGE_STATUS = 1, 2
COMPARE = "compare"


def report(checkout: Path = CHECKOUT) -> Any:
    """The module benchmarks.report. Exits with a message when the checkout is not there."""
    if not (checkout / "benchmarks" / "report.py").is_file():
        _refuse(
            f"no benchmarks beside the package (looked in {checkout}); they are part of a "
            "checkout: clone the project and install it there with `pip install -e '.[daemon]'`"
        )
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    return importlib.import_module("benchmarks.report")


def bench(
    cases: list[str],
    json: bool = False,
    plot: Path | None = None,
    *,
    list_only: bool = False,
    html: Path | None = None,
    markdown: Path | None = None,
) -> None:
    """Measure vforward on this machine, in clocks of the time stamp counter.

    cases: all when empty; or "compare", two checkouts or commits, and cases: is the second slower?
    json: one JSON object per row, or per case that is listed, and nothing else on stdout. plot: the file
    that a case plots to. list_only: name the cases and stop. html, markdown: files for a report and for a
    table; a comparison makes none. An unknown case exits with 2; a case that failed, or a comparison that
    finds it slower, with 1.
    """
    module = report()
    if cases[:1] == [COMPARE]:
        if len(cases) < 3:
            _refuse("compare needs two checkouts or commits: vforward bench compare A B [CASE ...]")
        options = {"--list": list_only, "--plot": plot, "--html": html, "--markdown": markdown}
        if unused := [name for name, given in options.items() if given]:
            _refuse(f"compare prints a table, or rows with --json: leave out {', '.join(unused)}")
        sys.exit(module.run_compare(cases[1], cases[2], cases[3:], json=json))
    if wrong := module.unknown(cases):
        known = ", ".join(name for name, _ in module.listing())
        _refuse(f"no case named {', '.join(wrong)}; there are: {known}")
    if list_only:
        for name, text in module.listing():
            row = jsonlib.dumps({"case": name, "what": text}) if json else f"{name:18} {text}"
            sys.stdout.write(f"{row}\n")
        return
    if module.run(cases, json=json, plot=plot, html=html, markdown=markdown):
        sys.exit(FAILED_STATUS)


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"vforward bench: {message}\n")
    sys.exit(USAGE_STATUS)
