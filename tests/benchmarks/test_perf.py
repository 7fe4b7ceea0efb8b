# SPDX-License-Identifier: Apache-2.0
"""System calls are counted while perf is told to, and where it cannot count it is said why."""

import os
import subprocess
import sys

import pytest

from vforward.control import bench_command
from vforward.control.demo_world import Failed

bench_command.report()  # makes `benchmarks` importable

from benchmarks import perf

CALLS = """
import os, sys
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        os.getppid()
    print("done", flush=True)
"""
FEW = 200
"""Calls at most besides those that are asked for: the process reads and writes."""
FAKE = """\
#!{python}
import os, re, signal, sys
told, answer = map(int, re.search(r"fd:(\\d+),(\\d+)", " ".join(sys.argv)).groups())
def end(*_):
    sys.stderr.write("Events enabled\\nEvents disabled\\n{says}\\n")
    sys.exit()
signal.signal(signal.SIGINT, end)
while os.read(told, 64):
    os.write(answer, b"ack\\n\\0")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a program in perf's place."""

    def put(text):
        program = tmp_path / "perf"
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setattr(perf, "PROGRAM", str(program))

    return put


@pytest.mark.root
def test_what_a_process_calls_meanwhile_is_counted():
    process = subprocess.Popen(
        [sys.executable, "-c", CALLS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "ready\n"

        def call(times):
            process.stdin.write(f"{times}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        call(5_000)
        try:
            with perf.counting([process.pid]) as counted:
                call(10_000)
        except perf.NotCounted as why:
            pytest.skip(str(why))
        call(5_000)
    assert 10_000 <= counted.calls <= 10_000 + FEW


@pytest.mark.root
def test_of_its_own_a_process_counts_no_more_than_it_says():
    counts = []
    try:
        for _ in range(3):  # somebody's thread may call meanwhile
            with perf.counting([os.getpid()]) as counted:
                pass
            counts.append(counted.calls)
    except perf.NotCounted as why:
        pytest.skip(str(why))
    assert 0 < min(counts) <= perf.OWN


def test_the_number_is_found_among_perfs_words(fake):
    says = "1234,,raw_syscalls:sys_enter,567,100.00,,"
    fake(FAKE.format(python=sys.executable, says=says))
    with perf.counting([1]) as counted:
        assert counted.calls == 0
    assert counted.calls == 1234


def test_why_nothing_is_counted_is_said(fake, monkeypatch):
    says = "<not counted>,,raw_syscalls:sys_enter,0,100.00,,"
    fake(FAKE.format(python=sys.executable, says=says))
    with pytest.raises(perf.NotCounted, match="not counted"), perf.counting([1]):
        pass
    fake("#!/bin/sh\necho 'Error:\nAccess to it is limited.' >&2\nexit 255\n")
    with pytest.raises(Failed, match="Error: Access to it is limited"), perf.counting([1]):
        pass
    monkeypatch.setattr(perf, "PROGRAM", "no-such-program")
    with pytest.raises(perf.NotCounted, match=r"linux-perf.*No such file"), perf.counting([1]):
        pass
