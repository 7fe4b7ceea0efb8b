# SPDX-License-Identifier: Apache-2.0
"""The messages of vhost-user, and how they come and go through a Unix socket.

Source: QEMU, docs/interop/vhost-user.rst. All integers in the machine's own order.

    request u32, flags u32 (bits 0-1: version 1; 2: a reply; 3: a reply is needed), size u32, payload
"""

from __future__ import annotations

import array
import contextlib
import math
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from vforward.errors import VforwardError
from vforward.rings import descriptors

HEADER = struct.Struct("=III")
VERSION, REPLY, NEED_REPLY = 1, 1 << 2, 1 << 3
PAYLOAD_MAX = 512
"""More than the longest message that is understood here (a memory table, 264 bytes)."""
FDS_MAX = 8
NO_FD = 1 << 8  # of the u64 that comes with a kick, call or error eventfd
INDEX = 0xFF


class Request(IntEnum):
    """What a frontend asks for."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32


class BadPeer(VforwardError):
    """The peer broke the protocol, or its memory or descriptors are not acceptable. It is let go.

    reason: one word, of few, to count by.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def broken(queue: int, fault: IntEnum, text: str) -> BadPeer:
    """What a peer is let go for when a worker has found a fault in a queue of its."""
    return BadPeer(f"queue-{fault.name.lower()}", f"queue {queue}: {text}")


@dataclass
class Message:
    """One message and the descriptors that came with it, which its owner closes or takes."""

    request: int
    flags: int = VERSION
    payload: bytes = b""
    fds: list[int] = field(default_factory=list)

    def take_fd(self) -> int:
        """The first descriptor, now the caller's. Raises BadPeer when there is none."""
        if not self.fds:
            raise BadPeer("descriptor", f"{self.name}: a file descriptor is missing")
        return self.fds.pop(0)

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """The payload's fields. Raises BadPeer when it is not as long as they are."""
        if len(self.payload) != layout.size:
            text = f"{self.name}: {len(self.payload)} bytes instead of {layout.size}"
            raise BadPeer("length", text)
        return layout.unpack(self.payload)

    def close(self) -> None:
        """Close descriptors that nobody took."""
        while self.fds:
            os.close(self.fds.pop())

    @property
    def name(self) -> str:
        """What it asks for, for users."""
        try:
            return Request(self.request).name
        except ValueError:
            return f"request {self.request}"


U64 = struct.Struct("=Q")
STATE = struct.Struct("=II")  # queue, number
ADDRESS = struct.Struct("=IIQQQQ")  # queue, flags, desc, used, avail, log
REGION = struct.Struct("=QQQQ")  # guest address, bytes, the frontend's address, offset in the file
TABLE = struct.Struct("=II")  # regions, padding


class Region(NamedTuple):
    """A range of the guest's memory, and where it is in the file that came with it."""

    guest: int
    size: int
    user: int
    offset: int


def regions(message: Message) -> list[Region]:
    """The memory table. Raises BadPeer."""
    if len(message.payload) < TABLE.size:
        raise BadPeer("length", "SET_MEM_TABLE: too short")
    n, _ = TABLE.unpack_from(message.payload)
    # Some send room for eight regions however many there are.
    if n > FDS_MAX or n != len(message.fds) or len(message.payload) < TABLE.size + n * REGION.size:
        text = f"SET_MEM_TABLE: {n} regions, {len(message.fds)} files, {len(message.payload)} bytes"
        raise BadPeer("memory", text)
    return [
        Region(*REGION.unpack_from(message.payload, TABLE.size + i * REGION.size)) for i in range(n)
    ]


def receive(peer: socket.socket) -> Message | None:
    """The next message, or None when the peer has gone. Raises BadPeer, OSError.

    The socket's timeout is for all of it, in however many pieces it comes: else TimeoutError.
    """
    coming = _Coming(peer)
    try:
        header = coming.some(HEADER.size)
        if not header:
            return None
        coming.rest(header)
    except BaseException:
        coming.message.close()
        raise
    finally:
        peer.settimeout(coming.timeout_s)
    return coming.message


class _Coming:
    """A message on its way, and until when all of it has to be there."""

    def __init__(self, peer: socket.socket) -> None:
        self.message = Message(0)
        self.timeout_s = peer.gettimeout()
        self._peer = peer
        self._end = time.monotonic() + self.timeout_s if self.timeout_s else math.inf

    def some(self, n: int) -> bytes:
        """What came, at most n bytes; nothing: the peer has gone."""
        if self.timeout_s:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"a message that has not come as a whole in {self.timeout_s:g} s"
                )
            self._peer.settimeout(left)
        data, fds, flags = descriptors.receive(self._peer, n, FDS_MAX)
        self.message.fds += fds
        # Of each piece: a message in many could have all descriptors that we may open.
        if flags & socket.MSG_CTRUNC or len(self.message.fds) > FDS_MAX:
            raise BadPeer("descriptor", f"more than {FDS_MAX} file descriptors in a message")
        return data

    def rest(self, header: bytes) -> None:
        """Fill in the message whose first bytes these are."""
        header += self._exactly(HEADER.size - len(header))
        message = self.message
        message.request, message.flags, size = HEADER.unpack(header)
        if message.flags & 3 != VERSION:
            raise BadPeer("version", f"{message.name}: version {message.flags & 3}, not 1")
        if size > PAYLOAD_MAX:
            raise BadPeer("length", f"{message.name}: {size} bytes of payload")
        message.payload = self._exactly(size)

    def _exactly(self, n: int) -> bytes:
        parts = []
        while n:
            part = self.some(n)
            if not part:
                raise BadPeer("length", "the peer left in the middle of a message")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)


def send(peer: socket.socket, message: Message) -> None:
    """Send a message with its descriptors, which stay the caller's. Raises OSError."""
    header = HEADER.pack(message.request, message.flags, len(message.payload))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", message.fds))]
    peer.sendmsg([header + message.payload], rights if message.fds else [])


@contextlib.contextmanager
def closing(message: Message) -> Iterator[Message]:
    """Close, at the end, the descriptors of a message that nobody took."""
    try:
        yield message
    finally:
        message.close()
