# SPDX-License-Identifier: Apache-2.0
"""Private directories: who runs there, and what is never removed."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vforward.errors import ArenaError
from vforward.memory.arena import Arena
from vforward.memory.place import running, runtime_directory


def test_the_runtime_directory(monkeypatch):
    monkeypatch.delenv("VFORWARD_RUNTIME_DIR", raising=False)
    assert runtime_directory().name == f"vforward-{os.geteuid()}"
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", "/x/y")
    assert runtime_directory() == Path("/x/y")


def test_running_lists_the_living(place):
    assert running() == []
    with Arena.create("b"), Arena.create("a"):
        (place / "c").mkdir()
        (place / "file").write_text("")
        assert running() == ["a", "b"]
    assert running() == []


def foreign_things(directory, tmp_path):
    """Name -> what somebody may have in a directory of the arena's name."""
    (directory / "src").mkdir()
    (directory / "src" / "thesis.tex").write_text("")
    (directory / "notes.txt").write_text("mine")
    (directory / "empty").write_text("")
    (tmp_path / "vforward-thesis").write_text("mine")
    (directory / "link").symlink_to(tmp_path / "vforward-thesis")
    os.mkfifo(directory / "fifo")
    (directory / "folder.json").mkdir()
    return ["src", "notes.txt", "empty", "link", "fifo", "folder.json"]


def test_a_dead_owners_socket_is_removed_and_no_other(place):
    Arena.create("a").close()
    (place / "a").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(place / "a" / "memring-0.sock"))
    Arena.create("a").close()
    assert not (place / "a").exists()
    (place / "a").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(place / "a" / "agent"))
    with pytest.raises(ArenaError, match="is not a forwarder's"):
        Arena.create("a")


def test_a_directory_of_somebodys_work_is_left_as_it_is(place, tmp_path):
    """$VFORWARD_RUNTIME_DIR may be a home directory, and the forwarder's name that of one there."""
    (place / "a").mkdir(parents=True, mode=0o700)
    place.chmod(0o700)
    (place / "a" / "state.json").write_text("{}")
    names = foreign_things(place / "a", tmp_path)
    for name in names:
        aside = tmp_path / name
        before = sorted(p.name for p in (place / "a").iterdir())
        with pytest.raises(ArenaError, match=r"is not a forwarder's: .*/a must hold nothing else"):
            Arena.create("a")
        assert sorted(p.name for p in (place / "a").iterdir()) == before
        (place / "a" / name).rename(aside)
    assert (tmp_path / "src" / "thesis.tex").exists()
    Arena.create("a").close()
    assert not (place / "a").exists()


def test_close_leaves_what_is_not_its_own(place, tmp_path):
    with Arena.create("a") as arena:
        arena.make("table", 1, np.uint8)
        arena.write_document("state", [1])
        names = foreign_things(place / "a", tmp_path)
    assert sorted(p.name for p in (place / "a").iterdir()) == sorted(names)
    assert (place / "a" / "src" / "thesis.tex").exists()
    assert (tmp_path / "vforward-thesis").exists()


def test_a_file_called_lock_that_says_something_is_not_ours(place):
    (place / "a").mkdir(parents=True, mode=0o700)
    place.chmod(0o700)
    (place / "a" / "lock").write_text("1234")
    with pytest.raises(ArenaError, match="a/lock is not a forwarder's"):
        Arena.create("a")
    assert (place / "a" / "lock").read_text() == "1234"


@pytest.mark.parametrize("which", ["root", "arena"])
def test_nobody_waits_at_anothers_fifo(place, which):
    """Another user may have made all of it before us: a directory that is not private says so."""
    (place / "a").mkdir(parents=True, mode=0o700)
    place.chmod(0o700)
    os.mkfifo(place / "a" / "lock")
    code = (
        "from vforward.memory.arena import Arena; from vforward.memory.place import running;"
        "print(running())\ntry: Arena.attach('a')\nexcept Exception as e: print(e)"
    )

    def ask():
        return subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=30
        ).stdout

    assert "no forwarder named" in ask()
    (place if which == "root" else place / "a").chmod(0o755)
    said = ask()
    assert said.startswith("[]\n")
    assert "must be a directory of uid" in said
