# SPDX-License-Identifier: Apache-2.0
"""Where an arena's memory comes from: huge pages if there are some, and file systems that are full."""

import errno
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vforward.errors import ArenaError
from vforward.memory import arena as module
from vforward.memory.arena import HUGE, Arena

ROOT = os.geteuid() == 0


def test_no_huge_pages_is_nothing_to_talk_about(owner, place, monkeypatch, capfd):
    monkeypatch.setattr(module, "_huge_directories", lambda _: iter([place / "not-there"]))
    assert owner.make("table", HUGE, np.uint8).shape == (HUGE,)
    assert (place / "a" / "table").is_file()
    assert not (place / "a" / "table").is_symlink()
    assert capfd.readouterr() == ("", "")


def test_huge_pages_of_another_file_system(owner, place, tmp_path, monkeypatch):
    """hugetlbfs played by a directory: what matters is that files there go when the arena goes."""
    huge = tmp_path / "huge"
    huge.mkdir()
    monkeypatch.setattr(module, "_huge_directories", lambda _: iter([huge]))
    owner.make("table", HUGE, np.uint8)[5] = 6
    (file,) = huge.iterdir()
    assert file.stat().st_size == 2 * HUGE, "whole pages"
    assert Arena.attach("a").open("table")[5] == 6
    owner.close()
    assert list(huge.iterdir()) == []


def test_huge_leftovers_of_a_killed_owner_go_too(place, tmp_path, monkeypatch):
    huge = tmp_path / "huge"
    huge.mkdir()
    monkeypatch.setattr(module, "_huge_directories", lambda _: iter([huge]))
    dead = Arena.create("a")
    dead.make("table", HUGE, np.uint8)
    os.close(dead._lock)  # as the kernel does when its process dies
    with Arena.create("a"):
        assert list(huge.iterdir()) == []


def test_huge_directories_are_those_with_room(monkeypatch):
    assert list(module._huge_directories(HUGE - 1)) == []
    for path in module._huge_directories(1 << 50):
        pytest.fail(f"{path} cannot have that much")


FULL = """
import os, sys, numpy as np
from vforward.errors import ArenaError
from vforward.memory.arena import Arena
arena = Arena.create("a")
made = []
try:
    for k in range(100):
        made.append(arena.make(f"t{k}", int(sys.argv[1]), np.uint8))
except ArenaError as error:
    assert "free some of" in str(error), error
    assert not os.path.exists(arena.path / f"t{len(made)}"), "a file is left of what failed"
    for array in made:
        array[:] = 1  # no SIGBUS: all that was made is there
    print("refused after", len(made))
"""


def on_a_small_one(tmp_path, room, program, *arguments):
    """Run a program whose arenas lie on a file system of that size."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare(1)")
    small = tmp_path / "small"
    small.mkdir(mode=0o700)
    script = f'mount -t tmpfs -o size={room},mode=0700 none "$0" || exit 77; exec "$@"'
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            script,
            str(small),
            sys.executable,
            "-c",
            program,
            *arguments,
        ],
        env={**os.environ, "VFORWARD_RUNTIME_DIR": str(small / "run")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode in (1, 77) and "mount" in done.stderr + done.stdout:
        pytest.skip(f"may not mount: {done.stderr}")
    return done


@pytest.mark.skipif(not ROOT, reason="needs root to mount a small file system")
@pytest.mark.parametrize(("size", "room", "fit"), [(300_000, "1M", 3), (3 << 20, "8M", 2)])
def test_a_full_file_system_is_an_error_and_not_a_signal(tmp_path, size, room, fit):
    done = on_a_small_one(tmp_path, room, FULL, str(size))
    assert (done.returncode, done.stdout) == (0, f"refused after {fit}\n"), done.stderr


SPARSE = """
import sys, numpy as np
from vforward.errors import ArenaError
from vforward.memory.arena import Arena

