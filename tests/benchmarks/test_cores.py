# SPDX-License-Identifier: Apache-2.0
"""How many cores two CPUs are, by how long a loop takes on one, on the other, and on both."""

import os

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks import cores as module


def test_one_cpu_is_one(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert module.cores() == 1


def test_what_both_do_of_what_one_does(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 1, 3})
    seconds = {(1,): 1.0, (5,): 1.2, (1, 5): 1.1}
    monkeypatch.setattr(module, "_seconds", lambda *cpus: seconds[cpus])
    assert module.cores() == 2.0
    seconds[1, 5] = 2.2
    assert module.cores() == 1.0


def test_the_loop_runs_where_it_is_to_and_takes_its_time(monkeypatch):
    before = os.sched_getaffinity(0)
    placed = []
    monkeypatch.setattr(module, "ROUNDS", 50_000)
    monkeypatch.setattr(
        module, "fill", lambda _table, _rounds: placed.append(os.sched_getaffinity(0))
    )
    cpus = sorted(before)
    assert module._seconds(cpus[0], cpus[-1]) > 0
    assert sorted(map(min, placed[1:])) == [cpus[0], cpus[-1]]  # the first one compiles
    assert os.sched_getaffinity(0) == before


def test_the_loop_cannot_be_left_out():
    """What it computes depends on each round."""
    table = module.np.arange(module.TABLE, dtype=module.np.uint64)
    assert len({int(module.fill(table, rounds)) for rounds in range(1, 9)}) == 8
