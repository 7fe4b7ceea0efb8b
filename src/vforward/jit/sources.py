# SPDX-License-Identifier: Apache-2.0
"""What a function is compiled from: its source, all functions that it refers to, values that it names.

Of a module of the package all that it imports counts (jit.imports). Of a plug-in, a test or an
example the files of the functions that are reached count. Values count wherever they come from:
Numba compiles in what a global or a closure holds at that moment.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core import serialize

from vforward.jit import cache as caches
from vforward.jit import imports

DIGEST = 24  # hexadecimal digits: names are never compared any further
APART = ("builtins", "numba", "numpy", "llvmlite")  # their versions are in the cache's stamp


def python_function(kernel: Any) -> Any:
    """The undecorated function, of an intrinsic too."""
    found = getattr(kernel, "py_func", None)
    return getattr(kernel, "_defn", kernel) if found is None else found


def in_file(function: Any) -> bool:
    """Whether it can be cached: what is typed into an interpreter has no file."""
    return _resolved(python_function(function).__code__.co_filename)[1]


def foreign(function: Any) -> bool:
    """Whether it lies outside the package."""
    return caches.PACKAGE not in _file(function).parents


@cache
def origin(function: Any) -> tuple[str, str]:
    """The name of an undecorated function's module, and a hash of the sources that it is made from.

    First asked when the function is decorated: what is edited later is not what runs here.
    """
    path = _file(function)
    if not foreign(function):
        return imports.dotted(path), imports.digest(path)
    return re.sub(r"\W", "_", path.stem), hashlib.sha256(path.read_bytes()).hexdigest()[:16]


Written = dict[int, tuple[bytes, list[Any]]]
"""By id: what digest wrote of a function, and which others that refers to."""


def digest(kernel: Any, salt: str = "", written: Written | None = None) -> str:
    """A hash of the function and of all that it refers to.

    written: of other functions at this moment, to which this one's are added: they share most.
    """
    digest = hashlib.sha256(salt.encode())
    written = {} if written is None else written
    seen: set[int] = set()
    todo = [kernel]
    while todo:
        dispatcher = todo.pop()
        function = id(python_function(dispatcher))
        if function in seen:
            continue
        seen.add(function)
        if id(dispatcher) not in written:
            written[id(dispatcher)] = _write(dispatcher)
        text, others = written[id(dispatcher)]
        digest.update(text)
        todo += others
    return digest.hexdigest()[:DIGEST]


def _write(dispatcher: Any) -> tuple[bytes, list[Any]]:
    function, others = python_function(dispatcher), []
    parts = [_itself(function)]
    for name, value in _used(function):
        if isinstance(python_function(value), FunctionType):
            parts.append(name)
            others.append(value)
        else:
            parts.append(f"{name}={_frozen(value)}")
    if dispatcher is function or hasattr(dispatcher, "py_func"):
        # not of intrinsics, where types of LLVM's change as they are used
        parts += [f"{name}:{_pickled(value)}" for name, value in _closure(function)]
    return "\0".join(parts).encode(), others


@cache
def _itself(function: Any) -> str:
    """What is in the function's own text, and where that is from."""
    code = function.__code__
    parts = [function.__module__ or "", code.co_qualname, _code(code, function.__doc__)]
    return "\0".join([*parts, *(origin(function) if in_file(function) else ())])


def _file(function: Any) -> Path:
    return _resolved(python_function(function).__code__.co_filename)[0]


@cache
def _resolved(name: str) -> tuple[Path, bool]:
    """A file as code names it, and whether it is there."""
    path = Path(name).resolve()
    return path, path.is_file()


def _code(code: CodeType, text: str | None) -> str:
    """Bytecode and constants, less the docstring and line numbers, which may move."""
    found = (
        code.co_consts[1:] if text is not None and code.co_consts[:1] == (text,) else code.co_consts
    )
    constants = [_code(item, None) if isinstance(item, CodeType) else repr(item) for item in found]
    return f"{code.co_code.hex()}{code.co_names}{code.co_varnames}{constants}"


def _closure(function: Any) -> list[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return [(name, cell.cell_contents) for name, cell in cells]


def _used(function: Any) -> list[tuple[str, Any]]:
    """What a function refers to by name: its closure, globals, and attributes of modules among them."""
    names = _names(function.__code__)
    found = _closure(function)
    found += [(n, function.__globals__[n]) for n in names if n in function.__globals__]
    for name, value in found:  # grows meanwhile: modules in modules
        if isinstance(value, ModuleType) and value.__name__.split(".")[0] not in APART:
            inner = [n for n in names if n in vars(value)]
            found += [
                (f"{name}.{n}", vars(value)[n]) for n in inner if name.count(".") < len(names)
            ]
    return found


@cache
def _names(code: CodeType) -> tuple[str, ...]:
    """What the code and the functions inside of it look up by name."""
    inner = [item for item in code.co_consts if isinstance(item, CodeType)]
    return (*code.co_names, *(name for item in inner for name in _names(item)))


def _frozen(value: Any) -> str:
    """A value that Numba compiles in, as text; nothing for all others."""
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, Enum)):
        return _written(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{value.tobytes().hex()}"
    if isinstance(value, (int, float, complex, str, bytes, np.generic, Enum)):
        return repr(value)
    if isinstance(value, tuple):
        return f"({','.join(map(_frozen, value))})"
    return ""


@cache
def _written(kind: Any) -> str:
    """A dtype or an enumeration, as text: neither changes, and to write a record's takes its time."""
    if isinstance(kind, np.dtype):
        return repr(kind)
    return repr([(member.name, member.value) for member in kind])


def _pickled(value: Any) -> str:
    """What a closure holds besides: dtypes, types. Numba's own cache goes by the same."""
    if _frozen(value) or isinstance(value, ModuleType):
        return ""
    if isinstance(python_function(value), FunctionType):
        return ""
    try:
        return hashlib.sha256(serialize.dumps(value)).hexdigest()
    except Exception:  # whatever a plug-in's object may raise: then Numba compiles none of it in
        return ""
