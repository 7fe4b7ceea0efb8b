# SPDX-License-Identifier: Apache-2.0
"""A worker thread: steered, woken, stopped, whatever it is doing."""

import contextlib
import os
import time
from threading import Thread

import pytest

from graph.kernels import Rig, until
from vforward.errors import VforwardError
from vforward.graph import control as c
from vforward.graph.worker import PROFILES, Worker, clock_hz
from vforward.io import shim
from vforward.io.libc import libc_address


@pytest.fixture(params=["spins", "sleeps"])
def rig(request):
    rig = Rig()
    rig.left = rig.source(0, ["sink"])
    rig.sink()
    rig.build()
    poll, read = 0, 0
    if request.param == "sleeps":
        poll, read = shim.address("vf_ppoll"), libc_address("read")
    rig.worker = Worker(rig.plan, poll=poll, read=read)
    if poll:
        rig.control[c.SPIN_ROUNDS] = 50
    yield rig
    rig.worker.close()


def test_the_clock_goes_at_some_gigahertz():
    assert 1e8 < clock_hz() < 1e10


@pytest.mark.parametrize("profile", PROFILES)
def test_only_who_may_sleep_follows_a_profile(rig, profile):
    may = int(rig.control[c.POLL]) != 0
    rig.worker.follow(profile)
    patience, gather_ns = PROFILES[profile] if may else (0, 0)
    assert (rig.control[c.SPIN_ROUNDS], rig.control[c.GATHER]) == (patience, gather_ns)


def test_a_worker_goes_on_from_profile_to_profile(rig):
    rig.worker.start()
    for profile in [*PROFILES] * 5:
        rig.worker.follow(profile)
        before = rig.count("sink")
        rig.left[0] = 10
        rig.worker.wake()
        until(lambda n=before: rig.count("sink") == n + 10)


def test_it_runs_what_comes(rig):
    rig.worker.start()
    assert rig.worker.running
    rig.left[0] = 100
    rig.worker.wake()
    until(lambda: rig.count("sink") == 100)
    rig.worker.stop()
    assert not rig.worker.running
    rig.check()


def test_it_runs_in_the_caller(rig):
    rig.left[0] = 1000
    rig.worker.run_until_idle()
    assert rig.count("sink") == 1000
    rig.worker.stop()
    rig.left[0] = 7
    rig.worker.run_until_idle()
    assert rig.count("sink") == 1007


def test_pause_and_resume_return_when_they_have_happened(rig):
    rig.left[0] = 2**60
    rig.worker.start()
    for _ in range(20):
        rig.worker.pause()
        seen = rig.count("sink")
        rig.check()
        assert rig.count("sink") == seen
        rig.worker.resume()
        until(lambda seen=seen: rig.count("sink") > seen)


def test_quiesce_lets_a_round_pass(rig):
    rig.worker.start()
    until(lambda: rig.control[c.ROUNDS] > 0)
    for _ in range(20):
        before = int(rig.control[c.ROUNDS])
        start = time.monotonic()
        rig.worker.quiesce(timeout=5)
        assert rig.control[c.ROUNDS] > before + 1
        assert time.monotonic() - start < 4
    rig.worker.pause()
    rig.worker.quiesce()
    rig.worker.stop()
    rig.worker.quiesce()


def test_it_stops_and_starts_again(rig):
    for _ in range(5):
        rig.worker.start()
        rig.worker.stop()
    rig.worker.start()
    rig.worker.pause()
    rig.worker.stop()
    rig.worker.stop()
    assert rig.control[c.STATE] == c.STOPPED


def test_who_is_told_to_stop_is_told_nothing_else(rig):
    """A request's thread that pauses and resumes may come behind the one that stops."""
    rig.worker.start()
    rig.worker.pause()
    rig.worker.tell(c.STOP)
    for command in (rig.worker.resume, rig.worker.pause, rig.worker.resume):
        command()
        assert rig.worker.command == c.STOP
    rig.worker.stop()
    assert rig.control[c.STATE] == c.STOPPED
    rig.worker.start()
    assert rig.worker.command == c.RUN
    rig.left[0] = 10
    rig.worker.wake()
    until(lambda: rig.count("sink") == 10)


def test_a_quiet_point_waits_for_a_run_in_another_thread(rig):
    worker = rig.worker
    with worker.inline:  # as run_until_idle does
        found = []
        asker = Thread(target=lambda: found.append(worker.quiesce(0.05)))
        asker.start()
        asker.join(20)
    assert found == [False]
    assert worker.quiesce(0.05)


def test_no_second_thread_is_on_the_plan(rig):
    rig.worker.start()
    rig.left[0] = 1000
    for second in (rig.worker.start, rig.worker.run_until_idle, rig.worker.prepare):
        with pytest.raises(VforwardError, match="while its thread is running; stop it first"):
            second()
    rig.worker.wake()
    until(lambda: rig.count("sink") == 1000)  # it goes on
    rig.worker.stop()
    rig.worker.run_until_idle()
    rig.check()


def test_running_while_another_thread_stops(rig):
    class Stopped:
        """Taken away as soon as it has been looked at."""

        def is_alive(self):
            return rig.worker._thread is not None

    class Racing(Worker):
        reads = 0

        @property
        def _thread(self):
            self.reads += 1
            return Stopped() if self.reads == 1 else None

        @_thread.setter
        def _thread(self, thread):
            pass

    worker = Racing(rig.plan)
    assert not worker.running
    worker.close()


def test_close_gives_the_descriptor_back(rig):
    event = rig.worker.event
    rig.worker.start()
    rig.worker.close()
    rig.worker.wake()
    rig.worker.stop()
    rig.worker.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(event)


def test_it_is_pinned_where_it_is_told():
    rig = Rig()
    rig.source(0, ["sink"])
    rig.sink()
    rig.build()
    mine = os.sched_getaffinity(0)
    with contextlib.closing(Worker(rig.plan, core=min(mine))) as worker:
        worker.start()
        until(lambda: rig.control[c.ROUNDS] > 10)
        assert os.sched_getaffinity(worker._thread.native_id) == {min(mine)}
    assert os.sched_getaffinity(0) == mine
