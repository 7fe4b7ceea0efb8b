# SPDX-License-Identifier: Apache-2.0
"""session_table: the control plane's side of a shard of sessions: settings, list, filter, count, kill.

What it reads the worker may be changing: a session that ends or begins while it is listed may be left
out, or be listed with what its record has next. Nothing is written but settings, and the ring by which
the worker is told to end sessions.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.memory.arena import Arena
from vforward.rings.spsc import Ring, items_for
from vforward.tables import session as t

KILLS = 4096
"""Sessions that may wait to be ended."""


class Sessions:
    """A shard: its segments in an arena, and what may be asked of it while a worker runs."""

    def __init__(self, arena: Arena, capacity: int, *, nat: bool = True, worker: int = 0) -> None:
        """Room for capacity sessions, rounded up to 2**k - 1. nat: whether they may have two keys."""
        self.capacity = t.power_of_two(capacity + 1) - 1
        words = t.words_for(self.capacity, nat=nat)
        self.array: NDArray[np.uint64] = arena.make(f"sessions-{worker}", words, np.uint64)
        t.prepare(self.array, self.capacity, os.urandom(48), nat=nat)
        kills = arena.make(f"session-kills-{worker}", items_for(KILLS, np.uint64), np.uint64)
        self._kills = Ring(kills)
        self.parts = t.arrays(self.array)

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """What nodes take."""
        return {"sessions": self.array, "session_kills": self._kills.array}

    def set_timeout(self, kind: str, seconds: int) -> None:
        """Set a timeout, by one of session.KINDS. Felt by all sessions within 255 seconds."""
        if not 1 <= seconds <= t.TIMEOUT_MAX:
            msg = f"timeout {kind}: {seconds} s: from 1 to {t.TIMEOUT_MAX}"
            raise ValueError(msg)
        self.array[t.TIMEOUTS + t.KINDS.index(kind)] = seconds

    def set_loose(self, loose: bool) -> None:
        """Whether TCP sessions may be picked up in their middle."""
        self.array[t.SETTINGS_LOOSE] = loose

    def set_clock(self, hz: float) -> None:
        """Cycles that a second has; 0: somebody else sets the time."""
        self.array[t.HZ] = round(hz)
