# SPDX-License-Identifier: Apache-2.0
"""The harness against costs that are known. No kernel of the package is timed here."""

import json
import os
import re
import subprocess
import time
from functools import partial

import numpy as np
import pytest

from vforward.control import bench_command
from vforward.graph.node import Labels, Node
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import kernel
from vforward.layout import Counts, Data, Edges, Meta, Rows
from vforward.memory.arena import Arena
from vforward.tables.adjacency import Way

bench_command.report()  # makes `benchmarks` importable

from benchmarks.frames import (
    OUR_MAC,
    THEIR_MAC,
    header_sum,
    random_slash24s,
    udp_frame,
)  # fmt: skip
from benchmarks.session import Session

from benchmarks import cases, gauge, graphs, harness, loads, python_router, report

COST = 20_000
ROW_KEYS = {
    "case", "value", "unit", "vector", "packets", "touched", "spread", "runs", "rejected",
    "disturbed", "doubts", "gauge", "tsc_hz", "cpu", "kernel", "python", "numba", "llvmlite", "numpy",
    "commit",
}  # fmt: skip


class FakeGauge:
    """A gauge that reads what it is told, twice per run."""

    best = 1.0

    def __init__(self, script=()):
        self.script = list(script)

    def read(self):
        return self.script.pop(0) if self.script else 1.0

    def disturbed(self, reading):
        return reading > 1.1


class Out(Labels):
    NEXT = 0, "every packet"


