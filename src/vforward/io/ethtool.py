# SPDX-License-Identifier: Apache-2.0
"""ethtool: what an interface's driver tells and does by ioctl(2): its queues, and who takes VLAN tags off.

Sources: linux/ethtool.h, linux/sockios.h, netdevice(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import socket
import struct
from typing import NamedTuple

from vforward.io.rtnetlink import RtNetlink

SIOCETHTOOL = 0x8946
ETHTOOL_GFLAGS, ETHTOOL_SFLAGS, ETHTOOL_GCHANNELS = 0x25, 0x26, 0x3C
ETH_FLAG_RXVLAN = 1 << 8
VALUE = struct.Struct("=II")  # cmd, data
CHANNELS = struct.Struct("=IIIIIIIII")  # cmd, most of each, then rx, tx, other, combined


class Queues(NamedTuple):
    """By how many an interface receives and sends; discipline: what is before the latter, or "noqueue"."""

    receive: int
    send: int
    discipline: str


class Ethtool:
    """An interface of the network namespace in which this is made."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def channels(self) -> tuple[int, int]:
        """How many queues it receives and sends by, as the driver says; 0: it does not say."""
        try:
            told = self._ask(CHANNELS.pack(ETHTOOL_GCHANNELS, *[0] * 8))
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return 0, 0
            raise
        *_, receives, sends, _, both = CHANNELS.unpack(told)
        return receives + both, sends + both

    def set_tags_taken(self, taken: bool) -> bool:
        """Whether VLAN tags of received frames are taken off, from now on. Returns whether that changed.

        Raises OSError: the driver does not let us.
        """
        _, flags = VALUE.unpack(self._ask(VALUE.pack(ETHTOOL_GFLAGS, 0)))
        if bool(flags & ETH_FLAG_RXVLAN) == taken:
            return False
        self._ask(VALUE.pack(ETHTOOL_SFLAGS, flags ^ ETH_FLAG_RXVLAN))
        return True

    def close(self) -> None:
        """Harmless when repeated."""
        self._socket.close()

    def _ask(self, request: bytes) -> bytes:
        asked = bytearray(request)
        where = (ctypes.c_char * len(asked)).from_buffer(asked)
        name = struct.pack("16sQ16x", self._interface.encode(), ctypes.addressof(where))
        fcntl.ioctl(self._socket, SIOCETHTOOL, name)
        return bytes(asked)


def queues_of(interface: str, index: int) -> Queues:
    """Those of an interface of the thread's namespace. Raises OSError."""
    with contextlib.closing(RtNetlink()) as netlink:
        discipline, receive, send = netlink.queueing(index)
    with contextlib.closing(Ethtool(interface)) as ethtool:
        receives, sends = ethtool.channels()
    return Queues(receives or receive, sends or send, discipline)
