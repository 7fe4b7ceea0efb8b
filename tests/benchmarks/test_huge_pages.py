# SPDX-License-Identifier: Apache-2.0
"""Huge pages are reserved where that is allowed and harmless, and given back; an array's are told."""

import numpy as np
import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.huge_pages import LARGE, SMALL, page_size, reserved

from benchmarks import huge_pages

MEMINFO = """\
MemTotal:       16000000 kB
MemAvailable:   {available} kB
HugePages_Total:       0
HugePages_Free:  {free}
Hugepagesize:       {size} kB
"""
SMAPS = """\
7f0000000000-7f0000900000 rw-s 00000000 00:01 5   /dev/shm/vforward/data
Size:               9216 kB
KernelPageSize:        {page} kB
AnonHugePages:         0 kB
ShmemPmdMapped:     {large} kB
VmFlags: rd wr sh
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0   [vsyscall]
Size:                  4 kB
KernelPageSize:        2048 kB
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """What the kernel says, with so many pages reserved already: a function of what it has."""
    meminfo, number = tmp_path / "meminfo", tmp_path / "nr_hugepages"
    monkeypatch.setattr(huge_pages, "MEMINFO", meminfo)
    monkeypatch.setattr(huge_pages, "NUMBER", number)

    def has(free=0, available=8_000_000, size=2048, pages="3"):
        meminfo.write_text(MEMINFO.format(free=free, available=available, size=size))
        if pages is not None:
            number.write_text(pages)
        return meminfo, number

    return has


def test_what_is_missing_is_reserved_and_given_back(machine):
    _, number = machine(free=2)
    with reserved(64) as enough:
        assert number.read_text() == "33"  # 3, and the 30 that are missing of 32
        assert not enough  # this kernel gave none: what counts is what is free
    assert number.read_text() == "3"


def test_it_is_given_back_after_an_error(machine):
    _, number = machine()

    with pytest.raises(KeyError), reserved(64):
        raise KeyError
    assert number.read_text() == "3"


@pytest.mark.parametrize(
    ("found", "enough"),
    [
        ({"free": 32}, True),
        ({"available": 4 * 65536 - 1}, False),
        ({"size": 1048576, "free": 1}, False),
    ],
    ids=["enough are free", "little memory is", "pages of another size"],
)
def test_nothing_is_changed_where(machine, found, enough):
    _, number = machine(**found)
    with reserved(64) as free:
        assert free is enough
        assert number.read_text() == "3"
    assert number.read_text() == "3"


def test_who_may_not_reserve_goes_without(machine):
    _, number = machine(pages=None)
    number.mkdir()  # whoever writes there gets an error, root too
    with reserved(64) as enough:
        assert not enough


@pytest.mark.parametrize(
    ("large", "page", "says"),
    [(8192, 4, LARGE), (2048, 4, SMALL), (0, 4, SMALL), (0, 2048, LARGE)],
    ids=["most is huge", "little is huge", "nothing is", "hugetlbfs"],
)
def test_pages_of_an_array(tmp_path, monkeypatch, large, page, says):
    smaps = tmp_path / "smaps"
    smaps.write_text(SMAPS.format(large=large, page=page))
    monkeypatch.setattr(huge_pages, "SMAPS", smaps)

    class Array:
        class ctypes:  # noqa: N801
            data = 0x7F0000001000

    assert page_size(Array) == says


def test_an_array_of_this_process():
    assert page_size(np.zeros(100_000, np.uint8)) in (LARGE, SMALL)
