# SPDX-License-Identifier: Apache-2.0
"""The API's server: a thread with an event loop of its own, on a Unix socket in the arena.

    api.sock   in the forwarder's directory, which is its user's alone (memory.place); mode 0600

It listens at once, and answers as soon as the web framework is loaded, a quarter of a second later: whoever
comes before waits. TCP only when asked for, and then each request has to say a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vforward.control.api_guard import App, bounded, with_token
from vforward.control.api_patience import Patience
from vforward.errors import ApiError
from vforward.io import unix
from vforward.memory.place import API_SOCKET, refuse_foreign

log = logging.getLogger(__name__)

NEEDED = ("fastapi", "uvicorn", "pydantic", "prometheus_client")
CONNECTIONS_MAX = 64
BACKLOG = 64
HEADERS_MAX = 16384
"""Bytes of a request's line and headers."""
GRACE_S = 1
"""How long answers that are under way may take when the server stops."""


@dataclass(frozen=True)
class Tcp:
    """Where to listen besides, and what each request has to say there."""

    host: str
    port: int
    token: str


class Server:
    """Serves an application until stop. make: gives it, and is called in the server's thread.

    directory: where the socket is made. Raises ApiError when something is missing or an address is
    taken, ArenaError when the directory is not the user's alone; then nothing is left behind.
    """

    def __init__(
        self, directory: Path, make: Callable[[], App | Any], tcp: Tcp | None = None
    ) -> None:
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise ApiError(
                "the API needs the 'daemon' extra: pip install 'vforward[daemon]' "
                f"(missing: {', '.join(missing)})"
            )
        refuse_foreign(directory)
        self.path = directory / API_SOCKET
        self._make, self._tcp = make, tcp
        self._listeners = [_listen_unix(self.path)]
        self.address: tuple[str, int] | None = None
        """Where it listens by TCP."""
        if tcp is not None:
            try:
                self._listeners.append(_listen_tcp(tcp))
            except BaseException:
                self._close_listeners()
                raise
            self.address = self._listeners[1].getsockname()[:2]
        self._stopping = threading.Event()
        self._servers: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; take the socket away. Harmless when repeated."""
        self._stopping.set()
        for server in self._servers:
            server.should_exit = True
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                loop.call_soon_threadsafe(loop.call_later, GRACE_S / 2, self._cut)
        self._thread.join()
        self._close_listeners()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:  # the forwarder goes on without it
            log.exception("api: the server has ended")
        finally:
            self._close_listeners()

    async def _serve(self) -> None:
        import uvicorn

        app = bounded(self._make())
        apps = [app] if self._tcp is None else [app, with_token(app, self._tcp.token)]
        for each in apps:
            config = uvicorn.Config(
                each,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=CONNECTIONS_MAX,
                h11_max_incomplete_event_size=HEADERS_MAX,
                timeout_graceful_shutdown=GRACE_S,
            )
            self._servers.append(uvicorn.Server(config))
        self._loop = asyncio.get_running_loop()
        if self._stopping.is_set():  # stop did not find them yet
            return
        patience = asyncio.create_task(Patience(self._connections).watch())
        pairs = zip(self._servers, self._listeners, strict=True)
        try:
            await asyncio.gather(*(server.serve(sockets=[at]) for server, at in pairs))
        finally:
            patience.cancel()

    def _cut(self) -> None:
        """End what is still under way as if its clients had gone: captures, answers that nobody reads."""
        for one in self._connections():
            one.transport.abort()

    def _connections(self) -> list[Any]:
        return [one for server in self._servers for one in server.server_state.connections]

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        if self._listeners:  # once: the next server's socket has the same path
            self.path.unlink(missing_ok=True)
        self._listeners = []


def _listen_unix(path: Path) -> socket.socket:
    try:
        return unix.listen(path, socket.SOCK_STREAM, BACKLOG)
    except OSError as error:
        raise ApiError(f"api: {path}: {error.strerror}") from error


def _listen_tcp(tcp: Tcp) -> socket.socket:
    if not tcp.token:
        raise ApiError("api: listening by TCP takes a token")
    family = socket.AF_INET6 if ":" in tcp.host else socket.AF_INET
    try:
        return socket.create_server((tcp.host, tcp.port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = f"[{tcp.host}]:{tcp.port}" if ":" in tcp.host else f"{tcp.host}:{tcp.port}"
        what = os.strerror(error.errno) if error.errno else str(error)
        raise ApiError(f"api: {where}: {what}; choose another [api] listen") from error
