# SPDX-License-Identifier: Apache-2.0
"""A lock that many share, or that one has alone.

Who wants it alone waits for those who share it; who comes after him waits for him. So changes at run time
go on beside each other, and none of them meets a configuration halfway in force (control.reload).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """See the module.

    Who has it alone may take it again. Who shares it takes it once: a second time he could wait for one
    who waits for him.
    """

    def __init__(self) -> None:
        self._door = threading.RLock()
        """Held by who has it alone or waits for that, and for a moment by who begins to share it."""
        self._fewer = threading.Condition()
        self._sharing = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Nobody has it alone while the block lasts."""
        with self._door, self._fewer:
            self._sharing += 1
        try:
            yield
        finally:
            with self._fewer:
                self._sharing -= 1
                self._fewer.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else has it while the block lasts."""
        with self._door:
            with self._fewer:
                self._fewer.wait_for(lambda: not self._sharing)
            yield
