# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells who started it, where that is systemd: that it forwards, that it still does.

A datagram KEY=VALUE to the socket $NOTIFY_SOCKET. The watchdog's pulse comes from a thread of its own, so
that nothing long that the others do looks like the end; it says that each worker has ended a round since
the last one, which one that sleeps does too. Sources: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence

PATIENCE_US = 120_000_000
"""How long a step of the start may take: the longest compiles for some seconds."""
PULSES = 4
"""In the watchdog's time."""


class Supervisor:
    """Tells it to who listens at environment's NOTIFY_SOCKET, or nobody. clock: seconds that only grow."""

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._to = "\0" + path[1:] if path.startswith("@") else path
        self._clock = clock
        self._period_s = _watchdog_s(environment) / PULSES
        self._rounds: Sequence[int] = ()
        self._starting = clock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def starting(self) -> None:
        """The start is under way, and takes its time."""
        if self._clock() - self._starting >= 1:
            self._starting = self._clock()
            self._tell(f"EXTEND_TIMEOUT_USEC={PATIENCE_US}")

    def ready(self, rounds: Callable[[], Sequence[int]]) -> None:
        """Packets are forwarded; rounds says how many each worker has done by now. stopping must follow."""
        self._tell("READY=1")
        if self._to and self._period_s:
            self._thread = threading.Thread(
                target=self._watch, args=(rounds,), name="watchdog", daemon=True
            )
            self._thread.start()

    def stopping(self) -> None:
        """It ends. Harmless when it was not ready."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._tell("STOPPING=1")

    def pulse(self, rounds: Sequence[int]) -> None:
        """Tell the watchdog that all is well, if each worker has done a round since that was told last."""
        stuck = any(now == before for now, before in zip(rounds, self._rounds, strict=False))
        if not stuck:
            self._rounds = rounds
            self._tell("WATCHDOG=1")

    def _watch(self, rounds: Callable[[], Sequence[int]]) -> None:
        while not self._ended.wait(self._period_s):
            self.pulse(rounds())

    def _tell(self, line: str) -> None:
        if not self._to:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as notify:
            notify.sendto(line.encode(), self._to)


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """The watchdog's time; 0: there is none, or not for this process."""
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(text) / 1e6
