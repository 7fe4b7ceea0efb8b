# SPDX-License-Identifier: Apache-2.0
"""The cases of an idle daemon: their rows are of one, and their clocks count."""

import os
import subprocess
import sys
import time

import pytest

from gauges import Quiet
from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.cases import CASES
from benchmarks.session import Session

from benchmarks import idle_cases


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(idle_cases, "TIMES", 1)
    monkeypatch.setattr(idle_cases, "SECONDS", 0.3)
    monkeypatch.setattr(idle_cases, "SETTLE_S", 0.1)
    monkeypatch.setattr(idle_cases, "PACKETS", 5)


@pytest.mark.root
@pytest.mark.parametrize(
    ("case", "unit", "clock"),
    [
        ("idle-cpu", "% of a core", "CLOCK_MONOTONIC"),
        ("memory-idle", "MiB", "CLOCK_MONOTONIC"),
        ("wake-latency", "us", "CLOCK_REALTIME"),
    ],
)
def test_a_row_of_each(short, case, unit, clock):
    (row,) = CASES[case].run(Session(gauge=Quiet()))
    assert (row["case"], row["unit"], row["clock"]) == (case, unit, clock)
    assert row["value"] > 0
    if case == "memory-idle":
        parts = sum(row[name] for name in idle_cases.RSS)
        assert row["value"] == pytest.approx(parts, rel=0.05)
        assert row["doubts"] == ["one run only"]
    if case == "wake-latency":
        assert 0 < row["median_us"] <= row["pooled_us"] < row["program_us"] * 1.01
        assert row["pooled_us"] == pytest.approx(row["value"], abs=0.1), "of one round"
        assert row["packets"] == 5


@pytest.mark.parametrize(
    "rows", [idle_cases.idle_cpu, idle_cases.memory_idle, idle_cases.wake_latency]
)
def test_without_root_there_is_no_figure(rows, monkeypatch):
    monkeypatch.setattr(idle_cases, "impossible", lambda **_: "needs root")
    (row,) = rows(Session(gauge=Quiet()))
    assert (row["value"], row["missing"]) == (None, "needs root")


SPINS = """
import sys, threading
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
sys.stdin.read()
"""


def test_processor_time_is_that_of_all_threads_of_another_process():
    with subprocess.Popen([sys.executable, "-c", SPINS], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while idle_cases._spent(process.pid) < 0.5:  # of the thread: the first one waits
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.stdin.close()


def test_memory_is_what_the_kernel_tells():
    held = bytearray(os.urandom(1 << 20) * 64)
    before = sum(idle_cases._resident(os.getpid()))
    held += bytes(1) + os.urandom(1 << 20) * 64
    assert sum(idle_cases._resident(os.getpid())) > before
    assert len(held) > 1 << 27
