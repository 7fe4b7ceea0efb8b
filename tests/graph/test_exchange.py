# SPDX-License-Identifier: Apache-2.0
"""A graph takes another's place while a worker runs: nothing lost, doubled, overtaken or miscounted."""

import random
import threading
import time

import numpy as np
import pytest

from graph.kernels import BRANCH, IDLE, QUEUE, SINK, SOURCE, Heap, until
from vforward.errors import VforwardError
from vforward.graph import control as c
from vforward.graph import exchange as x
from vforward.graph.build import Graph
from vforward.graph.workers import Workers
from vforward.io import shim
from vforward.io.libc import libc_address
from vforward.jit import entries
from vforward.testing import heap_pool

PACKETS = 4096


class World:
    """n workers, each with a source and a sink; what is between them changes."""

    def __init__(self, n=1, *, sleeps=False):
        self.pool = heap_pool(16384)
        self.arena = Heap()
        self.graph = Graph(self.arena, self.pool, 4, n)
        self.lefts = [np.zeros(4, np.uint64) for _ in range(n)]
        self.seens = [np.zeros(PACKETS, np.uint64) for _ in range(n)]
        for left in self.lefts:
            left[1] = 3  # few at a time, so that there are many rounds
        self.lay(self.graph, ["b", "q"])
        self.graph.build()
        poll, read = (shim.address("vf_ppoll"), libc_address("read")) if sleeps else (0, 0)
        self.workers = Workers(self.graph.plans, poll=poll, read=read)
        self.workers.prepare()
        if sleeps:
            for plan in self.graph.plans:
                plan.control[c.SPIN_ROUNDS] = 20

    def lay(self, graph, between):
        """source -> each of between, of which those named q... are queues -> sink."""
        ways = np.zeros(1, np.uint8)
        own = [{"left": left, "ways": ways} for left in self.lefts]
        graph.add(SOURCE, "source", edges=["e0"], own=own)
        last, edge = "source", "e0"
        for name in between:
            node = QUEUE if name.startswith("q") else BRANCH
            graph.add(node, name, edges=["on"], ways=ways, step=np.zeros(1, np.uint64))
            graph.wire(last, edge, name)
            last, edge = name, "on"
        graph.add(SINK, "sink", own=[{"seen": seen} for seen in self.seens])
        graph.wire(last, edge, "sink")

    def swap(self, between, standing=None):
        new = self.graph.successor()
        self.lay(new, between)
        new.build()
        old = self.graph
        offers = [w.offer(old, new, n, ()) for n, w in enumerate(self.workers)]
        stood = self.workers.exchange(offers, standing)
        self.graph = new
        new.settle()
        old.release()
        return stood

    def count(self, name):
        return int(self.graph.members[name].counts[0])

    def stats(self, name):
        at = self.graph.members[name].number
        return sum(plan.stats.reshape(-1, c.STATS)[at] for plan in self.graph.plans)

    def taken(self, name, edge=0):
        at = self.graph.members[name].number
        return sum(int(plan.taken.reshape(-1, 256)[at, edge]) for plan in self.graph.plans)

    def sent(self):
        return sum(int(left[2]) for left in self.lefts)

    def dry(self):
        """Have the sources make no more; whether that is so: one that was at work has counted on."""
        for left in self.lefts:
            left[0] = 0
        assert self.workers.quiesce(20)
        return not any(int(left[0]) for left in self.lefts)

    def check(self):
        """All that came in has been seen, as often, and is counted everywhere."""
        n = self.sent()
        assert self.count("source") == self.count("sink") == n
        assert self.stats("source")[c.PACKETS] == self.stats("sink")[c.PACKETS] == n
        assert self.taken("source") == self.taken("sink", 255) == n
        self.pool.check()


@pytest.fixture(params=[(1, False), (1, True), (2, False), (2, True)], ids=str)
def world(request):
    made = World(request.param[0], sleeps=request.param[1])
    yield made
    made.workers.close()


@pytest.fixture
def two():
    made = World(2)
    yield made
    made.workers.close()


def test_fifty_exchanges_while_packets_run(world):
    rng = random.Random(7)
    for left in world.lefts:
        left[0] = 2**60
    world.workers.start()
    for turn in range(50):
        before = world.count("sink")
        until(lambda before=before: world.count("sink") > before)
        others = [f"{rng.choice('qb')}{turn}-{i}" for i in range(rng.randrange(4))]
        stood = world.swap(
            ["b", "q", *others]
        )  # rows of queues that are no more go to the sink at once
        assert all(clocks > 0 for clocks in stood)
        assert world.count("sink") >= before
    until(world.dry)
    until(lambda: world.count("sink") == world.sent())
    world.workers.stop()
    world.check()


def test_counters_go_by_name(world):
    for left in world.lefts:
        left[0] = 1000
    world.workers.run_until_idle()
    world.check()
    clocks = int(world.stats("source")[c.CLOCKS])
    world.swap(["b2", "q", "b"])
    world.check()
    assert world.stats("source")[c.CLOCKS] == clocks
    assert world.count("q") == world.count("b") == world.sent()
    assert world.count("b2") == 0
    for left in world.lefts:
        left[0] = 100
    world.workers.run_until_idle()
    world.check()
    assert world.count("b2") == 100 * len(world.workers)
    world.swap(["q", "b2"])
    assert world.count("b2") == 100 * len(world.workers)
    assert all(plan.control[c.GENERATION] == 2 for plan in world.graph.plans)
    assert any(name.startswith("stats") for name in world.arena.forgotten)


