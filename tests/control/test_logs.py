# SPDX-License-Identifier: Apache-2.0
"""The daemon's log: its lines, and how many of a kind there are."""

import contextlib
import io
import json
import logging
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.control import logs
from vforward.control.logs import BURST, EVERY_S, KINDS_MAX, Limit


@pytest.fixture
def written():
    """Sets a log up; returns its lines."""
    root = logging.getLogger()
    before = root.level
    made = []

    def set_up(format="text", level="info"):
        stream = io.StringIO()
        made.append(logs.set_up(format, level, stream))
        return lambda: stream.getvalue().splitlines()

    yield set_up
    for handler in made:
        root.removeHandler(handler)
    root.setLevel(before)


log = logging.getLogger("vforward.test")
FULL = Path("/dev/full")


def test_text(written):
    lines = written()
    log.warning("port %s: gone", "lan")
    log.debug("not this")
    (line,) = lines()
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
    assert re.fullmatch(when + r" WARNING vforward\.test: port lan: gone", line)


def test_json(written):
    lines = written("json", "debug")
    log.debug('a "quoted"\nline')
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("failed")
    first, second = map(json.loads, lines())
    assert (first["level"], first["logger"]) == ("debug", "vforward.test")
    assert first["message"] == 'a "quoted"\nline'
    assert "left_out" not in first
    assert second["error"].endswith("ValueError: x")


def test_set_up_again_is_instead(written):
    first, second = written(), written()
    log.info("once")
    assert (len(first()), len(second())) == (0, 1)


def record(name="a", text="x", level=logging.INFO):
    return logging.LogRecord(name, level, "", 0, text, (), None)


@given(st.lists(st.floats(0, 4 * EVERY_S), min_size=1, max_size=60))
def test_no_more_of_a_kind_than_a_bucket_gives(pauses):
    now = [0.0]
    limit = Limit(lambda: now[0])
    through, left_out, said = 0, 0, 0
    for pause in pauses:
        now[0] += pause
        one = record()
        if limit.filter(one):
            through += 1
            said += one.left_out
        else:
            left_out += 1
        assert through <= BURST + now[0] / EVERY_S + 1e-6
    assert said <= left_out
    now[0] += EVERY_S
    last = record()
    assert limit.filter(last)
    assert said + last.left_out == left_out


def test_kinds_are_counted_apart():
    limit = Limit(lambda: 0.0)
    kinds = [("a", "x", 20), ("b", "x", 20), ("a", "y", 20), ("a", "x", 30)]
    for kind in kinds:
        assert [limit.filter(record(kind[0], kind[1], kind[2])) for _ in range(BURST + 1)] == [
            *[True] * BURST,
            False,
        ]


def test_what_it_knows_has_a_bound():
    limit = Limit(lambda: 0.0)
    for i in range(2 * KINDS_MAX):
        limit.filter(record(text=f"{i}"))
    assert len(limit._kinds) == KINDS_MAX


def test_the_next_says_how_many_were_left_out(written):
    now = [0.0]
    lines = written()
    for handler in logging.getLogger().handlers:
        for one in handler.filters:
            if isinstance(one, Limit):
                one._clock = lambda: now[0]
    for _ in range(BURST + 1234):
        log.warning("again")
    now[0] = EVERY_S
    log.warning("again")
    assert len(lines()) == BURST + 1
    assert lines()[-1].endswith("again (1,234 more like it were left out)")


@pytest.fixture
def piped(written):
    """A log whose stream is a pipe: its reading end, and the handler."""
    read, write = os.pipe()
    root = logging.getLogger()
    level = root.level
    with os.fdopen(write, "w", encoding="utf-8") as stream:
        handler = logs.set_up(level="info", stream=stream)
        yield read, handler
        root.removeHandler(handler)
        root.setLevel(level)
    os.close(read)


def test_lines_come_by_a_descriptor(piped):
    read, handler = piped
    log.warning("caf\u00e9 %s", "\ud800")  # what UTF-8 has no bytes for is written as what it is
    assert os.read(read, 4096).decode().endswith("caf\u00e9 \\ud800\n")
    log.warning("long %s", "x" * 20_000)
    assert handler.lost == 0
    assert len(os.read(read, 1 << 16)) > 20_000


def test_nobody_waits_for_who_does_not_read(piped, monkeypatch):
    read, handler = piped
    monkeypatch.setattr(logs, "WAIT_S", 0.001)
    for n in range(100):
        log.warning(f"{n} %s", "x" * 4000)  # each a kind of its own
    assert 50 < handler.lost < 100
    os.read(read, 1 << 16)
    lost = handler.lost
    log.warning("again")
    assert handler.lost == lost
    assert os.read(read, 4096).endswith(b": again\n")


def test_a_full_disk_loses_lines(written):
    root = logging.getLogger()
    level = root.level
    with contextlib.suppress(OSError), FULL.open("w", encoding="utf-8") as stream:
        handler = logs.set_up(level="info", stream=stream)
        try:
            log.warning("lost")
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
    assert handler.lost == 1


def test_a_thread_that_ends_by_an_error_is_told(written, monkeypatch):
    lines = written("json")
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    logs.tell_of_threads()

    def fail():
        raise ValueError("planted")

    thread = threading.Thread(target=fail, name="one of ours")
    thread.start()
    thread.join()
    (line,) = map(json.loads, lines())
    assert line["message"] == "thread one of ours has ended by an error: planted"
    assert line["error"].endswith("ValueError: planted")
