# SPDX-License-Identifier: Apache-2.0
"""Rows as Markdown and as HTML: all of them are there, ratios first, and what is doubtful says so."""

import io
import json
import re
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session

from benchmarks import cases, harness, html_report, into_readme, loads, report, tabulate

ENDLESS = {"meta", "img"}
"""Elements without an end."""


class Gauge:
    best = 1.0


def row(case, values, unit="clocks/packet", vector=256, **more):
    found = harness.whole(values, Gauge(), disturbed=False)
    more = {"touches": "headers", "bytes": 64, "flows": 256, "clock": loads.TSC, **more}
    return harness.row(case, found, unit, vector=vector, packets=1, touched=60, **more)


@pytest.fixture
def sections():
    absent = harness.missing("peer", "x", Gauge(), "vpp | <b>: not installed")
    return [
        (
            "first",
            [row("first-ours", [10.0] * 10, nodes={"a": 4.0}), row("first", [2.0] * 10, "x")],
        ),
        ("second", [row("second", [1.0, 3.0, 5.0], "s"), absent]),
    ]


def test_markdown_has_a_line_for_each_row_ratios_first(sections, tmp_path):
    path = tmp_path / "new" / "rows.md"
    tabulate.write_markdown(path, sections, "vforward bench first second")
    lines = path.read_text().splitlines()
    assert lines[0].startswith("`vforward bench first second`: ")
    assert harness.machine()["commit"] in lines[0]
    assert [line for line in lines if line.startswith("#")] == ["### first", "### second"]
    table = [line for line in lines if line.startswith("|") and "---" not in line]
    assert [line.split("|")[1].strip() for line in table] == [
        "case", "first", "first-ours", "case", "peer", "second",
    ]  # fmt: skip
    columns = {len(re.split(r"(?<!\\)\|", line)) for line in table}
    assert columns == {len(tabulate.COLUMNS) + 3}
    assert "| 3 | s | 66.7% | 3 | 256 | TSC | 64 | 256 | headers | NOISY" in table[-1]
    assert "3 runs only" in table[-1]
    assert lines[-1] == "- peer: vpp | <b>: not installed"


def test_a_terminal_shows_each_cases_ratios_first(sections, capsys):
    report._show(sections)
    said = capsys.readouterr().out
    names = re.findall(r"^│ (\S+)", said, re.M)
    assert names == ["first", "first-ours", "peer", "second"]
    assert "peer: vpp | <b>: not installed" in said.splitlines()


def test_below_a_terminals_table_stands_what_it_has_no_room_for(sections, capsys):
    report._show(sections)
    said = capsys.readouterr().out.splitlines()
    assert "first: bytes 64; flows 256; touched: headers" in said
    assert "second: bytes 64; flows 256; touched: headers" in said


def test_a_case_of_several_loads_says_which_is_whose():
    def line(*rows):
        return tabulate.packets([("all", [*rows, harness.missing("no", "x", Gauge(), "why")])])

    sizes = [row(f"all-{size}", [1.0], bytes=size) for size in (64, 128, "IMIX")]
    assert line(*sizes) == ["all: bytes 64, 128, IMIX; flows 256; touched: headers"]
    other = {"bytes": "-", "flows": "-", "touches": "nothing"}
    mine = [row(f"mine-{n}", [1.0], **other) for n in range(5)]
    assert line(*sizes[:1], row("all", [1.0]), *mine) == [
        "all: bytes 64; flows 256; touched: headers",
        "mine-0 to mine-4: bytes -; flows -; touched: nothing",
    ]
    assert line(sizes[0], row("x", [1.0], flows=1)) == [
        "all-64: bytes 64; flows 256; touched: headers",
        "x: bytes 64; flows 1; touched: headers",
    ]
    assert line() == []


