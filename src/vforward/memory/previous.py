# SPDX-License-Identifier: Apache-2.0
"""previous: what the last owner of an arena left, to be read by the next one.

It was killed at any moment, or is another version, or somebody has damaged it: so nothing is believed. A
segment's header is checked, its type and its layout hash; what its words say is for the reader to check.
Who has taken over what is wanted says so by Arena.taken_over. Until then all of it stays as it is, and
after a crash in between the next owner finds the same.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ArenaError
from vforward.memory.arena import PAGE, checked
from vforward.memory.mapping import map_file


class Previous:
    """The files in a directory that Arena.previous names. layout_hash: what segments have to have."""

    def __init__(self, path: Path, layout_hash: int) -> None:
        self.path = path
        self._layout_hash = layout_hash

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return (self.path / name).exists()

    def open(self, name: str, dtype: Any, *, dimensions: int = 1) -> NDArray[Any]:
        """Map a segment, read-only. Raises ArenaError when it is missing, foreign or damaged."""
        where = f"segment {name!r} of the last process"
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ArenaError(f"{where}: {error.strerror}") from error
        try:
            length = os.fstat(descriptor).st_size
            if length < PAGE:
                raise ArenaError(f"{where}: {length} bytes, too short for a header")
            memory = map_file(descriptor, length, writable=False)
        except OSError as error:
            raise ArenaError(f"{where}: {error.strerror}") from error
        finally:
            os.close(descriptor)
        kind, shape, layout_hash = checked(memory, where)
        if kind != np.dtype(dtype) or len(shape) != dimensions:
            raise ArenaError(f"{where}: {kind}{list(shape)} is not its type")
        if layout_hash != self._layout_hash:
            raise ArenaError(f"{where}: of a version whose tables are laid out otherwise")
        size = int(np.prod(shape)) * kind.itemsize
        return np.frombuffer(memory, np.uint8)[PAGE:][:size].view(kind).reshape(shape)

    def document(self, name: str) -> Any:
        """A document. Raises ArenaError when it is missing or no JSON."""
        try:
            return json.loads((self.path / f"{name}.json").read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ArenaError(f"document {name!r} of the last process: {error}") from error
