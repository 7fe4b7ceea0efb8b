# SPDX-License-Identifier: Apache-2.0
"""Programs in C that know nothing of us (netmap_program.c): compiled, started, and what they say."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vforward.rings.netmap_run import library

HERE = Path(__file__).resolve().parent

needs_programs = pytest.mark.skipif(
    not shutil.which("cc") or not library().exists(), reason="needs a C compiler: make venv"
)


def compiled(directory):
    """The program, also as it becomes with _FORTIFY_SOURCE."""
    made = directory / "program"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-Wno-stringop-truncation"]
    fortified = ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", f"-I{HERE.parents[1] / 'csrc'}"]
    source = HERE / "netmap_program.c"
    subprocess.run(["cc", *flags, *fortified, "-pthread", "-o", made, source], check=True)
    return made


def under(path):
    """The environment of a program under the library, whose server is at a path."""
    return os.environ | {"LD_PRELOAD": str(library()), "VFORWARD_NETMAP": str(path)}


@contextlib.contextmanager
def started(env, *command):
    """A program whose port is open."""
    with subprocess.Popen(
        [str(part) for part in command],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr.readline() == "open\n"
            yield process
        finally:
            process.kill()


def told(process):
    """What it printed, as numbers; it has ended well."""
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return [int(word) for word in output.split()]


def numbered(i):
    """What the program's rx expects as the frame of this number, and its tx sends."""
    head = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + bytes([i & 255] * 2) + i.to_bytes(8, "little")
    return head + bytes([i & 255] * (60 - len(head)))
