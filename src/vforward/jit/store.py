# SPDX-License-Identifier: Apache-2.0
"""Compiled signatures on disk, one file for each: what Numba asks before it compiles.

Numba's own cache keeps an index for each function, which two processes may write at a time so that it
names one's code by the other's types, and goes by the time of the function's file alone. Here the
file's name is a hash of all that the code depends on (jit.cache), and a file is replaced as a whole.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core import caching, compiler, serialize

from vforward.jit import cache, objects, sources

log = logging.getLogger(__name__)


class Store(caching._Cache):
    """What a Numba dispatcher takes for its cache."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """function: undecorated."""
        self._function = function
        self._origin = sources.origin(function)

    @property
    def cache_path(self) -> str:
        """The directory of the module's code."""
        return str(cache.part(*self._origin))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled signature, or None."""
        objects.offer_symbols()
        try:
            saved = self._path(sig, target_context.codegen()).read_bytes()
        except FileNotFoundError:
            return None
        try:
            types, data = pickle.loads(saved)
            if types != sig:  # equal text, other types: nothing that has a name
                return None
            return compiler.CompileResult._rebuild(target_context, *data)
        except Exception as error:  # a file that a crash cut short raises what it likes
            log.warning("compiled code of %s is damaged: %s", self._function.__qualname__, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled signature, unless it holds addresses of this process, or the disk is full."""
        if data.lifted or data.library.has_dynamic_globals:
            return
        content = serialize.dumps((sig, data._reduce()))
        cache.keep(self._path(sig, data.codegen), content)

    def enable(self) -> None:
        """It always is."""

    def disable(self) -> None:
        """It never is."""

    def flush(self) -> None:
        """There is nothing to write."""

    def _path(self, sig: Any, codegen: Any) -> Path:
        text = f"{sig}{codegen.magic_tuple()}{sources.digest(self._function)}"
        name = f"{self._function.__qualname__.replace('<', '').replace('>', '')[-80:]}"
        return (
            Path(self.cache_path) / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.nbc"
        )
