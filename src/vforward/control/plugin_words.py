# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a plug-in, in words for who has written it: where, what, and what to do instead."""

from __future__ import annotations

import dis
import linecache
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vforward.errors import KernelError, VforwardError
from vforward.graph.node import Node
from vforward.jit.sources import python_function

NO = "does not compile:"
DULL = (
    "Failed in",
    "During:",
    "File ",
    "<source",
    "There are",
    "- Of which",
    "raised from",
    "def ",
)
"""Beginnings of lines that the compiler says of itself."""
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
        r"Function\(<built-in function (zeros|empty|ones|full|arange|array|concatenate)>\) found",
        "{0}: this makes an array, and a kernel cannot have new memory",
        "work in the arrays that it is given: what it needs besides is a Table of the plug-in",
    ),
    (
        r"()NRT required",
        "this needs new memory (a list, dict, text or array), which a kernel cannot have",
        "work in the arrays that it is given: what it needs besides is a Table of the plug-in",
    ),
    (
        r"Untyped global name '([^']*)'",
        "{0!r} is nothing that can be compiled",
        "in a kernel there are numbers, the arrays that it is given, and functions with @kernel or @inline",
    ),
    (r"name '([^']*)' is not defined", "{0!r} is not defined", "define or import it in the file"),
    (
        r"(?:Unknown attribute|does not compile:) '(\w+)'(?: of type|$)",
        "there is nothing of the name {0!r}",
        "fields of meta are those of vforward.layout.META, of other records those of the table's dtype",
    ),
    (
        r"Cannot unify ([^\n]*?) and ([^\n]*?) for '(\w+)[^']*'",
        "the variable {2!r} is of two kinds, {0} and {1}",
        "cast where it is set: i64(...) for numbers that count, u64(...) for bits",
    ),
    (
        r"No implementation of function Function\((?:<built-in function )?([^)>]*)>?\) found",
        "{0} does not go with what it is given here",
        "cast with i64(...) or u64(...); only numbers and arrays can be compiled",
    ),
    (
        r"(?i)()unsupported|not supported|opcode",
        "this statement or function of Python's cannot be compiled",
        "write it as loops over numbers and arrays",
    ),
)
"""What the compiler says, in this order, what it means, and what to do instead."""


OPERATORS = {
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
    "add": "+", "sub": "-", "mul": "*", "mod": "%", "lshift": "<<", "rshift": ">>",
    "and_": "&", "or_": "|", "xor": "^", "getitem": "[...]", "setitem": "[...] =",
}  # fmt: skip
"""What the compiler calls them."""


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


def tried(node: Node, run: Callable[[], object], *, compiles: bool = False) -> None:
    """Run something of a trial. Raises KernelError, in words, for what it raises.

    compiles: for the first time, so that what is raised is the compiler's.
    """
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
        raise KernelError(
            f"{name}: its self-check failed: {str(error) or 'an assertion'}"
        ) from error
    except Exception as error:
        if compiles:
            raise KernelError(f"{name}: its kernel {NO} {error}") from error
        raise KernelError(
            f"{name}: its self-check failed: {type(error).__name__}: {error}"
        ) from error


def raised(error: BaseException, file: str) -> str:
    """What code of a plug-in's raised, in a line, and in which one of its own."""
    if isinstance(error, VforwardError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    line = ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = f"line {trace.tb_lineno}: "
        trace = trace.tb_next
    return f"{line}{type(error).__name__}: {error}"


def explain(message: str, file: str) -> str:
    """A message, with what the compiler says put in words, and with the line of the file it is about."""
    if NO in message:
        head, _, said = message.partition(NO)
        where = _place(said, file)
        text = _gist(said)
        for pattern, what, instead in SAID:
            found = re.search(pattern, NO + said)
            if found:
                parts = [OPERATORS.get(part, part) if part else "" for part in found.groups()]
                return f"{head}{NO} {where}{what.format(*parts)}; {instead} (the compiler: {text})"
        return f"{head}{NO} {where}{text}"
    return message


def _place(said: str, file: str) -> str:
    """The innermost line of the file that the compiler names."""
    name = re.escape(Path(file).name)
    places = re.findall(rf'(?:File "[^"]*{name}", line |{name} \()(\d+)', said)
    return f"{_where(file, int(places[0]))}: " if name and places else ""


def _where(file: str, line: int) -> str:
    text = linecache.getline(file, line).strip()
    return f"{file}:{line}: {text!r}" if text else f"{file}:{line}"


def _gist(said: str) -> str:
    """What the compiler said that is not about itself."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", said)
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(DULL)]
    return " ".join(kept[:2])[:300]
