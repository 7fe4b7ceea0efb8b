# SPDX-License-Identifier: Apache-2.0
"""Two processes on one shared file: what the atomics promise holds between processors.

Runs before all that uses them (tests/conftest.py). Each side is a process of its own, so that
nothing but memory orders them. Where both must share a processor they yield it, and how many rounds
the lockstep tests do is a matter of time.
"""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

from vforward.jit.atomics import (
    compare_swap32,
    compare_swap64,
    fence,
    fetch_add64,
    load_acquire32,
    load_acquire64,
    store_release32,
    store_release64,
)
from vforward.jit.intrinsics import address, call2, cycles
from vforward.jit.kernel import kernel

LINE = 8  # words: no two of these share a cache line
MET, STOP, HEAD, TAIL, COUNTER, NARROW = (LINE * k for k in range(6))
SLOTS = 4096
RING = LINE * 8
SEEN = RING + SLOTS
ROUNDS = 200_000
WORDS = SEEN + 2 * ROUNDS

PATIENCE = 20_000_000
"""Times that a side yields before it gives the other one up."""
CLOCKS = 5_000_000_000
"""Time for the lockstep tests: about two seconds."""
YIELD = ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value


@kernel
def wait(turn, rest):
    """Spin a little, then yield. Returns the next turn, -1 when patience is at its end."""
    if turn > 2000:
        call2(rest, 0, 0)
    return turn + 1 if turn < PATIENCE else -1


@kernel
def meet(words, n, rest):
    """Wait until both sides have come here for the n-th time. Returns whether they have."""
    at = address(words) + 8 * MET
    fetch_add64(at, np.uint64(1))
    turn = 0
    while load_acquire64(at) < np.uint64(2 * n):
        turn = wait(turn, rest)
        if turn < 0:
            return False
    return True


@kernel
def count_up(words, n):
    """n increments each: by compare-and-swap of both widths, and by fetch-and-add."""
    base = address(words)
    for _ in range(n):
        while True:
            old = load_acquire64(base + 8 * COUNTER)
            if compare_swap64(base + 8 * COUNTER, old, old + np.uint64(1)):
                break
        while True:
            old = load_acquire32(base + 8 * NARROW)
            if compare_swap32(base + 8 * NARROW, old, old + np.uint64(1)):
                break
        fetch_add64(base + 8 * COUNTER + 8, np.uint64(1))


@kernel
def tell(words, n, narrow, rest):
    """Put numbers into the ring by plain stores, then say how many are there."""
    base = address(words)
    tail = np.int64(0)
    for item in range(n):
        turn = 0
        while item - tail >= SLOTS:
            turn = wait(turn, rest)
            if turn < 0:
                return False
            tail = np.int64(load_acquire64(base + 8 * TAIL))
        words[RING + (item & (SLOTS - 1))] = np.uint64(7 * item + 1)
        if narrow:
            store_release32(base + 8 * HEAD, np.uint64(item + 1))
        else:
            store_release64(base + 8 * HEAD, np.uint64(item + 1))
    return True


@kernel
def listen(words, n, narrow, rest):
    """Take them out by plain loads. Returns how many were not what they had to be."""
    base = address(words)
    head = np.int64(0)
    stale = 0
    for item in range(n):
        turn = 0
        while head <= item:
            if narrow:
                head = np.int64(load_acquire32(base + 8 * HEAD))
            else:
                head = np.int64(load_acquire64(base + 8 * HEAD))
            if head <= item:
                turn = wait(turn, rest)
                if turn < 0:
                    return -1
        stale += words[RING + (item & (SLOTS - 1))] != np.uint64(7 * item + 1)
        store_release64(base + 8 * TAIL, np.uint64(item + 1))
    return stale


