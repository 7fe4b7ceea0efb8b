# SPDX-License-Identifier: Apache-2.0
"""The daemon's log: lines of text or of JSON on standard error, no more of one kind than somebody can read.

    text   2026-11-29T12:00:00.123+00:00 WARNING vforward.io.af_packet: port lan: the interface is gone
    json   {"time": "...", "level": "warning", "logger": "...", "message": "...", "error": "Traceback ..."}

Of each kind of line (its logger, level and format) BURST may come at once, and then one in EVERY_S; the
next that is let through says how many were left out. Nobody waits long for who reads the log: where a pipe
is full, or a disk, lines are lost.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

BURST = 10
EVERY_S = 10.0
WAIT_S = 0.05
KINDS_MAX = 1000
"""Kinds of lines that are counted apart; of more, those longest silent are forgotten."""
FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_LEFT_OUT = "left_out"


class Limit(logging.Filter):
    """Lets BURST lines of a kind through, and then one each EVERY_S. clock: seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: OrderedDict[tuple[str, int, str], tuple[float, float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is let through."""
        kind = (record.name, record.levelno, str(record.msg))
        now = self._clock()
        with self._lock:
            tokens, since, left_out = self._kinds.pop(kind, (float(BURST), now, 0))
            tokens = min(float(BURST), tokens + (now - since) / EVERY_S)
            through = tokens >= 1
            if through:
                setattr(record, _LEFT_OUT, left_out)
            self._kinds[kind] = (tokens - through, now, 0 if through else left_out + 1)
            if len(self._kinds) > KINDS_MAX:
                self._kinds.popitem(last=False)
        return through


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}"
        if left_out := getattr(record, _LEFT_OUT, 0):
            line += f" ({left_out:,} more like it were left out)"
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if left_out := getattr(record, _LEFT_OUT, 0):
            row[_LEFT_OUT] = left_out
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


class Handler(logging.StreamHandler[TextIO]):
    """Writes to a stream's descriptor, where it has one, no more than it takes at once."""

    lost = 0
    """Lines for which there was no room."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            descriptor = self.stream.fileno()
        except (OSError, ValueError, AttributeError):  # it lies in memory, or is closed
            super().emit(record)
            return
        try:
            text = f"{self.format(record)}{self.terminator}".encode(errors="backslashreplace")
            while text and _takes(descriptor):
                text = text[os.write(descriptor, text[: select.PIPE_BUF]) :]
            self.lost += bool(text)
        except OSError:
            self.lost += 1
        except Exception:  # of a record whose arguments do not fit its text
            self.handleError(record)


def _takes(descriptor: int) -> bool:
    """Whether PIPE_BUF bytes can be written without waiting, in WAIT_S at most."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in waiting.poll(WAIT_S * 1000))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


def tell_of_threads() -> None:
    """Have a thread that ends by an error say so in the log, not as Python does beside it."""
    told = logging.getLogger("vforward")

    def ended(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "?"
        value = args.exc_value or args.exc_type()
        told.error(
            "thread %s has ended by an error: %s", name, value,
            exc_info=(args.exc_type, value, args.exc_traceback),
        )  # fmt: skip

    threading.excepthook = ended


def set_up(
    format: str = "text", level: str = "warning", stream: TextIO | None = None
) -> logging.Handler:
    """Have all of the process's log come this way, from this level on. Returns the handler."""
    handler = Handler(stream or sys.stderr)
    handler.setFormatter(_Json() if format == "json" else _Text())
    handler.addFilter(Limit())
    root = logging.getLogger()
    for other in root.handlers[:]:
        if isinstance(other.formatter, _Json | _Text):  # one that was set up before
            root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level.upper())
    return handler
