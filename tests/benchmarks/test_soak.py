# SPDX-License-Identifier: Apache-2.0
"""What soak calls a slope, what it counts as compiled code, and the flows that it makes."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from oracles import checksum
from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session
from benchmarks.soak_case import Look, code_of, new_flows, slope

from benchmarks import soak_case
from gauges import Quiet


def looks(values, seconds=10):
    return [Look(n * seconds, value, 1000, 50, 40, 9) for n, value in enumerate(values)]


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_slope(seed):
    noise = np.random.default_rng(seed).normal(100, 3, 60)
    found = slope(looks(noise), "memory")
    assert found.none
    assert found.seconds == 390


@pytest.mark.parametrize("seed", range(5))
def test_a_slope_in_noise_is_seen(seed):
    noise = np.random.default_rng(seed).normal(100, 3, 60) + np.arange(60) * 0.5
    found = slope(looks(noise), "memory")
    assert not found.none
    assert abs(found.value - 0.05) <= 4 * found.error


def test_the_beginning_does_not_count():
    values = [*range(0, 100, 5), *[100.0] * 40]
    assert slope(looks(values), "memory").value == pytest.approx(0, abs=1e-9)


def test_of_a_long_time_little_is_its_beginning():
    """In 30 minutes a third would be ten: what is compiled in the eighth of them counts."""
    long = looks([100.0] * 180)
    assert soak_case.warm(long) == 33
    assert slope(long, "memory").seconds == 1460
    assert soak_case.warm(looks([100.0] * 60)) == 20
    late = [look._replace(code=50.0 + 64 * (look.at >= 480)) for look in long]
    rows = {row["case"]: row for row in soak_case._rows(Session(gauge=Quiet()), late, 0)}
    assert rows["soak-compilations"]["value"] == 64
    assert "compilations" in rows["soak"]["note"]


def test_what_is_very_small_is_none():
    values = [100 + n * 1e-3 for n in range(60)]
    assert slope(looks(values), "memory").none


def test_its_rows_name_what_grew():
    flat = looks([100.0] * 12)
    session = Session(gauge=Quiet())
    rows = {row["case"]: row for row in soak_case._rows(session, flat, 0)}
    assert rows["soak"]["value"] == 0
    assert all(row["doubts"] == ["one run only"] for row in rows.values())
    assert len(rows) == 6
    grown = [*flat[:-1], flat[-1]._replace(code=1064, threads=10)]
    rows = {row["case"]: row for row in soak_case._rows(session, grown, 3)}
    assert rows["soak"]["value"] == 2
    assert "compilations, threads" in rows["soak"]["note"]
    assert rows["soak-compilations"]["value"] == 64


COMPILES = """
import sys
from vforward.jit.kernel import kernel
@kernel
def f(x):
    return x + 1
f(1)
print(flush=True)
sys.stdin.readline()
f(1.5)
print(flush=True)
sys.stdin.readline()
"""


def test_a_kernel_that_is_compiled_later_is_seen(tmp_path):
    file = tmp_path / "compiles.py"
    file.write_text(COMPILES)
    command = [sys.executable, str(file)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        process.stdout.readline()
        before = code_of(maps)
        assert before > 0
        assert code_of(maps) == before
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        assert code_of(maps) > before
        process.kill()


def test_flows_are_whole():
    """Every header verifies, some datagrams are in pieces, and few flows come twice."""
    frames = new_flows(random.Random(3))
    assert {len(frame) for frame in frames} == {60}
    pieces = 0
    for frame in frames:
        header, total = frame[14:34], int.from_bytes(frame[16:18], "big")
        assert checksum.verifies(header)
        pieces += bool(int.from_bytes(frame[20:22], "big") & 0x3FFF)
        assert total <= 46
    assert len(frames) // 10 < pieces < len(frames) // 2
    assert len({frame[26:38] for frame in frames}) > len(frames) // 2