arena = Arena.create("sparse")
array = arena.make("t", 64 << 20, np.uint8, sparse=True)
others = arena.make("u", 48 << 20, np.uint8)
there = 0
try:
    while there < array.size:
        there = arena.use("t", there, min(there + 300_000, array.size))
        array[:there] = 1  # no SIGBUS: what was asked for is there
except ArenaError as error:
    assert "segment 't' of arena 'sparse': No space left on device; free some of" in str(error), error
    array[:there] = 2
    try:
        arena.write_document("d", "x" * 4096)
    except ArenaError as error:
        assert "document 'd' of arena 'sparse': No space left on device" in str(error), error
        assert sorted(path.name for path in arena.path.iterdir()) == ["lock", "t", "u"]
        print("full at", there >> 20)
"""


@pytest.mark.skipif(not ROOT, reason="needs root to mount a small file system")
def test_sparse_memory_is_there_before_it_is_used(tmp_path):
    done = on_a_small_one(tmp_path, "72M", SPARSE)
    assert done.returncode == 0, done.stderr
    where, megabytes = done.stdout.rsplit(maxsplit=1)
    assert where == "full at"
    assert 10 <= int(megabytes) <= 24


def one_that_was_killed(name, segment, size=10):
    dead = Arena.create(name, keep=lambda name: name == segment)
    dead.make(segment, size, np.uint8)
    os.close(dead._lock)  # as the kernel does when its process dies


@pytest.mark.parametrize("what", ["segment", "sparse", "document"])
def test_what_was_left_makes_way_for_what_is_new(place, monkeypatch, caplog, what):
    """Once: who has no room then is told so."""
    one_that_was_killed("a", "kept")
    left = place / "a" / ".previous"
    with Arena.create("a", keep=lambda name: name == "kept") as arena:
        arena.make("there", 10, np.uint8)
        assert left.is_dir()
        assert not caplog.text

        def full(real):
            def call(*given):
                if full.always or left.exists():
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real(*given)

            return call

        full.always = False
        monkeypatch.setattr(module, "_map_new", full(module._map_new))
        monkeypatch.setattr(module, "have", full(module.have))
        monkeypatch.setattr(type(left), "write_text", full(type(left).write_text))
        need = {
            "segment": lambda: arena.make("new", 10, np.uint8),
            "sparse": lambda: arena.use("there", 0, 10),
            "document": lambda: arena.write_document("new", [1]),
        }[what]
        need()
        assert arena.previous is None
        assert not left.exists()
        assert "forgotten, as with --fresh" in caplog.text
        full.always = True
        with pytest.raises(ArenaError, match="No space left on device; free some of"):
            arena.make("more", 10, np.uint8)
        assert len(caplog.records) == 1


def test_what_is_just_being_read_makes_no_way(place, monkeypatch):
    one_that_was_killed("a", "kept")
    with Arena.create("a", keep=lambda name: name == "kept") as arena:
        arena.makes_way = False

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(module, "_map_new", full)
        with pytest.raises(ArenaError, match="No space left on device"):
            arena.make("new", 10, np.uint8)
        assert arena.previous == place / "a" / ".previous"
        assert (arena.previous / "kept").exists()


TWICE = """
import os, sys, numpy as np
from vforward.memory.arena import Arena
keep = lambda name: name == "kept"
dead = Arena.create("a", keep=keep)
dead.make("kept", 5 << 20, np.uint8)
dead._arrays.clear()  # and os.close: as if its process had died
os.close(dead._lock)
with Arena.create("a", keep=keep) as arena:
    assert arena.previous is not None
    arena.make("kept", 5 << 20, np.uint8)[:] = 1
    assert arena.previous is None
    print("made")
"""


@pytest.mark.skipif(not ROOT, reason="needs root to mount a small file system")
def test_where_there_is_room_for_it_once(tmp_path):
    done = on_a_small_one(tmp_path, "8M", TWICE)
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr
    assert "forgotten, as with --fresh" in done.stderr
