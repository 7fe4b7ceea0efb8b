# SPDX-License-Identifier: Apache-2.0
"""Connections of the API that wait for their client for too long are let go: others need their place.

Without this a client that says nothing, stops in the middle of a request or does not read its answer would
keep one of the server's connections, and a capture its forwarder's only one, for as long as it likes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

log = logging.getLogger(__name__)

PATIENCE_S = 30.0
LOOK_S = 1.0


class Patience:
    """Looks after the connections of servers. connections: gives uvicorn's protocols of now."""

    def __init__(
        self, connections: Callable[[], Iterable[Any]], seconds: float = PATIENCE_S
    ) -> None:
        self._connections, self._seconds = connections, seconds
        self._waiting: dict[Any, tuple[float, int]] = {}  # since when, with how much unread

    async def watch(self, look_s: float = LOOK_S) -> None:
        """Look for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(look_s)
            self.look(loop.time())

    def look(self, now: float) -> None:
        """End those that have waited too long. now: seconds that only grow."""
        before, self._waiting = self._waiting, {}
        for one in [*self._connections()]:
            if not _waits(one):
                continue
            unread = one.transport.get_write_buffer_size()
            since, was = before.get(one, (now, unread))
            if unread != was:
                since = now
            if now - since < self._seconds:
                self._waiting[one] = since, unread
                continue
            what = "did not read its answer" if unread else "did not say what it wants"
            log.warning("api: a client %s for %d s: let go", what, self._seconds)
            one.transport.abort()


def _waits(one: Any) -> bool:
    """Whether a connection waits for its client: to ask, to go on asking, or to read."""
    if one.cycle is None or one.flow.write_paused:
        return True
    return bool(one.cycle.more_body and not one.cycle.response_started)
