# SPDX-License-Identifier: Apache-2.0
"""What a module of the package is made from: its own source and, in turn, all of ours that it imports.

Found in the text, not by importing: imports inside functions and for types alone count as well. Files
that only run on the way, as the package of a submodule does, do not: the importer names nothing of
them. Comments, docstrings and layout do not count; what compiles is in the cache's stamp. To parse takes
a second, so what was found is kept, by the hash of a file's content.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from vforward.jit import cache as caches

KNOWN_MAX = 4000
FILE = "imports.json"

Facts = tuple[str, list[str]]
"""Of a text: the hash of what counts in it, and all that may be a module, as written."""


@cache
def digest(path: Path) -> str:
    """A hash of the sources of the module in this file of the package: 16 hexadecimal digits."""
    found = hashlib.sha256()
    for name, text in sorted((_dotted(one), _facts(one)[0]) for one in _closure(str(path))):
        found.update(f"{name} {text}\n".encode())
    return found.hexdigest()[:16]


def closure(path: Path) -> set[Path]:
    """The file itself, and the files of the package that it imports, directly or not."""
    return set(map(Path, _closure(str(path))))


def dotted(path: Path) -> str:
    """The name under which a file of the package is imported."""
    return _dotted(str(path))


# Files are text from here on: of a Path each look into a set is ten times as much work.


def _closure(path: str) -> set[str]:
    found: set[str] = set()
    todo = [path]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo.extend(_imported(one))
    return found


@cache
def _imported(path: str) -> frozenset[str]:
    """The files of the package, MACHINERY apart, that this one names in an import."""
    files = (_file(name, path) for name in _facts(path)[1])
    return frozenset(file for file in files if file)


@cache
def _dotted(path: str) -> str:
    inside = path.removeprefix(f"{caches.PACKAGE.parent}/").removesuffix(".py")
    return inside.removesuffix("/__init__").replace("/", ".")


def _file(name: str, importer: str) -> str | None:
    """The file of the package that a name as written means, if it is one."""
    bare = name.lstrip(".")
    if bare != name:
        inside = _dotted(str(Path(importer).parent)).split(".")
        base = inside[: len(inside) - (len(name) - len(bare) - 1)]
        bare = ".".join([*base, bare] if bare else base)
    return _modules().get(bare)


@cache
def _modules() -> dict[str, str]:
    """All files of the package, MACHINERY apart, by the names that they are imported by.

    Looked for once: as it begins.
    """
    apart = {f"{caches.PACKAGE}/jit/{name}.py" for name in caches.MACHINERY}
    files = (f"{place}/{name}" for place, _, names in os.walk(caches.PACKAGE) for name in names)
    return {_dotted(file): file for file in files if file.endswith(".py") and file not in apart}


@cache
def _facts(path: str) -> Facts:
    text = Path(path).read_bytes()
    known = _known()
    name = hashlib.sha256(text).hexdigest()[:32]
    if name not in known:
        atexit.unregister(_save)
        atexit.register(_save)
        known[name] = _parsed(text)
    return known[name]


def _parsed(text: bytes) -> Facts:
    tree = ast.parse(text)
    names: dict[str, None] = {}
    for item in ast.walk(tree):
        names.update(dict.fromkeys(_named(item)))
        if isinstance(item, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = item.body[0] if item.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                first.value.value = None  # a docstring
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:32], list(names)


def _named(item: ast.AST) -> Iterator[str]:
    """All that may be a module: of ``from a import b`` both a and a.b, of ``import a.b`` too."""
    if isinstance(item, ast.Import):
        for alias in item.names:
            parts = alias.name.split(".")
            yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    elif isinstance(item, ast.ImportFrom):
        base = "." * item.level + (item.module or "")
        yield base
        separator = "." if item.module else ""
        yield from (f"{base}{separator}{alias.name}" for alias in item.names)


@cache
def _known() -> dict[str, Facts]:
    """Facts by the hash of the text: what earlier processes found, and this one."""
    return _read()


def _read() -> dict[str, Facts]:
    try:
        kept = json.loads((caches.directory() / FILE).read_text())
        return {name: (facts[0], facts[1]) for name, facts in kept.items()}
    except (OSError, ValueError):
        return {}


def _save() -> None:
    mine, path = _known(), caches.directory() / FILE
    both = _read() | mine
    aside = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # it is only quicker with it
        aside.write_text(json.dumps(both if len(both) <= KNOWN_MAX else mine))
        aside.replace(path)
