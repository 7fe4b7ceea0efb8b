# SPDX-License-Identifier: Apache-2.0
"""C entries: what the scheduler calls. ``int64_t entry(int64_t block, rows, n, edges)``.

A node's *block* is an i64 array that holds, for each parameter of its kernel but idx and edge, the
address and the length of the array. The entry is a few lines of generated source that make arrays of
those and call the kernel. Its module's name carries a hash of all that the kernel is compiled from.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, get_type_hints

import numpy as np
from numba.core import sigutils
from numba.core.ccallback import CFunc

from vforward.errors import KernelError
from vforward.jit import sources
from vforward.jit.intrinsics import view, view2
from vforward.jit.kernel import merged
from vforward.jit.sources import python_function
from vforward.jit.store import Store
from vforward.layout import ArrayOf

SIGNATURE = "int64(int64, int64, int64, int64)"
FIXED = ("data", "meta", "idx", "edge", "count")
PER_CALL = ("idx", "edge")


def parameters(kernel: Callable[..., Any]) -> dict[str, ArrayOf]:
    """The kernel's parameters in order, as its annotations (vforward.layout) give them.

    Raises KernelError, naming the kernel, when the first five are not the reserved ones or an
    annotation is missing.
    """
    function = python_function(kernel)
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
    return get_type_hints(python_function(kernel)).get("return") is int


def block_names(kernel: Callable[..., Any]) -> list[str]:
    """The parameters that stand in the node's block, in its order."""
    return [name for name in parameters(kernel) if name not in PER_CALL]


def build(name: str, kernel: Callable[..., Any]) -> Any:
    """Compile the kernel's entry, or load it from the cache.

    Returns Numba's CFunc: its ``address`` is valid as long as the object lives. Raises KernelError
    with the compiler's message when the kernel does not compile.
    """
    kinds = parameters(kernel)
    source = _source(kinds, returns_int(kernel))
    digest = sources.digest(kernel, source)
    module_name = f"vforward_entry_{re.sub(r'[^A-Za-z0-9]', '_', name)}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name].entry
    module: Any = ModuleType(module_name)
    module.__dict__.update({f"D{i}": np.dtype(kind.dtype) for i, kind in enumerate(kinds.values())})
    module.__dict__.update(np=np, view=view, view2=view2, kernel=merged(python_function(kernel)))
    sys.modules[module_name] = module  # what Numba reads from the cache looks for it there
    try:
        exec(source, module.__dict__)
        module.entry = _compiled(module.entry, python_function(kernel))
    except Exception as error:
        raise KernelError(f"node {name}: its kernel does not compile: {error}") from error
    finally:  # after an interrupt as well: half a module must not be found here later
        if not isinstance(vars(module).get("entry"), CFunc):
            del sys.modules[module_name]
    return module.entry


def _compiled(entry: Any, kernel: Callable[..., Any]) -> Any:
    options = {"nopython": True, "_nrt": False}
    made: Any = CFunc(entry, sigutils.normalize_signature(SIGNATURE), {}, options)
    if sources.in_file(kernel):
        made._cache = Store(entry, kernel)
    made.compile()
    return made


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
