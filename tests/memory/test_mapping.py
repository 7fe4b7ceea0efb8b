# SPDX-License-Identifier: Apache-2.0
"""mapping: addresses, what is there after populate, what is unmapped, full file systems."""

import ctypes
import errno
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from vforward.memory import mapping
from vforward.memory.mapping import HUGE, map_file, populate

PAGE = 4096


@pytest.fixture
def file():
    descriptor = os.memfd_create("mapping")
    yield descriptor
    os.close(descriptor)


def maps():
    return Path("/proc/self/maps").read_text().splitlines()


def mapped(at):
    """The line of /proc/self/maps of the mapping at an address, or None."""
    return next((line for line in maps() if line.startswith(f"{at:x}-")), None)


@pytest.mark.parametrize("size", [1, PAGE, HUGE - 1, HUGE, HUGE + 1, 5 * HUGE + 3 * PAGE + 7])
def test_a_mapping_is_the_file_and_goes_with_its_last_reader(file, size):
    os.ftruncate(file, size)
    buffer = map_file(file, size, writable=True)
    at = ctypes.addressof(buffer)
    assert len(buffer) == size
    assert at % (HUGE if size >= HUGE else PAGE) == 0
    array = np.frombuffer(buffer, np.uint8)[size - 1 :]
    array[0] = 7
    assert os.pread(file, 1, size - 1) == b"\7"
    del buffer
    gc.collect()
    first, last = (int(word, 16) for word in mapped(at).split()[0].split("-"))
    assert (first, last) == (at, at + -(-size // PAGE) * PAGE), "no more than the file is mapped"
    del array
    gc.collect()
    assert mapped(at) is None


def test_the_room_around_it_is_given_back(file):
    os.ftruncate(file, HUGE)
    before = len(maps())
    kept = [map_file(file, HUGE, writable=True) for _ in range(8)]
    assert len(maps()) <= before + len(kept)


@pytest.mark.parametrize("size", [PAGE, 2 * HUGE])
def test_a_reader_cannot_write(file, size):
    os.ftruncate(file, size)
    os.pwrite(file, b"\5", size - 1)
    buffer = map_file(file, size, writable=False)
    assert buffer[size - 1] == 5
    array = np.frombuffer(buffer, np.uint8)
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


@pytest.mark.parametrize("size", [PAGE, 2 * HUGE, 3 * HUGE])
def test_no_file_to_map(file, size):
    before = len(maps())
    with pytest.raises(OSError, match="Bad file") as caught:
        map_file(1 << 20, size, writable=True)
    assert caught.value.errno == errno.EBADF
    assert len(maps()) == before


def huge_kib(at):
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    next(line for line in lines if line.startswith(f"{at:x}-"))
    return next(int(line.split()[1]) for line in lines if line.startswith("ShmemPmdMapped"))


@pytest.mark.parametrize("refused", [(), (mapping.MADV_COLLAPSE,), (mapping.MADV_POPULATE_WRITE,)])
def test_populated_memory_is_all_there(file, monkeypatch, refused):
    """With huge pages if the kernel has them, and in kernels that lack one or the other."""
    size = 3 * HUGE + 5 * PAGE
    os.ftruncate(file, size)
    buffer = map_file(file, size, writable=True)
    advise = mapping._advise

    def older(at, size, advice):
        if advice in refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        advise(at, size, advice)

    monkeypatch.setattr(mapping, "_advise", older)
    populate(buffer)
    assert not np.frombuffer(buffer, np.uint8).any()
    if mapping.MADV_POPULATE_WRITE not in refused:
        assert os.fstat(file).st_blocks * 512 >= size
    expected = 0 if refused else 3 * HUGE >> 10
    assert huge_kib(ctypes.addressof(buffer)) in (0, expected), "as many as the kernel had, or none"


@pytest.mark.parametrize(
    ("first", "last", "blocks"), [(0, 1, 1), (HUGE - 1, HUGE + 1, 2), (0, 9 * HUGE, 3)]
)
def test_huge_pages_are_made_under_what_will_be_used(file, first, last, blocks):
    size = 3 * HUGE + PAGE
    os.ftruncate(file, size)
    buffer = map_file(file, size, writable=True)
    buffer[HUGE] = 9
    at = ctypes.addressof(buffer)
    mapping.make_huge(at, size, first, last)
    assert huge_kib(at) in (0, blocks * HUGE >> 10)
    assert buffer[HUGE] == 9, "what was there stays"
    assert sum(buffer) == 9


def test_a_mapping_of_small_pages_is_left_alone(file):
    os.ftruncate(file, PAGE)
    buffer = map_file(file, PAGE, writable=True)
    mapping.make_huge(ctypes.addressof(buffer), PAGE, 0, PAGE)
    assert os.fstat(file).st_blocks == 0


def test_own_pages_take_memory_when_written_and_are_given_back():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE

    size, before = 16 * HUGE, resident()
    array = np.frombuffer(mapping.own_pages(size), np.uint8)
    assert resident() - before < size // 2
    assert not array.any()
    array[:] = 1
    assert resident() - before > size // 2
    del array
    assert resident() - before < size // 2
