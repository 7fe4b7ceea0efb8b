# SPDX-License-Identifier: Apache-2.0
"""af_xdp_socket: an AF_XDP socket with its memory and its rings, to send by, to receive by, or both.

Linux af_xdp.rst, linux/if_xdp.h. The memory (UMEM) is the socket's own, shared with the kernel and with
nobody else. First come the slots to send from, then those to receive in:

    memory     tx.SLOTS slots of tx.SLOT bytes, if it sends    as many as wanted, of slot bytes each
    rings      sent, done                                       filled, received
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vforward.io import af_xdp_tx as tx

# linux/socket.h, linux/if_xdp.h; x86-64 and arm64 agree.
AF_XDP, SOL_XDP = 44, 283
XDP_MMAP_OFFSETS, XDP_RX_RING, XDP_TX_RING, XDP_UMEM_REG = 1, 2, 3, 4
XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_STATISTICS = 5, 6, 7
XDP_MAX_TX_BUDGET = 9  # from Linux 6.17 on
XDP_COPY, XDP_ZEROCOPY, XDP_USE_NEED_WAKEUP = 1 << 1, 1 << 2, 1 << 3
XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING = 0, 0x80000000
XDP_UMEM_PGOFF_FILL_RING, XDP_UMEM_PGOFF_COMPLETION_RING = 0x100000000, 0x180000000
XDP_UMEM_REG_V1 = struct.Struct("=QQII")  # addr, len, chunk_size, headroom
SOCKADDR_XDP = struct.Struct("=HHIII")  # family, flags, ifindex, queue_id, shared_umem_fd
RING_OFFSETS = struct.Struct(
    "=QQQQ"
)  # producer, consumer, desc, flags; for rx, tx, fill, completion
STATISTICS = struct.Struct("=6Q")
RX_DROPPED, RX_RING_FULL, RX_FILL_EMPTY = 0, 3, 4

SO_SNDBUFFORCE = 32
SEND_ROOM = 4 << 20
"""The kernel's memory for frames on their way, of which a short one takes 768 bytes."""

CLOSING_S = 1.0

ADVICE = {
    "socket": {
        errno.EAFNOSUPPORT: "the kernel has no AF_XDP (CONFIG_XDP_SOCKETS)",
        errno.EPERM: "an AF_XDP socket needs CAP_NET_RAW: run as root",
    },
    "memory": {
        errno.ENOBUFS: "its memory is more than RLIMIT_MEMLOCK leaves (ulimit -l)",
        errno.ENOMEM: "no memory",
    },
    "bind": {
        errno.EBUSY: "another program has an AF_XDP socket on the interface",
        errno.EOPNOTSUPP: "the interface takes no AF_XDP",
    },
}


class Refused(Exception):
    """There is no AF_XDP here; says why."""


class Ring(NamedTuple):
    """Addresses of a ring's parts."""

    producer: int
    consumer: int
    entries: int
    flags: int