def test_sizes_of_vectors_are_columns(tmp_path):
    figures = {1: [1.0] * 10, 16: [16.0] * 6 + [14.0] * 3 + [18.0] * 3, 256: [256.0] * 10}
    rows = [row("a", each, vector=v, routes=7) for v, each in figures.items()]
    rows += [row("b", [v + 1.0], vector=v) for v in (1, 4, 256)]
    rows.append(row("c", [5.0] * 10))
    tabulate.write_markdown(tmp_path / "rows.md", [("all", rows)], "x")
    lines = (tmp_path / "rows.md").read_text().splitlines()
    at = lines.index(
        "| clocks/packet ± spread at packets per vector | 1 | 4 | 16 | 256 | runs | of |"
    )
    of = "bytes 64, flows 256, touches headers, clock TSC"
    assert lines[at + 2 : at + 4] == [
        f"| a | 1 ± 0.0% |  | 16 ± 6.2% | 256 ± 0.0% | 10 to 12 | routes 7, {of} |",
        f"| b | *2 ± 0.0%* | *5 ± 0.0%* |  | *257 ± 0.0%* | 1 | {of}, at 1, 4, 256: one run only |",
    ]
    assert [line.split("|")[1].strip() for line in lines[at + 5 :]] == ["case", "---", "c"]


def test_the_clocks_of_the_figures_are_named(tmp_path, capsys):
    ours, other = row("a", [1.0] * 10), row("b", [1.0] * 10, clock=loads.WALL, peer="DPDK 22.11")
    hz = harness.tsc_hz() / 1e9
    assert f"clocks: TSC ({hz:.3f} GHz), Linux" in tabulate.machine([ours])
    assert "clocks: CLOCK_MONOTONIC (nanoseconds), Linux" in tabulate.machine([other])
    assert "TSC" not in tabulate.machine([other])
    assert f"TSC ({hz:.3f} GHz) and CLOCK_MONOTONIC" in tabulate.machine([ours, other])
    report._show([("both", [ours, other])])
    said = capsys.readouterr().out
    assert re.search(r"TSC .*\n.* CLOCK_MONOTONIC ", said)
    sections = [("both", [ours, other])]
    tabulate.write_markdown(tmp_path / "r.md", sections, "x")
    html_report.write(tmp_path / "r.html", sections, "x", {})
    for text in (said, (tmp_path / "r.md").read_text(), (tmp_path / "r.html").read_text()):
        assert "CLOCK_MONOTONIC" in text
        assert "peer DPDK 22.11" in text


def test_a_cases_own_table_comes_first_and_goes_into_a_document(tmp_path):
    rows = [row("a", [1.0] * 10), row("a", [2.0] * 10, table=[["what", "L1"], ["graph", "2 | 3"]])]
    path = tmp_path / "r.md"
    tabulate.write_markdown(path, [("a", rows)], "vforward bench a")
    html_report.write(tmp_path / "r.html", [("a", rows)], "x", {})
    assert "<tr><td>graph</td><td>2 | 3</td></tr>" in (tmp_path / "r.html").read_text()
    document = tmp_path / "README.md"
    document.write_text(f"before\n{into_readme.BEGIN}\nold\n{into_readme.END}\nafter\n")
    for _ in range(2):  # it stays as it is
        into_readme.main([str(path), str(document)])
        begin, first, *table, end = document.read_text().split("\n", 1)[1].splitlines()[:-1]
        assert (begin, end) == (into_readme.BEGIN, into_readme.END)
        assert first == path.read_text().splitlines()[0]
        assert first.startswith("`vforward bench a`: ")
        assert table == ["", "| what | L1 |", "| --- | --- |", "| graph | 2 \\| 3 |"]
    assert document.read_text().startswith("before\n")
    assert document.read_text().endswith("\nafter\n")
    with pytest.raises(ValueError, match="the document has no"):
        into_readme.put("nothing marked", path.read_text())
    with pytest.raises(ValueError, match="no table"):
        into_readme.excerpt("only words\n")


def test_the_clock_of_every_case_has_a_name():
    every = [{**row("a", [1.0] * 10), **case.load._asdict()} for case in cases.CASES.values()]
    assert "CLOCK_MONOTONIC (nanoseconds) and CLOCK_REALTIME (nanoseconds), Linux" in (
        tabulate.machine(every)
    )


