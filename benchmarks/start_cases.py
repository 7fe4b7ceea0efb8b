# SPDX-License-Identifier: Apache-2.0
"""Cases of whole processes: how long until the first packet is through, and how long to compile.

These runs are so long that no gauge can speak for them: "disturbed" tells of the moments before and
after. start-warm is the median of a few runs; start-cold is one.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import LEAST, repeat, row
from benchmarks.session import Session
from vforward.control import observe
from vforward.errors import ArenaError
from vforward.layout import VECTOR_MAX

COMMAND = [sys.executable, "-c", "from vforward.control.main import main; main()"]
WARM_RUNS = LEAST
LOOK_S = 0.002
PATIENCE_S = 600
NAME = "bench-start"
SIZE = 60
CONFIG = f"""\
[forwarder]
name = "{NAME}"

[ports.in]
type = "generator"
address = "10.0.1.1/24"
size = {SIZE}
flows = 1
dst = "10.0.2.2"

[ports.out]
type = "null"
address = "10.0.2.1/24"

[[neighbors]]
address = "10.0.2.2"
mac = "02:00:00:00:00:02"
port = "out"
"""


def start_warm(session: Session) -> Iterator[dict[str, Any]]:
    """From the start of `vforward run` to its first packet out, seen in its shared memory."""
    with _directory("VFORWARD_RUNTIME_DIR") as directory:
        file = directory / "start.toml"
        file.write_text(CONFIG)
        _seconds_to_first_packet(file)  # so that everything is compiled, and in the page cache
        before = _cpu_seconds()
        found = repeat(
            lambda: [_seconds_to_first_packet(file)],
            session.gauge,
            WARM_RUNS,
            lambda done: session.progress("start-warm", done, WARM_RUNS),
        )
        spent = round((_cpu_seconds() - before) / WARM_RUNS, 2)
    yield row("start-warm", found, "s", vector=VECTOR_MAX, packets=1, touched=SIZE, cpu_s=spent)


def start_cold(session: Session) -> Iterator[dict[str, Any]]:
    """`vforward compile` with an empty cache directory."""
    session.progress("start-cold", 0, 1)
    with _directory("VFORWARD_CACHE_DIR"):
        before = _cpu_seconds()
        found = repeat(lambda: [_seconds_to_compile()], session.gauge, 1)
        spent = round(_cpu_seconds() - before, 2)
    yield row("start-cold", found, "s", vector=VECTOR_MAX, packets=0, touched=0, cpu_s=spent)


def _cpu_seconds() -> float:
    """Processor time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds_to_compile() -> float:
    start = time.perf_counter()
    result = subprocess.run(
        [*COMMAND, "compile"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if result.returncode:
        _failed("compile", result.stderr)
    return time.perf_counter() - start


def _seconds_to_first_packet(file: Path) -> float:
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*COMMAND, "run", str(file)], stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            while not _sent():
                if process.poll() is not None or time.perf_counter() - start > PATIENCE_S:
                    errors.seek(0)
                    _failed("run", errors.read())
                time.sleep(LOOK_S)
            return time.perf_counter() - start
        finally:
            process.terminate()
            process.wait()


def _sent() -> bool:
    """Whether the forwarder is there and has sent a packet."""
    try:
        with observe.attach(NAME) as view:
            return any(port.tx is not None and port.tx.packets > 0 for port in view.ports())
    except ArenaError:
        return False


def _failed(command: str, errors: str) -> None:
    msg = f"vforward {command} failed: {errors[-500:].strip() or 'no message'}"
    raise RuntimeError(msg)


@contextmanager
def _directory(variable: str) -> Iterator[Path]:
    """A directory of our own that the environment variable names, for us and our children."""
    before = os.environ.get(variable)
    with tempfile.TemporaryDirectory(prefix="vforward-bench-") as directory:
        os.environ[variable] = directory
        try:
            yield Path(directory)
        finally:
            os.environ.pop(variable)
            if before is not None:
                os.environ[variable] = before
