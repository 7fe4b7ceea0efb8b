# SPDX-License-Identifier: Apache-2.0
"""Descriptors that come with a message over a Unix socket (SCM_RIGHTS, unix(7))."""

from __future__ import annotations

import array
import socket


def receive(peer: socket.socket, n: int, most: int) -> tuple[bytes, list[int], int]:
    """A message's bytes, at most n, its descriptors, at most so many, and recvmsg's flags. Raises OSError.

    No program that is started sees the descriptors (close-on-exec): socket.recv_fds of Python 3.11
    passes no flags on.
    """
    room = socket.CMSG_LEN(most * 4)
    data, ancillary, flags, _ = peer.recvmsg(n, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, body in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
    return data, fds.tolist(), flags
