# SPDX-License-Identifier: Apache-2.0
"""Starts that what was left ends, or for which it leaves no room: it is forgotten, and one goes on."""

import errno
import os

import numpy as np
import pytest

from restore_worlds import answer, die, router, udp
from vforward.control import restore as module
from vforward.memory import arena as arenas
from vforward.memory.arena import Arena


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


def left(name, runtime):
    """What a killed process could have left: a segment of use to the next one. Returns where it goes."""
    arena = Arena.create(name, keep=module.KEPT)
    arena.make("mac", 8, np.uint64)
    os.close(arena._lock)
    return runtime / name / ".previous"


def start_killed(name):
    """A start, killed before it has taken over. The context is to be held: it closes when it goes."""
    opened = module.open_arena(name, "crash", fresh=False)
    arena = opened.__enter__()
    os.close(arena._lock)
    arena._lock = -1
    return opened


def test_what_kills_each_start_is_forgotten(runtime, caplog):
    """Starts that end in order do not count, however often: an interface may not be there yet."""
    previous, held = left("kept", runtime), []
    for _ in range(module.STARTS_MAX):
        for _ in range(5):
            with module.open_arena("kept", "crash", fresh=False) as arena:
                assert arena.previous == previous
        held.append(start_killed("kept"))
        assert (previous / "mac").exists()
    assert not caplog.text
    with module.open_arena("kept", "crash", fresh=False) as arena:
        assert arena.previous is None
        assert not previous.exists()
        assert "3 starts of kept have ended without a word" in caplog.text
        assert "it is forgotten, as with --fresh" in caplog.text
    assert not (runtime / "kept").exists()


@pytest.mark.parametrize("text", ["", "x", "[]", "9" * 5000])
def test_a_damaged_count_of_starts(runtime, text):
    previous = left("kept", runtime)
    held = [start_killed("kept")]
    (previous / "starts.json").write_text(text)
    with module.open_arena("kept", "crash", fresh=False) as arena:
        assert arena.previous == previous
    assert held


def test_what_ends_each_start_by_an_error_is_forgotten(runtime, monkeypatch, caplog):
    with router() as made:
        udp(made, 5000)
        die(made)

    def fail(*_):
        raise AssertionError("as nobody thought")

    for _ in range(module.STARTS_MAX):
        with monkeypatch.context() as patch:
            patch.setattr(module, "take_over", fail)
            with pytest.raises(AssertionError, match="nobody thought"), router():
                pass
        assert "vforward run --fresh begins without it" in caplog.text
        assert (runtime / "kept" / ".previous" / "sessions-0").exists()
    with router() as made:
        assert made.sessions() == []
        assert udp(made, 5000)


def test_where_memory_is_short_it_begins_as_with_fresh(runtime, monkeypatch, caplog):
    """What was left and what is new need their memory twice, and there is room for it once."""
    with router() as made:
        udp(made, 5000)
        die(made)
    real = arenas._map_new

    def full(path, size, sparse):
        if path.name == ".sessions-0.tmp" and (path.parent / ".previous").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, size, sparse)

    monkeypatch.setattr(arenas, "_map_new", full)
    with router() as made:
        assert made.sessions() == []
        assert "it is forgotten, as with --fresh" in caplog.text
        mapping = udp(made, 5000)
        die(made)
    monkeypatch.setattr(arenas, "_map_new", real)
    with router() as made:  # and the next one goes on, as always
        assert answer(made, mapping) == 5000
