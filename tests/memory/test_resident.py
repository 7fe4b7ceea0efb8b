# SPDX-License-Identifier: Apache-2.0
"""Code that is given back: less is resident, and it works as before."""

import os
import re
import subprocess
import sys

import pytest

from vforward.jit.kernel import kernel
from vforward.memory import resident

LIBRARY = "libllvmlite"


def code_in_memory():
    """Bytes of the library's code that are resident."""
    size, ours = 0, False
    for line in resident.Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-", line):
            ours = " r-xp " in line and LIBRARY in line
        elif ours and line.startswith("Rss:"):
            size += int(line.split()[1]) * 1024
    return size


@kernel
def double(n):
    return 2 * n


@kernel
def triple(n):
    return 3 * n


def test_what_is_not_needed_is_not_resident_and_comes_back():
    assert double(21) == 42
    before = code_in_memory()
    assert before > 0
    assert resident.forget_code(LIBRARY) >= before
    assert code_in_memory() < before / 2
    assert triple(14) == 42, "compiled, or loaded, by code that was given back"
    assert double(4) == 8


def test_other_libraries_stay():
    before = code_in_memory()
    assert resident.forget_code("no-such-library") == 0
    assert code_in_memory() == before


def test_where_the_kernel_does_not_tell_nothing_happens(monkeypatch, tmp_path):
    monkeypatch.setattr(resident, "MAPS", tmp_path / "none")
    assert resident.forget_code(LIBRARY) == 0


MALLOC = """
import ctypes, re
from pathlib import Path
from vforward.memory import resident

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def printed(program):
    """The numbers that a program behind MALLOC prints, in a C library as it comes."""
    otherwise = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
    env = {key: value for key, value in os.environ.items() if key not in otherwise}
    command = [sys.executable, "-c", MALLOC + program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return [int(word) for word in done.stdout.split()]


KEPT = """
libc.free(libc.malloc(16 << 20))  # from now on the C library takes less from what it has
if {called}:
    assert resident.own_pages_for_large()
large = [libc.malloc(1 << 20) for _ in range(12)]
for block in large:
    ctypes.memset(block, 1, 1 << 20)
small = [libc.malloc(1000) for _ in range(100)]  # behind it
before = anonymous()
for block in large:
    libc.free(block)
print((before - anonymous()) >> 10)
"""


@pytest.mark.skipif(not hasattr(resident._libc, "mallopt"), reason="no GNU C library")
def test_large_blocks_go_back_to_the_system():
    (by_itself,), (asked,) = (printed(KEPT.format(called=called)) for called in (False, True))
    assert by_itself < 6, "MiB of 12: else there is nothing to be done"
    assert asked >= 11


BETWEEN = """
blocks = [libc.malloc(16000) for _ in range(1024)]
for block in blocks:
    ctypes.memset(block, 1, 16000)
before = anonymous()
for block in blocks[:-1]:
    libc.free(block)
kept = anonymous()
assert resident.give_back()
print((before - kept) >> 10, (before - anonymous()) >> 10)
"""


@pytest.mark.skipif(not hasattr(resident._libc, "malloc_trim"), reason="no GNU C library")
def test_pages_between_blocks_go_back_to_the_system():
    """16 MiB of blocks, of which the last one is kept: only when it is asked for."""
    by_itself, asked = printed(BETWEEN)
    assert by_itself < 4, "MiB: else there is nothing to be done"
    assert asked >= 14


THREADS = """
import threading

if {called}:
    assert resident.one_heap()
found = []
gate = threading.Barrier(4)

def take():
    gate.wait()
    found.append(libc.malloc(1000))
    gate.wait()

threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
maps = Path("/proc/self/maps").read_text()
first, last = (int(n, 16) for n in re.search(r"(\\w+)-(\\w+) .*\\[heap\\]", maps).groups())
print(sum(first <= block < last for block in found))
"""


@pytest.mark.skipif(not hasattr(resident._libc, "mallopt"), reason="no GNU C library")
def test_threads_have_one_heap():
    (by_itself,), (asked,) = (printed(THREADS.format(called=called)) for called in (False, True))
    assert by_itself < 4, "else there is nothing to be done"
    assert asked == 4


def test_other_c_libraries_know_nothing_of_it(monkeypatch):
    monkeypatch.setattr(resident, "_libc", object())
    assert not resident.one_heap()
    assert not resident.own_pages_for_large()
    assert not resident.give_back()
