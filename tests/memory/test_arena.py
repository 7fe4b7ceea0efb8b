# SPDX-License-Identifier: Apache-2.0
"""Segments with checked headers, one living owner, nothing left behind."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.errors import ArenaError
from vforward.layout import LAYOUT_VERSION, META
from vforward.memory import arena as module
from vforward.memory.arena import DTYPE_ROOM, HEADER, HUGE, PAGE, Arena
from vforward.memory.place import MAGIC, running

ROOT = os.geteuid() == 0


@pytest.fixture
def owner(place):
    with Arena.create("a") as arena:
        yield arena


def header(path):
    return np.memmap(path, HEADER, "r+", shape=1)


def code_in_child(code, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(7, np.uint64), ((3, 5), np.uint8), (4, META), (0, np.uint32), ((2, 2, 2, 2), "S3")],
)
def test_what_is_made_can_be_opened(owner, shape, dtype):
    made = owner.make("table", shape, dtype)
    assert not made.view(np.uint8).any() if made.size and made.ndim == 1 else True
    seen = Arena.attach("a").open("table")
    assert (seen.shape, seen.dtype) == (made.shape, made.dtype)
    if dtype is np.uint64:
        made[3] = 99
        assert seen[3] == 99


def test_the_array_begins_on_a_page_and_the_header_says_all(owner, place):
    made = owner.make("table", (3, 5), np.uint16)
    assert made.ctypes.data % PAGE == 0
    record = header(place / "a" / "table")[0]
    assert record["magic"] == MAGIC
    assert (record["layout"], record["dimensions"], record["size"]) == (LAYOUT_VERSION, 2, 30)
    assert record["shape"].tolist() == [3, 5, 0, 0]
    assert record["owner"] == os.getpid()
    assert record["generation"] == owner.generation


def test_readers_cannot_write(owner):
    owner.make("table", 4, np.uint8)
    reader = Arena.attach("a")
    seen = reader.open("table")
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        seen.flags.writeable = True
    writable = reader.open("table", writable=True)
    writable[0] = 1
    assert seen[0] == 1
    assert reader.open("table") is writable


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("magic", b"vforwarx", "not a vforward segment"),
        ("layout", LAYOUT_VERSION + 1, f"layout {LAYOUT_VERSION + 1}, this program"),
        ("size", 31, "header says"),
        ("size", 2**63, "header says"),
        ("dimensions", 5, "header says"),
        ("dimensions", 1, "header says"),
        ("shape", [3, 6, 0, 0], "header says"),
        ("shape", [2**63, 2**63, 0, 0], "header says"),
    ],
)
def test_a_wrong_header_is_refused(owner, place, field, value, text):
    owner.make("table", (3, 5), np.uint16)
    header(place / "a" / "table")[field] = value
    with pytest.raises(ArenaError, match=rf"'table' of arena 'a': .*{text}"):
        Arena.attach("a").open("table")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"'O'",
        b"[('a', 'O')]",
        b"'nonsense'",
        b"__import__('os')",
        b"((((",
        b"\xff\xfe",
        b"7",
        b"(" * 3000,
        b"[('a',)]",
        b"[(1, 2, 3, 4, 5)]",
        b"'<u8'",
    ],
)
def test_a_wrong_type_is_refused(owner, place, text):
    owner.make("table", (3, 5), np.uint16)
    raw = np.memmap(place / "a" / "table", np.uint8, "r+")
    raw[HEADER.itemsize : PAGE] = 0
    raw[HEADER.itemsize : HEADER.itemsize + len(text)] = list(text)
    with pytest.raises(ArenaError, match="segment 'table'"):
        Arena.attach("a").open("table")


@given(raw=st.binary(max_size=300))
def test_no_header_crashes(raw, tmp_path_factory):
    memory = bytearray(PAGE + 64)
    memory[: len(raw)] = raw
    for magic in (b"", MAGIC + LAYOUT_VERSION.to_bytes(4, "little")):
        memory[: len(magic)] = magic
        try:
            kind, shape, _ = module.checked(memory, "segment")
        except ArenaError:
            continue
        assert kind.itemsize * int(np.prod(shape)) <= 64


@pytest.mark.parametrize("length", [0, 1, PAGE - 1, PAGE, PAGE + 29])
def test_a_truncated_file_is_refused(owner, place, length):
    owner.make("table", (3, 5), np.uint16)
    os.truncate(place / "a" / "table", length)
    with pytest.raises(ArenaError, match=r"too short|header says"):
        Arena.attach("a").open("table")


def test_what_is_missing_is_an_error_of_ours(owner, place):
    with pytest.raises(ArenaError, match="'table' of arena 'a': No such file"):
        Arena.attach("a").open("table")
    with pytest.raises(ArenaError, match="no forwarder named 'b'"):
        Arena.attach("b")


def test_a_segment_is_made_once_and_types_have_a_limit(owner):
    owner.make("table", 1, np.uint8)
    with pytest.raises(ArenaError, match="'table'"):
        owner.make("table", 1, np.uint8)
    with pytest.raises(ArenaError, match="'lock'"):
        owner.make("lock", 1, np.uint8)
    with pytest.raises(ArenaError):
        owner.make("wide", 1, [(f"field{k}", np.uint8) for k in range(DTYPE_ROOM // 10)])
    with pytest.raises(ArenaError):
        owner.make("deep", (1, 1, 1, 1, 1), np.uint8)


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


def test_arrays_outlive_the_arena(owner):
    array = owner.make("table", 4, np.uint8)
    array[:] = 5
    owner.close()
    assert array.sum() == 20


def test_documents(owner):
    content = {"nodes": ["a", "b"], "n": 3}
    owner.write_document("wiring", content)
    assert Arena.attach("a").read_document("wiring") == content
    owner.write_document("wiring", [])
    assert Arena.attach("a").read_document("wiring") == []
    with pytest.raises(ArenaError, match="'none'"):
        owner.read_document("none")
    (owner.path / "torn.json").write_text('{"a"')
    with pytest.raises(ArenaError, match="'torn'"):
        owner.read_document("torn")


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
