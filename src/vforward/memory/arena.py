# SPDX-License-Identifier: Apache-2.0
"""The arena: named shared-memory segments with checked headers.

An arena is a directory, private to its user, on tmpfs; a segment is a file in it:

    page 0      HEADER, then the array's dtype as text
    page 1 ...  the array, owned by whoever the segment's documentation names

Whoever creates the arena holds a lock on ``<name>/lock`` as long as it lives, so a second owner is
refused and a dead one's leftovers are known as such; what of them is to be kept lies in
``<name>/.previous`` until it was taken over (memory.previous). Indices inside, never pointers. Segments of
2 MiB and more lie on hugetlbfs where it is mounted and has room, else on transparent huge pages
(memory.mapping); where there are none nothing is said.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ArenaError
from vforward.layout import LAYOUT_VERSION
from vforward.memory.mapping import HUGE, have, map_file, populate
from vforward.memory.place import (
    MAGIC,
    NAME,
    done,
    huge_prefix,
    is_ours,
    locked,
    refuse_foreign,
    remove,
    runtime_directory,
    set_aside,
    take_lock,
)

log = logging.getLogger(__name__)

PAGE = 4096
DTYPE_ROOM = PAGE - 128
LOCK_TRIES = 10
"""Who asks whether an arena lives holds its lock for an instant: try again before saying that it does."""

HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("layout", np.uint32),
        ("dimensions", np.uint32),
        ("shape", np.uint64, 4),
        ("size", np.uint64),  # bytes of the array
        ("owner", np.uint64),  # process that created it
        ("generation", np.uint64),  # ns since the epoch when its arena was created
        ("layout_hash", np.uint64),  # of the tables that its owner knows, see Arena.create
        ("reserved", np.uint64, 6),
    ]
)
assert HEADER.itemsize == 128


class Arena:
    """One arena, created or attached to. A context manager: leaving it closes it.

    previous: the directory of what a dead owner left and is to be taken over (memory.previous), or None.
    makes_way: whether that is forgotten where there is no room for what is new beside it: else this owner
    could not begin, nor the next one. stays: whether close leaves for the next owner what is to be kept.
    """

    def __init__(self, path: Path, *, owner: bool, lock: int = -1) -> None:
        self.path = path
        self.name = path.name
        self.owner = owner
        self.generation = time.time_ns()
        self.layout_hash = 0
        self.previous: Path | None = None
        self.makes_way = True
        self.stays = False
        self._keep_file: Callable[[str], bool] | None = None
        self._lock = lock
        self._gone: Path | None = None
        self._elsewhere: list[Path] = []  # segments on hugetlbfs
        self._arrays: dict[str, NDArray[Any]] = {}

    @classmethod
    def create(
        cls, name: str, *, keep: Callable[[str], bool] | None = None, layout_hash: int = 0
    ) -> Arena:
        """Make a new arena; a dead owner's arena of that name is removed first.

        keep: says of files by their names what of it becomes ``previous`` instead. layout_hash: stands in
        the header of each segment. Raises ArenaError when a living process has it, its directory is not
        the user's own, or something lies there that is no arena's: then nothing is removed.
        """
        if not NAME.fullmatch(name):
            raise ArenaError(f"forwarder name {name!r}: use letters, digits, '.', '_' and '-' only")
        path = runtime_directory() / name
        for _ in range(LOCK_TRIES):
            lock = take_lock(path)
            if lock >= 0:
                arena = cls(path, owner=True, lock=lock)
                arena.previous, arena._keep_file = set_aside(path, keep), keep
                arena.layout_hash = layout_hash
                return arena
            time.sleep(0.01)
        raise ArenaError(
            f"forwarder {name!r} is already running (it holds {path}/lock); "
            "stop it, or choose another [forwarder] name"
        )

    @classmethod
    def attach(cls, name: str) -> Arena:
        """Open a living arena of another process. Raises ArenaError when there is none."""
        path = runtime_directory() / name
        if NAME.fullmatch(name):
            with contextlib.suppress(FileNotFoundError):
                refuse_foreign(path.parent)
                refuse_foreign(path)
                if locked(path):
                    return cls(path, owner=False)
        raise ArenaError(f"no forwarder named {name!r} is running (looked in {path.parent})")

    def make(
        self, name: str, shape: int | tuple[int, ...], dtype: Any, *, sparse: bool = False
    ) -> NDArray[Any]:
        """Create the segment ``name`` and map it: an array of zeros. Raises ArenaError.

        All of its memory is there from the start, so that no store fails later; of a sparse one
        only what is used: a table made much larger than it is likely to grow (see ``use``).
        """
        kind = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(shape) * kind.itemsize
        text = repr(np.lib.format.dtype_to_descr(kind)).encode()
        if name in self._arrays or len(text) > DTYPE_ROOM or len(shape) > 4:
            raise ArenaError(f"segment {name!r} of arena {self.name!r}: exists, or type too long")
        header = np.zeros((), HEADER)
        header["magic"], header["layout"] = MAGIC, LAYOUT_VERSION
        header["dimensions"], header["size"] = len(shape), size
        header["shape"][: len(shape)] = shape
        header["owner"], header["generation"] = os.getpid(), self.generation
        header["layout_hash"] = self.layout_hash
        memory = self._new_file(name, PAGE + size, sparse, header.tobytes() + text)
        raw = np.frombuffer(memory, np.uint8)[PAGE:][: math.prod(shape) * kind.itemsize]
        return self._keep(name, raw.view(kind).reshape(shape))

    def use(self, name: str, first: int, last: int) -> int:
        """Have the memory of bytes first to last of a sparse segment, in huge pages where there are some.

        Returns up to which byte it is there, which is last or more. Raises ArenaError when there is no
        room: a store there would be SIGBUS.
        """
        array = self._arrays[name]
        try:
            end = have(array.ctypes.data - PAGE, PAGE + array.nbytes, PAGE + first, PAGE + last)
        except OSError as error:
            if self._made_way(error):
                return self.use(name, first, last)
            raise self._no_room(f"segment {name!r}", error) from error
        return end - PAGE

    def open(self, name: str, *, writable: bool = False) -> NDArray[Any]:
        """Map another process's segment. Raises ArenaError when it is missing or its header is off."""
        known = self._arrays.get(name)
        if known is not None and (known.flags.writeable or not writable):
            return known
        where = f"segment {name!r} of arena {self.name!r}"
        try:
            descriptor = os.open(
                self._find(name), (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
            )
        except OSError as error:
            raise ArenaError(f"{where}: {error.strerror}") from error
        try:
            length = os.fstat(descriptor).st_size
            if length < PAGE:
                raise ArenaError(f"{where}: {length} bytes, too short for a header")
            memory = map_file(descriptor, length, writable=writable)
        finally:
            os.close(descriptor)
        kind, shape, _ = checked(memory, where)
        raw = np.frombuffer(memory, np.uint8)[PAGE:][: math.prod(shape) * kind.itemsize]
        return self._keep(name, raw.view(kind).reshape(shape))

    def forget(self, name: str) -> None:
        """Take a segment of its own away: its memory is free when nobody has it mapped any more.

        Harmless when there is none.
        """
        self._arrays.pop(name, None)
        path = self.path / name
        if path.is_symlink():
            elsewhere = path.readlink()
            elsewhere.unlink(missing_ok=True)
            self._elsewhere = [one for one in self._elsewhere if one != elsewhere]
        path.unlink(missing_ok=True)

    def write_document(self, name: str, content: Any) -> None:
        """Publish JSON beside the segments, whole or not at all. Raises ArenaError: there is no room."""
        text = json.dumps(content)
        aside = self.path / f".{name}.{threading.get_ident()}.tmp"
        try:
            aside.write_text(text)
            aside.replace(self.path / f"{name}.json")
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)  # the room that it has may be what others need
            if self._made_way(error):
                self.write_document(name, content)
                return
            raise self._no_room(f"document {name!r}", error) from error

    def read_document(self, name: str) -> Any:
        """The JSON published under that name. Raises ArenaError when there is none."""
        try:
            return json.loads((self.path / f"{name}.json").read_text())
        except (OSError, ValueError) as error:
            raise ArenaError(f"arena {self.name!r}: document {name!r}: {error}") from error

    def taken_over(self) -> None:
        """What the last owner left is not wanted any more: from now on ours is what is kept. See tidy."""
        if self.previous is not None:
            self._gone = done(self.previous)
            self.previous = None

    def tidy(self) -> None:
        """Remove what was taken over: tens of milliseconds, for which no packet need wait."""
        if self._gone is not None:
            remove([self._gone])
            self._gone = None

    def close(self) -> None:
        """Forget the arrays; the owner also removes what is an arena's. Harmless when repeated.

        What the last owner left and nobody has taken over stays, for the next one.
        """
        self._arrays.clear()
        if self.owner and self._lock >= 0:
            with contextlib.suppress(OSError):
                self._remove()
                if not self.stays and self.previous is None:
                    (self.path / "lock").unlink()  # last: from here on it may be another's
                    self.path.rmdir()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remove(self) -> None:
        """Remove what is ours and not the next owner's."""
        stays, keep = self.stays and self.previous is None, self._keep_file
        if not stays:
            for path in self._elsewhere:
                path.unlink(missing_ok=True)

        def goes(path: Path) -> bool:
            return path != self.previous and not (stays and keep is not None and keep(path.name))

        remove(path for path in [*self.path.iterdir()] if is_ours(path) and goes(path))

    def _keep(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        self._arrays[name] = array
        return array

    def _new_file(self, name: str, size: int, sparse: bool, header: bytes) -> Any:
        for directory in _huge_directories(size):
            path = directory / f"{huge_prefix(self.path)}{self.generation}.{name}"
            rounded = -(-size // HUGE) * HUGE
            try:
                (self.path / name).symlink_to(
                    path
                )  # first, so that whoever comes next finds the file
                memory = _map_new(path, rounded, sparse=False)
            except OSError:
                (self.path / name).unlink(missing_ok=True)
                continue
            self._elsewhere.append(path)
            memory[: len(header)] = header
            return memory
        # It has its header before its name: whoever comes after a crash knows whose it is.
        aside = self.path / f".{name}.tmp"
        try:
            if (self.path / name).exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            memory = _map_new(aside, size, sparse)
            memory[: len(header)] = header
            aside.rename(self.path / name)
        except OSError as error:
            if self._made_way(error):
                return self._new_file(name, size, sparse, header)
            raise self._no_room(f"segment {name!r}", error, f"{size} bytes: ") from error
        else:
            return memory

    def _made_way(self, error: OSError) -> bool:
        """Whether there is more room, for what the last owner left is forgotten."""
        if error.errno != errno.ENOSPC or self.previous is None or not self.makes_way:
            return False
        log.error(
            "no room in %s beside what the last process of that name knew: it is forgotten, as with "
            "--fresh; where there is room for both it is kept",
            self.path,
        )
        self.taken_over()
        self.tidy()
        return True

    def _no_room(self, what: str, error: OSError, size: str = "") -> ArenaError:
        return ArenaError(
            f"{what} of arena {self.name!r}: {size}{error.strerror}; "
            f"free some of {self.path} or make the tables or buffers smaller"
        )

    def _find(self, name: str) -> Path:
        return self.path / name


def _map_new(path: Path, size: int, sparse: bool) -> Any:
    """Create a file and map it; pages there are an error of a full file system now, not SIGBUS."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if size < HUGE:
            os.posix_fallocate(descriptor, 0, size)
            return map_file(descriptor, size, writable=True)
        os.ftruncate(descriptor, size)
        room = os.fstatvfs(descriptor)
        if room.f_blocks and room.f_bavail * room.f_frsize < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
        memory = map_file(descriptor, size, writable=True)
        if not sparse:
            populate(memory)
    except BaseException:
        path.unlink()
        raise
    else:
        return memory
    finally:
        os.close(descriptor)


def checked(memory: Any, where: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """What the header of a mapped segment says: type, shape and layout hash. Raises ArenaError."""
    header = np.frombuffer(memory, HEADER, 1)[0]
    if header["magic"] != MAGIC:
        raise ArenaError(f"{where}: not a vforward segment")
    if header["layout"] != LAYOUT_VERSION:
        raise ArenaError(f"{where}: layout {header['layout']}, this program has {LAYOUT_VERSION}")
    n = int(header["dimensions"])
    shape = tuple(int(length) for length in header["shape"][:n])
    text = bytes(memory[HEADER.itemsize : PAGE]).rstrip(b"\0")
    try:
        kind = np.lib.format.descr_to_dtype(ast.literal_eval(text.decode()))
    except Exception as error:  # whatever the text makes the parser raise
        raise ArenaError(f"{where}: unreadable type: {error}") from error
    size = math.prod(shape) * kind.itemsize
    if n > 4 or kind.hasobject or size != header["size"] or PAGE + size > len(memory):
        raise ArenaError(f"{where}: header says {size} bytes, the file has {len(memory) - PAGE}")
    return kind, shape, int(header["layout_hash"])


def _huge_directories(size: int) -> Iterator[Path]:
    """Mounted hugetlbfs directories, when enough free huge pages exist and we may write there."""
    if size < HUGE:
        return
    try:
        info = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free, page = (int(info[k].split()[0]) for k in ("HugePages_Free", "Hugepagesize"))
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except (OSError, KeyError, ValueError):
        return
    if page * 1024 != HUGE or free * HUGE < size:
        return
    for fields in mounts:
        if fields[2] == "hugetlbfs" and os.access(fields[1], os.W_OK):
            yield Path(fields[1])
