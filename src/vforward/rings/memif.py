# SPDX-License-Identifier: Apache-2.0
"""memif's control channel, version 2.0: its messages, and what each role answers to each.

    client                          server          all are 128 bytes in a SOCK_SEQPACKET socket:
        <------------------ HELLO                   u16 type, then the packed fields below
    INIT ------------------>                        host byte order
        <-------------------- ACK
    ADD_REGION + memfd ----->                       the client's memory: rings and buffers
        <-------------------- ACK
    ADD_RING + eventfd ----->                       once for each ring
        <-------------------- ACK
    CONNECT ---------------->
        <-------------- CONNECTED                   DISCONNECT, from either: it is over

Both classes are fed a message and its file descriptors and say what to send; sockets are not their
business. What a peer says is checked here, or raises BadPeer. One queue in each direction.

Source: the message structures of libmemif and of DPDK's net_memif (memif.h), and what they send.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import Any

VERSION = 2 << 8
COOKIE = 0x3E31F20
MESSAGE = 128
(ACK, HELLO, INIT, ADD_REGION, ADD_RING, CONNECT, CONNECTED, DISCONNECT) = range(1, 9)
NAMES = {
    ACK: "ACK",
    HELLO: "HELLO",
    INIT: "INIT",
    ADD_REGION: "ADD_REGION",
    ADD_RING: "ADD_RING",
    CONNECT: "CONNECT",
    CONNECTED: "CONNECTED",
    DISCONNECT: "DISCONNECT",
}
FIELDS = {
    ACK: struct.Struct("<H"),
    HELLO: struct.Struct("<H32sHHHHHB"),  # name, versions from and to, region, rings, log2 at most
    INIT: struct.Struct("<HHIB24s32s"),  # version, id, mode, secret, name
    ADD_REGION: struct.Struct("<HHQ"),  # index, bytes
    ADD_RING: struct.Struct("<HHHHIBH"),  # flags, index, region, offset, log2, private header
    CONNECT: struct.Struct("<H32s"),
    CONNECTED: struct.Struct("<H32s"),
    DISCONNECT: struct.Struct("<HI96s"),
}
ETHERNET = 0
TO_SERVER = 1
"""Flag of ADD_RING: packets go from client to server by it."""
REGIONS_MAX = 16
LOG2_MAX = 14
SECRET_MAX, NAME_MAX, REASON_MAX = 24, 32, 95
RING_HEADER = 128
"""Bytes before the first descriptor of a ring."""
DESCRIPTOR = 16


class BadPeer(Exception):
    """A peer said what it must not. The text is sent to it, and logged."""


class Bye(Exception):
    """The peer has disconnected; the text is its reason."""


@dataclass
class Region:
    """Memory of the client's. fd belongs to whoever has the region."""

    fd: int
    size: int


@dataclass
class RingPlace:
    """Where a ring lies: region, bytes from its start, log2 of its slots; fd: its eventfd."""

    region: int
    offset: int
    log2: int
    fd: int


Reply = tuple[bytes, int]
"""A message to be sent, and the descriptor that goes with it, or -1."""


@dataclass
class Link:
    """One connection, of either role: what is agreed on."""

    interface: int
    secret: bytes = b""
    name: str = "vforward"
    log2: int = 10
    regions: list[Region] = field(default_factory=list)
    rings: dict[bool, RingPlace] = field(default_factory=dict)
    """By whether its packets go to the server."""
    peer: str = ""
    connected: bool = False

    def close(self) -> None:
        """Close the descriptors that came, or were made. Harmless when repeated."""
        parts: list[Region | RingPlace] = [*self.regions, *self.rings.values()]
        for part in parts:
            if part.fd >= 0:
                os.close(part.fd)
                part.fd = -1

    def _text(self) -> bytes:
        return self.name.encode()[: NAME_MAX - 1]


