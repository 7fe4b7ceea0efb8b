# SPDX-License-Identifier: Apache-2.0
"""A netmap port's place at its server, taken again when the server has gone and another has come.

thread                                        worker
the server is gone: lose; a quiet point  -->  is not in the port's memory any more
closes the port; tries every AGAIN_S to open it
take; a quiet point                      -->  moves packets, asks for a wakeup
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable

from vforward.errors import PortError
from vforward.rings import netmap

log = logging.getLogger(__name__)

AGAIN_S = 0.2
"""Between two attempts to open the port."""
FIRST_S = 1.0
"""For the server to answer the first one, for which a start or a reload waits. The next have longer."""


class NetmapLink:
    """Keeps the port of this name open. take is called with a new port, lose before it is closed.

    Raises PortError when the port cannot be had for another reason than that there is no server yet.
    """

    def __init__(
        self, name: str, take: Callable[[netmap.Port], None], lose: Callable[[netmap.Port], None]
    ) -> None:
        self._name = name
        self._take, self._lose = take, lose
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        self.port: netmap.Port | None = None
        """The port, while there is a server."""
        try:
            self._open(FIRST_S)
        except netmap.NoServer as error:
            log.warning("%s", error)
        except BaseException:
            os.close(self._stop)
            raise

    def attach(self, quiesce: Callable[[], bool]) -> None:
        """Look after the server from now on. quiesce is io.port.Port.attach's."""
        self._thread = threading.Thread(
            target=self._keep, args=(quiesce,), name="netmap-port", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Give the port back. No worker may be using it. A server that does not answer is not awaited."""
        os.eventfd_write(self._stop, 1)
        if self._thread is not None:
            self._thread.join()
        if self.port is not None:
            self._close(self.port)
        os.close(self._stop)

    def _open(self, answer_s: float | None = None) -> None:
        port = netmap.open(self._name, stop=self._stop, answer_s=answer_s)
        try:
            self._take(port)
        except BaseException:
            self._close(port)
            raise
        self.port = port

    def _close(self, port: netmap.Port) -> None:
        self._lose(port)
        self.port = None
        port.close()

    def _keep(self, quiesce: Callable[[], bool]) -> None:
        while not self._stopped():
            port = self.port
            if port is None:
                self._open_again(quiesce)
                continue
            log.info("netmap port %s: the server is gone", self._name)
            self._lose(port)
            while not quiesce():
                log.warning("netmap port %s: the worker comes to no quiet point", self._name)
            self._close(port)

    def _open_again(self, quiesce: Callable[[], bool]) -> None:
        try:
            self._open()
        except PortError as error:
            log.debug("%s", error)
            return
        except (OSError, ValueError) as error:
            # Descriptors or memory ran out, or a reply is none.
            log.warning("netmap port %s: %s", self._name, error)
            return
        log.info("netmap port %s: open again", self._name)
        quiesce()  # a worker that sleeps has not asked for a wakeup there

    def _stopped(self) -> bool:
        """Wait until the server is gone, or it is time to look for one. Returns whether to stop."""
        poller = select.poll()
        poller.register(self._stop, select.POLLIN)
        if self.port is not None:
            poller.register(self.port.connection, 0)  # POLLHUP comes unasked
        found = poller.poll(AGAIN_S * 1000 if self.port is None else None)
        return any(fd == self._stop for fd, _ in found)
