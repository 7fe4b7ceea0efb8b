# SPDX-License-Identifier: Apache-2.0
"""Rows as Markdown and as HTML: all of them are there, ratios first, and what is doubtful says so."""

import re
from functools import partial
from html.parser import HTMLParser

import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session

from benchmarks import cases, harness, html_report, report, tabulate

ENDLESS = {"meta", "img"}
"""Elements without an end."""


class Gauge:
    best = 1.0


def row(case, values, unit="clocks/packet", vector=256, **more):
    found = harness.whole(values, Gauge(), disturbed=False)
    more = {"touches": "headers", "bytes": 64, "flows": 256, **more}
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
    assert "| 3 | s | 66.7% | 3 | 256 | 64 | 256 | headers | NOISY" in table[-1]
    assert "3 runs only" in table[-1]
    assert lines[-1] == "- peer: vpp | <b>: not installed"


def test_sizes_of_vectors_are_columns(tmp_path):
    rows = [row("a", [float(v)] * 10, vector=v, routes=7) for v in (1, 16, 256)]
    rows += [row("b", [v + 1.0], vector=v) for v in (1, 4, 256)]
    rows.append(row("c", [5.0] * 10))
    tabulate.write_markdown(tmp_path / "rows.md", [("all", rows)], "x")
    lines = (tmp_path / "rows.md").read_text().splitlines()
    at = lines.index("| clocks/packet at packets per vector | 1 | 4 | 16 | 256 | of |")
    assert lines[at + 2 : at + 4] == [
        "| a | 1 |  | 16 | 256 | routes 7 |",
        "| b | *2* | *5* |  | *257* |  |",
    ]
    assert [line.split("|")[1].strip() for line in lines[at + 5 :]] == ["case", "---", "c"]


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
