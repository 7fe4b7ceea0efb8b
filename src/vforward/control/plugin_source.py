# SPDX-License-Identifier: Apache-2.0
"""Where plug-ins come from: a file of the user's own, or an entry point of the group ``vforward.nodes``.

Loading one runs it. So a file must belong to the user or to root and be writable by nobody else; what was
checked is what runs. An entry point's package was installed by whoever may write to the environment.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import linecache
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from vforward.control.plugin import Plugin
from vforward.control.plugin_words import raised
from vforward.errors import KernelError
from vforward.jit.sources import python_function

GROUP = "vforward.nodes"
NAME = "PLUGIN"
SIZE_MAX = 1 << 20
"""Bytes of a file."""


@dataclass(frozen=True)
class Source:
    """What was loaded. place: the file, or the entry point. digest: of the file as it was then.

    module: a file's own, None of an entry point, whose package others may use.
    """

    plugin: Plugin
    place: str
    digest: str
    module: ModuleType | None = None

    @property
    def content(self) -> tuple[str, str] | None:
        """See content_of."""
        return (self.place, self.digest) if is_file(self.place) else None

    def let_go(self) -> None:
        """Forget what a file's module holds, when none of its Python code runs any more.

        What is known of compiled code (jit.sources, jit.entries) goes by its functions, for good, and these
        hold all that the module does: so it is emptied. Harmless when repeated.
        """
        if self.module is None:
            return
        name = vars(self.module).get("__name__", "")
        if sys.modules.get(name) is self.module:
            del sys.modules[name]
        vars(self.module).clear()


def load(place: str, tried: tuple[str, str] | None = None) -> Source:
    """Load what a path (it has a slash, or ends in .py) or the name of an entry point says.

    tried: what content_of said of the file before it was tried; what is anything else by now does not run.
    Raises KernelError for what is wrong with it: whatever its code may raise is made one.
    """
    if is_file(place):
        return _from_file(Path(place), tried)
    return _from_entry_point(place)


def is_file(place: str) -> bool:
    """Whether that is a path."""
    return "/" in place or place.endswith(".py")


def content_of(place: str) -> tuple[str, str] | None:
    """The file and its digest, None of an entry point. Runs nothing. Raises KernelError: there is none."""
    if not is_file(place):
        _entry_point(place)
        return None
    real, text = read(Path(place))
    return str(real), hashlib.sha256(text).hexdigest()


def entry_points() -> list[str]:
    """The names of the entry points that there are."""
    return sorted({point.name for point in importlib.metadata.entry_points(group=GROUP)})


def read(path: Path) -> tuple[Path, bytes]:
    """The file's real path and content, if it may be run. Raises KernelError."""
    try:
        real = path.resolve(strict=True)
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError, RuntimeError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise KernelError(f"plug-in {path}: {what}") from None
    try:
        status = os.fstat(descriptor)
        owners = {os.geteuid(), 0}
        if not stat.S_ISREG(status.st_mode) or status.st_size > SIZE_MAX:
            raise KernelError(f"plug-in {path}: it is no file of at most {SIZE_MAX} bytes")
        if status.st_uid not in owners or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise KernelError(
                f"plug-in {path}: the forwarder runs what is in it, so it must belong to uid "
                f"{os.geteuid()} or root, and others must not be able to write to it "
                f"(it is uid {status.st_uid}'s, mode {stat.S_IMODE(status.st_mode):04o}): chmod go-w"
            )
        return real, os.read(descriptor, SIZE_MAX)
    finally:
        os.close(descriptor)


def _from_file(path: Path, tried: tuple[str, str] | None) -> Source:
    real, text = read(path)
    digest = hashlib.sha256(text).hexdigest()
    if tried not in (None, (str(real), digest)):
        raise KernelError(f"plug-in {path}: it was changed while it was tried; load it again")
    linecache.checkcache(str(real))
    name = f"vforward_plugin_{re.sub(r'[^A-Za-z0-9]', '_', real.stem)}_{digest[:12]}"
    module = ModuleType(name)
    module.__file__ = str(real)
    before = sys.modules.get(name)
    sys.modules[name] = module  # where dataclasses and enumerations look for their own module
    try:
        exec(compile(text, str(real), "exec"), module.__dict__)
        plugin = _plugin(vars(module).get(NAME), str(path))
    except BaseException as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        if isinstance(error, KeyboardInterrupt):
            raise
        raise KernelError(f"plug-in {path}: {raised(error, str(real))}") from error
    return Source(plugin, str(real), digest, module)


def _entry_point(name: str) -> importlib.metadata.EntryPoint:
    points = [p for p in importlib.metadata.entry_points(group=GROUP) if p.name == name]
    if not points:
        known = ", ".join(entry_points()) or "none"
        raise KernelError(
            f"plug-in {name}: no entry point of that name in group {GROUP!r}; there are: {known}. "
            "A file is given by its path, ./FILE.py"
        )
    return points[0]


def _from_entry_point(name: str) -> Source:
    point = _entry_point(name)
    try:
        there = point.module in sys.modules
        module = importlib.import_module(point.module)
        if there:  # it may have been installed anew since
            importlib.reload(module)
        found = point.load()
        plugin = _plugin(getattr(found, NAME, found), name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise KernelError(f"plug-in {name}: {raised(error, '')}") from error
    file = python_function(plugin.node.kernel).__code__.co_filename
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if Path(file).is_file() else ""
    return Source(plugin, name, digest)


def _plugin(found: Any, place: str) -> Plugin:
    if not isinstance(found, Plugin):
        raise KernelError(f"{place} has no {NAME} = Plugin(...)")
    return found
