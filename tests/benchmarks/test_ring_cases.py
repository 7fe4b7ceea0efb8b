# SPDX-License-Identifier: Apache-2.0
"""What DPDK's ring_perf_autotest says, as recorded of 22.11.11 on Debian 12; our own loops; the row."""

import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.dpdk_cases import NoFigureError
from benchmarks.session import Session

from benchmarks import distance, peer_versions, ring_cases

TEXT = """\
EAL: Detected CPU lcores: 2
RTE>>ring_perf_autotest

### Testing single element enq/deq ###
legacy APIs: SP/SC: single: 37.52
legacy APIs: MP/MC: single: 61.81

### Testing burst enq/deq ###
legacy APIs: SP/SC: burst (size: 8): 59.77
legacy APIs: SP/SC: burst (size: 32): 147.43

### Testing bulk enq/deq ###
legacy APIs: SP/SC: bulk (size: 8): 39.74
legacy APIs: SP/SC: bulk (size: 32): 132.25
legacy APIs: MP/MC: bulk (size: 8): 54.29
legacy APIs: MP/MC: bulk (size: 32): 116.50

### Testing empty bulk deq ###
legacy APIs: SP/SC: bulk (size: 8): 12.63

### Testing using two physical cores ###
legacy APIs: SP/SC: bulk (size: 8): 19.96
legacy APIs: MP/MC: bulk (size: 8): 841.62
legacy APIs: SP/SC: bulk (size: 32): 7.40

### Testing single element enq/deq ###
elem APIs: element size 16B: SP/SC: bulk (size: 8): 66.47
"""


def test_the_figures_are_found():
    assert ring_cases.theirs(TEXT) == {
        "one-thread-8": 39.74,
        "one-thread-32": 132.25,
        "two-cores-8": 159.68,
        "two-cores-32": 236.8,
    }
    alone = TEXT.replace("two physical cores", "nothing")
    assert list(ring_cases.theirs(alone)) == ["one-thread-8", "one-thread-32"]
    with pytest.raises(NoFigureError, match="said nothing"):
        ring_cases.theirs("RTE>>ring_perf_autotest\n")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(ring_cases, "BURSTS", 256)
    monkeypatch.setattr(ring_cases, "TIMES", 2)
    monkeypatch.setattr(ring_cases, "RUNS", 2)


def test_turns_at_one_distance_are_compared(quick, monkeypatch):
    """In the last turn the CPUs are moved: it counts for one thread only."""
    monkeypatch.setattr(ring_cases, "TIMES", 4)
    turns = []

    def say(_command, _typed):
        turns.append(1)
        return TEXT if len(turns) < 4 else TEXT.replace("39.74", "0.01")

    monkeypatch.setattr(ring_cases, "say", say)
    monkeypatch.setattr(distance, "distance", lambda: 160.0 if len(turns) < 4 else 770.0)
    monkeypatch.setattr(peer_versions, "dpdk", lambda: "DPDK 22")
    rows = {row["case"]: row for row in ring_cases.spsc(Session())}
    assert {name for name, row in rows.items() if row.get("peer") == "DPDK 22"} == {
        name for name in rows if name.endswith("-rte-ring") or name == "spsc"
    }
    theirs = rows["spsc-one-thread-8-rte-ring"]
    assert (theirs["value"], theirs["least"], theirs["runs"]) == (39.74, 0.01, 4)
    apart = rows["spsc-two-cores-32-rte-ring"]
    assert (apart["value"], apart["runs"], apart["round_trip"]) == (236.8, 3, 160)
    assert rows["spsc"]["value"] == pytest.approx(min(rows["spsc"]["ratios"].values()), abs=0.01)


def test_without_dpdk_a_row_says_so(quick, monkeypatch):
    monkeypatch.setattr(ring_cases, "PROGRAM", "no-such-program")
    *rows, last = ring_cases.spsc(Session())
    assert (last["case"], last["value"]) == ("spsc", None)
    assert "not installed" in last["missing"]
    assert all(row["value"] > 0 for row in rows)
