# SPDX-License-Identifier: Apache-2.0
"""Every buffer is in exactly one place: step by step, between threads, and between processes."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vforward.jit.atomics import store_release64
from vforward.jit.intrinsics import address
from vforward.jit.kernel import kernel
from vforward.layout import CHAINED, NIL
from vforward.memory.arena import Arena
from vforward.memory.pool import (
    BATCH,
    CACHE_HEADER,
    CACHE_ROOM,
    HEADER_WORDS,
    Pool,
    pop_batch,
    push_batch,
    put,
    put_one,
    put_rest,
    take,
    take_one,
)
from vforward.testing import heap_pool


@kernel
def take_rows(pool, rows, wanted):
    return take(pool, rows, wanted)


@kernel
def take_a_row(pool):
    return take_one(pool)


@kernel
def put_rows(pool, meta, rows, n):
    put(pool, meta, rows, n)


@kernel
def put_a_row(pool, row):
    put_one(pool, row)


@kernel
def churn(stack, owner, me, rounds, most, seed):
    """Take and give back batches of other sizes each time. Returns rows seen in two hands at once.

    owner[row] is who has it: plain stores, since whoever takes a row has it alone.
    """
    rows = owner[owner.size - (me + 1) * most : owner.size - me * most]
    wrong = 0
    state = np.uint64(seed)
    for _ in range(rounds):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        wanted = np.int64(state >> np.uint64(33)) % most + 1
        n = pop_batch(stack, rows, wanted)
        for i in range(n):
            row = np.int64(rows[i])
            wrong += owner[row] != np.uint64(0)
            owner[row] = np.uint64(me + 1)
        for i in range(n):
            row = np.int64(rows[i])
            wrong += owner[row] != np.uint64(me + 1)
            owner[row] = np.uint64(0)
        push_batch(stack, rows, n)
    return wrong


@kernel
def swap_head(stack, head):
    store_release64(address(stack), head)


def head_of(pool):
    return int(pool.stack[:2].view(np.uint64)[0])


def link(pool, rows):
    """Make one packet of these buffers."""
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        pool.meta[row]["next"] = NIL if following is None else following
        pool.meta[row]["flags"] = 0 if following is None else CHAINED


class Pools(RuleBasedStateMachine):
    """A pool of 700 with three workers' caches and the control plane; packets of 1 to 6 buffers."""

    SIZE = 700

    def __init__(self):
        super().__init__()
        self.pool = heap_pool(self.SIZE)
        self.workers = [self.pool.cache() for _ in range(3)]
        self.packets = []

    @property
    def held(self):
        return sum(map(len, self.packets))

    def keep(self, rows, length):
        rows = [int(row) for row in rows]
        assert all(row < self.SIZE for row in rows)
        for start in range(0, len(rows), length):
            part = rows[start : start + length]
            link(self.pool, part)
            self.packets.append(part)

    @rule(worker=st.integers(0, 2), n=st.sampled_from([1, 2, 255, 256]), length=st.integers(1, 6))
    def take(self, worker, n, length):
        cached = int(self.workers[worker][0])
        shared = int(self.pool.stack[:HEADER_WORDS].view(np.uint64)[1])
        rows = np.full(n, NIL, np.uint32)
        got = take_rows(self.workers[worker], rows, n)
        assert got == min(n, cached + shared), "short, though buffers were free"
        assert (rows[got:] == NIL).all()
        self.keep(rows[:got], length)

    @rule(worker=st.integers(0, 2))
    def take_one(self, worker):
        row = take_a_row(self.workers[worker])
        if row != NIL:
            self.keep([row], 1)

    @rule(n=st.sampled_from([0, 1, 300]))
    def control_takes(self, n):
        rows = self.pool.take(n)
        assert not self.pool.meta["flags"][rows].any()
        assert (self.pool.meta["next"][rows] == NIL).all()
        self.keep(rows, 1)

    @precondition(lambda self: self.packets)
    @rule(worker=st.integers(0, 2), data=st.data())
    def put(self, worker, data):
        n = data.draw(st.sampled_from([1, min(256, len(self.packets))]))
        gone, self.packets = self.packets[:n], self.packets[n:]
        rows = np.array([packet[0] for packet in gone], np.uint32)
        put_rows(self.workers[worker], self.pool.meta, rows, n)

    @precondition(lambda self: self.packets)
    @rule(worker=st.integers(0, 2))
    def put_one_of_a_single(self, worker):
        if len(self.packets[-1]) == 1:
            put_a_row(self.workers[worker], self.packets.pop()[0])

    @precondition(lambda self: self.packets)
    @rule(worker=st.integers(0, 2))
    def cut(self, worker):
        packet = self.packets.pop()
        put_rest(self.workers[worker], self.pool.meta, packet[0])
        assert not self.pool.meta[packet[0]]["flags"] & CHAINED
        self.packets.append(packet[:1])

    @precondition(lambda self: self.packets)
    @rule()
    def control_puts(self):
        gone, self.packets = self.packets[::2], self.packets[1::2]
        self.pool.put(np.array([packet[0] for packet in gone], np.uint32))

    @invariant()
    def whole(self):
        self.pool.check(packet[0] for packet in self.packets)
        assert self.pool.free == self.SIZE - self.held

    def teardown(self):
        self.pool.put(np.array([packet[0] for packet in self.packets], np.uint32))
        self.pool.check()
        assert self.pool.free == self.SIZE


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("n", [0, 1, 2, BATCH, BATCH + 1])
def test_a_pool_can_be_emptied_and_filled(n):
    pool = heap_pool(n)
    assert pool.free == n
    rows = pool.take(n + 10)
    assert sorted(rows) == list(range(n))
    assert take_a_row(pool.cache()) == NIL
    assert pool.free == 0
    pool.check(held=rows)
    pool.put(rows)
    pool.check()
    assert pool.free == n


