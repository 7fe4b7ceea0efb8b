# SPDX-License-Identifier: Apache-2.0
"""How vhost-user peers come: as clients of a Unix socket of ours, or by our connecting to theirs.

One at a time; when one has gone the next may come. Either side may be started first, and again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from vforward.errors import PortError
from vforward.rings.wait import readable

AGAIN_S = 0.1
"""Between two attempts to connect, or to accept somebody when descriptors have run out."""
PATH_MAX = 107


class Endpoint:
    """One end of a vhost-user socket, at path. server: we listen there; else we connect.

    stop, from any thread, makes next_peer and wait return at once, for good.
    """

    def __init__(self, path: str, *, server: bool) -> None:
        self._path = Path(path)
        self._text = path
        self._listener: socket.socket | None = None
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.stopped = False
        try:
            self._check()
            if server:
                self._listen()
        except BaseException:
            os.close(self._stop)
            raise

    def next_peer(self) -> socket.socket | None:
        """The next peer's socket, when there is one; None once stopped."""
        while not self.stopped:
            peer = self._accept() if self._listener else self._connect()
            if peer is not None:
                return peer
        return None

    def wait(self, peer: socket.socket | None, timeout_s: float) -> bool:
        """Wait for the peer to say something, at most so long. Returns whether it has."""
        fds = [self._stop, *([peer.fileno()] if peer else [])]
        return bool(readable(fds, timeout_s) - {self._stop}) and not self.stopped

    def stop(self) -> None:
        """No peer from now on."""
        self.stopped = True
        os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        """After stop, when nobody is in here: give back everything, the path too."""
        if self._listener:
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(self._stop)

    def _check(self) -> None:
        if not 1 <= len(os.fsencode(self._text)) <= PATH_MAX:
            raise self._error(f"the path has to have 1 to {PATH_MAX} bytes")

    def _listen(self) -> None:
        self._remove_stale()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self._text)
            listener.listen(1)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise self._error(f"cannot listen there: {error.strerror or error}") from error
        self._listener = listener

    def _remove_stale(self) -> None:
        """Remove a socket that nobody listens at: what a killed process leaves."""
        try:
            mode = self._path.lstat().st_mode
        except OSError:  # nothing there; or bind says what is wrong
            return
        if not stat.S_ISSOCK(mode):
            raise self._error("something is there that is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            found = probe.connect_ex(self._text)
        if found != errno.ECONNREFUSED:
            raise self._error("another process listens there")
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _accept(self) -> socket.socket | None:
        assert self._listener is not None
        if self.wait(self._listener, 1.0):
            with contextlib.suppress(OSError):
                return self._listener.accept()[0]
            # It has gone already, or we have too many descriptors: then it is still there.
            self.wait(None, AGAIN_S)
        return None

    def _connect(self) -> socket.socket | None:
        with contextlib.suppress(OSError):
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                peer.setblocking(False)
                peer.connect(self._text)
            except BaseException:
                peer.close()
                raise
            return peer
        self.wait(None, AGAIN_S)
        return None

    def _error(self, text: str) -> PortError:
        return PortError(f"vhost-user port at {self._text!r}: {text}")
