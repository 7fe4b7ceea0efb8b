# SPDX-License-Identifier: Apache-2.0
"""The messages of vhost-user, and how they come and go through a Unix socket.

Source: QEMU, docs/interop/vhost-user.rst. All integers in the machine's own order.

    request u32, flags u32 (bits 0-1: version 1; 2: a reply; 3: a reply is needed), size u32, payload
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from vforward.errors import VforwardError

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
    """The next message, or None when the peer has gone. Raises BadPeer, OSError."""
    header, fds = _receive_some(peer, HEADER.size)
    if not header:
        return None
    message = Message(0, fds=fds)
    try:
        _receive_rest(peer, message, header)
    except BaseException:
        message.close()
        raise
    return message


def _receive_rest(peer: socket.socket, message: Message, header: bytes) -> None:
    """Fill in the message whose first bytes these are."""
    fds = message.fds
    header += _receive_exactly(peer, HEADER.size - len(header), fds)
    message.request, message.flags, size = HEADER.unpack(header)
    if message.flags & 3 != VERSION:
        raise BadPeer("version", f"{message.name}: version {message.flags & 3}, not 1")
    if size > PAYLOAD_MAX:
        raise BadPeer("length", f"{message.name}: {size} bytes of payload")
    message.payload = _receive_exactly(peer, size, fds)
    if len(fds) > FDS_MAX:
        raise BadPeer("descriptor", f"{message.name}: {len(fds)} file descriptors")


def send(peer: socket.socket, message: Message) -> None:
    """Send a message with its descriptors, which stay the caller's. Raises OSError."""
    header = HEADER.pack(message.request, message.flags, len(message.payload))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", message.fds))]
    peer.sendmsg([header + message.payload], rights if message.fds else [])


def _receive_some(peer: socket.socket, n: int) -> tuple[bytes, list[int]]:
    """What came, at most n bytes, and all descriptors: those that do not fit the kernel closes."""
    room = socket.CMSG_SPACE(FDS_MAX * 4)
    data, ancillary, flags, _ = peer.recvmsg(n, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, body in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
    if flags & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise BadPeer("descriptor", f"more than {FDS_MAX} file descriptors in a message")
    return data, list(fds)


def _receive_exactly(peer: socket.socket, n: int, fds: list[int]) -> bytes:
    parts = []
    while n:
        part, more = _receive_some(peer, n)
        fds += more
        if not part:
            raise BadPeer("length", "the peer left in the middle of a message")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def closing(message: Message) -> Iterator[Message]:
    """Close, at the end, the descriptors of a message that nobody took."""
    try:
        yield message
    finally:
        message.close()
