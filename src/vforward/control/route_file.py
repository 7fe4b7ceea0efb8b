# SPDX-License-Identifier: Apache-2.0
"""Many IPv4 routes from a text file: a line for each, ``10.1.0.0/16 192.0.2.1``, prefix and next hop.

All lines are of this form; neither comments nor empty ones. A million of them takes some seconds, of
which a bar on stderr tells where that is a terminal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vforward.errors import ConfigError
from vforward.tables.fib import Fib4

NUMBERS = 9
"""In a line: four of the prefix, its length, four of the next hop."""
SHAPE = b".../ ...\n"
"""A line without its digits and with one blank."""
LINE = re.compile(rb"(?:\d{1,3}\.){3}\d{1,3}/\d{1,2} +(?:\d{1,3}\.){3}\d{1,3}")


def read(path: Path) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint32]]:
    """Prefixes, lengths and next hops. Raises ConfigError that names the first line that is wrong."""
    text = path.read_bytes()
    if text[-1:] not in (b"", b"\n"):
        text += b"\n"
    lines = text.count(b"\n")
    shape = text.translate(None, b"0123456789")
    while b"  " in shape:
        shape = shape.replace(b"  ", b" ")
    if shape != SHAPE * lines:
        raise _wrong(path, text)
    spaced = text.translate(bytes.maketrans(b"./", b"  "))
    numbers = np.fromstring(spaced.decode(), np.int64, sep=" ")
    if numbers.size != NUMBERS * lines:
        raise _wrong(path, text)
    table = numbers.reshape(lines, NUMBERS)
    octets = np.delete(table, 4, axis=1)
    lengths = table[:, 4]
    prefixes, hops = (_addresses(table[:, first : first + 4]) for first in (0, 5))
    host = prefixes & ((1 << 32) - 1 >> lengths)
    if lines and (octets.max() > 255 or lengths.max() > 32 or host.any()):
        raise _wrong(path, text)
    return prefixes.astype(np.uint32), lengths.astype(np.uint8), hops.astype(np.uint32)


def load(
    fib: Fib4,
    path: Path,
    number: Callable[[int], int],
    vrf: int = 0,
    reclaim: Callable[[], None] = lambda: None,
) -> int:
    """Put a file's routes into a table; returns how many.

    number gives the adjacency of a next hop, and is asked once for each. reclaim is called now and
    then: it waits for a quiet point and lets the table use anew what was retired. Raises ConfigError,
    TableFull.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    hidden = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task(f"reading {path.name}", total=None)
        prefixes, lengths, hops = read(path)
        bar.update(task, description=f"routes of {path.name}", total=len(prefixes))
        known, which = np.unique(hops, return_inverse=True)
        values = np.array([number(hop) for hop in known.tolist()], np.uint32)[which]

        def between(done: int) -> None:
            reclaim()
            bar.update(task, completed=done)

        fib.add_many(prefixes, lengths, values, vrf, between)
    return len(prefixes)


def _addresses(octets: NDArray[Any]) -> NDArray[Any]:
    a, b, c, d = octets.T
    return a << 24 | b << 16 | c << 8 | d


def _wrong(path: Path, text: bytes) -> ConfigError:
    """The error that names the first wrong line."""
    for number, line in enumerate(text.split(b"\n")[:-1], 1):
        if not _is_right(line):
            shown = line[:60].decode(errors="replace")
            return ConfigError(f"{path}, line {number}: {shown!r} is not 'PREFIX/LENGTH NEXT-HOP'")
    return ConfigError(f"{path}: lines are not 'PREFIX/LENGTH NEXT-HOP'")


def _is_right(line: bytes) -> bool:
    if not LINE.fullmatch(line):
        return False
    a, b, c, d, length, *hop = (int(n) for n in re.findall(rb"\d+", line))
    prefix = a << 24 | b << 16 | c << 8 | d
    return max(a, b, c, d, *hop) < 256 and length <= 32 and not prefix & (1 << 32) - 1 >> length
