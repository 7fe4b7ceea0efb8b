# SPDX-License-Identifier: Apache-2.0
"""A program that sends frames by a packet socket as fast as one CPU can, until it is told to end.

    command(...)     its command line
    SIGTERM          ends it; it writes then how many frames the kernel took

256 frames per sendmmsg(2), which is the fastest way of a plain socket on a veth pair. It is Python,
but that costs nothing: a call of the kernel for 256 frames takes some 300 microseconds.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from pathlib import Path

import numpy as np

from vforward.control.demo_world import end_with_parent
from vforward.io import linux, shim

BATCH = 256
PROGRAM = "import sys; sys.path[:0] = [sys.argv[1]]; from benchmarks.flood import main; main()"


def command(interface: str, frames: Path, size: int, cpu: int) -> list[str]:
    """Send the frames of a file, all of one size, over and over, from a CPU."""
    checkout = str(Path(__file__).resolve().parents[1])
    given = [checkout, interface, str(frames), str(size), str(cpu)]
    return [sys.executable, "-c", PROGRAM, *given]


def main() -> None:
    """The program."""
    end_with_parent()
    _, _, interface, file, size, cpu = sys.argv
    os.sched_setaffinity(0, {int(cpu)})
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    frames = np.fromfile(file, np.uint8)
    pieces = np.zeros(BATCH, linux.IOVEC)
    at = np.arange(BATCH) * int(size) % len(frames)
    pieces["iov_base"], pieces["iov_len"] = frames.ctypes.data + at, int(size)
    messages = np.zeros(BATCH, linux.MMSGHDR)
    each = np.arange(BATCH) * linux.IOVEC.itemsize
    messages["msg_hdr"]["msg_iov"] = pieces.ctypes.data + each
    messages["msg_hdr"]["msg_iovlen"] = 1
    where = shim.pointer(messages.view(np.uint8))
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.bind((interface, 0))
        fd, send = out.fileno(), shim.lib.vf_sendmmsg
        while not stopped:
            took = send(fd, where, BATCH, 0)
            if took >= 0:
                sent += took
            elif -took not in (errno.EINTR, errno.ENOBUFS):
                raise OSError(-took, os.strerror(-took))
    sys.stdout.write(f"{sent}\n")
