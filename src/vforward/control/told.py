# SPDX-License-Identifier: Apache-2.0
"""What a running forwarder was told: kept in its arena, so that after a crash it is in force again.

    told    "vforward told 1", then a line for each thing said: CRC-32, a space, JSON of [key, value]

A key says what it is about: a route, a neighbor, a part of the firewall. The last value counts; null: it
is as the configuration has it. A line is written when the change is in force and before anybody is told
so. What is in the file has survived when the process is killed, though not when the machine is switched
off. The file is made anew, whole or not at all, when most of it is out of date. A line that is damaged, or
was not written to its end, counts for nothing.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from vforward.errors import VforwardError

log = logging.getLogger(__name__)

FILE = "told"
FIRST = b"vforward told 1\n"
LEAST = 1 << 16
"""Bytes up to which a file is not made anew."""
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
WASTE = 4
"""How many times longer than what counts a file may be."""
ODD = (VforwardError, LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What a text makes raise that was not said by a forwarder, or not by this one."""
LOST = "%s was told at run time, and cannot be in force any more: %s"
"""For the log: what, and why."""


class Told:
    """What was told, by key. Before ``begin`` nothing is noted at all (on is False).

    collecting: what is told is noted, but has no file yet. Any thread; who changes one thing from two
    threads has to see to it that they come here in the order in which they came into force.
    """

    def __init__(self) -> None:
        self.on = False
        self.entries: dict[str, Any] = {}
        self._path: Path | None = None
        self._file = -1
        self._length = self._live = 0
        self._lock = threading.RLock()

    def collect(self) -> None:
        """Note from now on what is told."""
        self.on = True

    def begin(self, directory: Path) -> None:
        """Keep it in a directory from now on, with what was noted already. Raises VforwardError."""
        with self._lock:
            self.on, self._path = True, directory / FILE
            self._rewrite()

    def close(self) -> None:
        """Note nothing more. Harmless when repeated."""
        with self._lock:
            self.on = False
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def say(self, key: str, value: Any) -> None:
        """Note it. None: nothing more is known of it. Raises VforwardError when there is no room."""
        with self._lock:
            if not self.on:
                return
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
            if self._file >= 0:
                self._append(_line(key, value))
                if self._length > max(LEAST, WASTE * self._live):
                    self._rewrite()

    def is_new(self, key: str, *, now: bool) -> bool:
        """Whether the configuration does not have it. now: whether it is not there, as far as that says."""
        known = self.entries.get(key)
        return now if known is None else bool(known["new"])

    def gone(self, key: str, what: dict[str, Any]) -> None:
        """Note that something was deleted, of which is_new can be asked. what: says which."""
        new = self.is_new(key, now=False)
        self.say(key, None if new else {"new": False, "gone": True, **what})

    def keep_only(self, keys: Collection[str]) -> None:
        """Of all else nothing more is known: it is as the configuration has it. Raises VforwardError."""
        with self._lock:
            for key in [key for key in self.entries if key not in keys]:
                self.say(key, None)

    def _append(self, line: bytes) -> None:
        try:
            _write_all(self._file, line)
        except OSError as error:
            os.ftruncate(self._file, self._length)
            raise _not_kept(error) from error
        self._length += len(line)

    def _rewrite(self) -> None:
        assert self._path is not None
        text = FIRST + b"".join(_line(key, value) for key, value in self.entries.items())
        aside = self._path.with_name(f".{FILE}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        try:
            file = os.open(aside, flags, 0o600)
            try:
                _write_all(file, text)
                aside.replace(self._path)
            except BaseException:
                os.close(file)
                raise
        except OSError as error:
            if self._file < 0:
                raise _not_kept(error) from error
            self._live = self._length  # tried again when it is much longer
            log.warning("told: the file cannot be made anew: %s", error.strerror)
            return
        if self._file >= 0:
            os.close(self._file)
        self._file, self._length, self._live = file, len(text), len(text)


def read(raw: bytes) -> tuple[dict[str, Any], int]:
    """What a file says, and how many of its lines are damaged."""
    entries: dict[str, Any] = {}
    lines = raw.split(b"\n")
    damaged = int(lines[0] + b"\n" != FIRST)
    for line in lines[1:-1]:  # the last one was not written to its end
        try:
            check, _, text = line.partition(b" ")
            key, value = json.loads(text)
            good = int(check, 16) == zlib.crc32(text) and isinstance(key, str)
        except (ValueError, TypeError, RecursionError):
            good = False
        if not good or not isinstance(value, dict | None):
            damaged += 1
        elif value is None:
            entries.pop(key, None)
        else:
            entries[key] = value
    return entries, damaged


def attempt(name: str, do: Callable[[], object]) -> bool:
    """Whether what was told can be done again. What was said is as hostile as any text."""
    try:
        do()
    except ODD as error:
        log.warning(LOST, name, error)
        return False
    return True


def _line(key: str, value: Any) -> bytes:
    text = _ENCODE([key, value]).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _write_all(file: int, text: bytes) -> None:
    left = memoryview(text)
    while left:
        left = left[os.write(file, left) :]


def _not_kept(error: OSError) -> VforwardError:
    return VforwardError(
        f"it is in force, but after a crash it will not be: cannot be written to the forwarder's "
        f"directory: {error.strerror}; free some of its memory and say it again"
    )
