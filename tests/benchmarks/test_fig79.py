# SPDX-License-Identifier: Apache-2.0
"""fig79: each baseline does the same work, and what is said of the figures follows from them."""

import os
from functools import partial

import numpy as np
import pytest

from vforward.control import bench_command
from vforward.jit import intrinsics
from vforward.jit.kernel import kernel
from vforward.jit.sources import python_function
from vforward.layout import HEADROOM
from vforward.memory.arena import Arena
from vforward.nodes.ip4 import lookup, rewrite

bench_command.report()  # makes `benchmarks` importable

from benchmarks.fig79_tables import Table, blocks, prefixes
from benchmarks.fig79_verdict import take_apart, verdict
from benchmarks.frames import THEIR_MAC, header_sum, udp_frame
from benchmarks.scalar_loop import ScalarLoop
from benchmarks.session import Session

from benchmarks import (
    caches,
    fig79_cases,
    fig79_summary,
    graphs,
    parsers,
    scalar_loop,
    tabulate,
)
from benchmarks import without_prefetch as without

SMALL = {"L1": 2 << 10, "L2": 128 << 10, "L3": 256 << 10}
"""Caches so small that tables are made in no time."""


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    with Arena.create(f"test-{os.getpid()}") as made:
        yield made


@pytest.fixture
def table(arena):
    with Arena.create(f"test-{os.getpid()}-routes") as memory:
        yield Table(memory, "L2", SMALL)


def test_caches_are_read_from_sysfs(tmp_path):
    for n, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "64K"), ("2", "Unified", "2M"), ("4", "U", "1")]
    ):
        index = tmp_path / f"index{n}"
        index.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (index / name).write_text(f"{text}\n")
    found = caches.sizes(tmp_path)
    assert found == {"L1": 48 << 10, "L2": 2 << 20, "L3": caches.USUAL["L3"]}
    assert caches.sizes(tmp_path / "none") == caches.USUAL
    for size, level in ((1, "L1"), (48 << 10, "L1"), (49 << 10, "L2"), (1 << 30, "memory")):
        assert caches.fits(size, found) == level


def test_routes_are_distinct_and_in_their_blocks():
    found = prefixes(300)
    assert len(np.unique(found)) == len(found) == 300 * 128
    assert not (found & 0xFF).any()
    assert len(np.unique(found >> 16)) == 300
    assert 127 not in found >> 24
    everything = prefixes(blocks("memory", caches.USUAL))
    assert everything[0] >> 24 == 11
    assert everything[-1] >> 24 == 223


def test_a_table_is_about_as_large_as_it_is_meant_to_be(table):
    assert SMALL["L1"] < table.bytes <= SMALL["L2"]
    assert caches.fits(table.bytes, SMALL) == "L2"


def test_only_prefetches_are_taken_away(table, arena):
    assert without.without_prefetch(lookup.NODE).name == "ip4-lookup-no-prefetch"
    with pytest.raises(ValueError, match="ip4-rewrite prefetches nothing"):
        without.without_prefetch(rewrite.NODE)
    function = python_function(without.without_prefetch(lookup.NODE).kernel)
    assert function.__globals__["prefetch"] is without.of_two
    assert function.__globals__["trie"].fetch is not lookup.trie.fetch
    assert function.__globals__["trie"].step is lookup.trie.step
    assert lookup.prefetch is intrinsics.prefetch


def asks(jitted, *given):
    """How many prefetches are in the code that is compiled for these arguments."""
    jitted(*given)
    return next(iter(jitted.inspect_llvm().values())).count("call void @llvm.prefetch")


PLAIN = """
def plain(array, i):
    intrinsics.prefetch(array, i)
    return array[i]
"""


