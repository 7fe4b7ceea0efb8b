# SPDX-License-Identifier: Apache-2.0
"""An af_packet port whose interface goes and comes back: its sockets are bound to it again.

packet(7), netdevice(7). Set down and up, Linux lets the sockets alone, but for an error that it leaves
at them. Deleted, or moved to another namespace, it unbinds them; they and the ring stay, so the worker
goes on with what it has and finds nothing: it receives nothing, and what it sends is dropped by
link-down. An interface of that name in the sockets' namespace is taken again, whoever made it.
"""

from __future__ import annotations

import contextlib
import os
import socket as sockets
from collections.abc import Iterator

from vforward.io import shim

SO_NETNS_COOKIE = 71  # Linux 5.14


def take_error(fd: int) -> None:
    """Read the error that waits at a socket: until then poll reports it at once."""
    with _socket(fd) as packet:
        packet.getsockopt(sockets.SOL_SOCKET, sockets.SO_ERROR)


def is_bound(fd: int) -> bool:
    """Whether the interface that a packet socket was bound to is still there."""
    with _socket(fd) as packet:
        return bool(packet.getsockname()[0])


def bind_again(receive: int, send: int, index: int, protocol: int, *, promiscuous: bool) -> None:
    """Bind both sockets to an interface of their namespace, up or down. Raises OSError.

    protocol: what receive is to receive; 0: nothing.
    """
    if promiscuous:  # it was left with the interface
        shim.check(shim.lib.vf_packet_promisc(receive, index), "promiscuous mode")
    shim.check(shim.lib.vf_packet_bind(send, index, 0), "bind")
    shim.check(shim.lib.vf_packet_bind(receive, index, protocol), "bind")


def is_in_our_namespace(fd: int) -> bool | None:
    """Whether a socket's network namespace is the calling thread's; None where Linux cannot say."""
    with _socket(fd) as packet, sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as here:
        try:
            one, other = (
                each.getsockopt(sockets.SOL_SOCKET, SO_NETNS_COOKIE, 8) for each in (packet, here)
            )
        except OSError:
            return None
    return one == other


@contextlib.contextmanager
def _socket(fd: int) -> Iterator[sockets.socket]:
    with sockets.socket(fileno=os.dup(fd)) as packet:
        yield packet
