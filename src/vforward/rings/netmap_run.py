# SPDX-License-Identifier: Apache-2.0
"""Programs in C on our netmap: the environment under which they find it instead of /dev/netmap.

csrc/netmap_preload.c is loaded before the C library. A server is started beside the program if there is
none, and ends by itself some time after the last port was closed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from vforward.errors import PortError, ShimMissing
from vforward.rings.netmap_message import socket_path
from vforward.rings.netmap_server import Server

IDLE_S = 5.0
"""How long a server that was started beside a program stays without a port."""
START_S = 30.0
_SERVE = """
import os, sys
if os.fork() == 0:
    from vforward.rings.netmap_run import serve
    serve(float(sys.argv[1]))
"""


def library() -> Path:
    """Where the preload library lies, if it was built."""
    return Path(__file__).with_name("libvforward_netmap.so")


def environment(path: Path) -> dict[str, str]:
    """The environment of a program whose server is at a path. Raises ShimMissing."""
    if not library().exists():
        raise ShimMissing(
            f"{library()} is not there: run make venv (or pip install .) in the checkout; it needs a "
            "C compiler"
        )
    before = os.environ.get("LD_PRELOAD")
    loaded = f"{library()}:{before}" if before else str(library())
    return os.environ | {"LD_PRELOAD": loaded, "VFORWARD_NETMAP": str(path)}


def serve(idle_s: float | None = None) -> None:
    """Be the server at socket_path(), until nothing was open for so long; None: until interrupted."""
    with Server() as server:
        while idle_s is None or server.connections or time.monotonic() - server.idle_since < idle_s:
            time.sleep(0.2)


def ensure_server() -> Path:
    """Start a server if there is none: its socket. Raises PortError when it does not come up."""
    path = socket_path()
    if _answers(path):
        return path
    # A grandchild, nobody's child: the program that we become may wait for its own.
    subprocess.run(
        [sys.executable, "-c", _SERVE, str(IDLE_S)],
        env=os.environ | {"VFORWARD_NETMAP": str(path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
    )
    end = time.monotonic() + START_S
    while not _answers(path):  # another's that came up at the same time is as good
        if time.monotonic() > end:
            raise PortError(
                f"no netmap server came up at {path}; see why with: vforward netmap-serve"
            )
        time.sleep(0.02)
    return path


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
        return True


def run(command: list[str]) -> None:
    """Become the program, with a server for it. Raises PortError, ShimMissing."""
    found = shutil.which(command[0])
    if found is None:
        raise PortError(f"no program {command[0]!r}")
    os.execve(found, command, environment(ensure_server()))
