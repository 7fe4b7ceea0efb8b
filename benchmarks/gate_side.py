# SPDX-License-Identifier: Apache-2.0
"""A program that runs cases of a checkout, a few timed runs at a time, whenever it is told to.

    python -P gate_side.py CPU          with the checkout's src and itself in PYTHONPATH

It is run beside another one, from another checkout; benchmarks.compare tells both by turns. It may be of
another commit than the checkout, so of that it uses little: CASES, Session.measure, harness.whole.

Lines of JSON, what it says and what it is told:

    {"cases": [NAME, ...]}                  the cases that there are
        <- {"run": [NAME, ...]}             those that are wanted
    {"case": NAME, "measure": LABEL}        a measurement is prepared
        <- {"runs": N, "warm": N}           run so often, after so many runs that do not count
        -> {"figures": [...]}               those of the runs in which nobody else was on the core
        <- {"done": true}                   go on
    {"error": TEXT}                         it cannot go on
    {"end": true}                           there is nothing left
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.cases import CASES
from benchmarks.harness import whole
from benchmarks.session import Session


class Side(Session):
    """A session whose measurements are run as they are asked for."""

    def attach(self, case: str, out: Any) -> None:
        """Say what happens under this case's name to out."""
        self._case, self._out = case, out

    def measure(self, label: str, run: Callable[[], Sequence[float]], _share: int = 1) -> Any:
        """See the module."""
        parts = []
        tell(self._out, case=self._case, measure=label)
        for line in sys.stdin:
            told = json.loads(line)
            if "done" in told:
                break
            for _ in range(told["warm"]):
                run()
            figures = []
            for _ in range(told["runs"]):
                before = self.gauge.read()
                parts.append([float(part) for part in run()])
                if not self.gauge.disturbed(max(before, self.gauge.read())):
                    figures.append(sum(parts[-1]))
            tell(self._out, figures=figures)
        parts = parts or [[float(part) for part in run()]]
        found = whole([sum(each) for each in parts], self.gauge, disturbed=False)
        return replace(found, parts=[median(part) for part in zip(*parts, strict=True)])


def tell(out: Any, **what: Any) -> None:
    """Write a line."""
    out.write(json.dumps(what) + "\n")
    out.flush()


def main() -> None:
    """The program."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a case prints is no answer
    os.sched_setaffinity(0, {int(sys.argv[1])})
    try:
        session = Side()
        tell(out, cases=list(CASES))
        for name in json.loads(sys.stdin.readline())["run"]:
            session.attach(name, out)
            for _ in CASES[name].rows(session):
                pass
    except Exception as error:  # whatever it is, who compares has to hear of it
        tell(out, error=f"{type(error).__name__}: {error}")
        raise
    tell(out, end=True)


main()
