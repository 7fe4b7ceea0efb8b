# SPDX-License-Identifier: Apache-2.0
"""The peers of a vhost-user port, of either side: they come one after the other, and a thread of the
port's is with the one that is there. One that breaks the rules is let go, counted by reason, and may
come again after BAD_PEER_S.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from vforward.rings.vhost_message import BadPeer
from vforward.rings.vhost_socket import AGAIN_S, Endpoint

log = logging.getLogger(__name__)

MESSAGE_S = 2.0
"""For a message to come, from its first byte on, or to go: all of it, in however many pieces."""
BAD_PEER_S = 0.5


class Peers:
    """See the module. server: we listen at path; else we connect.

    attend(peer, endpoint), in that thread: be with a peer until it goes, or the endpoint is stopped.
    It raises BadPeer or OSError to let it go; ConnectionError: it has gone. let_go(reason), there too:
    for each that was.
    """

    def __init__(
        self,
        path: str,
        attend: Callable[[socket.socket, Endpoint], None],
        *,
        server: bool,
        let_go: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.number = 0
        """How many there were so far."""
        self.faults: Counter[str] = Counter()
        """How many were let go, by reason."""
        self.connected = False
        self._path = path
        self._server = server
        self._attend = attend
        self._let_go = let_go
        self._endpoint: Endpoint | None = None
        self._thread: threading.Thread | None = None
        self._peer: socket.socket | None = None
        self._present = threading.Lock()
        """Held while _peer changes, or is shut down: what is closed meanwhile may be another's."""

    def open(self) -> None:
        """Listen, where it is ours to. Raises PortError."""
        self._endpoint = Endpoint(self._path, server=self._server)

    def start(self) -> None:
        """They may come."""
        self._thread = threading.Thread(
            target=self._serve, args=(self._endpoint,), name="vhost-user", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """No more: the one that is there is let go. Harmless when repeated, or not open."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.stop()
            self._shut_down()  # nobody waits for the rest of a message
            if self._thread is not None:
                self._thread.join()
                self._thread = None
            endpoint.close()

    def text(self, *, ready: bool) -> str:
        """Who is there, for users. ready: packets come and go."""
        lost = ", ".join(f"{n} for its {reason}" for reason, n in self.faults.most_common())
        state = "forwarding" if ready else "connected" if self.connected else "nobody there"
        return f"{state}; peers so far: {self.number}; let go: {lost or 'none'}"

    def _serve(self, endpoint: Endpoint) -> None:
        while (peer := endpoint.next_peer()) is not None:
            self.number += 1
            self.connected = True
            log.info("%s: a peer has come", self._name())
            with peer, self._there(peer):
                peer.settimeout(MESSAGE_S)
                reason = self._be_with(peer, endpoint)
            self.connected = False
            log.info("%s: the peer has gone", self._name())
            if reason:
                self.faults[reason] += 1
                self._let_go(reason)
                endpoint.wait(None, BAD_PEER_S)

    @contextlib.contextmanager
    def _there(self, peer: socket.socket) -> Iterator[None]:
        """For close to find it. It does not find one that comes just then: attend looks for that first."""
        with self._present:
            self._peer = peer
        try:
            yield
        finally:
            with self._present:
                self._peer = None

    def _shut_down(self) -> None:
        with self._present, contextlib.suppress(OSError):
            if self._peer is not None:
                self._peer.shutdown(socket.SHUT_RDWR)

    def _be_with(self, peer: socket.socket, endpoint: Endpoint) -> str:
        """Returns why the peer is let go, if it did not go by itself, nor we."""
        try:
            self._attend(peer, endpoint)
        except (BadPeer, OSError) as error:
            return self._why(error, endpoint)
        except Exception:  # a fault of ours: the peer loses its connection, others nothing
            log.exception("%s: the peer is let go", self._name())
            return "internal"
        return ""

    def _why(self, error: BadPeer | OSError, endpoint: Endpoint) -> str:
        if endpoint.stopped:  # it was we who did not wait for an answer
            return ""
        if isinstance(error, BadPeer):
            log.warning("%s: the peer is let go: %s", self._name(), error)
            return error.reason
        if isinstance(
            error, ConnectionError
        ):  # killed with words of ours unread, or while it listened
            endpoint.wait(None, AGAIN_S)
            return ""
        log.info("%s: the peer is let go: %s", self._name(), error)
        return "socket"

    def _name(self) -> str:
        return f"vhost-user port at {self._path!r}"
