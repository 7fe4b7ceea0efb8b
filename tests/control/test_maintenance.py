# SPDX-License-Identifier: Apache-2.0
"""Maintenance: every step is called, also when another fails; it ends when told."""

import threading

from vforward.control import maintenance
from vforward.control.maintenance import Maintenance


def test_a_step_is_given_the_time():
    seen = []
    Maintenance([seen.append, lambda now: seen.append(-now)]).step(7.5)
    assert seen == [7.5, -7.5]


def test_a_bad_step_does_not_end_the_thread(monkeypatch, caplog):
    monkeypatch.setattr(maintenance, "PERIOD_S", 0.001)
    calls, enough = [], threading.Event()

    def bad(now):
        calls.append(now)
        if len(calls) == 3:
            enough.set()
        msg = "out of order"
        raise RuntimeError(msg)

    kept = Maintenance([bad])
    kept.start()
    assert enough.wait(20)
    kept.stop()
    kept.stop()
    count = len(calls)
    assert calls == sorted(calls)
    assert "maintenance: a step failed" in caplog.text
    kept.start()
    kept.stop()
    assert len(calls) >= count
