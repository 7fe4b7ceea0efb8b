# SPDX-License-Identifier: Apache-2.0
"""Code that is given back: less is resident, and it works as before."""

import re

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
