# SPDX-License-Identifier: Apache-2.0
"""How far long work is: loads nothing to draw with before there is something to draw."""

from __future__ import annotations

import sys
import time
from typing import Any

REPORT_S = 1.0
"""Between two lines of progress where there is no terminal."""


class Bar:
    """How far something is, on standard error: a bar, or without a terminal a line a second.

    A context manager: leaving it takes the bar away.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = time.monotonic()
        self._bar: Any = None

    def report(self, done: int, total: int, name: str, title: str = "") -> None:
        """Say how many steps are done, how many there are, and what is next.

        title: of what is done from now on, where that is something else.
        """
        self._title = title or self._title
        if self._bar is None and sys.stderr.isatty():
            self._bar = _new_bar()
            self._bar.start()
            self._task = self._bar.add_task(self._title)
        if self._bar is not None:
            text = f"{self._title} {name}"
            self._bar.update(self._task, completed=done, total=total, description=text)
        elif time.monotonic() - self._last >= REPORT_S:
            self._last = time.monotonic()
            sys.stderr.write(f"{self._title}: {done} of {total}, {name}\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Take the bar away. Harmless when repeated."""
        if self._bar is not None:
            self._bar.stop()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _new_bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from vforward.control.show import console

    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console(error=True), transient=True)
