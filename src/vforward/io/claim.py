# SPDX-License-Identifier: Apache-2.0
"""claim: a Linux interface is one forwarder's at a time. Two would each forward all that comes in there.

Linux itself lets any number of packet sockets receive from an interface. So who opens one takes a name
besides, in the abstract namespace of Unix sockets: every network namespace has its own, and no name
outlives its process, however that ends (unix(7), network_namespaces(7)). Anybody may take such a name; a
holder who is neither of our user nor root keeps nobody out.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct

log = logging.getLogger(__name__)

_CREDENTIALS = struct.Struct("iII")  # struct ucred: process, user, group
BACKLOG = 4096
"""Those who look who holds a name are never answered."""


class Held(Exception):
    """Another one has the interface. process: its number, 0 where it is not known here."""

    def __init__(self, process: int) -> None:
        super().__init__(process)
        self.process = process


def take(interface: str) -> socket.socket:
    """Take an interface of the calling thread's namespace; closing what is returned lets it go.

    Raises Held.
    """
    name = f"\0vforward/interface/{interface}"
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(name)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        if error.errno != errno.EADDRINUSE:
            raise
        process, user = _holder(name)
        if user in (0, os.geteuid()):
            raise Held(process) from error
        log.warning("interface %s: user %d holds its name, and is not heeded", interface, user)
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    return made


def _holder(name: str) -> tuple[int, int]:
    """The process that listens at a name and its user; -1, -1 where nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(name):
            return -1, -1
        said = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process, user, _ = _CREDENTIALS.unpack(said)
        return process, user
