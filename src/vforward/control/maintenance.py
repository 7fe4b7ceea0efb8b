# SPDX-License-Identifier: Apache-2.0
"""What has to be done now and then, and is nobody's answer to a packet: ageing of MACs.

Steps are called with the monotonic clock's seconds, from a thread while started.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

PERIOD_S = 0.25


class Maintenance:
    """Calls every step each PERIOD_S."""

    def __init__(self, steps: Sequence[Callable[[float], object]]) -> None:
        self._steps = steps
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def step(self, now: float) -> None:
        """Call every step once."""
        for step in self._steps:
            step(now)

    def start(self) -> None:
        """Call them from a thread until stop."""
        if self._thread is not None:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Harmless when repeated."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD_S):
            try:
                self.step(time.monotonic())
            except Exception:  # one bad step must not end the others for good
                log.exception("maintenance: a step failed")
