# SPDX-License-Identifier: Apache-2.0
"""One receive socket of an af_packet port: with a ring or, where Linux refuses that, with recvmmsg.

Sources: packet_mmap.rst, packet(7). Of several, each takes its share of the flows (io.af_packet_share).
"""

from __future__ import annotations

import os
import socket as sockets
from typing import Literal

import numpy as np

from vforward.graph.node import Node
from vforward.io import af_packet_raw as raw
from vforward.io import af_packet_ring as ring
from vforward.io import af_packet_rx as rx
from vforward.io import af_packet_share as share
from vforward.io import linux, shim
from vforward.io.port import Tables

Mode = Literal["auto", "ring", "raw", "xdp"]


class PacketQueue:
    """See the module. number: the port's. mib: room for frames. mode: as AfPacketPort has it; of "xdp" it
    receives nothing, and only knows whether the interface is there.
    """

    def __init__(self, number: int, mib: int, mode: Mode) -> None:
        self._number, self._mib, self._mode = number, mib, mode
        self.fd = -1
        self.has_ring = False
        self.says = ""
        """How it receives, and why."""
        self.slower = False
        """Whether it would have a ring if Linux had given one."""
        self._words = np.zeros(rx.RING_WORDS, np.uint64)
        self._keep: ring.Kept = []  # arrays that are known by address only

    def open(self, index: int, mtu: int, *, promiscuous: bool, number: int, n: int) -> None:
        """Receive from an interface, queue number of n. Raises OSError; close then."""
        self._new_socket(number, n)
        why = 'mode = "raw"'
        if self._mode == "xdp":
            why = ""
        elif self._mode != "raw":
            try:
                self._make_ring(mtu)
                why = ""
            except OSError as error:
                if self._mode == "ring":
                    raise
                self.close()  # what is half made of a ring goes with it
                self._new_socket(number, n)
                why = f"Linux refuses a ring: {error.strerror}"
        if why:
            self._make_raw(why)
        if promiscuous:
            shim.check(shim.lib.vf_packet_promisc(self.fd, index), "promiscuous mode")
        protocol = linux.ETH_P_ALL if self._mode != "xdp" else 0
        shim.check(shim.lib.vf_packet_bind(self.fd, index, protocol), "bind")

    def node(self) -> tuple[Node, Tables]:
        """The receive node and its tables."""
        if self.has_ring:
            return rx.NODE, {"ring": self._words}
        return raw.NODE, {"raw": self._words}

    @property
    def slots(self) -> tuple[int, int]:
        """The ring's slots: how many, and bytes of each; none without a ring."""
        if not self.has_ring:
            return 0, 0
        return int(self._words[rx.SLOTS]), int(self._words[rx.SLOT])

    def dropped(self) -> int:
        """Frames that Linux dropped since the last call, because there was no room."""
        words = np.zeros(2, np.uint64)
        shim.lib.vf_packet_statistics(self.fd, shim.pointer(words))
        return int(words[1])

    def close(self) -> None:
        """Give back socket and ring. Harmless when repeated."""
        if self.has_ring and self._words[rx.RING]:
            where, self._words[rx.RING] = int(self._words[rx.RING]), 0
            slots, size = self.slots
            shim.lib.vf_munmap(where, slots * size)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _new_socket(self, number: int, n: int) -> None:
        self.fd = shim.check(shim.lib.vf_packet_socket(0), "packet socket")
        shim.check(shim.lib.vf_packet_vnet_hdr(self.fd), "PACKET_VNET_HDR")
        shim.check(shim.lib.vf_packet_ignore_outgoing(self.fd), "PACKET_IGNORE_OUTGOING")
        if n > 1:
            share.attach(self.fd, number, n)

    def _make_raw(self, why: str) -> None:
        self.says = f"receives by recvmmsg ({why})"
        self.slower = self._mode == "auto"
        self.has_ring = False
        with sockets.socket(fileno=os.dup(self.fd)) as packet:
            packet.setsockopt(linux.SOL_PACKET, linux.PACKET_AUXDATA, 1)
        ring.queue_room(self.fd, self._mib << 20)
        self._words, self._keep = raw.table(self.fd, self._number)

    def _make_ring(self, mtu: int) -> None:
        self._words, self._keep = ring.make_ring(self.fd, self._number, self._mib, mtu)
        self.has_ring = True
        slots, size = self.slots
        self.says = f"receives by a ring of {slots} slots of {size} bytes"
