# SPDX-License-Identifier: Apache-2.0
"""One living owner of an arena, in directories of its own; what a killed one leaves is the next one's."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from vforward.errors import ArenaError
from vforward.memory.arena import Arena
from vforward.memory.place import running

ROOT = os.geteuid() == 0


def code_in_child(code, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/tmp/a", "a\0", ".hidden"])
def test_a_name_stays_in_the_directory(place, name):
    with pytest.raises(ArenaError):
        Arena.create(name)
    with pytest.raises(ArenaError):
        Arena.attach(name)


def test_the_directories_are_private(owner, place):
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "a").stat().st_mode & 0o777 == 0o700
    owner.make("table", 1, np.uint8)
    assert (place / "a" / "table").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("which", ["root", "arena"])
@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_directories_that_others_see_are_refused(place, which, mode):
    (place / "a").mkdir(parents=True)
    place.chmod(0o700)
    (place / "a").chmod(0o700)
    (place if which == "root" else place / "a").chmod(mode)
    with pytest.raises(ArenaError, match="mode 0700"):
        Arena.create("a")


@pytest.mark.parametrize("which", ["root", "arena"])
def test_links_are_refused(place, tmp_path, which):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if which == "root":
        place.symlink_to(elsewhere)
    else:
        place.mkdir(mode=0o700)
        (place / "a").symlink_to(elsewhere)
    with pytest.raises(ArenaError, match="must be a directory"):
        Arena.create("a")


def test_a_dangling_link_and_a_file_in_the_way_are_errors_of_ours(place, tmp_path):
    place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ArenaError):
        Arena.create("a")
    place.unlink()
    place.write_text("")
    with pytest.raises(ArenaError):
        Arena.create("a")


def test_a_link_as_the_lock_is_refused(place, tmp_path):
    (place / "a").mkdir(parents=True, mode=0o700)
    place.chmod(0o700)
    (place / "a" / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(ArenaError, match="lock"):
        Arena.create("a")
    assert not (tmp_path / "victim").exists()


def test_an_owner_killed_while_it_makes_a_segment_is_taken_over(place, monkeypatch):
    """It lies there without a header, under another name."""
    dead = Arena.create("a")
    monkeypatch.setattr(Path, "rename", lambda *_: None)
    dead.make("table", 1, np.uint8)
    monkeypatch.undo()
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(place))
    os.close(dead._lock)  # as the kernel does when its process dies
    assert [p.name for p in (place / "a").iterdir() if p.name != "lock"] == [".table.tmp"]
    with Arena.create("a") as arena:
        arena.make("table", 1, np.uint8)
        assert not (place / "a" / ".table.tmp").exists()


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
@pytest.mark.parametrize("which", ["root", "arena"])
def test_foreign_directories_are_refused(place, which):
    (place / "a").mkdir(parents=True, mode=0o700)
    place.chmod(0o700)
    os.chown(place if which == "root" else place / "a", 12345, 12345)
    with pytest.raises(ArenaError, match=r"of uid 0"):
        Arena.create("a")
    with (place / "a" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArenaError, match=r"of uid 0"):
            Arena.attach("a")


def test_a_second_owner_is_refused(owner):
    owner.make("table", 1, np.uint8)
    with pytest.raises(ArenaError, match="'a' is already running"):
        Arena.create("a")
    assert Arena.attach("a").open("table").size == 1


def test_asking_who_runs_does_not_keep_an_owner_out(place):
    """running() holds the lock for an instant."""
    Arena.create("a").close()
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            running()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            Arena.create("a").close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_owners_that_follow_each_other_at_once_each_have_their_files(place):
    """One that closes removes the lock's file: it must not be the next one's."""
    wrong = []

    def live():
        for _ in range(60):
            try:
                arena = Arena.create("a")
            except ArenaError:
                continue
            try:
                mine = arena.make("table", 1, np.uint64)
                mine[0] = threading.get_ident()
                if Arena.attach("a").open("table")[0] != threading.get_ident():
                    wrong.append("another owner's table")
            except ArenaError as error:
                wrong.append(error)
            arena.close()

    threads = [threading.Thread(target=live) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


LIVE = """
import numpy as np, sys
from vforward.memory.arena import Arena
arena = Arena.create("a")
arena.make("table", 5, np.uint8)[:] = 7
arena.make("old", 5, np.uint8)
arena.write_document("state", {"x": 1})
print("ready", flush=True)
sys.stdin.read()
"""


def test_leftovers_of_a_killed_owner_are_taken_over(place):
    with code_in_child(LIVE, stdin=subprocess.PIPE) as child:
        assert child.stdout.readline() == "ready\n"
        assert running() == ["a"]
        with pytest.raises(ArenaError, match="already running"):
            Arena.create("a")
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (place / "a" / "table").exists()
    assert running() == []
    with pytest.raises(ArenaError, match="no forwarder named"):
        Arena.attach("a")
    with Arena.create("a") as arena:
        assert not (place / "a" / "old").exists()
        assert not (place / "a" / "state.json").exists()
        assert not arena.make("table", 3, np.uint16).any()


def test_a_child_process_does_not_inherit_the_lock(place):
    with Arena.create("a"):
        child = code_in_child(
            "import sys; print('up', flush=True); sys.stdin.read()",
            stdin=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout.readline() == "up\n"
    try:
        Arena.create("a").close()
    finally:
        child.communicate("")


def test_close_removes_everything(place):
    arena = Arena.create("a")
    arena.make("table", 1, np.uint8)
    arena.write_document("state", [1])
    other = Arena.attach("a")
    other.close()
    assert (place / "a").exists(), "only the owner removes"
    arena.close()
    assert list(place.iterdir()) == []
    with Arena.create("a"):
        arena.close()
        assert running() == ["a"], "a second close must not remove the next owner's"
