# SPDX-License-Identifier: Apache-2.0
"""A peer's regions: mapped as they say, or refused; and what happens when they are taken away."""

import fcntl
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest

from vforward.io.vhost_memory import GuestMemory
from vforward.jit.intrinsics import view
from vforward.jit.kernel import kernel, u64
from vforward.rings import guest_memory
from vforward.rings.vhost_message import BadPeer, Region

PAGE = mmap.PAGESIZE


@kernel
def peek(where):
    return view(where, 1, np.uint64)[0]


@kernel
def poke(where, value):
    view(where, 1, np.uint64)[0] = u64(value)


@pytest.fixture
def memory():
    made = GuestMemory()
    yield made
    made.unmap()


@pytest.fixture
def fd():
    made = os.memfd_create("guest", os.MFD_ALLOW_SEALING)
    os.truncate(made, 16 * PAGE)
    yield made
    os.close(made)


def test_regions_are_mapped_where_the_table_says(memory, fd):
    wanted = [Region(0, 4 * PAGE, 99, 0), Region(1 << 32, 8 * PAGE, 0, 4 * PAGE)]
    mapped = memory.map(wanted, [fd, fd])
    assert [region for region, _ in mapped] == wanted
    for offset, (_, here) in zip((0, 4 * PAGE), mapped, strict=True):
        os.pwrite(fd, (7 + offset).to_bytes(8, "little"), offset)
        assert peek(here) == 7 + offset
        poke(here + 8, 5)
        assert os.pread(fd, 8, offset + 8) == b"\5" + bytes(7)
    words = memory.table[guest_memory.FIRST :].reshape(-1, 3)[:2].tolist()
    assert words == [[r.guest, r.size, here] for r, here in mapped]
    assert int(memory.table[guest_memory.REGIONS]) == 2
    assert not memory.sealed


def test_an_offset_need_not_be_a_pages(memory, fd):
    os.pwrite(fd, b"12345678", PAGE + 24)
    ((_, here),) = memory.map([Region(0, 100, 0, PAGE + 24)], [fd])
    assert peek(here) == int.from_bytes(b"12345678", "little")


def test_new_regions_replace_the_old(memory, fd):
    for guest in (0, PAGE):
        memory.map([Region(guest, PAGE, 0, 0)], [fd])
        assert memory.table[: guest_memory.FIRST + 2].tolist() == [1, 0, guest, PAGE]
    memory.unmap()
    memory.unmap()
    assert int(memory.table[guest_memory.REGIONS]) == 0


def test_no_regions(memory):
    assert memory.map([], []) == []


def test_a_sealed_file(memory, fd):
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    memory.map([Region(0, PAGE, 0, 0)], [fd])
    assert memory.sealed


@pytest.mark.parametrize(
    ("size", "offset"),
    [
        (0, 0),
        (17 * PAGE, 0),
        (PAGE, 16 * PAGE),
        (2 * PAGE, 15 * PAGE),
        (2**64 - 1, 0),
        (1, 2**64 - 1),
    ],
)
def test_regions_that_the_file_does_not_hold(memory, fd, size, offset):
    with pytest.raises(BadPeer, match="a region of"):
        memory.map([Region(0, size, 0, offset)], [fd])
    assert int(memory.table[guest_memory.REGIONS]) == 0


def test_more_than_there_is_address_space(memory, fd):
    os.truncate(fd, 1 << 47)
    with pytest.raises(BadPeer, match="cannot be mapped"):
        memory.map([Region(0, 1 << 47, 0, 0)], [fd])


def test_files_that_are_not_memory(memory, tmp_path):
    ordinary = tmp_path / "file"
    ordinary.write_bytes(bytes(PAGE))
    read, write = os.pipe()
    disk = os.open(ordinary, os.O_RDWR)
    with pytest.raises(BadPeer, match="no regular file"):
        memory.map([Region(0, PAGE, 0, 0)], [read])
    region = Region(0, PAGE, 0, 0)
    if subprocess.run(["stat", "-fc%T", ordinary], capture_output=True).stdout.strip() != b"tmpfs":
        with pytest.raises(BadPeer, match="no shared memory"):
            memory.map([region], [disk])
    trusting = GuestMemory(trusted=True)
    trusting.map([region], [disk])
    trusting.unmap()
    for fd in (read, write, disk):
        os.close(fd)


def test_a_file_that_cannot_be_written(memory, fd):
    only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    with pytest.raises(BadPeer, match="cannot be mapped"):
        memory.map([Region(0, PAGE, 0, 0)], [only])
    os.close(only)


@pytest.mark.parametrize("access", [peek, lambda where: poke(where, 1)], ids=["read", "write"])
def test_truncated_memory_becomes_zeros_and_is_known(memory, fd, access):
    os.pwrite(fd, b"x" * 16 * PAGE, 0)
    ((_, here),) = memory.map([Region(0, 16 * PAGE, 0, 0)], [fd])
    os.truncate(fd, PAGE)
    assert peek(here) != 0
    assert int(memory.table[guest_memory.GONE]) == 0
    access(here + 8 * PAGE)
    assert int(memory.table[guest_memory.GONE]) == 1
    assert peek(here + 9 * PAGE) == 0
    assert peek(here) == 0  # all of it
    os.truncate(fd, 16 * PAGE)
    memory.unmap()
    assert int(memory.table[guest_memory.GONE]) == 0
    memory.map([Region(0, 16 * PAGE, 0, 0)], [fd])
    assert int(memory.table[guest_memory.GONE]) == 0


@pytest.mark.parametrize("handler", ["SIG_DFL", "faulthandler"])
def test_a_bus_error_elsewhere_still_ends_the_process(handler):
    code = f"""
import faulthandler, mmap, os, sys
from vforward.io.vhost_memory import GuestMemory
from vforward.rings.vhost_message import Region
if {handler!r} == "faulthandler":
    faulthandler.enable()
fd = os.memfd_create("x")
os.truncate(fd, 8192)
memory = GuestMemory()
memory.map([Region(0, 8192, 0, 0)], [fd])
mine = mmap.mmap(fd, 8192)
os.truncate(fd, 0)
mine[5000]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == -7
    assert ("Fatal Python error: Bus error" in done.stderr) == (handler == "faulthandler")