@kernel
def waste(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    """Takes COST clocks, whatever the vector."""
    start = cycles()
    while cycles() - start < np.uint64(COST):
        pass
    edge[:] = Out.NEXT


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    with Arena.create(f"test-{os.getpid()}") as made:
        yield made


def test_a_node_of_known_cost_is_measured_right(arena):
    bench = graphs.chain(arena, Node("bench-waste", waste, Out), 3)
    deadline = time.monotonic() + 60  # for a moment in which not every run is interrupted
    while True:
        found = harness.measure(lambda: bench.clocks_per_packet(100, 2), FakeGauge(), wanted=50)
        assert found.value > 0.99 * 3 * COST / 100
        if found.value < 1.1 * 3 * COST / 100 or time.monotonic() > deadline:
            break
    assert found.parts == pytest.approx([COST / 100] * 3, rel=0.1)
    assert found.value == pytest.approx(3 * COST / 100, rel=0.1)


def test_every_packet_goes_through_the_ip4_path(arena):
    bench = graphs.ip4_path(arena, random_slash24s(100))
    for vector in (1, 3, 256):
        stats = bench.run(vector, 2)
        assert stats[:, 1].tolist() == [2 * vector] * 5
        assert stats[:, 0].tolist() == [2] * 5


def test_a_packet_that_goes_astray_is_noticed(arena):
    bench = graphs.ip4_path(arena, np.array([0x0B000000], np.uint32))
    bench.graph.tables["adjacencies"]["edge"] = Way.RESOLVE
    with pytest.raises(AssertionError, match="not all went the whole way"):
        bench.run(8, 1)


def test_disturbed_runs_and_their_neighbors_are_set_aside():
    around = harness.STREAK // 2
    quiet, busy = [1.0, 1.0], [1.0, 1.5]
    script = quiet * 9 + busy + quiet * 30
    figures = [1.0] * (9 - around) + [9.0] * (2 * around + 1) + [1.0] * 30
    values = iter([1.0] * harness.WARM_UP + figures)
    found = harness.measure(lambda: [next(values)], FakeGauge(script), wanted=12)
    assert (found.value, found.spread, found.disturbed) == (1.0, 0.0, False)
    assert found.runs == 12
    assert found.rejected == 4 * around + 1  # it, its neighbors, the first and the last of all


def test_without_a_quiet_moment_the_row_says_so():
    found = harness.measure(lambda: [2.0, 3.0], FakeGauge([1.5] * 10_000), limit_s=0)
    assert found.disturbed
    assert (found.value, found.parts, found.runs, found.rejected) == (5.0, [2.0, 3.0], 10, 0)


def test_what_is_long_is_repeated_and_nothing_set_aside():
    values = iter([3.0, 1.0, 2.0])
    found = harness.repeat(lambda: [next(values)], FakeGauge([1.0, 1.0, 1.5]), 3)
    assert (found.value, found.runs, found.rejected, found.disturbed) == (2.0, 3, 0, True)


def test_the_spread_is_that_of_the_quartiles():
    around = [0.0] * (harness.STREAK // 2)
    values = iter([0.0] * harness.WARM_UP + around + list(range(75, 126)) + around)
    found = harness.measure(lambda: [next(values)], FakeGauge(), wanted=51)
    assert (found.value, found.spread) == (100.0, 0.25)


def test_the_gauge_remembers_the_best_value_of_this_boot(tmp_path):
    memory = tmp_path / "gauge"
    first = gauge.Gauge(memory)
    assert np.isfinite(first.best)
    first.best = 0.5
    first.remember()
    second = gauge.Gauge(memory)
    assert second.best == 0.5
    assert second.disturbed(0.56)
    assert not second.disturbed(0.54)


def test_a_row_has_what_readers_need():
    found = harness.measure(lambda: [1.0], FakeGauge(), wanted=10)
    row = harness.row("x", found, "clocks", vector=256, packets=512, touched=60, nodes={"a": 1.0})
    assert ROW_KEYS | {"nodes"} == set(json.loads(json.dumps(row)))
    assert row["packets"] == 512 * found.runs
    assert 1e8 < row["tsc_hz"] < 1e11


def test_a_row_says_what_speaks_against_it():
    def row(values, *, disturbed=False, **more):
        found = harness.whole(values, FakeGauge(), disturbed=disturbed)
        return harness.row("x", found, "s", vector=0, packets=0, touched=0, **more)["doubts"]

    assert row([1.0] * harness.LEAST) == []
    assert row([1.0] * (harness.LEAST - 1)) == ["9 runs only"]
    assert row([1.0], disturbed=True) == ["DISTURBED: the core was shared", "one run only"]
    assert row([1.0, 2.0] * 5) == ["NOISY: half of the runs lie 67% apart"]
    assert row([1.0], timed=False) == []
    assert harness.missing("x", "s", FakeGauge(), "no such thing")["doubts"] == []


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout of one commit, in place of this one."""
    for name in ("src/a.py", "csrc/a.c", "benchmarks/a.py", "docs/a.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("as it is\n")
    (tmp_path / ".gitignore").write_text("*.so\n")
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.com")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "one")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(harness, "CHECKOUT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["src/a.py", "csrc/a.c", "benchmarks/a.py", "csrc/new.c"])
def test_a_row_says_that_it_is_not_of_the_commit_alone(repository, name):
    commit = harness._commit()
    assert re.fullmatch("[0-9a-f]{12}", commit)
    (repository / name).write_text("changed\n")
    assert harness._commit() == f"{commit}+"


def test_what_is_not_measured_leaves_the_commit_as_it_is(repository):
    commit = harness._commit()
    for name in ("docs/a.md", "new.txt", "src/built.so"):
        (repository / name).write_text("changed\n")
    assert harness._commit() == commit


def test_without_a_repository_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "CHECKOUT", tmp_path)
    assert harness._commit() == "unknown"


def test_every_case_says_what_it_touches_and_by_which_clock():
    for case in cases.CASES.values():
        assert case.load.touches
        assert case.load.bytes
        assert case.load.flows
        assert case.load.clock in (loads.TSC, loads.WALL, loads.REAL)


def test_json_prints_one_object_per_line_and_nothing_else(capsys, monkeypatch):
    monkeypatch.setattr(report, "Session", partial(Session, wanted=3, limit_s=0.1))
    bench_command.bench(["pool", "python-baseline"], json=True)
    out = capsys.readouterr().out
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["case"] for row in rows] == ["pool", "python-baseline"]
    assert all(set(row) >= ROW_KEYS | {"touches", "bytes", "flows", "clock"} for row in rows)
    bench_command.bench(["pool"])
    assert "clocks/buffer" in capsys.readouterr().out


def test_vector_sizes_ends_at_256_and_plots(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(report, "Session", partial(Session, wanted=3, limit_s=0.1))
    bench_command.bench(["vector-sizes"], json=True, plot=tmp_path / "plot" / "v.png")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["vector"] for row in rows] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert rows[-1]["knee"] in [row["vector"] for row in rows]
    assert set(rows[-1]["nodes"]) == set(graphs.IP4_PATH)
    assert (tmp_path / "plot" / "v.png").read_bytes().startswith(b"\x89PNG")


def test_cases_are_listed_and_an_unknown_one_is_refused(capsys):
    bench_command.bench([], list_only=True)
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [name for name, _ in report.listing()]
    assert listed[:3] == ["fig79", "table71", "chain"]
    bench_command.bench([], json=True, list_only=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["case"], row["what"]) for row in rows] == list(report.listing())
    with pytest.raises(SystemExit) as stop:
        bench_command.bench(["ip4-path", "nonsense"])
    assert stop.value.code == 2
    assert "no case named nonsense; there are: fig79" in capsys.readouterr().err


def test_without_a_checkout_the_command_says_what_to_do(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        bench_command.report(tmp_path)
    assert stop.value.code == 2
    assert "pip install -e" in capsys.readouterr().err


def test_random_routes_are_distinct_and_forwardable():
    prefixes = random_slash24s(10_000)
    assert len(np.unique(prefixes)) == 10_000
    assert not (prefixes & 0xFF).any()
    assert not np.isin(prefixes >> 24, [0, 127]).any()
    assert (prefixes >> 24).max() < 224


@pytest.fixture
def router():
    near = python_router.Neighbor(THEIR_MAC + OUR_MAC + b"\x08\x00", 2, 1500)
    far = python_router.Neighbor(OUR_MAC + OUR_MAC + b"\x08\x00", 3, 1500)
    return python_router.Router(OUR_MAC, [(0x0B000000, 8, near), (0x0B010200, 24, far)])


def test_the_python_router_forwards(router):
    frame = bytearray(udp_frame(0x0A000002, 0x0B000001))
    assert router.forward(frame) == 2
    assert frame[:14] == THEIR_MAC + OUR_MAC + b"\x08\x00"
    assert frame[22] == 63
    assert header_sum(bytes(frame[14:34])) == 0xFFFF
    assert router.forward(bytearray(udp_frame(0x0A000002, 0x0B010203))) == 3


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, 4, "not for us"),
        (14, 0x46, "bad header"),
        (24, 0, "bad checksum"),
    ],
)
def test_the_python_router_drops(router, at, value, reason):
    frame = bytearray(udp_frame(0x0A000002, 0x0B000001))
    frame[at] = value
    assert router.forward(frame) is None
    assert router.drops == {reason: 1}


def test_the_python_router_drops_what_has_no_route(router):
    assert router.forward(bytearray(udp_frame(0x0A000002, 0x0C000001))) is None
    assert router.drops == {"no route": 1}
