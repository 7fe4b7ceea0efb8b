# SPDX-License-Identifier: Apache-2.0
"""The cache's directory: named after all that matters, private, and kept small."""

import os
import subprocess
import sys

import numba
import pytest

from vforward.errors import KernelError
from vforward.jit import cache


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty cache of this test's own."""
    monkeypatch.setenv("VFORWARD_CACHE_DIR", str(tmp_path / "cache"))
    cache.directory.cache_clear()
    cache.part.cache_clear()
    yield tmp_path / "cache"
    cache.directory.cache_clear()
    cache.part.cache_clear()


def stamp():
    return cache.stamp.__wrapped__()


def test_an_edit_of_what_compiles_changes_the_stamp(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PACKAGE", tmp_path)
    (tmp_path / "jit").mkdir()
    files = [tmp_path / "jit" / f"{name}.py" for name in cache.MACHINERY]
    for file in files:
        file.write_text("one = 1\n")
    seen = {stamp()}
    (tmp_path / "jit" / "intrinsics.py").write_text("")
    os.utime(files[0], (1, 1))
    assert stamp() in seen
    for file in files:
        file.write_text("one = 2\n")
        seen.add(stamp())
    assert len(seen) == 1 + len(files)


def test_versions_and_bounds_checks_are_in_the_stamp(monkeypatch):
    seen = {stamp()}
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    seen.add(stamp())
    monkeypatch.setattr(numba, "__version__", "0.0")
    seen.add(stamp())
    assert len(seen) == 3


def test_the_directory_is_made_private(root):
    path = cache.directory()
    assert path.parent == root
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_a_new_user_can_start_whatever_the_umask(tmp_path, monkeypatch, mask):
    monkeypatch.delenv("VFORWARD_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    cache.directory.cache_clear()
    before = os.umask(mask)
    try:
        path = cache.directory()
    finally:
        os.umask(before)
        cache.directory.cache_clear()
    assert path.parent == tmp_path / "home" / ".cache" / "vforward"
    assert [p.stat().st_mode & 0o777 for p in (path.parent, path)] == [0o700, 0o700]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_write_is_refused(root, mode):
    path = root / cache.stamp()
    path.mkdir(parents=True)
    path.chmod(mode)
    with pytest.raises(KernelError, match="private directory"):
        cache.directory()


def test_a_parent_that_others_write_is_refused(root):
    """They could put a directory of their own in the place of ours."""
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(KernelError, match="writable by others"):
        cache.directory()
    root.chmod(0o1777)  # as /tmp, where they cannot
    cache.directory()


def test_a_link_in_its_place_is_refused(root, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    root.mkdir(mode=0o700)
    (root / cache.stamp()).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KernelError):
        cache.directory()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_foreign_directory_is_refused(root):
    path = root / cache.stamp()
    path.mkdir(parents=True, mode=0o700)
    os.chown(path, 12345, 12345)
    with pytest.raises(KernelError, match="uid 12345"):
        cache.directory()


def test_a_file_in_its_place_is_an_error_of_ours(root):
    root.write_text("")
    with pytest.raises(KernelError, match="VFORWARD_CACHE_DIR"):
        cache.directory()


def test_old_ones_are_pruned_newest_last(root):
    root.mkdir(mode=0o700)
    for age in range(cache.KEEP + 4):
        old = root / f"{age:016x}"
        old.mkdir()
        os.utime(old, (1_000_000_000 - age, 1_000_000_000 - age))
    current = cache.directory()
    kept = {f"{age:016x}" for age in range(cache.KEEP)}
    assert {p.name for p in root.iterdir()} == {*kept, current.name}


def test_what_is_not_a_cache_stays(root):
    """Somebody may set VFORWARD_CACHE_DIR to a directory with other things in it."""
    root.mkdir(mode=0o700)
    names = [f"holiday-{year}" for year in range(10)]
    for name in names:
        (root / name).mkdir()
    cache.directory()
    assert set(names) < {p.name for p in root.iterdir()}


def part(number):
    cache.part.cache_clear()  # as in another process
    return cache.part("some.module", f"{number:016x}")


def test_a_part_is_private(root):
    assert part(1) == cache.directory() / "some.module-0000000000000001"
    assert part(1).stat().st_mode & 0o777 == 0o700


def test_the_parts_of_a_module_that_were_not_used_for_longest_are_forgotten(root):
    made = [part(number) for number in range(cache.KEEP + 1)]
    others = [cache.part(name, "0") for name in ("some", "some.module.deeper", "some-module")]
    for age, path in enumerate([*made, *others]):
        os.utime(path, (1_000_000_000 + age, 1_000_000_000 + age))
    part(0)  # used again
    part(cache.KEEP + 1)
    assert [path.exists() for path in made] == [True, False, *[True] * (cache.KEEP - 1)]
    assert all(path.exists() for path in others)


@pytest.mark.parametrize("chosen", [True, False])
def test_where_it_is(monkeypatch, tmp_path, chosen):
    monkeypatch.delenv("VFORWARD_CACHE_DIR", raising=False)
    if chosen:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache.root() == tmp_path / "vforward"
    else:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache.root() == tmp_path / ".cache" / "vforward"


def test_importing_the_library_makes_no_cache(tmp_path):
    environment = {**os.environ, "VFORWARD_CACHE_DIR": str(tmp_path / "cache")}
    code = "import vforward, vforward.errors, vforward.layout"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    assert not (tmp_path / "cache").exists()