def test_the_compiled_code_has_none():
    names = {"intrinsics": intrinsics}
    exec(PLAIN, names)  # what has no file is compiled here, and can be looked into
    plain, numbers = kernel(names["plain"]), np.arange(4, dtype=np.uint32)
    assert asks(plain, numbers, 2) == 1
    made = without._remade(plain, {})
    assert asks(made, numbers, 2) == 0
    assert made(numbers, 2) == 2


@pytest.mark.parametrize("prefetch", [True, False])
def test_every_packet_goes_the_whole_way(table, arena, prefetch):
    bench = table.bench(arena, prefetch=prefetch)
    for vector in (1, 7, 256):
        assert bench.run(vector, 3)[:, 1].tolist() == [3 * vector] * 5
    expected = [table._fib.lookup(int(dst)) for dst in destinations(bench)]
    rows = bench._rows
    assert bench.graph.pool.meta["adjacency"][rows].tolist() == expected


def destinations(bench):
    """Of the packets in the buffers now."""
    at = HEADROOM + 14 + 16
    data = bench.graph.pool.data[bench._rows]
    return data[:, at : at + 4].copy().view(">u4").ravel()


def test_the_scalar_loop_forwards_as_the_graph_does(table, arena):
    bench = table.bench(arena, prefetch=True)
    loop = ScalarLoop(bench)
    assert loop.run(2) > 0
    assert_forwarded(bench, loop._rows)
    rows = loop.fresh(256)
    for row in rows:
        assert loop.one(np.array([row], np.uint32)) == 0
    assert_forwarded(bench, rows)
    assert loop.one(rows[:1]) > 0  # it is for nobody here any more
    bench.graph.tables["adjacencies"]["edge"] = 1
    with pytest.raises(AssertionError, match="went another way"):
        loop.run(1)


def assert_forwarded(bench, rows):
    assert len(set(rows.tolist())) == 256
    for row in rows:
        frame = bytes(bench.graph.pool.data[row][HEADROOM : HEADROOM + 60])
        assert frame[22] == 63
        assert header_sum(frame[14:34]) == 0xFFFF
        assert bench.graph.pool.meta["tx_port"][row] == graphs.OUT_PORT


def test_a_scalar_loop_of_a_path_that_leads_astray_is_refused(table, arena):
    bench = table.bench(arena, prefetch=True)
    bench.graph.tables["adjacencies"]["edge"] = 1
    with pytest.raises(AssertionError, match="does not lead to ip4-rewrite"):
        scalar_loop.ScalarLoop(bench)


@pytest.mark.parametrize("name", parsers.PARSERS)
def test_parsers_read_the_frame(name):
    pytest.importorskip(name)
    read = parsers.PARSERS[name]()
    found = read(udp_frame(0x0A000002, 0x0B000001))
    assert found == (0x0800, "10.0.0.2", "11.0.0.1", 64, 0)
    assert THEIR_MAC in udp_frame(0, 0)


@pytest.mark.parametrize(("work", "call"), [(20.0, 400.0), (30.0, 0.0), (100.0, 55.5)])
def test_clocks_are_taken_apart(work, call):
    sizes = [1 << k for k in range(9)]
    found = take_apart(sizes, [work + call / size for size in sizes])
    assert found == (pytest.approx(work), pytest.approx(call, abs=1e-6))
    assert found.bound == pytest.approx((work + call) / work)


def made(case, value, **more):
    return {
        "case": case, "value": value, "spread": 0.01, "runs": 300, "disturbed": False, "gauge": 1.0,
        **more,
    }  # fmt: skip


def curve(level, work, call, fits, *, prefetch=True):
    name = f"fig79-{level}" if prefetch else f"fig79-{level}-plain"
    for size in (1, 16, 256):
        more = {"vector": size, "prefetch": prefetch, "fits": fits, "kibibytes": 7}
        yield made(name, work + call / size, **more)


