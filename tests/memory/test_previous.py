# SPDX-License-Identifier: Apache-2.0
"""What a dead owner left: set aside whole, read with care, there until it was taken over."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.errors import ArenaError
from vforward.memory import place as module
from vforward.memory.arena import HEADER, PAGE, Arena
from vforward.memory.previous import Previous

HASH = 0x1234567890ABCDEF


def keep(name):
    return name in ("kept", "said.json", "journal")


def create(layout_hash=HASH):
    return Arena.create("a", keep=keep, layout_hash=layout_hash)


def die(arena):
    """As the kernel ends it: the lock is free, the files stay."""
    os.close(arena._lock)
    arena._lock = -1


def live(value=7):
    arena = create()
    arena.make("kept", 5, np.uint64)[:] = value
    arena.make("other", 5, np.uint64)[:] = value
    arena.write_document("said", {"value": value})
    arena.write_document("unsaid", 0)
    return arena


def names(path):
    return sorted(p.name for p in path.iterdir())


def test_what_is_kept_is_the_next_ones(place):
    die(live())
    with create() as arena:
        assert names(place / "a") == [".previous", "lock"]
        assert names(arena.previous) == ["kept", "said.json"]
        previous = Previous(arena.previous, arena.layout_hash)
        assert previous.open("kept", np.uint64).tolist() == [7] * 5
        assert previous.document("said") == {"value": 7}
        assert previous.has("kept")
        assert not previous.has("other")
        arena.make("kept", 5, np.uint64)
        arena.taken_over()
        assert arena.previous is None
        assert names(place / "a") == ["kept", "lock"]
    assert not (place / "a").exists()


def test_who_keeps_nothing_removes_all(place):
    die(live())
    with Arena.create("a") as arena:
        assert arena.previous is None
        assert names(place / "a") == ["lock"]
    die(live())
    die(create())
    with Arena.create("a") as arena:
        assert names(place / "a") == ["lock"]


def test_nothing_left_is_nothing(place):
    with create() as arena:
        assert arena.previous is None
        assert names(place / "a") == ["lock"]
    die(create())
    with create() as arena:
        assert arena.previous is None


@pytest.mark.parametrize("close", [True, False])
def test_what_nobody_has_taken_over_stays(place, close):
    """Whatever who came in between has made, and however it ended."""
    die(live())
    for _ in range(3):
        arena = create()
        arena.make("kept", 5, np.uint64)[:] = 99
        arena.write_document("said", "nothing")
        arena.stays = close
        arena.close() if close else die(arena)
        assert ".previous" in names(place / "a")
    with create() as arena:
        assert Previous(arena.previous, HASH).open("kept", np.uint64)[0] == 7
        assert Previous(arena.previous, HASH).document("said") == {"value": 7}


def test_it_may_be_left_on_purpose(place):
    arena = live()
    arena.stays = True
    arena.close()
    assert names(place / "a") == ["kept", "lock", "said.json"]
    with create() as arena:
        assert Previous(arena.previous, HASH).open("kept", np.uint64)[0] == 7


class Killed(BaseException):
    """At some system call."""


@pytest.mark.parametrize("at", range(40))
def test_killed_at_any_call_nothing_is_lost_and_nothing_mixed(place, monkeypatch, at):
    """Killed at the nth rename, unlink, mkdir or rmdir of taking over; the next one does all of it."""
    arena = live()
    arena.write_document("extra", 1)
    arena.make("more", 3, np.uint8)
    die(arena)
    calls = 0

    def counted(call):
        def wrapped(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == at + 1:
                raise Killed
            return call(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "mkdir", "rmdir"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        locks = []
        take = module.take_lock
        monkeypatch.setattr(
            "vforward.memory.arena.take_lock", lambda path: locks.append(take(path)) or locks[-1]
        )
        done = False
        try:
            arena = create()
            assert Previous(arena.previous, HASH).open("kept", np.uint64)[0] == 7
            arena.make("kept", 5, np.uint64)[:] = 8
            arena.write_document("said", {"value": 8})
            done = True
            arena.taken_over()
        except Killed:
            pass
    if locks:
        os.close(locks[-1])
    with create() as arena:
        previous = Previous(arena.previous, HASH)
        value = int(previous.open("kept", np.uint64)[0])
        assert value in ((7, 8) if done else (7,))
        assert previous.document("said") == {"value": value}
        assert names(place / "a") == [".previous", "lock"]
    if at == 39:
        assert calls < 40, "there are more calls to be killed at"


def test_foreign_directories_are_left_alone(place, tmp_path):
    die(live())
    (place / "a" / ".previous").mkdir(mode=0o700)
    (place / "a" / ".previous" / "thesis.tex").write_text("mine")
    with pytest.raises(ArenaError, match="is not a forwarder's"):
        create()
    assert (place / "a" / ".previous" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("magic", b"vforwarx", "not a vforward segment"),
        ("layout", 77, "layout 77"),
        ("layout_hash", HASH + 1, "laid out otherwise"),
        ("size", 2**60, "header says"),
        ("shape", [6, 0, 0, 0], "header says"),
        ("dimensions", 2, "header says|its type"),
    ],
)
def test_a_damaged_segment_is_named(place, field, value, text):
    die(live())
    np.memmap(place / "a" / "kept", HEADER, "r+", shape=1)[field] = value
    with (
        create() as arena,
        pytest.raises(ArenaError, match=f"'kept' of the last process: .*({text})"),
    ):
        Previous(arena.previous, HASH).open("kept", np.uint64)


def test_what_is_missing_of_another_type_or_no_json(place):
    die(live())
    (place / "a" / "said.json").write_text("[" * 100_000)
    with create() as arena:
        previous = Previous(arena.previous, HASH)
        with pytest.raises(ArenaError, match="No such file"):
            previous.open("other", np.uint64)
        for dtype, dimensions in ((np.uint32, 1), (np.uint64, 2)):
            with pytest.raises(ArenaError, match="is not its type"):
                previous.open("kept", dtype, dimensions=dimensions)
        with pytest.raises(ArenaError, match="'said'"):
            previous.document("said")
        with pytest.raises(ArenaError, match="'unsaid'"):
            previous.document("unsaid")


@given(raw=st.binary(max_size=HEADER.itemsize + 40), length=st.integers(0, PAGE + 48))
def test_no_bytes_crash(raw, length, tmp_path_factory):
    directory = tmp_path_factory.mktemp("previous")
    data = np.zeros(5, HEADER).tobytes()[:0] + raw.ljust(PAGE + 48, b"\0")
    (directory / "kept").write_bytes(data[:length])
    try:
        found = Previous(directory, HASH).open("kept", np.uint64)
    except ArenaError:
        return
    assert found.nbytes <= 48
