# SPDX-License-Identifier: Apache-2.0
"""`vforward bench compare A B`: whether B is slower than A, two checkouts or commits on one machine.

Both are run from their own sources, each in a process of its own (benchmarks.gate_side), by turns on one
CPU; what their figures say is benchmarks.gate's. A commit is unpacked aside. Only cases whose figures are
clocks are compared.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import gate
from benchmarks.harness import CHECKOUT
from vforward.control.demo_world import end, end_with_parent

PROGRAM = Path(__file__).with_name("gate_side.py")
USUAL = ("ip4-path", "ip4-path-512k", "l2-path", "acl-1k", "session-100k", "dispatch")
"""Cases that are compared when none is named."""
GATED = (
    *USUAL, "l2-path-1m", "ip4-path-bgp", "ip6-path-200k", "vector-sizes", "fib4-lookup",
    "session-1k", "session-1m", "nat44-100k", "reassembly-pass", "acl-10k", "nat-translate",
    "pool", "table71",
)  # fmt: skip
"""Cases whose figures are clocks of undisturbed runs: less is better."""

Progress = Callable[[str, int, int], None]


class CompareError(Exception):
    """It cannot be compared. The message says why."""


class Measure(NamedTuple):
    """What both sides measure at one time. number: of those with this label."""

    case: str
    label: str
    number: int


class Side:
    """One of the two programs, from its checkout."""

    def __init__(self, name: str, checkout: Path, cpu: int) -> None:
        self.name = name
        path = os.pathsep.join([str(checkout / "src"), str(checkout)])
        environment = {**os.environ, "PYTHONPATH": path}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), str(cpu)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env=environment, preexec_fn=end_with_parent,
        )  # fmt: skip

    def close(self) -> None:
        """End it."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        end(self.process)
        self._log.close()

    def hear(self) -> dict[str, Any]:
        """What it says next. Raises CompareError when it cannot go on."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        said: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in said:
            raise CompareError(f"{self.name}: {said['error']}")
        return said

    def tell(self, **what: Any) -> None:
        """Write it a line."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise CompareError(f"{self.name}: {self._last_words()}") from None

    def turn(self) -> list[float]:
        """A turn of runs."""
        self.tell(runs=gate.RUNS, warm=gate.WARM)
        figures: list[float] = self.hear()["figures"]
        return figures

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line for line in self._log.read().splitlines() if line.strip()]
        return lines[-1] if lines else "it has ended, without a word"


def check(names: Sequence[str]) -> None:
    """Raises CompareError unless all of the cases can be compared."""
    if wrong := [name for name in names if name not in GATED]:
        raise CompareError(f"cannot compare {', '.join(wrong)}; can: {', '.join(GATED)}")


@contextlib.contextmanager
def checkout(of: str) -> Iterator[Path]:
    """The directory of a checkout, or of a commit that is unpacked meanwhile. Raises CompareError."""
    directory = Path(of)
    if (directory / "benchmarks" / "cases.py").is_file():
        yield directory.resolve()
        return
    commit = _git("rev-parse", "--verify", "--quiet", f"{of}^{{commit}}").decode().strip()
    if not commit:
        raise CompareError(f"{of}: neither a checkout with benchmarks nor a commit of this one")
    with tempfile.TemporaryDirectory(prefix="vforward-compare-") as made:
        subprocess.run(["tar", "-x", "-C", made], input=_git("archive", commit), check=True)
        yield Path(made)


def _git(*arguments: str) -> bytes:
    """What git says; nothing if it fails."""
    command = ["git", "-C", str(CHECKOUT), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else b""


def one_launch(
    a: Path, b: Path, cases: Sequence[str], seen: Callable[[Measure], None] = lambda _: None
) -> dict[Measure, gate.Launch | None]:
    """Start both, let them take turns in every measurement of the cases. Raises CompareError."""
    cpu = max(os.sched_getaffinity(0))
    found: dict[Measure, gate.Launch | None] = {}
    with contextlib.ExitStack() as stack:
        sides = [Side(name, where, cpu) for name, where in (("A", a), ("B", b))]
        for side in sides:
            stack.callback(side.close)
        there = [side.hear()["cases"] for side in sides]
        common = [name for name in cases if all(name in known for known in there)]
        if not common:
            raise CompareError(f"A and B have none of these cases both: {', '.join(cases)}")
        for side in sides:
            side.tell(run=common)
        while True:
            one, other = (side.hear() for side in sides)
            if one != other:
                raise CompareError(f"A measures {_words(one)} where B measures {_words(other)}")
            if "end" in one:
                return found
            like = sum((m.case, m.label) == (one["case"], one["measure"]) for m in found)
            measure = Measure(one["case"], one["measure"], like)
            seen(measure)
            found[measure] = gate.launch(sides[0].turn, sides[1].turn)
            for side in sides:
                side.tell(done=True)


def _words(said: dict[str, Any]) -> str:
    return f"{said['case']} ({said['measure']})" if "case" in said else "nothing more"


def compare(
    a: Path, b: Path, cases: Sequence[str], progress: Progress = lambda *_: None
) -> dict[Measure, gate.Judgement]:
    """What is said of each measurement of the cases; see benchmarks.gate. Raises CompareError."""
    first = _launches(a, b, cases, progress, "")
    suspect = {measure.case for measure, launches in first.items() if gate.suspect(launches)}
    again: dict[Measure, list[gate.Launch | None]] = {}
    if suspect:
        again = _launches(a, b, [case for case in cases if case in suspect], progress, "again: ")
    return {
        measure: gate.judge_twice(launches, again[measure])
        if gate.suspect(launches)
        else gate.judge(launches)
        for measure, launches in first.items()
    }


def _launches(
    a: Path, b: Path, cases: Sequence[str], progress: Progress, label: str
) -> dict[Measure, list[gate.Launch | None]]:
    launches: dict[Measure, list[gate.Launch | None]] = {}
    for n in range(gate.LAUNCHES):
        progress(f"{label}starting both", n, gate.LAUNCHES)
        found = one_launch(a, b, cases, lambda m, n=n: progress(label + m.label, n, gate.LAUNCHES))
        for measure, each in found.items():
            launches.setdefault(measure, []).append(each)
    return launches


def rows(judged: dict[Measure, gate.Judgement]) -> list[dict[str, Any]]:
    """What is said, as a row for each measurement."""
    return [
        {
            "case": measure.case, "measure": measure.label, "number": measure.number,
            "a": _rounded(said.a), "b": _rounded(said.b),
            "change": _rounded(said.change), "low": _rounded(said.low),
            "high": _rounded(said.high), "launches": said.launches, "says": said.says,
        }
        for measure, said in judged.items()
    ]  # fmt: skip


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def show(found: Sequence[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    table = Table(caption=f"slower: above {gate.LIMIT:.0%}, and more than the noise; found twice")
    table.add_column("case", no_wrap=True)
    for name in ("A", "B", "change", "from", "to", "launches"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("B is", no_wrap=True)
    for row in found:
        figures = [f"{row[k]:.2f}" if row[k] is not None else "-" for k in ("a", "b")]
        changes = [
            f"{row[k]:+.1%}" if row[k] is not None else "-" for k in ("change", "low", "high")
        ]
        name = row["measure"] + (f" ({row['number'] + 1})" if row["number"] else "")
        table.add_row(name, *figures, *changes, str(row["launches"]), row["says"])
    Console().print(table)
