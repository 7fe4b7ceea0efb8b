# SPDX-License-Identifier: Apache-2.0
"""Work on several CPUs at one time, each in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any


def at_once(*works: tuple[int, Callable[[], Any]], first: bool = False) -> float:
    """Seconds from when all threads are there until the last one has done its work.

    works: CPUs, and what is called on them, once. first: before everything else there, if this process may
    (SCHED_FIFO): for work that ends by itself. Raises AssertionError where one of them has raised.
    """
    there = threading.Barrier(len(works))
    spans: list[tuple[float, float]] = []

    def side(cpu: int, work: Callable[[], Any]) -> None:
        os.sched_setaffinity(0, {cpu})
        if first:
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        there.wait()
        start = time.perf_counter()
        work()
        spans.append((start, time.perf_counter()))

    threads = [threading.Thread(target=side, args=one) for one in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(spans) != len(works):
        msg = "a side has failed; its error is above"
        raise AssertionError(msg)
    starts, ends = zip(*spans, strict=True)
    return max(ends) - min(starts)
