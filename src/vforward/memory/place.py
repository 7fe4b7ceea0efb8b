# SPDX-License-Identifier: Apache-2.0
"""Where arenas lie: private directories, their locks, and what may be removed from them.

Nothing in a directory is looked at before its owner is known, and nothing is removed that no
forwarder makes there: $VFORWARD_RUNTIME_DIR may be a directory with other things in it.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from vforward.errors import ArenaError

MAGIC = b"vforward"
"""What a segment begins with."""
_PAGE, _SIZE_AT = 4096, 48
"""Of a segment's header, arena.HEADER: one whose first bytes are damaged is a segment all the same."""
API_SOCKET = "api.sock"
"""Where a forwarder that serves its API listens, in its arena."""
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
PREVIOUS, ASIDE, DONE = ".previous", ".aside", ".done"
"""Directories in an arena's: what its last owner left; that, while it is being put there; and what was
taken over from it and is being removed. Renaming the directory is what makes one of another."""


def runtime_directory() -> Path:
    """Where arenas live: $VFORWARD_RUNTIME_DIR, or a directory of the user's own on /dev/shm."""
    if chosen := os.environ.get("VFORWARD_RUNTIME_DIR"):
        return Path(chosen)
    base = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    return base / f"vforward-{_outer_uid()}"


def _outer_uid() -> int:
    """The user's number outside of user namespaces: root in one of them is not the host's root."""
    uid = os.geteuid()
    try:
        lines = Path("/proc/self/uid_map").read_text().splitlines()
    except OSError:
        return uid
    for inside, outside, n in (map(int, line.split()) for line in lines):
        if inside <= uid < inside + n:
            return outside + uid - inside
    return uid


def running() -> list[str]:
    """Names of the arenas whose owner lives."""
    root = runtime_directory()
    if not _is_private(root):
        return []
    return sorted(path.name for path in root.iterdir() if _is_private(path) and locked(path))


def _private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ArenaError(f"{path}: {error.strerror}") from error
    refuse_foreign(path)


def _is_private(path: Path) -> bool:
    try:
        refuse_foreign(path)
    except (OSError, ArenaError):
        return False
    return True


def refuse_foreign(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ArenaError(
            f"{path} must be a directory of uid {os.geteuid()} with mode 0700: give it those, or name "
            "another in VFORWARD_RUNTIME_DIR"
        )


def take_lock(path: Path) -> int:
    """The open lock of the arena, made if need be, or -1: it is held, or just being removed."""
    _private(path.parent)
    _private(path)
    leftovers(path)
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise ArenaError(f"{path}/lock: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (path / "lock").stat().st_ino == os.fstat(lock).st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return -1


def locked(path: Path) -> bool:
    """Whether its owner lives. Only for a directory that is private."""
    how = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path / "lock", how)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def leftovers(directory: Path) -> list[Path]:
    """What lies in an arena, but for its lock. Raises ArenaError for what is no arena's."""
    try:
        found = list(directory.iterdir())
    except FileNotFoundError:  # its owner just removed it
        return []
    for path in found:
        if not is_ours(path):
            raise ArenaError(
                f"{path} is not a forwarder's: {directory} must hold nothing else; "
                "move it away, or choose another [forwarder] name or VFORWARD_RUNTIME_DIR"
            )
    return found


def set_aside(directory: Path, keep: Callable[[str], bool] | None) -> Path | None:
    """Remove what a dead owner left in an arena, but for the files that keep says yes to, by their names.

    Those lie in the directory that is returned until it is removed (done), however often we are killed
    meanwhile. None: there are none, or keep is None. Raises ArenaError for what is no arena's.
    """
    found = leftovers(directory)
    previous, aside = directory / PREVIOUS, directory / ASIDE
    if keep is not None and previous not in found:
        aside.mkdir(mode=0o700, exist_ok=True)
        for path in found:
            if path.name not in ("lock", ASIDE, DONE) and keep(path.name):
                path.rename(aside / path.name)
        aside.rename(previous)
    remove(path for path in found if keep is None or path not in (previous, aside))
    if keep is None or any(previous.iterdir()):
        return None if keep is None else previous
    previous.rmdir()
    return None


def done(previous: Path) -> Path:
    """Say that nothing of what set_aside gave is wanted any more. Returns what is to be removed."""
    return previous.rename(previous.with_name(DONE))


def is_ours(path: Path) -> bool:
    """Whether a file in an arena's directory is what an arena makes there (or is gone by now)."""
    try:
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            inside = path.name in (PREVIOUS, ASIDE, DONE) and _is_private(path)
            return inside and all(not one.is_dir() and is_ours(one) for one in path.iterdir())
        if stat.S_ISLNK(status.st_mode):
            target, arena = path.readlink().name, path.parent
            arena = arena.parent if arena.name in (PREVIOUS, ASIDE, DONE) else arena
            return target.startswith(huge_prefix(arena)) and target.endswith(f".{path.name}")
        if stat.S_ISSOCK(status.st_mode):
            return path.suffix == ".sock"
        if not stat.S_ISREG(status.st_mode):
            return False
        if path.name == "lock":
            return status.st_size == 0
        if path.suffix == ".json" or (path.name.startswith(".") and path.suffix == ".tmp"):
            return True
        with path.open("rb") as file:
            head = file.read(_SIZE_AT + 8)
        size = int.from_bytes(head[_SIZE_AT:], "little")
        return head.startswith(MAGIC) or 0 < size == status.st_size - _PAGE
    except FileNotFoundError:
        return True


def huge_prefix(arena: Path) -> str:
    return f"vforward-{os.geteuid()}.{arena.name}."


def remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            remove(path.iterdir())
            path.rmdir()
        elif path.name != "lock":
            if path.is_symlink():
                path.readlink().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
