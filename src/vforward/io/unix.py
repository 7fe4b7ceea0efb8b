# SPDX-License-Identifier: Apache-2.0
"""Unix sockets at paths of any length (the kernel takes 107 bytes): by the directory's descriptor."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path


def listen(path: Path, kind: int = socket.SOCK_SEQPACKET, backlog: int = 8) -> socket.socket:
    """A socket of this kind that listens at a path, for its user alone. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        _at(path, listener.bind)
        path.chmod(0o600)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(path: Path, kind: int = socket.SOCK_SEQPACKET, *, wait: bool = True) -> socket.socket:
    """A socket that is connected to who listens at a path. Raises OSError.

    When as many wait there already as the listener lets, so do we, without limit; without wait that is
    BlockingIOError: somebody is there, and busy, or hangs.
    """
    made = socket.socket(socket.AF_UNIX, kind)
    try:
        made.setblocking(wait)
        _at(path, made.connect)
        made.setblocking(True)
    except BaseException:
        made.close()
        raise
    return made


def _at(path: Path, do: Callable[[str], object]) -> None:
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        do(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
