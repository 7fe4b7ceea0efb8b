# SPDX-License-Identifier: Apache-2.0
"""Work on several CPUs begins when all threads are there, on the CPUs that were said."""

import os
import threading
import time

import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.both_cpus import at_once


def test_each_is_on_its_cpu_and_all_are_there():
    before, placed = os.sched_getaffinity(0), []
    cpus, together = (min(before), max(before)), threading.Barrier(2)

    def work():
        together.wait(20)  # on one CPU, too: they are two threads
        placed.append(os.sched_getaffinity(0))

    assert at_once(*((cpu, work) for cpu in cpus)) > 0
    assert sorted(map(sorted, placed)) == sorted([cpu] for cpu in cpus)
    assert os.sched_getaffinity(0) == before


def test_it_lasts_until_the_last_has_done_its_work():
    cpu = min(os.sched_getaffinity(0))
    assert at_once((cpu, lambda: None), (cpu, lambda: time.sleep(0.1))) >= 0.1


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root may not be first")
def test_who_is_to_be_first_is():
    found = []
    at_once(
        (min(os.sched_getaffinity(0)), lambda: found.append(os.sched_getscheduler(0))), first=True
    )
    assert found == [os.SCHED_FIFO]
    assert os.sched_getscheduler(0) != os.SCHED_FIFO


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_side_that_fails():
    cpu = min(os.sched_getaffinity(0))
    with pytest.raises(AssertionError, match="a side has failed"):
        at_once((cpu, lambda: None), (cpu, lambda: 1 // 0))
