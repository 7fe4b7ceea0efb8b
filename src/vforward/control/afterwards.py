# SPDX-License-Identifier: Apache-2.0
"""What is left to do when a change is in force: nothing that fails there undoes half of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vforward.errors import VforwardError

log = logging.getLogger(__name__)


@contextmanager
def afterwards(what: str, in_force: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """What fails inside is logged, if the change is in force by then; else raised. what: is being done."""
    try:
        yield
    except Exception as error:
        if not in_force():
            raise
        unexpected = None if isinstance(error, VforwardError | OSError) else error
        log.error(  # noqa: TRY400
            "the change is in force, but %s failed: %s", what, error, exc_info=unexpected
        )
