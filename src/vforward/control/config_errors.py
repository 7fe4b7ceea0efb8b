# SPDX-License-Identifier: Apache-2.0
"""Say what is wrong with a configuration, and on which line of its file.

Lines are found by looking for headers and keys line by line, not by a second TOML parser: a key
inside an inline table gets the line on which that table's own key stands.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from vforward.control.wording import (
    MISSING,
    KeyPath,
    Problem,
    dotted,
    listed,
    nearest,
    shown,
)
from vforward.errors import ConfigError

__all__ = [
    "KeyPath",
    "Problem",
    "config_error",
    "describe",
    "dotted",
    "keys_of",
    "listed",
    "locate",
    "model_problems",
    "nearest",
    "syntax_error",
    "unknown_key",
]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_DOTTED})[ \t]*\]")
_KEY = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")

_WHAT = {
    "missing": "is missing",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
    "int_type": "is not a whole number",
    "bool_type": "is not true or false",
    "string_type": "is not a text",
    "literal_error": "is not one of the choices",
}


def unknown_key(path: KeyPath, known: Iterable[str]) -> Problem:
    """Describe a key that does not exist in its table."""
    known = list(known)
    return Problem(path, f"is not a key here{nearest(str(path[-1]), known)}", listed(known))


def model_problems(
    model: type[BaseModel], at: KeyPath, error: ValidationError
) -> Iterator[Problem]:
    """Translate what pydantic found; what is allowed is the description of the field."""
    for found in error.errors(include_url=False):
        path = (*at, *found["loc"])
        holder, field = _field(model, found["loc"])
        if found["type"] == "extra_forbidden":
            yield unknown_key(path, keys_of(holder))
            continue
        yield Problem(path, _what(found), (field and field.description) or "a table")


def _what(found: Mapping[str, Any]) -> str:
    if found["type"] == "value_error":
        return str(found["ctx"]["error"])
    return _WHAT.get(found["type"], "has the wrong type")


def of_type(wanted: Any, at: Sequence[str | int]) -> tuple[Any, list[str | int]]:
    """The model that a place of a request is in, where its "type" says which of several; and the place.

    pydantic writes that type into the place, where there is no such key.
    """
    if get_origin(wanted) is Annotated:
        wanted = get_args(wanted)[0]
    if get_origin(wanted) is list and at:
        model, rest = of_type(get_args(wanted)[0], at[1:])
        return model, [at[0], *rest]
    if at and at[0] in (types := _types(wanted)):
        return types[at[0]], [*at[1:]]
    return wanted, [*at]


def _types(wanted: Any) -> dict[str | int, type[BaseModel]]:
    """Of a union of models by the key "type": which is of which."""
    models = [one for one in get_args(wanted) if isinstance(one, type) and "type" in keys_of(one)]
    return {get_args(keys_of(one)["type"].annotation)[0]: one for one in models}


def describe(model: Any, at: Sequence[str | int], found: Mapping[str, Any]) -> str:
    """What pydantic found at a place of a request, and what is allowed if a model's field says so."""
    if types := _types(model):
        tag = str(found.get("ctx", {}).get("tag", ""))
        what = f"is not one of the choices{nearest(tag, map(str, types))}" if tag else "is missing"
        return f"{what}; allowed: {listed(map(str, types))}"
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return _what(found) if found["type"] in _WHAT else str(found["msg"])
    holder, field = _field(model, tuple(at))
    if found["type"] == "extra_forbidden":
        return unknown_key(tuple(at), keys_of(holder)).what
    allowed = f"; allowed: {field.description}" if field and field.description else ""
    return _what(found) + allowed


def _field(model: type[BaseModel], loc: KeyPath) -> tuple[type[BaseModel], FieldInfo | None]:
    """Find the innermost field that a location leads to, and the model that has it."""
    field = None
    for part in loc:
        if isinstance(part, int):
            continue
        model = (field and _model_in(field.annotation)) or model
        field = keys_of(model).get(part)
    return model, field


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a table by their keys: "from" and "in" are words of Python's own."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)


def config_error(name: str, text: str, raw: dict[str, Any], problems: list[Problem]) -> ConfigError:
    """Build the one exception that lists all problems in the order of the file's lines."""
    lines = locate(text)
    rows = []
    for problem in problems:
        path, got = _value(raw, problem.path)
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)
        where = f"{name}:{line}: {dotted(path)}" if line else f"{name}: {dotted(path)}"
        rows.append((line, f"{where}: {problem.what} (got {got}); allowed: {problem.allowed}"))
    return ConfigError("\n".join(row for _, row in sorted(rows, key=lambda row: row[0])))


def syntax_error(name: str, text: str, error: Exception) -> ConfigError:
    """Say where the file stops being TOML, as far as tomllib tells."""
    if isinstance(error, RecursionError):
        return ConfigError(f"{name}: not TOML: nested too deeply")
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
    if match:
        what = f"{name}:{match[2]}: not TOML: {match[1]} (column {match[3]})"
        unquoted = match[1].startswith(("Invalid value", "Expected newline"))
        return ConfigError(what + '; a text stands in quotes, like "eth0"' * unquoted)
    return ConfigError(f"{name}:{text.count(chr(10)) + 1}: not TOML: {error}")


def locate(text: str) -> dict[KeyPath, int]:
    """Find the first line of every table and key, counting from 1."""
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}  # tables so far in each array of tables
    table: KeyPath = ()
    quote = ""  # what ends the multi-line text that we are in
    for number, line in enumerate(text.split("\n"), 1):
        if quote:
            quote = "" if quote in line else quote
            continue
        if header := _HEADER.match(line):
            table = _resolve((), _parts(header[2]), counts, new=header[1] == "[[")
            _note(lines, table, number)
        elif key := _KEY.match(line):
            _note(lines, _resolve(table, _parts(key[1]), counts), number)
        quote = next((q for q in ('"""', "'''") if line.count(q) % 2), "")
    return lines


def _note(lines: dict[KeyPath, int], path: KeyPath, number: int) -> None:
    for n in range(1, len(path) + 1):
        lines.setdefault(path[:n], number)


def _parts(key: str) -> list[str]:
    return [_unquoted(part) for part in re.findall(_PART, key)]


def _unquoted(part: str) -> str:
    if part[0] == "'":
        return part[1:-1]
    if part[0] != '"':
        return part
    try:
        return str(json.loads(part))  # TOML's escapes, but for \U and \e, are JSON's
    except ValueError:
        return part


def _resolve(
    table: KeyPath, parts: list[str], counts: dict[KeyPath, int], *, new: bool = False
) -> KeyPath:
    """Turn a written key into a path: a name of an array of tables means its last table."""
    path = table
    for n, part in enumerate(parts, 1):
        path = (*path, part)
        if new and n == len(parts):
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _value(raw: object, path: KeyPath) -> tuple[KeyPath, str]:
    """Look the path up in the file's data; what leads into a value that has no parts is left out:
    one port may stand for a list of them, and its name for a table.
    """
    for n, part in enumerate(path):
        if not isinstance(raw, list if isinstance(part, int) else dict):
            return path[:n], shown(raw)
        try:
            raw = cast("dict[str | int, object]", raw)[part]
        except (KeyError, IndexError, TypeError):
            return path, shown(MISSING)
    return path, shown(raw)
