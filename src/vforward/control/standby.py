# SPDX-License-Identifier: Apache-2.0
"""A second process of a forwarder's name, which takes the first one's place when that has ended.

Most of what a start takes is loading: so it is done beforehand, and then waited. What is left is to open
ports and to take over what the first one knew (control.restore).
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable, Iterator

from vforward.errors import ArenaError
from vforward.memory.arena import Arena

LOOK_S = 0.5
STARTING_S = 0.05
"""Until the next look at an owner that has not published itself yet."""


def wait(name: str, stop: threading.Event, waiting: Callable[[], None] = lambda: None) -> None:
    """Return when no forwarder of that name runs, or stop is set. waiting: called each LOOK_S."""
    while not stop.is_set():
        try:
            pid = _owner(name)
        except ArenaError:
            return
        with _ended(pid) as end:
            if end < 0:
                stop.wait(STARTING_S)
                continue
            poll = select.poll()
            poll.register(end, select.POLLIN)
            while not stop.is_set() and not poll.poll(1000 * LOOK_S):
                waiting()


def _owner(name: str) -> int:
    """The process that runs, 0: it says nothing yet. Raises ArenaError: there is none."""
    arena = Arena.attach(name)
    try:
        return int(arena.read_document("forwarder")["pid"])
    except (ArenaError, LookupError, TypeError, ValueError):
        return 0


@contextlib.contextmanager
def _ended(pid: int) -> Iterator[int]:
    """A descriptor, ready when the process has ended and its files are closed; -1: there is no such one."""
    try:
        end = os.pidfd_open(pid) if pid > 0 else -1
    except OSError:
        end = -1
    try:
        yield end
    finally:
        if end >= 0:
            os.close(end)