def test_the_verdict_says_what_the_figures_say():
    rows = [
        *curve("L1", 20, 380, "L1"),
        *curve("L1", 20, 380, "L1", prefetch=False),
        made("fig79-L1-scalar", 43.0),
        made("fig79-L1-called", 2148.0),
        *curve("memory", 60, 540, "memory"),
        *curve("memory", 160, 540, "memory", prefetch=False),
        made("fig79-python", 2148.4),
        made("fig79-scapy", None, missing="not installed"),
    ]
    said = verdict(rows)
    assert said.gains["L1"].value == pytest.approx(400 / (20 + 380 / 256))
    assert said.gains["memory"].value == pytest.approx(600 / (60 + 540 / 256))
    assert said.ratios["L1: compiled scalar loop"] == pytest.approx(2.0, abs=0.01)
    assert said.ratios["memory: without prefetch"] == pytest.approx(2.61, abs=0.01)
    assert said.ratios["python"] == pytest.approx(100, abs=0.1)
    assert said.text.startswith("A vector of 256 is up to 18.6 times cheaper per packet")
    assert "not 256 times" in said.text
    assert "20 for each packet and 380 for each vector, so 20 times would be the most" in said.text
    assert "Routes that fit no cache (7 KiB)" in said.text
    assert "without prefetch 162 at 256" in said.text
    assert "scapy" not in said.text


def test_a_promise_that_is_kept_is_not_denied():
    rows = list(curve("L1", 0.5, 400, "L1"))
    assert "not 256" not in verdict(rows).text


def test_there_is_a_table_for_each_level():
    assert fig79_cases.LEVELS == ("L1", "L2", "L3", "memory")


def test_a_table_that_fits_another_cache_is_doubtful():
    made = {"case": "fig79-memory", "doubts": ["one run only"]}
    assert fig79_cases.doubted(made, "memory", "memory") == made
    said = fig79_cases.doubted(made, "memory", "L3")["doubts"]
    assert said == ["one run only", "NOT memory: its table fits L3"]


@pytest.mark.slow
def test_the_case_has_all_rows_and_its_plot(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(fig79_cases.caches, "sizes", lambda: SMALL)
    monkeypatch.setattr(fig79_cases, "LEVELS", ("L1", "L2"))
    monkeypatch.setattr(fig79_cases, "SIZES", [1, 256])
    monkeypatch.setitem(parsers.PARSERS, "dpkt", partial(__import__, "no_such_module"))
    session = Session(wanted=3, limit_s=0.1, plot=tmp_path / "f.png")
    rows = list(fig79_cases.fig79(session))
    names = [row["case"] for row in rows]
    for level in ("L1", "L2"):
        assert names.count(f"fig79-{level}") == names.count(f"fig79-{level}-plain") == 2
        assert names.count(f"fig79-{level}-scalar") == names.count(f"fig79-{level}-called") == 1
    by_name = {row["case"]: row for row in rows}
    assert by_name["fig79-python"]["value"] > 0
    assert by_name["fig79-scapy"]["value"] > 0
    assert "not installed" in by_name["fig79-dpkt"]["missing"]
    assert rows[-1]["case"] == "fig79"
    assert rows[-1]["unit"] == "x"
    assert rows[-1]["text"]
    head, *table = rows[-1]["table"]
    assert len(head) == 4
    assert [line[0] for line in table][:2] == [
        "the graph, vectors of 256",
        "the graph, vectors of 1",
    ]
    assert (
        table[0][1]
        .strip("*")
        .startswith(tabulate.number(next(r for r in rows if r["vector"] == 256)["value"]) + " ± ")
    )
    assert {len(line) for line in table} == {4}
    assert [line[0] for line in table if line[-1]] == [what for what, _ in fig79_summary.OF_NONE]
    assert by_name["fig79-scapy"]["peer"].startswith("scapy ")
    for row in rows:
        if "fits" in row:
            level = row["case"].split("-")[1]
            said = [doubt for doubt in row["doubts"] if doubt.startswith("NOT ")]
            assert said == [f"NOT {level}: its table fits {row['fits']}"] * (row["fits"] != level)
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
