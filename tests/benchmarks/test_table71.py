# SPDX-License-Identifier: Apache-2.0
"""The book's table: a row for each of its functions, and for what there is not."""

import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session

from benchmarks import table71_cases


@pytest.mark.slow
def test_each_function_is_beside_the_books(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(table71_cases, "MANY", 1_000)
    monkeypatch.setattr(table71_cases, "SESSIONS", 1_000)
    monkeypatch.setattr(table71_cases, "RULES", 10)
    rows = {row["case"]: row for row in table71_cases.table71(Session(wanted=3, limit_s=0.1))}
    books = {
        "l2": [70, 70],
        "ip": [175, 175],
        "classification": [700, 800],
        "firewall": [2000, 3000],
    }
    flows = {
        "l2": "random pairs of stations",
        "ip": "a random destination each",
        "classification": "65536 different packets",
        "firewall": 100_000,
    }
    for name, book in books.items():
        row = rows[f"table71-{name}"]
        assert row["flows"] == flows[name]
        changed = "header read" if name == "l2" else "headers read and changed"
        assert row["touches"] == f"whole packet written, {changed}"
        assert (row["unit"], row["book"]) == ("clocks/packet", book)
        assert row["ratio"] == pytest.approx(book[0] / row["value"], rel=0.01)
    for name in ("tcp-termination", "ssl"):
        assert rows[f"table71-{name}"]["value"] is None
        assert "not implemented" in rows[f"table71-{name}"]["missing"]
    last = list(rows.values())[-1]
    assert last["case"] == "table71"
    assert last["value"] == pytest.approx(min(last["ratios"].values()), rel=0.01)
    assert last["flows"] == flows[min(last["ratios"], key=last["ratios"].get)]
