"""Rows of workers, of an arena in chosen numbers."""

import numpy as np
import pytest

import fake_forwarder as fake
from vforward.control import observe
from vforward.control.observe_workers import workers
from vforward.graph import control as c


@pytest.fixture
def view(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with fake.arena() as made:
        second = made.make("control-1", c.CONTROL_WORDS, np.uint64)
        second[:] = made.open("control")
        second[c.STATE], second[c.SLEEPS] = c.PAUSED, 9
        for name in ("stats", "taken", "counts"):
            shape = made.open(name).shape
            made.make(f"{name}-1", shape, np.uint64)[:] = made.open(name)
            made.make(f"{name}-1-cleared", shape, np.uint64)
        made.make("trace-1", c.TRACE_ROOM, c.TRACE)
        about = made.read_document("forwarder")
        made.write_document("forwarder", about | {"workers": 2})
        queues = [{"core": 3, "queues": ["lan 0"]}, {"core": None, "queues": []}]
        made.write_document("workers", queues)
        with observe.attach("fake") as attached:
            yield attached


def test_they_are_shown_apart_and_together(view):
    one, two = workers(view)
    assert (one.number, one.core, one.state, one.queues) == (0, 3, "running", ["lan 0"])
    assert (two.number, two.core, two.state, two.queues) == (1, None, "paused", [])
    assert one.packets == two.packets == 100
    assert (one.sleeps, two.sleeps) == (7, 9)
    assert one.load == pytest.approx(4000 / (2 * fake.HZ), rel=0.2)
    what = view.runtime()
    assert (what.packets, what.sleeps, what.state) == (200, 16, "paused")
    assert what.load == pytest.approx(one.load)
    assert [row.rx.packets for row in view.ports() if row.rx] == [200]


def test_cleared_they_begin_at_zero(view):
    view.clear()
    assert [(row.packets, row.sleeps) for row in workers(view)] == [(0, 0), (0, 0)]