class XdpSocket:
    """A socket that is not bound yet; the kernel has all slots to receive in. Raises Refused.

    send: whether it sends. receive: in how many slots it receives, a power of two or 0, of slot bytes
    each: tx.SLOT, or a page. memory: address of its memory, which is size bytes.
    """

    def __init__(self, *, send: bool = False, receive: int = 0, slot: int = tx.SLOT) -> None:
        self.fd = -1
        self.zero_copy = False
        self.first = tx.SLOTS * tx.SLOT if send else 0  # where the slots to receive in begin
        self.slots, self.slot = receive, slot
        self.size = self.first + receive * slot
        self.sent = self.done = self.filled = self.received = Ring(0, 0, 0, 0)
        self._maps: list[mmap.mmap] = []
        try:
            with _advice("socket"):
                made = socket.socket(AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC)
            with made, _advice("memory"):
                self._make_memory(made, send=send)
                self._make_rings(made, send=send)
                self.fd = made.detach()
        except BaseException:
            self.close()
            raise

    def bind(self, index: int, queue: int = 0, *, native: bool = False) -> None:
        """Send and receive by a queue of an interface. native: without copies, if the driver can."""
        ways = [XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP] if native else []
        with _advice("bind"):
            for way in (*ways, XDP_COPY):
                error = _bind(self.fd, index, queue, way)
                self.zero_copy = way != XDP_COPY
                if not error:
                    return
                if error not in (errno.EOPNOTSUPP, errno.EINVAL, errno.EPROTONOSUPPORT):
                    break
            raise OSError(error, os.strerror(error))

    def statistics(self) -> tuple[int, ...]:
        """The kernel's counters, by RX_DROPPED and so on."""
        with socket.socket(AF_XDP, socket.SOCK_RAW, 0, os.dup(self.fd)) as made:
            told = made.getsockopt(SOL_XDP, XDP_STATISTICS, STATISTICS.size)
        return STATISTICS.unpack(told.ljust(STATISTICS.size, b"\0"))

    def close(self) -> None:
        """Close it, when no worker uses it. Harmless when repeated."""
        if self.fd >= 0:
            os.close(self.fd)
        for mapped in self._maps:
            mapped.close()
        self.fd, self._maps = -1, []

    def _make_memory(self, made: socket.socket, *, send: bool) -> None:
        self.memory = self._map(-1, self.size, 0)
        memory = XDP_UMEM_REG_V1.pack(self.memory, self.size, self.slot, 0)
        made.setsockopt(SOL_XDP, XDP_UMEM_REG, memory)
        if send:
            try:
                made.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_ROOM)
            except PermissionError:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_ROOM)

    def _make_rings(self, made: socket.socket, *, send: bool) -> None:
        """Those for a memory's slots have to be there, if there are none too."""
        sends, receives = tx.SLOTS if send else 0, self.slots
        made.setsockopt(SOL_XDP, XDP_UMEM_FILL_RING, receives or 1)
        made.setsockopt(SOL_XDP, XDP_UMEM_COMPLETION_RING, sends or 1)
        if send:
            made.setsockopt(SOL_XDP, XDP_TX_RING, sends)
            try:
                made.setsockopt(SOL_XDP, XDP_MAX_TX_BUDGET, sends)
            except OSError as error:
                if error.errno != errno.ENOPROTOOPT:
                    raise
        if receives:
            made.setsockopt(SOL_XDP, XDP_RX_RING, receives)
        given = made.getsockopt(SOL_XDP, XDP_MMAP_OFFSETS, 4 * RING_OFFSETS.size)
        received, sent, filled, done = RING_OFFSETS.iter_unpack(given)

        def ring(offsets: tuple[int, ...], entries: int, page: int) -> Ring:
            producer, consumer, first, flags = offsets
            at = self._map(made.fileno(), first + entries, page)
            return Ring(at + producer, at + consumer, at + first, at + flags)

        if send:
            self.sent = ring(sent, sends * tx.XDP_DESC.itemsize, XDP_PGOFF_TX_RING)
            self.done = ring(done, sends * 8, XDP_UMEM_PGOFF_COMPLETION_RING)
        if receives:
            self.received = ring(received, receives * tx.XDP_DESC.itemsize, XDP_PGOFF_RX_RING)
            self.filled = ring(filled, receives * 8, XDP_UMEM_PGOFF_FILL_RING)
            slots = (ctypes.c_uint64 * receives).from_address(self.filled.entries)
            slots[:] = list(range(self.first, self.size, self.slot))
            # The kernel looks at it from bind on, which is a system call.
            ctypes.c_uint32.from_address(self.filled.producer).value = receives

    def _map(self, descriptor: int, size: int, offset: int) -> int:
        mapped = mmap.mmap(descriptor, size, offset=offset)
        self._maps.append(mapped)
        return int(np.frombuffer(mapped, np.uint8).ctypes.data)


@contextlib.contextmanager
def _advice(step: str) -> Iterator[None]:
    """Say of an OSError inside what is to be done: Refused."""
    try:
        yield
    except OSError as error:
        said = f"{step}: {error.strerror}"
        raise Refused(ADVICE[step].get(error.errno or 0, said)) from error


def _bind(descriptor: int, index: int, queue: int, flags: int) -> int:
    """bind(2), for which Python does not know this family. Returns 0, or the error's number.

    Linux lets go of a closed socket's queue a moment later: so a queue that is taken is asked for again.
    """
    where = SOCKADDR_XDP.pack(AF_XDP, flags, index, queue, 0)
    bind = ctypes.CDLL(None, use_errno=True).bind
    until = time.monotonic() + CLOSING_S
    while bind(descriptor, where, len(where)):
        error = ctypes.get_errno()
        if error != errno.EBUSY or time.monotonic() > until:
            return error
        time.sleep(CLOSING_S / 100)
    return 0
