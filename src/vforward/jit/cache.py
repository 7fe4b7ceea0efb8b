# SPDX-License-Identifier: Apache-2.0
"""Where compiled code is kept, for whom, and for how long.

    root / stamp / MODULE-SOURCES / FUNCTION-DIGEST.nbc        one file for each compiled signature
           |       |                |              .o          or C entry: jit.store, jit.objects
           |       |                what the function refers to, and its types   jit.sources
           |       the module's own source and all that it imports                jit.imports
           the compilers, the processor, what of this layer compiles: stamp()

A name says all that the code depends on, so nothing here is ever stale and no time of a file is looked
at: checkouts that agree on a module share its code, an edit leaves alone what cannot have seen it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import re
import shutil
import stat
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np

from vforward.errors import KernelError

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parents[1]
MACHINERY = ("cache", "entries", "imports", "kernel", "objects", "sources", "store")
"""The modules of this layer that compile. What is compiled in, as intrinsics, has importers like others."""
KEEP = 8  # versions of a module, and stamps, that stay besides the newest: those used last
STAMP = re.compile("[0-9a-f]{16}")  # so $VFORWARD_CACHE_DIR may hold directories of others


def root() -> Path:
    """The directory of all caches: $VFORWARD_CACHE_DIR, or vforward in the user's cache directory."""
    if chosen := os.environ.get("VFORWARD_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vforward"


@cache
def stamp() -> str:
    """A hash of what all compiled code depends on: versions, processor, Numba's settings, MACHINERY."""
    digest = hashlib.sha256()
    settings = {n: v for n, v in os.environ.items() if n.startswith("NUMBA_")}  # as BOUNDSCHECK
    for name in MACHINERY:
        digest.update((PACKAGE / "jit" / f"{name}.py").read_bytes() + b"\0")
    for part in (
        platform.python_version(),
        numba.__version__,
        llvmlite.__version__,
        np.__version__,
        llvm.get_host_cpu_name() + llvm.get_host_cpu_features().flatten(),
        repr(sorted(settings.items())),
    ):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


@cache
def directory() -> Path:
    """This stamp's directory, made if need be, private to the user.

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
    if not fresh:
        os.utime(path)  # used last, forgotten last
    else:
        _forget(path, [p for p in path.parent.iterdir() if STAMP.fullmatch(p.name)])
    return path


@cache
def part(name: str, sources: str) -> Path:
    """The directory, made if need be, of a module's code as compiled from these sources (a hash)."""
    path = place(name, sources)
    try:
        path.mkdir(mode=0o700)
        of_name = re.compile(re.escape(name) + "-[0-9a-f]+")
        _forget(path, [p for p in path.parent.iterdir() if of_name.fullmatch(p.name)])
    except FileExistsError:
        os.utime(path)  # used last, forgotten last
    return path


def place(name: str, sources: str) -> Path:
    """Where that is, made or not."""
    return directory() / f"{name}-{sources}"


def keep(path: Path, content: bytes) -> None:
    """Put a file there as a whole. Where there is no room nothing is kept, which costs time, no code."""
    aside = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may have been forgotten
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        log.warning("compiled code is not kept: %s: %s", path, error.strerror)


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


def _forget(current: Path, versions: list[Path]) -> None:
    """Remove other versions but the KEEP that were used last."""
    others = []
    for path in versions:
        if path != current:
            with contextlib.suppress(FileNotFoundError):  # another process forgets, too
                others.append((path.lstat().st_mtime, path))
    for _, path in sorted(others, reverse=True)[KEEP:]:
        shutil.rmtree(path, ignore_errors=True)
