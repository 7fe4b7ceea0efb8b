# SPDX-License-Identifier: Apache-2.0
"""af_xdp_receiver: an interface's frames by AF_XDP: an XDP program, and a socket for each queue.

Source: af_xdp.rst. Packet by packet: io.af_xdp_rx. Without copies where the driver can, else copied by
the kernel. The first queue's socket sends too (io.af_xdp), where that keeps frames in order.

Linux is given nothing of what comes in here. A socket whose interface was deleted, or moved to another
namespace, is good for nothing any more: all is closed, and opened anew for the interface of that name.

Limits: QUEUES_MAX queues; frames of one slot, so an MTU of MTU_MAX.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import select
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vforward.io import af_xdp_rx as rx
from vforward.io import af_xdp_socket as xsk
from vforward.io import af_xdp_tx as tx
from vforward.io import linux, shim
from vforward.io.af_xdp import XdpSender
from vforward.io.af_xdp_program import XdpProgram
from vforward.io.af_xdp_socket import Refused, XdpSocket
from vforward.io.ethtool import Ethtool, queues_of
from vforward.io.rtnetlink import RtNetlink

log = logging.getLogger(__name__)

KERNEL_ROOM = 256
"""Bytes that the kernel keeps free at the start of a slot (XDP_PACKET_HEADROOM)."""
HEADERS = 22  # Ethernet and two VLAN tags
MTU_MAX = mmap.PAGESIZE - KERNEL_ROOM - HEADERS
SLOTS_MIN = 64


class XdpReceiver:
    """Closed at first; words is the table ``queues`` of af-xdp-rx.

    ring_mib: memory of all queues' slots. sender: to send by the first queue's socket, if it can.
    """

    def __init__(self, ring_mib: int, sender: XdpSender | None) -> None:
        self.words = np.zeros(rx.QUEUES_MAX * rx.QUEUE_WORDS, np.uint64)
        self._ring_mib, self._sender = ring_mib, sender
        self._epoll: select.epoll | None = None
        self._sockets: list[XdpSocket] = []
        self._program: XdpProgram | None = None
        self._ethtool: Ethtool | None = None
        self._tags_left = False  # which the driver took off before
        self._lost = np.zeros(2, np.int64)  # of sockets that were closed
        self._why = "it is not open"
        self._message = np.zeros(1, linux.MMSGHDR)

    @property
    def is_open(self) -> bool:
        """Whether frames come in."""
        return bool(self._sockets)

    @property
    def is_whole(self) -> bool:
        """Whether each queue of the interface has its socket: there may be more, or less, by now."""
        if self._ethtool is None:
            return True
        with contextlib.suppress(OSError):  # it was deleted
            return self._ethtool.channels()[0] in (0, len(self._sockets))
        return True

    @property
    def slots(self) -> tuple[int, int]:
        """Of each queue how many, and bytes of each; none while this is closed."""
        return (self._sockets[0].slots, self._sockets[0].slot) if self._sockets else (0, 0)

    def descriptors(self) -> list[int]:
        """What the worker sleeps on: the same as long as this is open, whatever sockets there are."""
        return [] if self._epoll is None else [self._epoll.fileno()]

    def open(self, interface: str, index: int, mtu: int, number: int) -> None:
        """Receive on an interface of the thread's namespace; number is the port's.

        Raises Refused, which says what is missing and what to do.
        """
        try:
            self._open(interface, index, mtu)
            self._begin(number)
        except BaseException as error:
            self.give_up()
            if isinstance(error, OSError):
                raise Refused(error.strerror or str(error)) from error
            raise
        if self._program is not None and not self._program.native:
            log.warning("af_packet port on interface %r: %s", interface, self.says())
        if self._sender is not None:
            self._sender.share(self._sockets[0], interface, index, mtu)

    def open_again(self, interface: str, number: int) -> None:
        """As open, for an interface that is back; what refuses it, says tells."""
        before = self._why
        try:
            with contextlib.closing(RtNetlink()) as netlink:
                link = netlink.link(interface)
            self.open(interface, link.index, link.mtu, number)
        except (OSError, Refused) as why:
            self._why = str(why)
            if self._why != before:  # it is asked again and again
                log.warning("af_packet port on interface %r: receives nothing: %s", interface, why)

    def close(self) -> None:
        """Close all, when no worker uses it. Harmless when repeated."""
        self.give_up()
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            epoll.close()

    def give_up(self, quiesce: Callable[[], bool] = lambda: True) -> None:
        """Let go of the interface, until it is opened again. Harmless when repeated."""
        self.words[rx.OPEN] = 0
        if self._sender is not None:
            self._sender.forget()
        if self._program is not None:
            self._program.close()
            self._program = None
        self._lost += self._losses()
        if self._sockets:
            self._why = "the interface is back, but in a namespace that cannot be entered"
            while not quiesce():
                log.warning("AF_XDP: the worker does not come to a quiet point")
        if self._sender is not None:
            self._sender.close()
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            each.close()
        ethtool, self._ethtool = self._ethtool, None
        if ethtool is not None:
            with contextlib.closing(ethtool), contextlib.suppress(OSError):  # it was deleted
                if self._tags_left:
                    ethtool.set_tags_taken(True)
        self._tags_left = False

    def statistics(self) -> dict[str, int]:
        """Frames that the kernel dropped: no slot was free; or longer than a slot."""
        full, long = (self._lost + self._losses()).tolist()
        return {"kernel-ring-full": full, "kernel-too-long": long}

    def says(self) -> str:
        """How frames are received, for users. Any thread."""
        program, sockets = self._program, self._sockets
        if program is None or not sockets:
            return f"receives nothing: {self._why}"
        n, slots = len(sockets), sockets[0].slots
        how = "without copies" if sockets[0].zero_copy else "copied"
        text = f"receives by AF_XDP, {how}, {n} queue{'s' if n > 1 else ''} of {slots} slots"
        if not program.native:
            lost = "super-frames, and VLAN tags beside frames, are lost"
            return f"{text}, in SKB mode, where {lost} (native XDP: {program.why})"
        return f"{text}, native XDP" + ("" if program.tags else ", VLAN tags only if in the frame")

    def _open(self, interface: str, index: int, mtu: int) -> None:
        if mtu > MTU_MAX:
            text = f"an MTU of {mtu} is more than the {MTU_MAX} that AF_XDP has slots for"
            raise Refused(f'{text}; make it less, or use mode = "auto"')
        queues = queues_of(interface, index).receive
        if queues > rx.QUEUES_MAX:
            text = f"{queues} queues are more than the {rx.QUEUES_MAX} that are taken"
            raise Refused(f"{text}; ethtool -L {interface} combined {rx.QUEUES_MAX}")
        fits = mtu + HEADERS + KERNEL_ROOM <= tx.SLOT
        slot = tx.SLOT if fits else mmap.PAGESIZE
        slots = max(SLOTS_MIN, _power_of_two((self._ring_mib << 20) // (queues * slot)))
        if self._epoll is None:
            self._epoll = select.epoll()
        self._ethtool = Ethtool(interface)
        self._program = program = XdpProgram(interface, index, queues)
        program.attach()
        # Tags that the driver takes off would be lost, even where the program asks for them: Linux lets it
        # ask any driver, and few answer (veth does, and does not take them off at all).
        with contextlib.suppress(OSError):
            self._tags_left = self._ethtool.set_tags_taken(False)
        for queue in range(queues):
            sends = queue == 0 and self._sender is not None
            made = XdpSocket(send=sends, receive=slots, slot=slot)
            self._sockets.append(made)
            made.bind(index, queue, native=program.native)
            program.add(queue, made.fd)
            self._epoll.register(made.fd, select.EPOLLIN)

    def _begin(self, number: int) -> None:
        """Give the node the table."""
        self.words[:] = 0
        for words, made in zip(self.words.reshape(-1, rx.QUEUE_WORDS), self._sockets, strict=False):
            words[rx.PORT], words[rx.MEMORY], words[rx.SIZE] = number, made.memory, made.size
            words[rx.SLOT], words[rx.SLOTS] = made.slot, made.slots
            words[rx.RING], words[rx.PRODUCER] = made.received.entries, made.received.producer
            words[rx.CONSUMER] = made.received.consumer
            words[rx.FILL], words[rx.FILL_PRODUCER] = made.filled.entries, made.filled.producer
            if made.zero_copy:
                words[rx.WAKE] = made.filled.flags
            words[rx.FD], words[rx.RECEIVE] = made.fd, shim.address("vf_recvmmsg")
            words[rx.MESSAGE] = self._message.ctypes.data
            words[rx.FILLED] = made.slots
        rx.hand_over(self.words, np.uint64(len(self._sockets)))

    def _losses(self) -> NDArray[np.int64]:
        lost = np.zeros(2, np.int64)
        for each in self._sockets:
            told = each.statistics()
            empty = min(told[xsk.RX_FILL_EMPTY], told[xsk.RX_DROPPED])
            lost += told[xsk.RX_RING_FULL] + empty, told[xsk.RX_DROPPED] - empty
        return lost


def _power_of_two(most: int) -> int:
    return 1 << most.bit_length() - 1 if most else 0