@kernel
def dekker(words, me, fenced, rest):
    """Rounds of: store mine, (fence,) load the other's. What was loaded goes to SEEN.

    Before that each side loads the other's word, so that its store has to wait for the cache line;
    and each waits a little, other times in each round. Returns the number of rounds, or -1.
    """
    base = address(words)
    mine, other = base + 8 * (HEAD if me == 0 else TAIL), base + 8 * (TAIL if me == 0 else HEAD)
    start = cycles()
    for i in range(ROUNDS):
        store_release64(mine, np.uint64(0))
        if me == 0 and cycles() - start > np.uint64(CLOCKS):
            store_release64(base + 8 * STOP, np.uint64(1))
        if not meet(words, 3 * i + 1, rest) or load_acquire64(other):
            return -1
        stop = load_acquire64(base + 8 * STOP)
        if not meet(words, 3 * i + 2, rest):
            return -1
        now = cycles()
        while cycles() - now < np.uint64(16 * ((i >> (5 * me)) & 31)):
            pass
        store_release64(mine, np.uint64(1))
        if fenced:
            fence()
        words[SEEN + 2 * i + me] = load_acquire64(other)
        if not meet(words, 3 * i + 3, rest):
            return -1
        if stop:
            return i + 1
    return ROUNDS


def prepare():
    """Compile before the sides meet: that takes longer than all they do."""
    words = np.zeros(WORDS, np.uint64)
    words[MET] = 10
    words[STOP] = 1
    meet(words, 1, YIELD)
    count_up(words, 1)
    tell(words, 0, True, YIELD)
    listen(words, 0, True, YIELD)
    dekker(words, 0, True, YIELD)


def side(path, role, n):
    """What the other process runs."""
    words = np.memmap(path, np.uint64, "r+")
    prepare()
    assert meet(words, 1, YIELD)
    words = words[LINE:]
    if role == "count":
        count_up(words, n)
    elif role in ("tell32", "tell64"):
        assert tell(words, n, role == "tell32", YIELD)
    else:
        assert dekker(words, 1, role == "fenced", YIELD) >= 0


RUN = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("stress", sys.argv[1])
stress = importlib.util.module_from_spec(spec)
sys.modules["stress"] = stress
spec.loader.exec_module(stress)
stress.side(sys.argv[2], sys.argv[3], int(sys.argv[4]))
"""


@pytest.fixture
def other(tmp_path):
    """Starts the other side; returns the shared words when both have met, and a way to end it."""
    path = tmp_path / "shared"
    started = []

    def start(role, n=0):
        np.zeros(LINE + WORDS, np.uint64).tofile(path)
        words = np.memmap(path, np.uint64, "r+")
        prepare()
        arguments = [sys.executable, "-c", RUN, __file__, str(path), role, str(n)]
        started.append(subprocess.Popen(arguments))
        assert meet(words, 1, YIELD), "the other process did not come"
        return words[LINE:], lambda: started[-1].wait(60)

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_no_increment_is_lost(other):
    n = 300_000
    words, end = other("count", n)
    count_up(words, n)
    assert end() == 0
    assert words[COUNTER] == words[NARROW] == words[COUNTER + 1] == 2 * n


@pytest.mark.parametrize("role", ["tell64", "tell32"])
def test_data_is_there_when_the_flag_is(other, role):
    n = 3_000_000
    words, end = other(role, n)
    assert listen(words, n, role == "tell32", YIELD) == 0, "stale data behind a flag"
    assert end() == 0


def both_zero(words, rounds):
    seen = words[SEEN : SEEN + 2 * rounds].reshape(rounds, 2)
    assert seen.max() == 1
    return int((seen.sum(axis=1) == 0).sum())


def test_a_fence_keeps_loads_behind_stores(other):
    words, end = other("fenced")
    rounds = dekker(words, 0, True, YIELD)
    assert end() == 0
    assert rounds > 0
    assert both_zero(words, rounds) == 0, "both sides loaded before their stores were visible"


def test_that_would_fail_without_the_fence(other):
    """The proof that the test above can fail: x86 and ARM both let a load pass a store."""
    words, end = other("bare")
    rounds = dekker(words, 0, False, YIELD)
    assert end() == 0
    assert rounds > 0
    if not both_zero(words, rounds):
        pytest.skip(f"{os.cpu_count()} processors: the sides hardly ran at once, nothing was shown")
