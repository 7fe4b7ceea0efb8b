# SPDX-License-Identifier: Apache-2.0
"""`vforward run` as a process of its own, and what of it can be seen from outside."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from e2e.lab import until

PROGRAM = "from vforward.control.main import main; main()"
MADE = """
[forwarder]
name = "{name}"
buffers = 2048
idle = "poll"
[ports.made]
type = "generator"
flows = 1
address = "10.0.1.1/24"
[ports.sink]
type = "null"
address = "10.0.2.1/24"
[[neighbors]]
address = "10.0.2.2"
mac = "02:00:00:00:00:02"
port = "sink"
"""
"""A forwarder that is busy with packets of its own, for which nothing is needed from outside."""


def command(*arguments):
    return [sys.executable, "-c", PROGRAM, *map(str, arguments)]


@contextlib.contextmanager
def daemon(file, *, inside=None, wrap=(), env=None, log=None, errors=None, fresh=True):
    """The process, forwarding, which begins anew if fresh; killed in the end. inside: where it is started,
    as in a namespace. wrap: a command that runs it. errors: where its standard error goes, if not to the
    log, which is where it says that it forwards.
    """
    log = log or Path(file).with_suffix(".log")
    with log.open("wb") as written, inside or contextlib.nullcontext():
        process = subprocess.Popen(
            [*map(str, wrap), *command("run", *(["--fresh"] if fresh else []), file)],
            stdout=written,
            stderr=subprocess.STDOUT if errors is None else errors,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        )
    process.log = log
    try:
        until(
            lambda: "forwarding:" in log.read_text() or process.poll() is not None,
            log.read_text,
            280,
        )
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def refused(file, *, wrap=(), env=None):
    """What it says where it does not start."""
    done = subprocess.run(
        [*map(str, wrap), *command("run", file)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, **(env or {})},
        check=False,
    )
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def memory_kib(pid):
    """Resident memory that is the process's own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
