# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a kernel, in words for who has written it: where, what, and what to do instead."""

from __future__ import annotations

import dis
import linecache
import re
from collections.abc import Callable, Iterator
from typing import Any

from vforward.errors import KernelError, VforwardError
from vforward.graph.node import Node
from vforward.jit.sources import python_function

FORBIDDEN = {
    "RAISE_VARARGS": "raise and assert",
    "LOAD_ASSERTION_ERROR": "raise and assert",
    "SETUP_FINALLY": "try",
    "PUSH_EXC_INFO": "try",
    "BEFORE_WITH": "with",
    "YIELD_VALUE": "yield",
    "IMPORT_NAME": "import",
}
INSTEAD = {
    "raise and assert": "give the packet an edge of the node's that leads to drop, and count the reason",
    "try": "check before, and give the packet another edge",
    "with": "a kernel holds nothing that would have to be given back",
    "yield": "a kernel is called with a vector, and returns",
    "import": "import at the beginning of the file",
}

SAID: tuple[tuple[str, str, str], ...] = (
    (
        r"NRT required|require.*NRT|_nrt|allocat",
        "this needs new memory (an array, list, text or slice with a step), which a kernel cannot have",
        "work in the arrays that the kernel is given: declare what it needs as a Table of the plug-in",
    ),
    (
        r"Untyped global name '(?P<name>[^']*)'",
        "{name!r} is nothing that can be compiled",
        "in a kernel there are numbers, the arrays that it is given, and functions with @kernel or @inline",
    ),
    (
        r"NameError: name '(?P<name>[^']*)' is not defined|name '(?P<name2>[^']*)' is not defined",
        "{name!r} is not defined",
        "define or import it in the file",
    ),
    (
        r"Unknown attribute '(?P<name>[^']*)' of type (?P<type>[^\n]*)",
        "there is no {name!r} here",
        "fields of meta are those of vforward.layout.META, of a record those of its Table's dtype",
    ),
    (
        r"Cannot unify (?P<name>[^\n]*?) and (?P<type>[^\n]*?) for '(?P<variable>[^']*)'",
        "the variable {variable!r} is of two kinds, {name} and {type}",
        "cast where it is set: i64(...) for numbers that count, u64(...) for bits",
    ),
    (
        r"No implementation of function Function\((?P<name>[^)]*)\) found for signature",
        "{name} does not go with what it is given here",
        "cast with i64(...) or u64(...); of Python's types only numbers and arrays can be compiled",
    ),
    (
        r"Use of unsupported NumPy function|unsupported|not supported|UnsupportedError|opcode",
        "this statement or function of Python's cannot be compiled",
        "write it as loops over numbers and arrays",
    ),
)


def refuse_statements(kernel: Callable[..., Any]) -> None:
    """Refuse statements that compile, but not to what they say. Raises KernelError.

    An exception in a kernel would have nobody to go to: the packets of its vector would be lost.
    """
    for function in _reached(kernel):
        code = function.__code__
        line = code.co_firstlineno
        for one in dis.get_instructions(code):
            line = one.starts_line or line
            what = FORBIDDEN.get(one.opname)
            if what is not None:
                raise KernelError(
                    f"{_where(code.co_filename, line)}: {what}: cannot be in a kernel; {INSTEAD[what]}"
                )


def _reached(kernel: Callable[..., Any]) -> Iterator[Any]:
    """The kernel's function, and those of its own file that it calls."""
    todo, seen = [python_function(kernel)], set()
    while todo:
        function = todo.pop()
        if function in seen:
            continue
        seen.add(function)
        yield function
        names = (function.__globals__.get(name) for name in function.__code__.co_names)
        found = (python_function(value) for value in names if hasattr(value, "py_func"))
        file = function.__code__.co_filename
        todo += [one for one in found if one.__code__.co_filename == file]


def tried(node: Node, run: Callable[[], object]) -> None:
    """Run something of a trial. Raises KernelError, in words, for what it raises."""
    name = f"node {node.name}"
    try:
        run()
    except VforwardError:
        raise
    except IndexError as error:
        raise KernelError(
            f"{name}: it reads or writes beyond an array: {error}; ask for its size, and keep indices below"
        ) from error
    except AssertionError as error:
        raise KernelError(f"{name}: its self-check failed: {error or 'an assertion'}") from error
    except Exception as error:
        if type(error).__module__.startswith("numba"):
            raise KernelError(f"{name}: its kernel does not compile: {error}") from error
        raise KernelError(
            f"{name}: its self-check failed: {type(error).__name__}: {error}"
        ) from error


def explain(message: str, place: str) -> str:
    """A message, with what the compiler says put in words, and with the line that it is about."""
    if "does not compile" not in message:
        return message
    head = message.partition("does not compile")[0] + "does not compile"
    where = _last_place(message)
    for pattern, what, instead in SAID:
        found = re.search(pattern, message)
        if found:
            named = {key.rstrip("2"): value for key, value in found.groupdict().items() if value}
            return f"{head}: {where}{what.format(**named)}; {instead} [{_short(message)}]"
    return f"{head}: {where}{_short(message)}"


def _last_place(message: str) -> str:
    """The innermost line of a file that the compiler names."""
    places = re.findall(r'File "([^"]+)", line (\d+)', message)
    places = [(file, int(line)) for file, line in places if "numba" not in file]
    if not places:
        return ""
    return f"{_where(*places[-1])}: "


def _where(file: str, line: int) -> str:
    text = linecache.getline(file, line).strip()
    return f"{file}:{line}: {text!r}" if text else f"{file}:{line}"


def _short(message: str) -> str:
    """What the compiler said, the gist of it."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", message.partition("does not compile:")[2])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    dull = (
        "Failed in nopython",
        "During:",
        "File ",
        "<source",
        "There are",
        "- Of which",
        "raised from",
    )
    kept = [line for line in lines if not line.startswith(dull)]
    return " ".join(kept[:2])[:300]
