# SPDX-License-Identifier: Apache-2.0
"""What a program and the netmap server say to each other, over a SOCK_SEQPACKET Unix socket.

One request, one reply; with the reply to REGISTER come two descriptors: the region (a memfd), and the
bell, one end of a socket pair: a byte sent there wakes the other side, and what is to be read there has
woken this one. The connection is the port: when it ends, however it does, the port is closed.

All numbers are in the host's byte order. csrc/netmap_message.h says the same in C; a test compares.
"""

from __future__ import annotations

import os
import struct
from dataclasses import astuple, dataclass
from pathlib import Path

from vforward.errors import PortError
from vforward.memory.place import runtime_directory
from vforward.rings.netmap_layout import PAGE
from vforward.rings.netmap_names import LENGTH_MOST

MAGIC = 0x4D4E4656  # "VFNM"
VERSION = 2
REGISTER, INFO = 1, 2
DESCRIPTORS = 2
_REQUEST = struct.Struct("=7I4x64s")
_REPLY = struct.Struct("=iI8Q6I")
REQUEST_SIZE, REPLY_SIZE = _REQUEST.size, _REPLY.size


def socket_path() -> Path:
    """Where the server listens: $VFORWARD_NETMAP, or in the runtime directory."""
    if chosen := os.environ.get("VFORWARD_NETMAP"):
        return Path(chosen)
    return runtime_directory() / "netmap.socket"


@dataclass(frozen=True)
class Request:
    """What a program wants."""

    kind: int
    name: str
    tx_slots: int = 0
    rx_slots: int = 0
    extra: int = 0

    def packed(self) -> bytes:
        """As it is sent."""
        name = self.name.encode()
        if len(name) > LENGTH_MOST:
            raise PortError(f"netmap port {self.name!r}: at most {LENGTH_MOST} bytes")
        return _REQUEST.pack(
            MAGIC, VERSION, self.kind, 0, self.tx_slots, self.rx_slots, self.extra, name
        )

    @classmethod
    def unpacked(cls, data: bytes) -> Request:
        """Raises PortError for what is none, or not of this version."""
        if len(data) != REQUEST_SIZE:
            raise PortError(f"{len(data)} bytes; a request has {REQUEST_SIZE}")
        magic, version, kind, _, tx, rx, extra, name = _REQUEST.unpack(data)
        if (magic, version) != (MAGIC, VERSION) or kind not in (REGISTER, INFO):
            raise PortError(f"magic {magic:#x}, version {version}, kind {kind}: not known")
        text = name.split(b"\0")[0]
        if not text.isascii():
            raise PortError("the port's name is not ASCII")
        return cls(kind, text.decode(), tx, rx, extra)


@dataclass(frozen=True)
class Reply:
    """What the program got. Places are bytes from the region's beginning."""

    error: int = 0
    """errno, 0: none."""
    kind: int = 0
    """A netmap_names.Kind."""
    size: int = 0
    nifp: int = 0
    tx: int = 0
    rx: int = 0
    tx_peer: int = 0
    """Pipes: the other end's rx ring."""
    rx_peer: int = 0
    tx_link: int = 0
    rx_link: int = 0
    bufs: int = 0
    buf_size: int = 0
    tx_slots: int = 0
    rx_slots: int = 0
    extra: int = 0
    mem_id: int = 0

    @property
    def bufs_at(self) -> int:
        """Where the buffers begin: the region ends with them. (A ring's own word of it is anybody's.)"""
        return self.size - -(-self.bufs * self.buf_size // PAGE) * PAGE

    def packed(self) -> bytes:
        """As it is sent."""
        return _REPLY.pack(*astuple(self))

    @classmethod
    def unpacked(cls, data: bytes) -> Reply:
        """Raises PortError for what is none."""
        if len(data) != REPLY_SIZE:
            raise PortError(f"the netmap server sent {len(data)} bytes; a reply has {REPLY_SIZE}")
        return cls(*_REPLY.unpack(data))
