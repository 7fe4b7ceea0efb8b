# SPDX-License-Identifier: Apache-2.0
"""Lookup tables: flat arrays that the control plane writes and that workers read (or own)."""

from vforward.errors import VforwardError


class TableFull(VforwardError):
    """A table has no room for an entry; ``done`` entries of the batch were applied before it."""

    def __init__(self, message: str, done: int) -> None:
        super().__init__(message)
        self.done = done
