# SPDX-License-Identifier: Apache-2.0
"""Where compiled code is kept, and when it is stale.

Numba's own cache looks at the file of the function alone, so an edit in a helper's file would go
unnoticed. Here the directory is named after a hash of all sources of the package, the versions of
the compilers and the processor: any change starts an empty directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np

from vforward.errors import KernelError

PACKAGE = Path(__file__).resolve().parents[1]
KEEP = 16  # directories of other versions that stay, newest first: several checkouts may share the root
STAMP = re.compile("[0-9a-f]{16}")  # so $VFORWARD_CACHE_DIR may hold directories of others


def root() -> Path:
    """The directory of all caches: $VFORWARD_CACHE_DIR, or vforward in the user's cache directory."""
    if chosen := os.environ.get("VFORWARD_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vforward"


@cache
def stamp() -> str:
    """A hash of everything that the compiled code depends on."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    host = llvm.get_host_cpu_name() + llvm.get_host_cpu_features().flatten()
    bounds = os.environ.get("NUMBA_BOUNDSCHECK", "")
    for part in (
        numba.__version__,
        llvmlite.__version__,
        np.__version__,
        host,
        bounds,
        str(PACKAGE),
    ):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


@cache
def directory() -> Path:
    """This version's cache directory, made if need be, private to the user.

    Raises KernelError when it belongs to somebody else: what lies there is executed.
    """
    path = root() / stamp()
    fresh = not path.exists()
    try:
        for part in (path.parent, path):  # else the first is made with the umask's mode alone
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KernelError(
            f"cache directory {path}: {error.strerror}; set VFORWARD_CACHE_DIR to a private directory"
        ) from error
    _refuse_foreign(path.parent, path.parent.stat(), sticky=stat.S_ISVTX)
    _refuse_foreign(path, path.lstat())
    if fresh:
        _forget_old(path)
    return path


def _refuse_foreign(path: Path, status: os.stat_result, sticky: int = 0) -> None:
    mode = status.st_mode
    writable = mode & (stat.S_IWGRP | stat.S_IWOTH)
    shared = mode & sticky and status.st_uid in (0, os.geteuid())  # as /tmp: nobody renames ours
    if stat.S_ISDIR(mode) and (shared or (status.st_uid == os.geteuid() and not writable)):
        return
    raise KernelError(
        f"cache directory {path}: owned by uid {status.st_uid}, writable by others or not a directory; "
        "remove it, or set VFORWARD_CACHE_DIR to a private directory"
    )


def _forget_old(current: Path) -> None:
    others = [p for p in current.parent.iterdir() if STAMP.fullmatch(p.name) and p != current]
    for path in sorted(others, key=lambda p: p.lstat().st_mtime, reverse=True)[KEEP:]:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def in_use(part: str = "") -> Iterator[None]:
    """Numba functions declared inside are cached in directory(), or in a part of it."""
    settings: Any = numba.config
    saved = settings.CACHE_DIR
    settings.CACHE_DIR = str(directory() / part)
    try:
        yield
    finally:
        settings.CACHE_DIR = saved
