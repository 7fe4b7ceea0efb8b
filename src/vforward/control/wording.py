# SPDX-License-Identifier: Apache-2.0
"""How a wrong value is spoken of: the key, what is wrong, what is allowed, and the nearest right word."""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]

MISSING = object()
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 60  # characters of a wrong value that a message repeats


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the key, what is wrong with it, and what would be right."""

    path: KeyPath
    what: str
    allowed: str

    def under(self, *path: str | int) -> "Problem":
        """The same, of a part that lies there."""
        return Problem((*path, *self.path), self.what, self.allowed)


def nearest(word: str, known: Iterable[str]) -> str:
    """Give `; did you mean "x"?` for the known word most like this one, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {shown(close[0])}?" if close else ""


def listed(names: Iterable[str]) -> str:
    """List the names for a message, the first dozen of them."""
    texts = [shown(name) for name in names]
    return ", ".join(texts[:12]) + (", ..." if len(texts) > 12 else "")


def shown(value: object) -> str:
    """Write a value as TOML does, in short."""
    if value is MISSING:
        return "nothing"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):  # Python refuses to print some thousands of digits
        return str(value) if value.bit_length() < 200 else f"a number of {value.bit_length()} bits"
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
        return json.dumps(cut, ensure_ascii=not cut.isprintable())
    return str(value)


def dotted(path: KeyPath) -> str:
    """Write a key path the way TOML does, with indices in brackets: `routes[0].via`."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            out += ("." if out else "") + (part if _BARE.fullmatch(part) else shown(part))
    return out
