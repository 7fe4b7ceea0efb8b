# SPDX-License-Identifier: Apache-2.0
"""What was told is in the file when say returns; what is damaged counts for nothing."""

import os
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.control import told as module
from vforward.control.told import FILE, FIRST, ODD, Told, attempt, read
from vforward.errors import VforwardError


def begun(path, entries=()):
    told = Told()
    told.collect()
    for key, value in entries:
        told.say(key, value)
    told.begin(path)
    return told


def test_before_it_begins_nothing_is_noted(tmp_path):
    told = Told()
    told.say("a", {"new": True})
    assert told.entries == {}
    assert not told.on
    assert list(tmp_path.iterdir()) == []
    told.close()


def test_what_was_said_is_read_again(tmp_path):
    told = begun(tmp_path, [("a", {"n": 1}), ("b", {"n": 2})])
    told.say("c", {"n": [1, None, "ü"]})
    told.say("a", None)
    told.say("b", {"n": 3})
    raw = (tmp_path / FILE).read_bytes()  # it is not closed
    assert read(raw) == ({"b": {"n": 3}, "c": {"n": [1, None, "ü"]}}, 0)
    assert told.entries == {"b": {"n": 3}, "c": {"n": [1, None, "ü"]}}
    told.close()
    told.close()
    told.say("d", {})
    assert (tmp_path / FILE).read_bytes() == raw
    assert raw.startswith(b"vforward")


def test_deletions_of_what_the_configuration_has_are_noted(tmp_path):
    told = begun(tmp_path)
    assert told.is_new("a", now=True)
    assert not told.is_new("b", now=False)
    told.say("a", {"new": True})
    told.gone("a", {"at": 1})
    told.gone("b", {"at": 2})
    assert read((tmp_path / FILE).read_bytes())[0] == {"b": {"new": False, "gone": True, "at": 2}}
    assert not told.is_new("b", now=True)  # it is gone, and the configuration has it all the same
    told.say("b", {"new": False})
    told.gone("b", {"at": 2})
    assert told.entries["b"]["gone"]
    told.close()


def test_what_a_configuration_has_made_its_own_is_forgotten(tmp_path):
    told = begun(tmp_path, [("a", {"n": 1}), ("b", {"n": 2}), ("c", {"n": 3})])
    told.keep_only({"b", "x"})
    assert read((tmp_path / FILE).read_bytes()) == ({"b": {"n": 2}}, 0)
    told.close()


def test_what_is_said_while_others_are_forgotten_stays(tmp_path):
    """By another thread, at the worst moment."""
    told = begun(tmp_path, [("a", {"n": 1}), ("b", {"n": 2})])
    threads = []

    class Slow(dict):
        def __iter__(self):
            for key in super().__iter__():
                if not threads:
                    threads.append(threading.Thread(target=told.say, args=("c", {"n": 3})))
                    threads[0].start()
                    threads[0].join(0.05)  # it may have to wait until all are forgotten
                yield key

    told.entries = Slow(told.entries)
    told.keep_only({"b"})
    threads[0].join()
    assert told.entries == {"b": {"n": 2}, "c": {"n": 3}}
    assert read((tmp_path / FILE).read_bytes()) == ({"b": {"n": 2}, "c": {"n": 3}}, 0)
    told.close()


def test_it_is_made_anew_when_most_is_out_of_date(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LEAST", 2000)
    told = begun(tmp_path)
    longest = 0
    for n in range(5000):
        told.say(f"key {n % 7}", {"n": n})
        longest = max(longest, (tmp_path / FILE).stat().st_size)
    assert longest < 3000
    wanted = {f"key {n % 7}": {"n": n} for n in range(4993, 5000)}
    assert read((tmp_path / FILE).read_bytes()) == (wanted, 0)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    told.close()


def test_without_room_it_says_so_and_the_file_stays_right(tmp_path, monkeypatch):
    told = begun(tmp_path, [("a", {"n": 1})])
    write = os.write

    def none(*_):
        raise OSError(28, "No space left on device")

    def half(file, line):
        monkeypatch.setattr(os, "write", none)
        return write(file, line[: len(line) // 2])

    for broken in (half, none):
        monkeypatch.setattr(os, "write", broken)
        with pytest.raises(VforwardError, match="it is in force, but after a crash it will not be"):
            told.say("b", {"n": 2})
        monkeypatch.setattr(os, "write", write)
        assert read((tmp_path / FILE).read_bytes()) == ({"a": {"n": 1}}, 0)
    told.say("c", {"n": 3})
    assert read((tmp_path / FILE).read_bytes()) == ({"a": {"n": 1}, "c": {"n": 3}}, 0)
    told.close()


def test_a_directory_that_is_not_there(tmp_path):
    told = Told()
    with pytest.raises(VforwardError, match="No such file"):
        told.begin(tmp_path / "nowhere")


def test_cut_off_anywhere_all_before_is_there(tmp_path):
    """As far as it was written: a prefix of what was said, line by line."""
    told = begun(tmp_path)
    states, ends = [{}], [len(FIRST)]
    for n in range(30):
        told.say(f"k{n % 5}", {"n": n} if n % 3 else None)
        states.append(dict(told.entries))
        ends.append((tmp_path / FILE).stat().st_size)
    raw = (tmp_path / FILE).read_bytes()
    for length in range(len(FIRST), len(raw) + 1):
        whole = max(n for n, end in enumerate(ends) if end <= length)
        assert read(raw[:length]) == (states[whole], 0)
    told.close()


@given(st.integers(0, 2**32))
def test_damaged_bytes_cost_their_lines_only(seed):
    chance = random.Random(seed)
    entries = {f"k{n}": {"n": n} for n in range(20)}
    lines = [module._line(key, value) for key, value in entries.items()]
    raw = bytearray(FIRST + b"".join(lines))
    for _ in range(3):
        raw[chance.randrange(len(FIRST), len(raw))] = chance.randrange(256)
    found, damaged = read(bytes(raw))
    assert found.items() <= entries.items()
    assert len(found) >= 20 - 6
    assert damaged <= 6


@pytest.mark.parametrize("error", ODD)
def test_what_cannot_be_done_again_is_logged(error, caplog):
    def fail():
        raise error("no such thing")

    assert attempt("a route", lambda: None)
    assert caplog.text == ""
    assert not attempt("a route", fail)
    assert "a route was told at run time, and cannot be in force any more: " in caplog.text
    assert "no such thing" in caplog.text


@given(st.binary())
def test_no_bytes_crash(raw):
    assert read(raw)[0] == {}
    assert read(FIRST + raw)[0] == {}
