# SPDX-License-Identifier: Apache-2.0
"""af_xdp: the sending half of an AF_XDP socket, for frames of an af_packet port (io.af_xdp_tx).

Linux af_xdp.rst, linux/if_xdp.h. Only sending needs no XDP program and no more privilege than a packet
socket does. It is refused, and the packet socket sends everything, where frames of the two sockets
could overtake one another: an AF_XDP socket passes by the interface's queueing discipline, and has one
of its queues, not the one that the kernel would choose. Where the interface sends without copies, which
hardware does and veth does not, frames are worth more than that: see docs/adr/0027.
"""

from __future__ import annotations

import contextlib

import numpy as np
from numpy.typing import NDArray

from vforward.io import af_xdp_tx as tx
from vforward.io import linux
from vforward.io.af_xdp_socket import Refused, XdpSocket
from vforward.io.ethtool import queues_of
from vforward.io.rtnetlink import RtNetlink


class XdpSender:
    """The socket by which it is sent; words is the table ``xdp`` of af-xdp-tx, closed at first.

    Whose socket it is: our own, or one that receives too (io.af_xdp_receiver), which is not ours to close.
    """

    def __init__(self) -> None:
        self.words = np.zeros(tx.XDP_WORDS, np.uint64)
        self._why = "it is not open"
        self._own: XdpSocket | None = None
        self._keep: list[NDArray[np.generic]] = []  # arrays that are known by address only

    def open(self, interface: str, index: int, mtu: int) -> None:
        """Send on an interface of the thread's namespace, if that is possible: says tells.

        mtu: the interface's own; longer frames are the packet socket's.
        """
        try:
            _refuse_queues(interface, index)
            self._own = XdpSocket(send=True)
            self._own.bind(index)
            self._begin(self._own, mtu)
        except Refused as why:
            self.close()
            self._why = str(why)
        except BaseException:
            self.close()
            raise

    def share(self, shared: XdpSocket, interface: str, index: int, mtu: int) -> None:
        """As open, by a bound socket that is another's. It is closed after close, or forget."""
        try:
            if not shared.zero_copy:
                _refuse_queues(interface, index)
            self._begin(shared, mtu)
        except Refused as why:
            self._why = str(why)

    def limit(self, mtu: int) -> None:
        """The interface's MTU is that now. Any thread."""
        self.words[tx.LIMIT] = tx.ETHERNET + mtu

    @property
    def given_up(self) -> bool:
        """Whether it had a socket of its own open, and the node does not use it any more."""
        return self._own is not None and not self.words[tx.LONGEST]

    def open_again(self, interface: str) -> None:
        """Open it anew where the node has given it up, since the interface was gone and is back."""
        if self.given_up:
            self.close()
            with contextlib.suppress(OSError):  # gone again
                with contextlib.closing(RtNetlink()) as netlink:
                    link = netlink.link(interface)
                self.open(interface, link.index, link.mtu)

    def forget(self) -> None:
        """The node is not to use it any more, from the next quiet point on."""
        tx.hand_over(self.words, np.uint64(0))

    def says(self) -> str:
        """By what frames go out, for users. Any thread."""
        if self.words[tx.LONGEST]:
            return "complete frames of one buffer go out by AF_XDP, others by packet socket"
        return f"frames go out by packet socket; not by AF_XDP: {self._why}"

    def close(self) -> None:
        """Close it, when no worker uses it. Harmless when repeated."""
        self.words[:] = 0
        own, self._own, self._keep = self._own, None, []
        if own is not None:
            own.close()

    def _begin(self, used: XdpSocket, mtu: int) -> None:
        self._why = "the interface was gone"
        words, self._keep = self.words, []
        words[:] = 0
        words[tx.FD], words[tx.MEMORY], words[tx.FREE] = used.fd, used.memory, tx.SLOTS
        words[tx.RING], words[tx.PRODUCER] = used.sent.entries, used.sent.producer
        words[tx.CONSUMER], words[tx.WAKE] = used.sent.consumer, used.sent.flags
        words[tx.DONE], words[tx.DONE_PRODUCER] = used.done.entries, used.done.producer
        words[tx.DONE_CONSUMER] = used.done.consumer
        words[tx.ZERO_COPY] = used.zero_copy
        words[tx.MESSAGE] = self._array(np.zeros(1, linux.MMSGHDR))
        words[tx.STACK] = self._array(np.arange(tx.SLOTS, dtype=np.uint32))
        words[tx.BUSY] = self._array(np.zeros(tx.SLOTS, np.uint8))
        self.limit(mtu)
        tx.hand_over(words, np.uint64(min(tx.SLOT, tx.ETHERNET + mtu)))

    def _array(self, array: NDArray[np.generic]) -> int:
        self._keep.append(array)
        return int(array.ctypes.data)


def _refuse_queues(interface: str, index: int) -> None:
    """Raise Refused where the interface has a queueing discipline, or several queues."""
    try:
        _, queues, discipline = queues_of(interface, index)
    except OSError as error:
        raise Refused(str(error)) from error
    if discipline != "noqueue":
        text = f"frames would pass by the queueing discipline {discipline} of the interface"
        raise Refused(text)
    if queues != 1:
        text = f"frames of one flow could take several of the interface's {queues} queues"
        raise Refused(text)