def test_readme_has_a_place_for_the_table():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    assert into_readme.put(readme, "line\n\n| a |\n| --- |\n").count(into_readme.BEGIN) == 1


class Checker(HTMLParser):
    """Elements are closed in the order in which they were opened."""

    def __init__(self):
        super().__init__()
        self.open, self.cells, self.images = [], 0, []

    def handle_starttag(self, tag, attrs):
        if tag not in ENDLESS:
            self.open.append(tag)
        self.cells += tag == "td"
        if tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_whole_file(sections, tmp_path):
    path = tmp_path / "new" / "report.html"
    sections[0][1].append(row("first-theirs", [20.0] * 10))
    html_report.write(path, sections, "vforward bench", {"first": "what <it> is"})
    text = path.read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.cells == 5 * (len(tabulate.COLUMNS) + 1)
    assert "what &lt;it&gt; is" in text
    assert "vpp | &lt;b&gt;: not installed" in text
    assert len(checker.images) == 1  # first has two rows in clocks; all others are alone
    assert checker.images[0].startswith("data:image/png;base64,iVBORw0KGgo")
    assert text.index("<td>first</td>") < text.index("<td>first-ours</td>")
    assert text.count('class="doubt"') == 1


def test_a_case_that_plots_shows_its_own_plot(tmp_path):
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG of the case")
    rows = [row("a", [1.0] * 10), row("a", [2.0] * 10, plot=str(picture))]
    assert list(html_report._pictures("a", rows)) == [b"\x89PNG of the case"]


def test_the_command_writes_both(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "Session", partial(Session, wanted=3, limit_s=0.1))
    html, markdown = tmp_path / "r.html", tmp_path / "r.md"
    bench_command.bench(["pool"], html=html, markdown=markdown)
    assert "clocks/buffer" in capsys.readouterr().out
    assert "clocks/buffer" in html.read_text()
    assert "clocks/buffer" in markdown.read_text()


class Terminal(io.StringIO):
    """A terminal, as far as rich can tell."""

    def isatty(self):
        return True


def shown(terminal):
    """What was written to it, without what places and colours it."""
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())


def test_the_bar_is_for_terminals(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    with report._progress() as progress:
        progress("ip4-path", 3, 300)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with report._progress() as progress:
        progress("ip4-path", 3, 300)
    assert re.search(r"ip4-path .*3/300 0:00:\d\d", shown(sys.stderr))
    monkeypatch.setattr(sys, "stderr", Terminal())
    with report._progress() as progress:
        progress("ip4-path", 3, 300)
        progress("gauge", 0, 0)
    assert re.search(r"gauge .*0/\? 0:00:\d\d", shown(sys.stderr))
    assert capsys.readouterr().out == ""


def test_progress_goes_to_the_terminal_and_rows_to_stdout(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(report, "Session", partial(Session, wanted=3, limit_s=0.1))
    bench_command.bench(["pool"], json=True)
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert row["case"] == "pool"
    assert re.search(r"pool .*\d+/3 ", shown(sys.stderr))


def test_a_case_that_fails_says_so_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def broken(_session):
        yield row("broken-part", [1.0] * 10)
        msg = "of 256 packets 3 came wrong"
        raise AssertionError(msg)

    monkeypatch.setattr(report, "Session", partial(Session, wanted=3, limit_s=0.1))
    monkeypatch.setitem(report.CASES, "broken", cases.Case("broken", "a case that fails", broken))
    with pytest.raises(SystemExit) as stop:
        bench_command.bench(["broken", "pool"], html=tmp_path / "r.html")
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert "FAILED: AssertionError: of 256 packets 3 came wrong" in said.out
    assert "Traceback" in said.err
    text = (tmp_path / "r.html").read_text()
    assert "of 256 packets 3 came wrong" in text
    assert "broken-part" in text
    assert "clocks/buffer" in text