def test_kernels_that_the_old_graph_has_are_not_made_again(two, monkeypatch):
    made, build = [], entries.build

    def counted(name, kernel, written):
        made.append(kernel)
        return build(name, kernel, written)

    monkeypatch.setattr(entries, "build", counted)
    two.swap(["q", "b2"])
    assert made == []
    new = two.graph.successor()
    two.lay(new, ["b"])
    new.add(IDLE, "idle", result=np.zeros(1, np.uint64))
    new.wire("idle", new.members["idle"].edges[0], "sink")
    new.build()
    new.release()
    assert made == [IDLE.kernel]
    two.lefts[1][0] = 100
    two.workers.run_until_idle()
    two.check()


def test_what_waits_in_a_queue_goes_along_or_is_dropped_and_counted():
    """What an inner node gives to a queue waits there for the next round."""
    world = World()
    worker = world.workers[0]
    world.lefts[0][:2] = 600, 0
    worker.run_round()
    worker.run_round()
    assert (world.count("b"), world.count("sink")) == (512, 256)
    world.swap(["b", "b2", "q"])
    assert (world.count("b"), world.count("b2"), world.count("sink")) == (512, 0, 256)
    worker.run_round()
    assert (world.count("b"), world.count("b2"), world.count("sink")) == (600, 88, 512)
    world.swap(["b"])
    assert world.count("sink") == 600  # the sink is the last node, which gets what is dropped
    assert world.stats("sink")[c.FULL] == 88
    world.workers.run_until_idle()
    world.pool.check()
    world.workers.close()


def test_all_stand_before_one_goes_on(two):
    for left in two.lefts:
        left[0] = 2**60
    two.workers.start()
    seen = []

    def standing():
        before = [int(left[2]) for left in two.lefts]
        assert two.workers.quiesce(5), "who stands is at a quiet point"
        time.sleep(0.01)
        seen.append(before == [int(left[2]) for left in two.lefts])

    two.swap(["b", "q"], standing)
    assert seen == [True]
    before = two.count("sink")
    until(lambda: two.count("sink") > before)


def test_what_is_raised_meanwhile_calls_it_off(two):
    for left in two.lefts:
        left[0] = 2**60
    two.workers.start()
    old = two.graph

    def standing():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        two.swap(["b", "q"], standing)
    assert two.graph is old
    before = two.count("sink")
    until(lambda: two.count("sink") > before + 100)
    two.swap(["b", "q"])
    until(lambda: two.count("b") > 100)


def test_who_is_stopped_meanwhile_calls_it_off(two):
    """One of two workers stands and the other never comes."""
    two.workers.start()
    old, new = two.graph, two.graph.successor()
    two.lay(new, ["q"])
    new.build()
    offers = [w.offer(old, new, n, ()) for n, w in enumerate(two.workers)]
    turn = np.zeros(1, np.uint64)
    offers[0].begin(turn, 2, c.RUN)
    two.workers[0].take(offers[0])
    until(lambda: turn[0] == 1)
    rounds = int(old.plans[0].control[c.ROUNDS])
    until(lambda: old.plans[0].control[c.ROUNDS] > rounds)  # quiet points go on
    two.workers.stop()
    assert turn[0] == x.CALLED_OFF
    assert not offers[0].done
    two.workers.run_until_idle()


def test_a_worker_that_does_not_come(two, monkeypatch):
    monkeypatch.setattr("vforward.graph.workers.PATIENCE_S", 0.05)
    two.workers.start()
    two.workers[1].tell(c.STOP)
    until(lambda: not two.workers[1].running)
    with pytest.raises(VforwardError, match="some workers run and others do not"):
        two.swap(["q"])


def test_a_paused_worker_stays_paused(world):
    world.workers.start()
    world.workers.pause()
    for left in world.lefts:
        left[0] = 10
    world.swap(["b", "q"])
    until(lambda: all(p.control[c.STATE] == c.PAUSED for p in world.graph.plans))
    assert world.sent() == 0
    world.workers.resume()
    until(lambda: world.count("sink") == 10 * len(world.workers))


def test_quiet_points_over_exchanges(world):
    """Whoever waits for one while graphs change gets one."""
    world.workers.start()
    stop, found = threading.Event(), []

    def ask():
        while not stop.is_set():
            found.append(world.workers.quiesce(20))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for i in range(20):
            world.swap(["q", f"b{i}"])
    finally:
        stop.set()
        thread.join(60)
    assert found
    assert all(found)


def test_stopped_and_started_after_an_exchange(world):
    world.workers.start()
    world.swap(["b", "q"])
    world.workers.stop()
    world.swap(["b", "q"])
    for left in world.lefts:
        left[0] = 50
    world.workers.start()
    until(lambda: world.count("sink") == 50 * len(world.workers))
    world.workers.stop()
    world.check()
