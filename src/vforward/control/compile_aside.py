# SPDX-License-Identifier: Apache-2.0
"""Compile all in a process of its own: 600 MiB of a compiler's memory, which a daemon would keep."""

from __future__ import annotations

import os
from collections.abc import Callable

from vforward.control import compiled


def compile_aside(progress: Callable[[int, int, str], None]) -> None:
    """Compile what is not in the cache yet. For a process without threads.

    progress: as of compile.compile_all; what it raises ends the work, at its next step. Raises as
    compile_all, from a second try in this process.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _compile_and_exit(writer)
    os.close(writer)
    try:
        with os.fdopen(reader, encoding="utf-8") as lines:
            for line in lines:
                done, total, name = line.split(maxsplit=2)
                progress(int(done), int(total), name.rstrip())
    finally:
        os.waitpid(child, 0)  # that nobody reads any more ends it
    if not compiled.is_complete():
        from vforward.control.compile import compile_all

        compile_all(progress)


def _compile_and_exit(writer: int) -> None:
    """The child: no exception of it, nor what the parent does at its end, comes after this."""
    try:
        from vforward.control.compile import compile_all

        compile_all(
            lambda done, total, name: _say(writer, f"{done} {total} {name}\n"),
        )
    finally:
        os._exit(0)


def _say(writer: int, line: str) -> None:
    os.write(writer, line.encode())