def test_a_pool_lies_in_the_arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    with Arena.create("a") as arena:
        pool = Pool(arena, 10)
        pool.take(3)
        stack = Arena.attach("a").open("stack")
        assert stack.size == HEADER_WORDS + 10
        assert stack[:HEADER_WORDS].view(np.uint64)[1] == 0, "all are in the control plane's cache"


def test_a_cache_gives_back_what_is_too_much():
    pool = heap_pool(2 * CACHE_ROOM)
    rows = pool.take(CACHE_ROOM + 1)
    cache = pool.cache()
    for row in rows:
        put_a_row(cache, row)
    assert int(cache[0]) == CACHE_ROOM + 1 - BATCH
    pool.check()


def test_check_finds_what_is_lost_and_doubled():
    pool = heap_pool(10)
    rows = pool.take(3)
    pool.check(held=rows)
    with pytest.raises(AssertionError, match="lost or doubled"):
        pool.check(held=rows[1:])
    with pytest.raises(AssertionError, match="lost or doubled"):
        pool.check(held=[*rows, rows[0]])
    pool.put(rows)
    pool.put(rows[:1])
    with pytest.raises(AssertionError, match="lost or doubled"):
        pool.check()


def test_a_head_that_came_back_is_not_mistaken_for_the_same():
    """ABA: row 0 on top, taken, and put back above other rows: same row, other tag."""
    pool = heap_pool(8)
    before = head_of(pool)
    rows = np.zeros(3, np.uint32)
    assert pop_batch(pool.stack, rows, 3) == 3
    assert rows.tolist() == [0, 1, 2]
    push_batch(pool.stack, rows[2:], 1)
    push_batch(pool.stack, rows[:1], 1)
    after = head_of(pool)
    assert after & NIL == before & NIL == 0
    assert after != before, "a compare-and-swap of the old head would succeed"
    pool.check(held=[1])


def test_the_tag_may_wrap():
    pool = heap_pool(4)
    swap_head(pool.stack, np.uint64(0xFFFFFFFF << 32))
    rows = np.zeros(4, np.uint32)
    assert pop_batch(pool.stack, rows, 2) == 2
    assert head_of(pool) == 2
    push_batch(pool.stack, rows, 2)
    pool.check()


def test_links_out_of_bounds_end_the_stack():
    """Read while others change the stack a link may be anything; so bounds are checked."""
    pool = heap_pool(4)
    pool.stack[HEADER_WORDS + 1] = 4
    rows = np.zeros(4, np.uint32)
    assert pop_batch(pool.stack, rows, 4) == 2


def test_a_loop_of_a_chain_ends():
    pool = heap_pool(4)
    row = int(pool.take(1)[0])
    pool.meta[row]["flags"], pool.meta[row]["next"] = CHAINED, row
    put_rest(pool.cache(), pool.meta, row)


ROUNDS = 60_000
MOST = 40


def shared(n, workers):
    """owner words, then each worker's room for rows."""
    return np.zeros(n + workers * MOST, np.uint64)


@pytest.mark.parametrize("n", [1, 2, 90, 1000])
def test_two_threads_lose_and_double_nothing(n):
    pool, owner = heap_pool(n), shared(n, 2)
    churn(pool.stack, owner, 0, 0, MOST, 1)  # compiled before the threads start
    found = [None, None]

    def work(me):
        found[me] = churn(pool.stack, owner, me, ROUNDS, MOST, me + 7)

    threads = [threading.Thread(target=work, args=(me,)) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0, 0]
    pool.check()
    assert pool.free == n


OTHER = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from test_pool import churn, MOST, ROUNDS
from vforward.memory.arena import Arena
arena = Arena.attach("a")
stack, owner = arena.open("stack", writable=True), arena.open("owner", writable=True)
churn(stack, owner, 1, 0, MOST, 1)
print("ready", flush=True)
sys.stdin.readline()
print(churn(stack, owner, 1, 4 * ROUNDS, MOST, 3), flush=True)
"""


def test_two_processes_lose_and_double_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    n = 90
    with Arena.create("a") as arena:
        pool = Pool(arena, n)
        owner = arena.make("owner", n + 2 * MOST, np.uint64)
        here = __file__.rsplit("/", 1)[0]
        child = subprocess.Popen(
            [sys.executable, "-c", OTHER, here],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        churn(pool.stack, owner, 0, 0, MOST, 1)
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("go\n")
        child.stdin.flush()
        assert churn(pool.stack, owner, 0, 4 * ROUNDS, MOST, 7) == 0
        assert child.communicate()[0] == "0\n"
        pool.check()
        assert pool.free == n


def test_a_process_killed_at_any_moment_leaves_the_stack_whole(tmp_path, monkeypatch):
    """It takes with it what it held, no more: at most MOST rows here."""
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    n = 200
    with Arena.create("a") as arena:
        pool = Pool(arena, n)
        owner = arena.make("owner", n + 2 * MOST, np.uint64)
        here = __file__.rsplit("/", 1)[0]
        endless = OTHER.replace("4 * ROUNDS", "1 << 40")
        for _ in range(3):
            child = subprocess.Popen(
                [sys.executable, "-c", endless, here],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert child.stdout.readline() == "ready\n"
            child.stdin.write("go\n")
            child.stdin.flush()
            churn(pool.stack, owner, 0, 20_000, MOST, 7)
            child.kill()
            child.communicate()
        rows = np.zeros(n, np.uint32)
        got = pop_batch(pool.stack, rows, n)
        assert n - 3 * MOST <= got <= n
        assert len(set(rows[:got].tolist())) == got
        assert CACHE_HEADER == 3
