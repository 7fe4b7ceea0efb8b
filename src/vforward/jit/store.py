# SPDX-License-Identifier: Apache-2.0
"""Compiled signatures on disk, one file for each: what Numba asks before it compiles.

Numba's own cache keeps an index for each function, which two processes may write at a time so that it
names one's code by the other's types, and goes by the time of the function's file alone. Here the
file's name is a hash of all that the code depends on (jit.cache), and a file is replaced as a whole.

What is loaded is machine code. LLVM's text of it, which only the compiler of a caller needs, is not read
before that asks: to parse it and to list its symbols took more than half of the time of each.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import binding as llvm
from numba.core import caching, compiler, serialize
from numba.core.codegen import JITCodeLibrary

from vforward.jit import cache, objects, sources

log = logging.getLogger(__name__)


class _Loaded(JITCodeLibrary):
    """A library whose machine code is there, and whose LLVM module is read when a caller is compiled."""

    def __init__(self, codegen: Any, state: Any, symbols: list[str]) -> None:
        name, _, (code, self._bitcode) = state
        super().__init__(codegen, name)
        engine = codegen._engine
        engine._ee.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine._defined_symbols.update(symbols)
        engine.finalize_object()
        self._disable_inspection = self._finalized = True

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module = llvm.parse_bitcode(self._bitcode)
        return self._shared_module


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
            types, (state, *data), symbols = pickle.loads(saved)
            if types != sig:  # equal text, other types: nothing that has a name
                return None
            library = _Loaded(target_context.codegen(), state, symbols)
            return _rebuilt(target_context, library, *data)
        except Exception as error:  # a file that a crash cut short raises what it likes
            log.warning("compiled code of %s is damaged: %s", self._function.__qualname__, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled signature, unless it holds addresses of this process, or the disk is full."""
        if data.lifted or data.library.has_dynamic_globals:
            return
        module = data.library._get_module_for_linking()
        there = [*module.functions, *module.global_variables]
        symbols = [item.name for item in there if not item.is_declaration]
        content = serialize.dumps((sig, data._reduce(), symbols))
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


def _rebuilt(
    context: Any, library: _Loaded, made: Any, environment: Any, signature: Any, *rest: Any
) -> Any:
    """What Numba makes of a library and what CompileResult._reduce kept besides."""
    objectmode, lifted, annotation, reload_init, environments = rest
    for again in reload_init:
        again()
    entry = context.get_executable(library, made, environment)
    for one in environments:
        library.codegen.set_env(one.env_name, one)
    return compiler.compile_result(
        target_context=context,
        typing_context=context.typing_context,
        library=library,
        environment=environment,
        entry_point=entry,
        fndesc=made,
        type_annotation=annotation,
        signature=signature,
        objectmode=objectmode,
        lifted=lifted,
        reload_init=reload_init,
        referenced_envs=environments,
    )
