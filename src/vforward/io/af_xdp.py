# SPDX-License-Identifier: Apache-2.0
"""af_xdp: the sending half of an AF_XDP socket, for frames of an af_packet port (io.af_xdp_tx).

Linux af_xdp.rst, linux/if_xdp.h. Only sending needs no XDP program and no more privilege than a packet
socket does. It is refused, and the packet socket sends everything, where frames of the two sockets
could overtake one another: an AF_XDP socket passes by the interface's queueing discipline, and has one
of its queues, not the one that the kernel would choose.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
import time

import numpy as np
from numpy.typing import NDArray

from vforward.io import af_xdp_tx as tx
from vforward.io import linux
from vforward.io.rtnetlink import RtNetlink

# linux/socket.h, linux/if_xdp.h; x86-64 and arm64 agree.
AF_XDP, SOL_XDP = 44, 283
XDP_MMAP_OFFSETS, XDP_TX_RING, XDP_UMEM_REG = 1, 3, 4
XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING = 5, 6
XDP_MAX_TX_BUDGET = 9  # from Linux 6.17 on
XDP_COPY = 1 << 1
XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING = 0x80000000, 0x180000000
XDP_UMEM_REG_V1 = struct.Struct("=QQII")  # addr, len, chunk_size, headroom
SOCKADDR_XDP = struct.Struct("=HHIII")  # family, flags, ifindex, queue_id, shared_umem_fd
RING_OFFSETS = struct.Struct(
    "=QQQQ"
)  # producer, consumer, desc, flags; for rx, tx, fill, completion

SO_SNDBUFFORCE = 32
SEND_ROOM = 4 << 20
"""The kernel's memory for frames on their way, of which a short one takes 768 bytes."""

CLOSING_S = 1.0

# linux/ethtool.h, linux/sockios.h
SIOCETHTOOL, ETHTOOL_GCHANNELS = 0x8946, 0x3C
CHANNELS = struct.Struct("=IIIIIIIII")  # cmd, most of each, then rx, tx, other, combined

