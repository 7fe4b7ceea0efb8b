# SPDX-License-Identifier: Apache-2.0
"""Plug-ins are compiled and tried in a process of their own, which this one starts and, if need be, ends.

    forwarder  -- a line of JSON: what is asked -->  helper  -- stdin -->  control.plugin_check
               <-- a line of JSON: what came of it --       <-- stdout --

The helper is started once, before a daemon gives up the right to start anything (it does so for good). It
knows nothing but this one command, imports no compiler, and ends with whoever started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

from vforward.errors import VforwardError

COMMAND = (sys.executable, "-m", "vforward.control.plugin_check")
WAIT_S = 180.0
"""How long a check may take in all: most of it is compiling."""
CPU_S = 10.0
"""How much time of a CPU the trial of a kernel may take."""
STAGES = LOADING, COMPILING, TRYING = "loading", "compiling", "trying"
SAID_MAX = 16000


class Helper:
    """The helper, seen from the forwarder. Any thread; one question at a time."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def start(self) -> None:
        """Start it, unless it runs. Raises VforwardError where this process may start none."""
        if self._closed:
            raise VforwardError("the forwarder is being closed: no plug-in is loaded any more")
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C at the terminal is not for it
            )
        except OSError as error:
            raise VforwardError(
                f"plug-ins are tried in a process of their own, and none can be started: {error.strerror}"
            ) from error

    def ask(self, request: dict[str, Any], *, checked: bool) -> dict[str, Any]:
        """Have a check done, with bounds of arrays checked or as it will run. Raises VforwardError.

        Returns status (below 0: the signal that ended it; None: it took longer than WAIT_S), out, err.
        """
        with self._one:
            self.start()
            process = self._process
            assert process is not None
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                line = json.dumps({"request": request, "checked": checked}).encode() + b"\n"
                process.stdin.write(line)
                process.stdin.flush()
                return dict(json.loads(process.stdout.readline()))
            except (OSError, ValueError) as error:
                self._end()
                raise VforwardError(
                    "the process that tries plug-ins has ended; try again"
                ) from error

    def close(self) -> None:
        """End it, and what it tries just now: who asked for that is told so. Harmless when repeated."""
        self._closed = True
        self._kill(self._process)
        with self._one:
            self._end()

    @staticmethod
    def _kill(process: subprocess.Popen[bytes] | None) -> None:
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it is a session of its own

    def _end(self) -> None:
        if self._process is not None:
            self._kill(self._process)
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None


def run(request: str, *, checked: bool) -> dict[str, Any]:
    """One check, in a process that is ended after WAIT_S."""
    surroundings = {k: v for k, v in os.environ.items() if k != "NUMBA_BOUNDSCHECK"}
    if checked:
        surroundings["NUMBA_BOUNDSCHECK"] = "1"
    try:
        done = subprocess.run(
            COMMAND, input=request.encode(), env=surroundings, capture_output=True,
            timeout=WAIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        return {"status": None, "out": _text(late.stdout), "err": _text(late.stderr)}
    except OSError as error:
        return {"status": 127, "out": "", "err": str(error)}
    return {"status": done.returncode, "out": _text(done.stdout), "err": _text(done.stderr)}


def _text(said: bytes | None) -> str:
    return (said or b"").decode(errors="replace")[-SAID_MAX:]


def main() -> None:
    """Answer until nobody asks any more."""
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        answer = run(json.dumps(asked["request"]), checked=asked["checked"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
