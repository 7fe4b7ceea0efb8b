# SPDX-License-Identifier: Apache-2.0
"""C entries: what the scheduler calls. ``int64_t entry(int64_t block, rows, n, edges)``.

A node's *block* is an i64 array that holds, for each parameter of its kernel but idx and edge, the
address and the length of the array. The entry is a few lines of generated source that make arrays of
those and call the kernel. Its name carries a hash of all that the kernel is compiled from.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from numba.core import sigutils
from numba.core.ccallback import CFunc

from vforward.errors import KernelError
from vforward.jit import cache, objects, sources
from vforward.jit.intrinsics import view, view2
from vforward.jit.kernel import merged
from vforward.jit.sources import Written, python_function
from vforward.layout import ArrayOf

SIGNATURE = "int64(int64, int64, int64, int64)"
FIXED = ("data", "meta", "idx", "edge", "count")
PER_CALL = ("idx", "edge")


def parameters(kernel: Callable[..., Any]) -> dict[str, ArrayOf]:
    """The kernel's parameters in order, as its annotations (vforward.layout) give them.

    Raises KernelError, naming the kernel, when the first five are not the reserved ones or an
    annotation is missing.
    """
    return dict(_parameters(python_function(kernel)))


@functools.cache
def _parameters(function: Callable[..., Any]) -> dict[str, ArrayOf]:
    where = f"kernel {function.__name__} ({function.__code__.co_filename})"
    names = tuple(inspect.signature(function).parameters)
    if names[: len(FIXED)] != FIXED:
        raise KernelError(f"{where}: parameters must begin with {', '.join(FIXED)}; got {names}")
    hints = get_type_hints(function, include_extras=True)
    found = {}
    for name in names:
        kinds = [m for m in getattr(hints.get(name), "__metadata__", ()) if isinstance(m, ArrayOf)]
        if not kinds:
            raise KernelError(f"{where}: parameter {name} needs an array type of vforward.layout")
        found[name] = kinds[0]
    return found


def returns_int(kernel: Callable[..., Any]) -> bool:
    """Whether the kernel is annotated ``-> int``."""
    return python_function(kernel).__annotations__.get("return") in (int, "int")


def block_names(kernel: Callable[..., Any]) -> list[str]:
    """The parameters that stand in the node's block, in its order."""
    return [name for name in parameters(kernel) if name not in PER_CALL]


class Entry(NamedTuple):
    """A C function: its address, valid for the process's life, and whether it had to be compiled."""

    address: int
    compiled: bool


_built: dict[str, Entry] = {}
"""By the name of the module that each was made in."""


def build(name: str, kernel: Callable[..., Any], written: Written | None = None) -> Entry:
    """Compile the kernel's entry, or load it from the cache. written: shared by those of a graph.

    Raises KernelError with the compiler's message when the kernel does not compile.
    """
    function = python_function(kernel)
    source = _source(parameters(kernel), returns_int(kernel))
    made_from = sources.digest(kernel, source, written)
    module = f"vforward_entry_{re.sub(r'[^A-Za-z0-9]', '_', name)}_{made_from}"
    if module not in _built:
        place = None
        if sources.in_file(function):
            kept = f"{re.sub(r'[^A-Za-z0-9]', '_', function.__qualname__[-80:])}-{made_from}.o"
            place = cache.part(*sources.origin(function)) / kept
        address = objects.load(place) if place else 0
        try:
            _built[module] = Entry(address or _compiled(module, source, kernel, place), not address)
        except Exception as error:
            raise KernelError(f"node {name}: its kernel does not compile: {error}") from error
    return _built[module]


def _compiled(name: str, source: str, kernel: Callable[..., Any], place: Path | None) -> int:
    """Compile the source in a module of that name, and keep it at that place. Returns its address."""
    kinds, function = parameters(kernel), python_function(kernel)
    module: Any = ModuleType(name)
    module.__dict__.update({f"D{i}": np.dtype(kind.dtype) for i, kind in enumerate(kinds.values())})
    module.__dict__.update(np=np, view=view, view2=view2, kernel=merged(function))
    sys.modules[name] = module  # Numba names the code by it
    try:
        exec(source, module.__dict__)
        options = {"nopython": True, "_nrt": False}
        made: Any = CFunc(module.entry, sigutils.normalize_signature(SIGNATURE), {}, options)
        made.compile()
    finally:
        del sys.modules[name]
    _kept.append(made)  # its code goes with it
    if place and not made._library.has_dynamic_globals:  # which are addresses of this process
        objects.save(place, made._wrapper_name, made._library._get_compiled_object())
    return int(made.address)


_kept: list[Any] = []


def _source(kinds: dict[str, ArrayOf], returns: bool) -> str:
    lines = [
        "def entry(block, rows, n, edges):",
        f"    words = view(block, {2 * len(kinds)}, np.int64)",
    ]
    slot = 0
    for i, (name, kind) in enumerate(kinds.items()):
        if name in PER_CALL:
            where, length = ("rows" if name == "idx" else "edges"), "n"
        else:
            where, length = f"words[{slot}]", f"words[{slot + 1}]"
            slot += 2
        made = f"view2({where}, {length}, {kind.inner}" if kind.inner else f"view({where}, {length}"
        lines.append(f"    p{i} = {made}, D{i})")
    arguments = ", ".join(f"p{i}" for i in range(len(kinds)))
    call = [f"    return np.int64(kernel({arguments}))"]
    if not returns:
        call = [f"    kernel({arguments})", "    return n"]
    return "\n".join([*lines, *call, ""])
