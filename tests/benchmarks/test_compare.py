# SPDX-License-Identifier: Apache-2.0
"""Two checkouts compared: their programs take turns, and what is said is what their figures say."""

import json
import subprocess
import textwrap
from pathlib import Path

import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.harness import CHECKOUT

from benchmarks import compare, gate, report

FILES = {
    "harness.py": """
        from dataclasses import dataclass
        @dataclass
        class Measured:
            figures: list
            parts: list
        def whole(figures, gauge, *, disturbed):
            return Measured(figures, [])
    """,
    "session.py": """
        class Gauge:
            def read(self):
                return 1.0
            def disturbed(self, reading):
                return {disturbed}
        class Session:
            gauge = Gauge()
    """,
    "cases.py": """
        import random
        from types import SimpleNamespace
        random.seed({seed})
        def case(session):
            found = session.measure("{label}", lambda: [{value} * random.gauss(0.5, 0.005)] * 2, 2)
            assert len(found.figures) >= 24
            assert len(found.parts) == 2
            print("noise on stdout")
            yield {{}}
            {more}
        CASES = {{"{name}": SimpleNamespace(rows=case)}}
    """,
}


@pytest.fixture
def make(tmp_path):
    """A checkout whose one case takes so many clocks, give or take a percent."""
    count = iter(range(100))

    def made(value, *, name="ip4-path", label="ip4-path", disturbed=False, more=""):
        seed = next(count)
        directory = tmp_path / str(seed) / "benchmarks"
        directory.mkdir(parents=True)
        given = {
            "value": value, "name": name, "label": label, "disturbed": disturbed, "more": more,
            "seed": seed,
        }  # fmt: skip
        for file, text in {**FILES, "__init__.py": ""}.items():
            filled = textwrap.dedent(text)
            (directory / file).write_text(filled.format(**given) if "{" in text else filled)
        return str(directory.parent)

    return made


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(gate, "LAUNCHES", gate.LEAST_LAUNCHES)
    monkeypatch.setattr(gate, "PAIRS", 4)


def run(capsys, *arguments):
    """Exit status and rows."""
    with pytest.raises(SystemExit) as stop:
        bench_command.bench(["compare", *arguments], json=True)
    said = capsys.readouterr()
    return stop.value.code, [json.loads(line) for line in said.out.splitlines()], said.err


def test_a_planted_tenth_fails(make, short, capsys):
    status, (row,), _ = run(capsys, make(100.0), make(110.0), "ip4-path")
    assert (status, row["says"], row["case"], row["launches"]) == (1, "slower", "ip4-path", 12)
    assert row["change"] == pytest.approx(0.1, abs=0.02)
    assert row["low"] <= row["change"] <= row["high"]
    assert (row["a"], row["b"]) == (pytest.approx(100, rel=0.02), pytest.approx(110, rel=0.02))


def test_the_same_passes(make, short, capsys):
    status, (row,), _ = run(capsys, make(100.0), make(100.0), "ip4-path")
    assert (status, row["says"]) == (0, "same")


def test_disturbed_runs_do_not_count(make, short, capsys):
    slow = make(200.0, disturbed=True)
    status, (row,), _ = run(capsys, make(100.0), slow, "ip4-path")
    assert (status, row["says"], row["change"]) == (0, "noisy", None)


def test_a_table_says_it_too(make, short, capsys):
    with pytest.raises(SystemExit) as stop:
        bench_command.bench(["compare", make(100.0), make(120.0), "ip4-path"])
    assert stop.value.code == 1
    assert "slower" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"name": "l2-path"}, "have none of these cases both: ip4-path"),
        ({"label": "else"}, "A measures ip4-path (ip4-path) where B measures ip4-path (else)"),
        ({"more": "raise ValueError('no routes')"}, "B: ValueError: no routes"),
        ({"more": "import os; os.write(2, b'last words'); os._exit(3)"}, "B: last words"),
        ({"more": "session.measure('more', lambda: [1.0])"}, "where B measures ip4-path (more)"),
    ],
)
def test_what_cannot_be_compared_says_why(make, short, capsys, other, says):
    status, rows, err = run(capsys, make(1.0), make(1.0, **other), "ip4-path")
    assert (status, rows) == (2, [])
    assert says in err


def test_no_program_is_left(make, short, monkeypatch):
    started = []
    real = subprocess.Popen

    def note(*given, **more):
        started.append(real(*given, **more))
        return started[-1]

    monkeypatch.setattr(compare.subprocess, "Popen", note)
    one, other = Path(make(1.0)), Path(make(1.0, more="raise ValueError"))
    with pytest.raises(compare.CompareError):
        compare.compare(one, other, ["ip4-path"])
    assert len(started) >= 2
    assert all(process.poll() is not None for process in started)


def test_a_case_that_is_not_in_clocks_is_refused(capsys):
    status, _, err = run(capsys, ".", ".", "veth-tcp")
    assert status == 2
    assert "cannot compare veth-tcp; can: ip4-path" in err


def test_too_few_arguments_say_how_it_goes(capsys):
    status, _, err = run(capsys, ".")
    assert status == 2
    assert "compare A B [CASE ...]" in err


def test_what_is_neither_checkout_nor_commit_is_refused(capsys):
    status, _, err = run(capsys, "no-such-commit", ".", "ip4-path")
    assert status == 2
    assert "no-such-commit: neither a checkout" in err


def test_cases_that_are_compared_are_cases():
    assert not report.unknown(compare.GATED)


@pytest.mark.slow
def test_a_commit_beside_a_checkout(monkeypatch):
    """The real programs, from the last commit and from the working tree, in one short launch."""
    monkeypatch.setattr(gate, "PAIRS", 1)
    if not (CHECKOUT / ".git").exists():
        pytest.skip("no repository")
    with compare.checkout("HEAD") as one, compare.checkout(str(CHECKOUT)) as other:
        assert one != other == CHECKOUT
        (found,) = compare.one_launch(one, other, ["pool"])
    assert found == compare.Measure("pool", "pool", 0)
    assert not one.exists()
