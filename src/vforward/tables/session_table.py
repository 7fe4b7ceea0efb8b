# SPDX-License-Identifier: Apache-2.0
"""session_table: the control plane's side of a shard of sessions: settings, list, filter, count, kill.

What it reads the worker may be changing: a session that ends or begins while it is listed may be left
out, or be listed with what its record has next. Nothing is written but settings, and the ring by which
the worker is told to end sessions.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.memory.arena import Arena
from vforward.rings.spsc import Ring, items_for
from vforward.tables import session as t
from vforward.tables import session_check

KILLS = 4096
"""Sessions that may wait to be ended."""


class Sessions:
    """A shard: its segments in an arena, and what may be asked of it while a worker runs."""

    def __init__(self, arena: Arena, capacity: int, *, worker: int = 0) -> None:
        """Room for capacity sessions, rounded up to 2**k - 1."""
        self.capacity = t.power_of_two(capacity + 1) - 1
        words = t.words_for(self.capacity)
        self.array: NDArray[np.uint64] = arena.make(f"sessions-{worker}", words, np.uint64)
        t.prepare(self.array, self.capacity, os.urandom(48))
        kills = arena.make(f"session-kills-{worker}", items_for(KILLS, np.uint64), np.uint64)
        self._kills = Ring(kills)
        self.parts = t.arrays(self.array)

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """What nodes take."""
        return {"sessions": self.array, "session_kills": self._kills.array}

    def set_timeout(self, kind: str, seconds: int) -> None:
        """Set a timeout, by one of session.KINDS. Felt by all sessions within 255 seconds."""
        if kind not in t.KINDS:
            msg = f"no timeout {kind!r}; there are: {', '.join(t.KINDS)}"
            raise ValueError(msg)
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

    def share(self, worker: int, workers: int, seed: bytes, strays: NDArray[np.uint64]) -> None:
        """Be the shard of one of several workers, who all have the seed (16 bytes) and the strays."""
        self.array[[t.WORKERS, t.WORKER]] = workers, worker
        self.array[t.HOME_SEED : t.HOME_SEED + 2] = np.frombuffer(seed, np.uint64)
        self.array[[t.STRAYS_AT, t.STRAYS_WORDS]] = strays.ctypes.data, strays.size

    def kill(self, numbers: Any) -> int:
        """Tell the worker to end sessions, those that are open now. Returns how many it was told of.

        Less than there are when the ring is full: try again. One thread at a time.
        """
        numbers = np.atleast_1d(np.asarray(numbers, np.int64))
        generation = self.parts.cold["generation"][numbers].astype(np.uint64)
        open_ = generation & np.uint64(1) == 1
        words = generation << np.uint64(32) | numbers.astype(np.uint64)
        return self._kills.push(words[open_])

    def statistics(self) -> dict[str, int]:
        """Counts: sessions now, and what became of all that there were."""
        names = ("opened", "expired", "evicted", "killed", "reopened", "refused")
        words = self.array[t.COUNTERS : t.COUNTERS + len(names)].tolist()
        now = {"open": int(self.array[t.OPEN]), "embryonic": int(self.array[t.EMBRYONIC])}
        return {"capacity": self.capacity, **now, **dict(zip(names, words, strict=True))}

    def numbers(self) -> NDArray[np.int64]:
        """The records of all open sessions."""
        used = int(self.array[t.UNUSED])
        return np.flatnonzero(self.parts.hot["state"][:used])

    def check(self) -> None:
        """Assert that the table makes sense, while no worker runs."""
        session_check.check(self.array)

    def clear(self) -> None:
        """End all sessions, while no worker runs. Settings stay."""
        settings = self.array[: t.HEADER].copy()
        keep = [t.NOW, t.SWEPT, t.NEXT_AT, t.HZ, t.SETTINGS_LOOSE, *range(t.TIMEOUTS, t.SCRATCH)]
        keep += range(t.WORKERS, t.STRAYS_WORDS + 1)
        self.array[:] = 0
        t.prepare(self.array, self.capacity, os.urandom(48))
        self.array[keep] = settings[keep]


class Ends(NamedTuple):
    """An end of many sessions: its addresses in two halves (IPv4: high is 0) and its ports."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    port: NDArray[np.uint64]


def ends(hot: NDArray[Any], *, reply: bool = False) -> tuple[Ends, Ends]:
    """The initiator's and the responder's end of each of so many records.

    reply: as the responder has them, behind NAT; as the initiator has them otherwise.
    """
    low, half = np.uint64(0xFFFFFFFF), np.uint64(0xFFFF)
    six = hot["flags"] & t.SIX != 0
    ports6 = hot["ports"].astype(np.uint64)
    ports, both = (hot["k2"], hot["k3"]) if reply else (hot["k0"], hot["k1"])
    source = both >> np.uint64(32), ports >> np.uint64(16) & half
    destination = both & low, ports & half
    first, last = (destination, source) if reply else (source, destination)
    zero = np.zeros_like(both)
    return (
        Ends(
            np.where(six, hot["k0"], zero),
            np.where(six, hot["k1"], first[0]),
            np.where(six, ports6 >> np.uint64(16), first[1]),
        ),
        Ends(
            np.where(six, hot["k2"], zero),
            np.where(six, hot["k3"], last[0]),
            np.where(six, ports6 & half, last[1]),
        ),
    )
