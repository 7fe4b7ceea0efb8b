# SPDX-License-Identifier: Apache-2.0
"""python -m benchmarks [CASE ...]: what `vforward bench` does."""

from __future__ import annotations

import argparse
from pathlib import Path

from vforward.control.bench_command import bench


def main() -> None:
    """Run the cases that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=bench.__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--plot", type=Path, help="the file that a case plots to")
    parser.add_argument("--html", type=Path, help="write a report, plots included")
    parser.add_argument("--markdown", type=Path, help="write a Markdown table")
    given = parser.parse_args()
    bench(
        given.cases, given.json, given.plot, list_only=given.list, html=given.html,
        markdown=given.markdown,
    )  # fmt: skip


main()
