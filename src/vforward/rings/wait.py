# SPDX-License-Identifier: Apache-2.0
"""How a thread waits for descriptors: by poll(2), since select(2) takes none above 1023."""

from __future__ import annotations

import select
from collections.abc import Iterable


def readable(fds: Iterable[int], timeout_s: float | None = None) -> set[int]:
    """Wait until some of these descriptors can be read, at most so long. Returns which.

    One whose other side has gone counts: to read says so.
    """
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    limit = None if timeout_s is None else 1000 * max(0.0, timeout_s)
    return {fd for fd, _ in poller.poll(limit)}
