# SPDX-License-Identifier: Apache-2.0
"""The scheduler in a thread of its own: told what to do, asleep and woken."""

import os
import time

import numpy as np
import pytest

from graph.kernels import IDLE, QUEUE, Rig, rounds, until, working
from vforward.graph import control as c
from vforward.graph.node import MORE
from vforward.io import shim
from vforward.io.libc import libc_address


def test_pause_resume_stop_from_another_thread():
    rig = Rig()
    rig.source(2**60, ["a"], ways=[0])
    rig.branch("a", ["sink"])
    rig.sink()
    rig.build()
    with working(rig) as thread:
        until(lambda: rig.stats("sink")[c.PACKETS] > 1000)
        assert rig.control[c.STATE] == c.RUNNING
        rig.control[c.COMMAND] = c.PAUSE
        until(lambda: rig.control[c.STATE] == c.PAUSED)
        at, seen = rounds(rig), int(rig.stats("sink")[c.PACKETS])
        until(lambda: rounds(rig) > at)  # a quiet point comes in a pause too
        assert rig.stats("sink")[c.PACKETS] == seen
        rig.check()  # no packet is under way between rounds
        rig.control[c.COMMAND] = c.RUN
        until(lambda: rig.stats("sink")[c.PACKETS] > seen)
        rig.control[c.VECTOR] = 3
        until(lambda: rounds(rig) > at + 2)
        rig.control[c.COMMAND] = c.STOP
        thread.join(20)
        assert rig.control[c.STATE] == c.STOPPED
    rig.check()


def sleeping_rig(*descriptors):
    rig = Rig()
    left = rig.source(0, ["sink"])
    rig.sink()
    return rig, left, let_sleep(rig.build(), *descriptors)


def let_sleep(rig, *descriptors):
    """Let a worker that has nothing to do sleep. Returns what wakes it."""
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    fds = [fd | 1 << 32 for fd in (wake, *descriptors)]  # POLLIN
    rig.plan = rig.plan._replace(polled=np.array(fds, np.uint64))
    rig.control[c.POLL], rig.control[c.READ] = shim.address("vf_ppoll"), libc_address("read")
    rig.control[c.SPIN_ROUNDS] = 100
    return wake


def test_while_an_input_has_more_to_do_no_worker_sleeps():
    """Else it would do a round's worth in each POLL_NS."""
    rig = Rig()
    result = np.array([MORE]).view(np.uint64)
    rig.add(IDLE, "idle", ["sink"], result=result)
    rig.sink()
    wake = let_sleep(rig.build())
    try:
        with working(rig):
            until(lambda: rounds(rig) > 1000)
            assert rig.control[c.SLEEPS] == 0
            result[0] = 0
            until(lambda: rig.control[c.SLEEPS] > 0)
        assert rig.stats("idle")[: c.CLOCKS].tolist() == [0, 0], "it has received nothing"
    finally:
        os.close(wake)


def test_an_idle_worker_sleeps_and_is_woken():
    rig, left, wake = sleeping_rig()
    try:
        with working(rig):
            until(lambda: rig.control[c.SLEEPS] > 3)
            slow = rounds(rig)
            time.sleep(0.2)
            assert rounds(rig) - slow < 100, "it spins"
            left[0] = 10
            os.eventfd_write(wake, 1)
            start = time.monotonic()
            until(lambda: rig.count("sink") == 10)
            assert time.monotonic() - start < 5
            with pytest.raises(BlockingIOError):
                os.eventfd_read(wake)  # emptied, or it would never sleep again
            slow = int(rig.control[c.SLEEPS])
            until(lambda: rig.control[c.SLEEPS] > slow + 1)
    finally:
        os.close(wake)


def test_a_ready_descriptor_wakes_too():
    reader, writer = os.pipe()
    rig, _, wake = sleeping_rig(reader)
    try:
        with working(rig):
            until(lambda: rig.control[c.SLEEPS] > 3)
            slept = int(rig.control[c.SLEEPS])
            os.write(writer, b"x")  # stays readable: ppoll returns at once from here on
            start = time.monotonic()
            until(lambda: rig.control[c.SLEEPS] > slept + 1000)
            assert time.monotonic() - start < 10, "it waited its time out each round"
    finally:
        for fd in (reader, writer, wake):
            os.close(fd)


@pytest.mark.parametrize(
    ("per_call", "queued", "gathers"),
    [(1, False, True), (63, False, True), (64, False, False), (1, True, False)],
)
def test_after_few_packets_more_may_gather_but_none_waits_in_a_queue(per_call, queued, gathers):
    """A quarter of a vector is not few. A nap is never shorter than it should be.

    Where none is meant they would take 40 s, longer than until waits.
    """
    rig = Rig(buffers=4096)
    times = 20
    rig.source(times * per_call, ["before" if queued else "sink"], per_call=per_call)
    if queued:  # behind a node: what an input gives a queue is taken up in the same round
        rig.branch("before", ["queue"])
        rig.branch("queue", ["sink"], node=QUEUE)
    rig.sink()
    wake = let_sleep(rig.build())
    rig.control[c.GATHER] = 5_000_000 if gathers else 2_000_000_000
    try:
        start = time.monotonic()
        with working(rig):
            left = rig.given["source"]
            until(lambda: left[0] == 0 if queued else rig.count("sink") == times * per_call)
            rig.control[c.GATHER] = 0
        if gathers:
            assert time.monotonic() - start >= (times - 1) * 0.005
        if queued:
            rig.run()
        rig.check()
    finally:
        os.close(wake)


def test_a_paused_worker_sleeps_too():
    rig, _, wake = sleeping_rig()
    try:
        with working(rig):
            rig.control[c.COMMAND] = c.PAUSE
            until(lambda: rig.control[c.STATE] == c.PAUSED)
            at = rounds(rig)
            time.sleep(0.2)
            assert 0 < rounds(rig) - at < 100
    finally:
        os.close(wake)


def test_a_worker_that_may_not_sleep_spins():
    rig = Rig()
    rig.source(0, ["sink"])
    rig.sink()
    rig.build()
    with working(rig):
        until(lambda: rounds(rig) > 10_000)
    assert rig.control[c.SLEEPS] == 0


def test_other_threads_run_beside_the_worker():
    rig = Rig()
    rig.source(2**60, ["sink"])
    rig.sink()
    rig.build()
    with working(rig) as thread:
        until(lambda: rounds(rig) > 0)
        assert sum(1 for _ in range(100_000)) == 100_000
        assert thread.is_alive()