ADVICE = {
    "socket": {errno.EAFNOSUPPORT: "the kernel has no AF_XDP (CONFIG_XDP_SOCKETS)"},
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


class XdpSender:
    """The socket, its rings and its memory; words is the table ``xdp`` of af-xdp-tx, closed at first."""

    def __init__(self) -> None:
        self.words = np.zeros(tx.XDP_WORDS, np.uint64)
        self._why = "it is not open"
        self._fd = -1
        self._maps: list[mmap.mmap] = []
        self._keep: list[NDArray[np.generic]] = []  # arrays that are known by address only

    def open(self, interface: str, index: int, mtu: int) -> None:
        """Send on an interface of the thread's namespace, if that is possible: says tells.

        mtu: the interface's own; longer frames are the packet socket's.
        """
        try:
            _refuse_queues(interface, index)
            self._open(index)
        except Refused as why:
            self.close()
            self._why = str(why)
        except BaseException:
            self.close()
            raise
        else:
            self._why = "the interface was gone"
            self.words[tx.FREE] = tx.SLOTS
            self.limit(mtu)
            tx.hand_over(self.words, np.uint64(min(tx.SLOT, tx.ETHERNET + mtu)))

    def limit(self, mtu: int) -> None:
        """The interface's MTU is that now. Any thread."""
        self.words[tx.LIMIT] = tx.ETHERNET + mtu

    @property
    def given_up(self) -> bool:
        """Whether it was open, and the node does not use it any more."""
        return self._fd >= 0 and not self.words[tx.LONGEST]

    def open_again(self, interface: str) -> None:
        """Open it anew where the node has given it up, since the interface was gone and is back."""
        if self.given_up:
            self.close()
            with contextlib.suppress(OSError):  # gone again
                with contextlib.closing(RtNetlink()) as netlink:
                    link = netlink.link(interface)
                self.open(interface, link.index, link.mtu)

    def says(self) -> str:
        """By what frames go out, for users. Any thread."""
        if self.words[tx.LONGEST]:
            return "complete frames of one buffer go out by AF_XDP, others by packet socket"
        return f"frames go out by packet socket; not by AF_XDP: {self._why}"

    def close(self) -> None:
        """Close it, when no worker uses it. Harmless when repeated."""
        self.words[:] = 0
        if self._fd >= 0:
            os.close(self._fd)
        for mapped in self._maps:
            mapped.close()
        self._fd, self._maps, self._keep = -1, [], []

    def _open(self, index: int) -> None:
        step = "socket"
        try:
            with socket.socket(AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as made:
                step = "memory"
                self._make_memory(made)
                self._make_rings(made)
                step = "bind"
                _bind(made.fileno(), index)
                self._fd = made.detach()
        except OSError as error:
            text = ADVICE[step].get(error.errno or 0, f"{step}: {error.strerror}")
            raise Refused(text) from error
        self.words[tx.FD] = self._fd
        self.words[tx.MESSAGE] = self._array(np.zeros(1, linux.MMSGHDR))
        self.words[tx.STACK] = self._array(np.arange(tx.SLOTS, dtype=np.uint32))
        self.words[tx.BUSY] = self._array(np.zeros(tx.SLOTS, np.uint8))

    def _make_memory(self, made: socket.socket) -> None:
        self.words[tx.MEMORY] = where = self._map(-1, tx.SLOTS * tx.SLOT, 0)
        memory = XDP_UMEM_REG_V1.pack(where, tx.SLOTS * tx.SLOT, tx.SLOT, 0)
        made.setsockopt(SOL_XDP, XDP_UMEM_REG, memory)
        try:
            made.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_ROOM)
        except PermissionError:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_ROOM)

    def _make_rings(self, made: socket.socket) -> None:
        made.setsockopt(SOL_XDP, XDP_UMEM_FILL_RING, 1)  # none is received, but it has to be there
        made.setsockopt(SOL_XDP, XDP_UMEM_COMPLETION_RING, tx.SLOTS)
        made.setsockopt(SOL_XDP, XDP_TX_RING, tx.SLOTS)
        try:
            made.setsockopt(SOL_XDP, XDP_MAX_TX_BUDGET, tx.SLOTS)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
        given = made.getsockopt(SOL_XDP, XDP_MMAP_OFFSETS, 4 * RING_OFFSETS.size)
        _, sent, _, done = RING_OFFSETS.iter_unpack(given)
        for (producer, consumer, entries, _), size, page, words in (
            (sent, tx.XDP_DESC.itemsize, XDP_PGOFF_TX_RING, (tx.PRODUCER, tx.CONSUMER, tx.RING)),
            (done, 8, XDP_UMEM_PGOFF_COMPLETION_RING,
             (tx.DONE_PRODUCER, tx.DONE_CONSUMER, tx.DONE)),
        ):  # fmt: skip
            at = self._map(made.fileno(), entries + tx.SLOTS * size, page)
            for word, offset in zip(words, (producer, consumer, entries), strict=True):
                self.words[word] = at + offset

    def _map(self, descriptor: int, size: int, offset: int) -> int:
        mapped = mmap.mmap(descriptor, size, offset=offset)
        self._maps.append(mapped)
        return int(np.frombuffer(mapped, np.uint8).ctypes.data)

    def _array(self, array: NDArray[np.generic]) -> int:
        self._keep.append(array)
        return int(array.ctypes.data)


def _bind(descriptor: int, index: int) -> None:
    """bind(2), for which Python does not know this family.

    Linux lets go of a closed socket's queue a moment later: so a queue that is taken is asked for again.
    """
    where = SOCKADDR_XDP.pack(AF_XDP, XDP_COPY, index, 0, 0)
    bind = ctypes.CDLL(None, use_errno=True).bind
    until = time.monotonic() + CLOSING_S
    while bind(descriptor, where, len(where)):
        error = ctypes.get_errno()
        if error != errno.EBUSY or time.monotonic() > until:
            raise OSError(error, os.strerror(error))
        time.sleep(CLOSING_S / 100)


def _refuse_queues(interface: str, index: int) -> None:
    """Raise Refused where the interface has a queueing discipline, or several queues."""
    try:
        netlink = RtNetlink()
        try:
            discipline, queues = netlink.queueing(index)
        finally:
            netlink.close()
        queues = _channels(interface) or queues
    except OSError as error:
        raise Refused(str(error)) from error
    if discipline != "noqueue":
        text = f"frames would pass by the queueing discipline {discipline} of the interface"
        raise Refused(text)
    if queues != 1:
        text = f"frames of one flow could take several of the interface's {queues} queues"
        raise Refused(text)


def _channels(interface: str) -> int:
    """How many queues an interface sends by, as its driver says; 0: it does not say."""
    asked = bytearray(CHANNELS.pack(ETHTOOL_GCHANNELS, *[0] * 8))
    where = (ctypes.c_char * len(asked)).from_buffer(asked)
    request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(where))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return 0
            raise
    *_, sends, _, both = CHANNELS.unpack(asked)
    return int(sends + both)
