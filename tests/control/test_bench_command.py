"""vforward bench before a case runs: what it refuses, and where it finds the cases."""

import sys
from pathlib import Path

import pytest

from vforward.control import bench_command


class Report:
    """benchmarks.report, as far as it is asked here: it must not come to run a case."""

    def __init__(self):
        self.compared = []

    def unknown(self, names):
        return [name for name in names if name not in ("pool", "chain")]

    def listing(self):
        return [("pool", "take and put"), ("chain", "nodes in a row")]

    def run_compare(self, *given, json):
        self.compared.append((*given, json))
        return 2


@pytest.fixture
def report(monkeypatch):
    made = Report()
    monkeypatch.setattr(bench_command, "report", lambda: made)
    return made


def ended(capsys, *given, **options):
    """Exit status, and what was said on stderr; nothing on stdout."""
    with pytest.raises(SystemExit) as stop:
        bench_command.bench(*given, **options)
    said = capsys.readouterr()
    assert said.out == ""
    return stop.value.code, said.err


@pytest.mark.parametrize("cases", [["compare"], ["compare", "main"]])
def test_a_comparison_is_of_two(report, capsys, cases):
    status, said = ended(capsys, cases)
    assert status == 2
    assert said == (
        "vforward bench: compare needs two checkouts or commits: "
        "vforward bench compare A B [CASE ...]\n"
    )
    assert report.compared == []


def test_a_comparison_makes_no_reports(report, capsys):
    cases = ["compare", "main", "."]
    for option in ("plot", "html", "markdown"):
        status, said = ended(capsys, cases, **{option: Path("x")})
        assert (status, said.endswith(f" --json: leave out --{option}\n")) == (2, True)
    status, said = ended(capsys, cases, list_only=True, html=Path("x"))
    assert (status, said.endswith(" leave out --list, --html\n")) == (2, True)
    assert report.compared == []


def test_a_comparison_has_its_own_cases_and_exit_status(report, capsys):
    assert ended(capsys, ["compare", "main", ".", "no-case", "pool"], json=True) == (2, "")
    assert report.compared == [("main", ".", ["no-case", "pool"], True)]


def test_compare_is_a_case_where_it_is_not_the_first(report, capsys):
    status, said = ended(capsys, ["pool", "compare", "main"], list_only=True)
    assert status == 2
    assert said == "vforward bench: no case named compare, main; there are: pool, chain\n"


@pytest.fixture
def no_benchmarks(monkeypatch):
    """As in a process that has imported none yet."""

    def ours():
        return [name for name in sys.modules if name.split(".")[0] == "benchmarks"]

    before = {name: sys.modules.pop(name) for name in ours()}
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ours():
        del sys.modules[name]
    sys.modules.update(before)


def test_the_cases_are_those_of_the_checkout(no_benchmarks, tmp_path):
    directory = tmp_path / "benchmarks"
    directory.mkdir()
    (directory / "__init__.py").touch()
    (directory / "report.py").write_text("SAYS = 'this one'\n")
    found = bench_command.report(tmp_path)
    assert found.SAYS == "this one"
    assert bench_command.report(tmp_path) is found
    assert sys.path[0] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
