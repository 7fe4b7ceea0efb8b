"""Several workers of one graph: together, and none does what another does."""

from threading import Event, Thread

import numpy as np
import pytest

from graph.kernels import Rig, until
from vforward.errors import VforwardError
from vforward.graph import control as c
from vforward.graph import workers as module
from vforward.graph.build import Graph
from vforward.graph.workers import Workers
from vforward.memory.arena import Arena


class Several(Rig):
    """A rig whose graph is for n workers; each has its own source of packets, all one sink."""

    def __init__(self, n):
        self.n = n
        super().__init__()
        arena = self.graph.arena
        self.graph = Graph(arena, self.pool, self.n_ports, n)
        self.lefts = [np.array([0, 0, 0, 0], np.uint64) for _ in range(n)]
        self.seens = [np.zeros(self.packets, np.uint64) for _ in range(n)]

    def lay(self):
        from graph.kernels import SINK, SOURCE

        ways = np.zeros(1, np.uint8)
        self.graph.add(
            SOURCE,
            "source",
            edges=["e0"],
            own=[{"left": left, "ways": ways} for left in self.lefts],
        )
        self.graph.wire("source", self.graph.members["source"].edges[0], "sink")
        self.graph.add(SINK, "sink", own=[{"seen": seen} for seen in self.seens])
        self.graph.build()
        self.workers = Workers(self.graph.plans)
        self.workers.prepare()
        return self

    def sunk(self):
        return [int(share[0]) for share in self.graph.members["sink"].shares]


@pytest.fixture
def two():
    rig = Several(2).lay()
    yield rig
    rig.workers.close()


def test_each_worker_has_its_own_source_frames_and_counts(two):
    two.lefts[0][0], two.lefts[1][0] = 100, 40
    two.workers.run_until_idle()
    assert two.sunk() == [100, 40]
    assert two.graph.members["sink"].counts.tolist()[0] == 140
    two.pool.check()


def test_they_live_side_by_side(two):
    two.workers.start()
    assert two.workers.running
    two.lefts[0][0], two.lefts[1][0] = 1000, 2000
    until(lambda: two.sunk() == [1000, 2000])
    assert two.workers.quiesce(20)
    with pytest.raises(VforwardError, match="while its thread is running"):
        two.workers.start()
    assert two.workers.running
    two.workers.stop()
    assert not two.workers.running
    two.pool.check()


def test_a_quiet_point_waits_for_the_last_of_them(two):
    two.workers.start()
    until(lambda: all(int(w.plan.control[c.STATE]) == c.RUNNING for w in two.workers))
    held, leave = Event(), Event()

    def hold():  # as if the second were in a round of a caller's
        with two.workers[1].inline:
            held.set()
            leave.wait(60)

    thread = Thread(target=hold)
    thread.start()
    try:
        assert held.wait(60)
        assert not two.workers.quiesce(0.05)
    finally:
        leave.set()
        thread.join()
    assert two.workers.quiesce(20)
    two.workers.stop()


def test_an_input_is_polled_where_it_is_said(two):
    two.graph.poll(0, "source", False)
    two.lefts[0][0], two.lefts[1][0] = 10, 20
    two.workers.run_until_idle()
    assert two.sunk() == [0, 20]
    two.graph.poll(0, "source", True)
    two.workers.run_until_idle()
    assert two.sunk() == [10, 20]


def test_a_thread_that_cannot_start_leaves_none(two, monkeypatch):
    def fails():
        raise VforwardError("no")

    monkeypatch.setattr(two.workers[1], "start", fails)
    with pytest.raises(VforwardError, match="no"):
        two.workers.start()
    assert not any(worker.running for worker in two.workers)


def test_which_cores(monkeypatch):
    monkeypatch.setattr(module, "available", lambda: [1, 2, 4, 5])
    assert module.number(3) == 3
    assert module.number("auto") == 3
    assert module.cores(1) == [None]
    assert module.cores(1, 4) == [4]
    assert module.cores(2) == [4, 5]
    assert module.cores(4) == [1, 2, 4, 5]
    assert module.cores(2, 2) == [2, 4]
    assert module.cores(5) == [None] * 5
    monkeypatch.setattr(module, "available", lambda: [0])
    assert module.number("auto") == 1


def test_segments_are_each_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Arena.create("two") as arena:
        rig = Several.__new__(Several)
        rig.buffers, rig.packets, rig.n_ports, rig.given = 2048, 64, 4, {}
        Several.__init__(rig, 2)
        rig.graph.arena = arena
        rig.lay()
        assert {"control", "control-1", "stats", "stats-1", "counts-1", "trace-1"} <= {
            path.name for path in arena.path.iterdir()
        }
        assert int(arena.open("control-1")[c.TRACE_NEXT]) == 32768
        rig.workers.close()
