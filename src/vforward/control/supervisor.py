# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells who started it, where that is systemd: that it forwards, that it still does.

A datagram of lines KEY=VALUE to the socket $NOTIFY_SOCKET; the watchdog's pulse is sent only when each worker
has ended a round since the last one. Sources: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

PATIENCE_US = 120_000_000
"""How long a step of the start may take: the longest compiles for some seconds."""


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
        self._pulse_s = _watchdog_s(environment) / 2
        self._rounds: Sequence[int] = ()
        self._told = self._starting = clock()

    def starting(self) -> None:
        """The start is under way, and takes its time."""
        if self._clock() - self._starting >= 1:
            self._starting = self._clock()
            self._tell(f"EXTEND_TIMEOUT_USEC={PATIENCE_US}")

    def ready(self) -> None:
        """Packets are forwarded."""
        self._tell("READY=1")

    def alive(self, rounds: Sequence[int]) -> None:
        """How many rounds each worker has done by now. To be called more often than the watchdog's time."""
        if not self._pulse_s or self._clock() - self._told < self._pulse_s:
            return
        advanced = len(rounds) != len(self._rounds) or all(
            now != before for now, before in zip(rounds, self._rounds, strict=True)
        )
        if advanced:
            self._rounds, self._told = rounds, self._clock()
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """It ends."""
        self._tell("STOPPING=1")

    def _tell(self, line: str) -> None:
        if self._to:
            with contextlib.suppress(OSError), socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
            ) as notify:
                notify.sendto(line.encode(), self._to)


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """The watchdog's time; 0: there is none, or not for this process."""
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(text) / 1e6
