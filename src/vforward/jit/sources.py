# SPDX-License-Identifier: Apache-2.0
"""What a function of a plug-in is compiled from: its file, its helpers' files, constants of others.

The package's own files are in jit.cache's stamp. Numba looks at the file of one function alone, and
compiles in whatever that function names.
"""

from __future__ import annotations

import hashlib
import inspect
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from vforward.jit import cache


def python_function(kernel: Any) -> Any:
    """The undecorated function."""
    return getattr(kernel, "py_func", kernel)


def in_file(function: Any) -> bool:
    """Whether Numba can cache it: what is typed into an interpreter has no file."""
    return Path(python_function(function).__code__.co_filename).is_file()


def foreign(function: Any) -> bool:
    """Whether it lies outside the package."""
    path = Path(python_function(function).__code__.co_filename).resolve()
    return cache.PACKAGE not in path.parents


def digest(kernel: Any, salt: str = "") -> str:
    """A hash of the function and of all that it refers to, as far as that lies outside the package."""
    digest = hashlib.sha256(salt.encode())
    seen: set[int] = set()
    todo = [kernel]
    while todo:
        function = python_function(todo.pop())
        if id(function) in seen:
            continue
        seen.add(id(function))
        code = function.__code__
        path = Path(code.co_filename)
        digest.update(code.co_qualname.encode() + b"\0")
        if not path.is_file():
            digest.update(code.co_code + repr(code.co_consts).encode())
        elif foreign(function):
            digest.update(path.read_bytes())
        for name, value in _used(function):
            if isinstance(value, Dispatcher):
                todo.append(value)
            else:
                digest.update(f"{name}={_frozen(value)}\0".encode())
    return digest.hexdigest()[:12]


def _used(function: Any) -> list[tuple[str, Any]]:
    """What a function refers to by name: its closure, globals, and attributes of global modules."""
    names = function.__code__.co_names
    found = list(inspect.getclosurevars(function).nonlocals.items())
    for name in names:
        value = function.__globals__.get(name)
        found.append((name, value))
        if isinstance(value, ModuleType) and value.__name__.split(".")[0] not in ("numpy", "numba"):
            found += [(f"{name}.{inner}", getattr(value, inner, None)) for inner in names]
    return found


def _frozen(value: Any) -> str:
    """A value that Numba compiles in, as text; nothing for all others."""
    if isinstance(value, type) and issubclass(value, Enum):
        return repr([(member.name, member.value) for member in value])
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{value.tobytes().hex()}"
    if isinstance(value, (int, float, complex, str, bytes, np.generic)):
        return repr(value)
    if isinstance(value, tuple):
        return f"({','.join(map(_frozen, value))})"
    return ""