class Server(Link):
    """The server's side: it is told where the client's memory is."""

    def begin(self) -> list[Reply]:
        """What to say when a client has come."""
        return [(pack(HELLO, self._text(), VERSION, VERSION, REGIONS_MAX - 1, 0, 0, LOG2_MAX), -1)]

    def feed(self, message: bytes, fds: list[int]) -> list[Reply]:
        """Answer a message; fds become the link's. Raises BadPeer, Bye."""
        fd = _one(fds)
        try:
            kind, values = unpack(message, {INIT, ADD_REGION, ADD_RING, CONNECT, DISCONNECT})
            if (fd >= 0) != (kind in (ADD_REGION, ADD_RING)):
                raise BadPeer(f"{NAMES[kind]} with {'no' if fd < 0 else 'a'} file descriptor")
            if (kind == INIT) == bool(self.peer) or self.connected:
                raise BadPeer(f"{NAMES[kind]} out of turn")
            if kind == ADD_REGION:
                self._add_region(fd, *values)
            elif kind == ADD_RING:
                self._add_ring(fd, *values)
            fd = -1
        finally:
            if fd >= 0:
                os.close(fd)
        if kind == INIT:
            self._init(*values)
        elif kind == CONNECT:
            self._connect()
            return [(pack(CONNECTED, self._text()), -1)]
        return [(pack(ACK), -1)]

    def _init(self, version: int, interface: int, mode: int, secret: bytes, name: bytes) -> None:
        if version != VERSION:
            raise BadPeer(f"Incompatible memif version {version >> 8}.{version & 255}")
        if interface != self.interface:
            raise BadPeer(f"ID not found: {interface}")
        if mode != ETHERNET:
            raise BadPeer("Only ethernet mode supported")
        if self.secret and secret.rstrip(b"\0") != self.secret:
            raise BadPeer("Incorrect secret")
        self.peer = _printable(name) or "?"

    def _add_region(self, fd: int, index: int, size: int) -> None:
        if index != len(self.regions) or index >= REGIONS_MAX or not 0 < size < 1 << 32:
            raise BadPeer(f"Invalid region index or size: {index}, {size} bytes")
        self.regions.append(Region(fd, size))

    def _add_ring(
        self, fd: int, flags: int, index: int, region: int, offset: int, log2: int, private: int
    ) -> None:
        to_server = bool(flags & TO_SERVER)
        if index or to_server in self.rings:
            raise BadPeer("Invalid ring index: one ring in each direction")
        if not 1 <= log2 <= LOG2_MAX:
            raise BadPeer(f"Invalid ring size: 2^{log2}")
        if private:
            raise BadPeer("Private headers are not supported")
        self.rings[to_server] = RingPlace(region, offset, log2, fd)

    def _connect(self) -> None:
        if len(self.rings) != 2:
            raise BadPeer("Connect without a ring in each direction")
        for ring in self.rings.values():
            if ring.region >= len(self.regions):
                raise BadPeer(f"A ring in region {ring.region}, which is none")
            end = ring.offset + RING_HEADER + (DESCRIPTOR << ring.log2)
            if ring.offset % 8 or end > self.regions[ring.region].size:
                raise BadPeer(f"A ring at {ring.offset} is not in its region, or not aligned")
        places = sorted((r.region, r.offset, r.log2) for r in self.rings.values())
        (a, at, log2), (b, behind, _) = places
        if a == b and at + RING_HEADER + (DESCRIPTOR << log2) > behind:
            raise BadPeer("The rings overlap")
        self.connected = True


class Client(Link):
    """The client's side: it offers memory, laid out by who uses this (regions, rings)."""

    _queue: list[Reply] | None = None

    def begin(self) -> list[Reply]:
        """A client waits for the server's first word."""
        return []

    def feed(self, message: bytes, fds: list[int]) -> list[Reply]:
        """Answer a message. Raises BadPeer, Bye."""
        fd = _one(fds)
        if fd >= 0:
            os.close(fd)
            raise BadPeer("a server has no file descriptors to send")
        kind, values = unpack(message, {HELLO, ACK, CONNECTED, DISCONNECT})
        if kind == HELLO and self._queue is None:
            self._hello(*values)
        elif (
            kind not in (ACK, CONNECTED) or self._queue is None or self.connected
            or (kind == CONNECTED) != (not self._queue)
        ):  # fmt: skip
            raise BadPeer(f"{NAMES[kind]} out of turn")
        if kind == CONNECTED:
            self.connected = True
            return []
        assert self._queue is not None
        return [self._queue.pop(0)] if self._queue else []

    def _hello(
        self, name: bytes, first: int, last: int, region: int, m2s: int, s2m: int, log2: int
    ) -> None:
        if not first <= VERSION <= last:
            raise BadPeer("Incompatible memif version")
        if log2 < self.log2:
            raise BadPeer(f"The server's rings have at most 2^{log2} slots, ours 2^{self.log2}")
        self.peer = _printable(name) or "?"
        said = [(pack(INIT, VERSION, self.interface, ETHERNET, self.secret, self._text()), -1)]
        said += [(pack(ADD_REGION, n, r.size), r.fd) for n, r in enumerate(self.regions)]
        for to_server, ring in self.rings.items():
            flags = TO_SERVER if to_server else 0
            said.append((pack(ADD_RING, flags, 0, ring.region, ring.offset, ring.log2, 0), ring.fd))
        self._queue = [*said, (pack(CONNECT, self._text()), -1)]


def pack(kind: int, *values: int | bytes) -> bytes:
    """A message."""
    return FIELDS[kind].pack(kind, *values).ljust(MESSAGE, b"\0")


def farewell(reason: str) -> bytes:
    """The message DISCONNECT."""
    return pack(DISCONNECT, 0, reason.encode()[:REASON_MAX])


def unpack(message: bytes, allowed: set[int]) -> tuple[int, tuple[Any, ...]]:
    """A message's type and fields. Raises BadPeer, and Bye for a DISCONNECT."""
    if len(message) != MESSAGE:
        raise BadPeer(f"Invalid message size: {len(message)}")
    kind = int.from_bytes(message[:2], "little")
    if kind not in allowed:
        raise BadPeer(f"Invalid message type: {kind}")
    values = FIELDS[kind].unpack_from(message)[1:]
    if kind == DISCONNECT:
        raise Bye(_printable(values[1]) or "no reason given")
    return kind, values


def _one(fds: list[int]) -> int:
    """The only descriptor of a message, or -1. Others are closed. Raises BadPeer when several came."""
    if len(fds) > 1:
        for fd in fds:
            os.close(fd)
        raise BadPeer(f"{len(fds)} file descriptors in one message")
    return fds[0] if fds else -1


def _printable(text: bytes) -> str:
    cut = text.split(b"\0")[0].decode("ascii", "replace")
    return "".join(c if c.isprintable() else "?" for c in cut)
