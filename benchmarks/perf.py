# SPDX-License-Identifier: Apache-2.0
"""System calls of running processes, counted by perf (Debian's package linux-perf)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence

from vforward.control.demo_world import Failed, end, end_with_parent

PROGRAM, PACKAGE = "perf", "linux-perf"
EVENT = "raw_syscalls:sys_enter"
SAYS = re.compile(rf"^(\d+),[^\n]*{EVENT}", re.MULTILINE)
ACK = b"ack\n"
PATIENCE_S = 20.0
OWN = 4
"""Calls at most by which this process has perf begin and end, counted if it is one of those: each time it
writes to perf and waits for the answer."""


class NotCounted(Failed):
    """perf is not there, or may not count. The message has its words."""


class Counted:
    """How many system calls there were; known when the counting is over."""

    calls = 0


@contextlib.contextmanager
def counting(pids: Sequence[int]) -> Iterator[Counted]:
    """Count the system calls that processes, all their threads, make meanwhile.

    perf is started before, and counts from its answer to the one command to that to the other, so that
    its own start is not in it. Raises NotCounted; it needs root, or what perf_event_paranoid says.
    """
    told, tell = os.pipe()
    hear, answer = os.pipe()
    command = [
        PROGRAM, "stat", "-x", ",", "-e", EVENT, "--delay=-1", f"--control=fd:{told},{answer}",
        "-p", ",".join(map(str, pids)),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        for descriptor in (tell, hear):
            stack.callback(os.close, descriptor)
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True, pass_fds=(told, answer),
                preexec_fn=end_with_parent,
            )  # fmt: skip
        except OSError as error:
            raise NotCounted(f"{PROGRAM} (Debian's package {PACKAGE}): {error.strerror}") from error
        finally:
            os.close(told)
            os.close(answer)
        stack.enter_context(process)
        stack.callback(end, process)
        found = Counted()
        _tell(process, tell, hear, b"enable\n")
        yield found
        _tell(process, tell, hear, b"disable\n")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
        number = SAYS.search(said)
        if number is None:
            raise _not_counted(said)
        found.calls = int(number[1])


def _tell(process: subprocess.Popen[str], tell: int, hear: int, command: bytes) -> None:
    """Return when perf has done it. Raises NotCounted when it has ended instead, or does not answer."""
    with contextlib.suppress(BrokenPipeError):
        os.write(tell, command)
    heard = b""
    deadline = time.monotonic() + PATIENCE_S
    while ACK not in heard:
        ready = select.select([hear], [], [], max(0.0, deadline - time.monotonic()))[0]
        more = os.read(hear, 64) if ready else b""
        if not more:
            process.kill()
            raise _not_counted(process.communicate()[1])
        heard += more


def _not_counted(said: str) -> NotCounted:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return NotCounted(f"{PROGRAM}: {' '.join(lines[-3:]) or 'says nothing'}")
