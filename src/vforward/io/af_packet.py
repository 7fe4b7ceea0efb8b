# SPDX-License-Identifier: Apache-2.0
"""af_packet: a Linux interface as a port, through packet sockets.

Sources: packet_mmap.rst, packet(7), netdevice(7). Receiving: a mapped ring (io.af_packet_rx) or, where
Linux refuses that, recvmmsg (io.af_packet_raw); if so wished by AF_XDP (io.af_xdp_receiver), and then the
packet socket receives nothing. Sending: io.af_packet_tx, and io.af_xdp_tx for complete short frames where
Linux lets us. With several workers each has a socket to receive and one to send by, and there is no AF_XDP:
an interface's queue is one such socket's; where AF_XDP is wished the port is one worker's. Measurements
behind the choices: V2 ring and sendmmsg are the fastest pair of a packet socket's on veth; virtio_net_hdr
on both sockets, or TCP between hosts with offloads on does not get through.

The interface should have no IP address: the host's own stack sees the same frames, would answer
them as well, and costs the sender time. It must be up, or is set up (io.link_setup) where that is asked
for. What a port changes of it, promiscuous mode and io.own_stack included, is so while it is open. VLAN
tags, which the kernel takes off, are put back. When it goes and comes back: io.af_packet_life; the
port's MAC and MTU stay what they were.

Limits: Ethernet interfaces; frames up to 64 KB of packet; needs CAP_NET_RAW.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vforward.errors import PortError
from vforward.graph.node import Node
from vforward.io import af_packet_life as life
from vforward.io import af_packet_ring as ring
from vforward.io import af_packet_tx as tx
from vforward.io import af_xdp_rx, af_xdp_tx, claim, linux, netns, shim
from vforward.io.af_packet_queue import Mode, PacketQueue
from vforward.io.af_xdp import XdpSender
from vforward.io.af_xdp_receiver import XdpReceiver
from vforward.io.af_xdp_socket import Refused
from vforward.io.link_setup import LinkSetup
from vforward.io.own_stack import OwnStack
from vforward.io.port import Port, Receiver, Tables
from vforward.memory.pool import Pool

log = logging.getLogger(__name__)

ARPHRD_ETHER = 1
NOT_RENEWED = (
    "AF_XDP, and what keeps Linux's own stack out, are not renewed for the interface that is back"
)
ELSEWHERE = "what is found as its namespace is another one"
UNKNOWN = "Linux before 5.14 does not say in which namespace it is"


class AfPacketPort(Port):
    """A port on a Linux interface.

    mac: the port's Ethernet address, 6 bytes, if not the interface's own. mtu: the longest IP
    packet the graph is to send here; from open on the interface's own, if that is less (longer ones
    the kernel would refuse, and nobody would tell the sender). ring_mib: size of the receive ring.
    promiscuous: receive frames to all addresses. netns: the interface's network namespace, a name or a
    path (io.netns); "": that in which open is called. set_up: set the interface up, with this mtu and, if
    given, mac, until the port is closed. mode: receive by a ring, by a raw socket's queue of ring_mib
    without one, by what Linux allows of these ("auto"), or by AF_XDP and nothing else. xdp: send short
    frames by AF_XDP if that is possible.
    """

    kind = "af_packet"

    def __init__(
        self,
        interface: str,
        mac: bytes | None = None,
        mtu: int = 1500,
        ring_mib: int = 32,
        promiscuous: bool = True,
        *,
        netns: str = "",
        set_up: bool = False,
        mode: Mode = "auto",
        xdp: bool = True,
    ) -> None:
        self.interface = interface
        self.mtu = self._given_mtu = mtu
        self.ring_mib = ring_mib
        self.promiscuous = promiscuous
        self.netns = netns
        self.set_up = set_up
        self.mode = mode
        self._given_mac = mac
        self._queues: list[PacketQueue] = []
        self._sending: list[int] = []
        self._sockets: list[NDArray[np.uint64]] = []
        self._link: LinkSetup | None = None
        self._ring_full = 0
        self._lock = threading.Lock()
        self._attached = self._settled = self._renewed = True
        self._unsettled = self._not_renewed = ""  # why not, as was said last
        self._own_stack: OwnStack | None = None
        self._claim: socket.socket | None = None
        self._xdp = XdpSender() if xdp else None
        self._receiver = XdpReceiver(ring_mib, self._xdp) if mode == "xdp" else None
        self._number = 0
        self._quiesce: Callable[[], bool] = lambda: True
        self._keep: list[NDArray[np.generic]] = []  # arrays that are known by address only

    def open(self, number: int, pool: Pool) -> None:
        """Open the sockets. Raises PortError: no such interface, not up, not allowed, no memory."""
        shim.address("vf_sendmmsg")  # ShimMissing here, before anything is open
        try:
            with self._named_errors():
                netns.call(self.netns, partial(self._open, number))
        except BaseException:
            self.close()
            raise

    def _open(self, number: int) -> None:
        self._number = number
        index, interface_mtu = self._look_up()
        self._queues, self._sockets = [], []
        for queue in range(self._pairs):
            self._open_rx(number, index, interface_mtu, queue)
            self._open_tx(index)
        if self._pairs > 1:
            self._xdp = None
        if self._receiver is not None:
            try:
                self._receiver.open(self.interface, index, interface_mtu, number)
            except Refused as why:
                raise self._error(f'mode = "xdp": {why}') from why
        elif self._xdp is not None:
            self._xdp.open(self.interface, index, interface_mtu)
        self._fit_mtu(interface_mtu)
        self._own_stack = OwnStack(self.interface)

    @property
    def _pairs(self) -> int:
        """How many sockets there are to receive and as many to send by: each worker's, or the owner's."""
        return self.workers if self._receiver is None else 1

    def attach(self, quiesce: Callable[[], bool]) -> None:
        self._quiesce = quiesce

    def rx(self) -> tuple[Node, Tables]:
        if self._receiver is not None:
            return af_xdp_rx.NODE, {"queues": self._receiver.words}
        return self._queues[0].node()

    def receivers(self) -> list[Receiver]:
        if self._receiver is not None:
            return super().receivers()
        return [Receiver(*queue.node(), [queue.fd]) for queue in self._queues]

    def tx(self) -> tuple[Node, Tables]:
        if self._xdp is None:
            return tx.NODE, {"socket": self._sockets[0]}
        return af_xdp_tx.NODE, {"socket": self._sockets[0], "xdp": self._xdp.words}

    def senders(self) -> tuple[Node, list[Tables]]:
        node, tables = self.tx()
        return node, [tables | {"socket": socket} for socket in self._sockets]

    def descriptors(self) -> list[int]:
        if self._receiver is not None:
            return self._receiver.descriptors()
        return [queue.fd for queue in self._queues if queue.fd >= 0]

    def statistics(self) -> dict[str, int]:
        """Frames that the kernel dropped because the ring, or the socket's queue, was full.

        To be called now and then: it also takes the socket's error, which is there after the
        interface was down, and with which a worker cannot sleep; and takes the interface again that
        was gone.
        """
        with self._lock:
            if len(self._sending) == self._pairs:
                self._count()
                for queue in self._queues:
                    life.take_error(queue.fd)
                self._look_after()
            if self._receiver is not None:
                return self._receiver.statistics()
            where = "ring" if all(queue.has_ring for queue in self._queues) else "queue"
            return {f"kernel-{where}-full": self._ring_full}

    def _count(self) -> None:
        self._ring_full += sum(queue.dropped() for queue in self._queues)

    def peer(self) -> str:
        """By what frames come in and go out, and why; or that the interface is gone."""
        if not self._attached:
            return f"no interface {self.interface!r} now; it is waited for"
        why = 'xdp = "off"' if self._pairs == 1 else "several workers"
        out = self._xdp.says() if self._xdp else f"frames go out by packet socket ({why})"
        return "; ".join(said for said in (self._receives(), out, self._not_renewed) if said)

    def _receives(self) -> str:
        if self._receiver is not None:
            return self._receiver.says()
        each = f", of each of {self._pairs} workers" if self._pairs > 1 else ""
        return f"{self._queues[0].says}{each}" if self._queues else ""

    def carrier(self) -> bool:
        return self._attached

    def _look_after(self) -> None:
        """Take an interface again that is back, and do for it what could not be done yet."""
        bound = life.is_bound(self._queues[0].fd)
        if self._receiver is not None and not (bound and self._receiver.is_whole):
            self._receiver.give_up(self._quiesce)
        attached = bound or self._bind_again()
        if attached != self._attached:
            log.warning("%s: %s", self._where(), "it is back" if attached else "it is gone")
            self._attached, self._settled = attached, not attached
        if attached and not self._settled:
            self._settled = self._settle()
        if attached and self._receiver is not None and not self._receiver.is_open:
            self._in_namespace(partial(self._receiver.open_again, self.interface, self._number))
        if attached and self._xdp is not None:
            self._follow_mtu(self._xdp)
            if self._xdp.given_up:
                self._in_namespace(partial(self._xdp.open_again, self.interface))
        if attached and not self._renewed:
            self._in_namespace(self._renew_own_stack)

    def _follow_mtu(self, sender: XdpSender) -> None:
        """AF_XDP does not look at the MTU, which may have become less."""
        assert self._link is not None, "not open"
        with contextlib.suppress(OSError):
            self._link.again()
            sender.limit(self._link.link.mtu)

    def _bind_again(self) -> bool:
        assert self._link is not None, "not open"
        try:
            self._link.again()
            index = self._link.link.index
            protocol = linux.ETH_P_ALL if self._receiver is None else 0
            pairs = zip(self._queues, self._sending, strict=True)
            for queue, send in [*pairs][::-1]:  # the first, which is asked, last
                life.bind_again(queue.fd, send, index, protocol, promiscuous=self.promiscuous)
        except OSError:  # not there yet, or gone again
            return False
        self._renewed = False
        return True

    def _settle(self) -> bool:
        """Set an interface up that is back, if that is wished. Returns whether it is done with."""
        assert self._link is not None, "not open"
        try:
            if self.set_up:
                self._link.set_up(self._given_mac, self._given_mtu)
        except OSError as error:
            if str(error) != self._unsettled:
                log.warning("%s: %s", self._where(), error)
            self._unsettled = str(error)
            return False
        self._unsettled = ""
        return True

    def _renew_own_stack(self) -> None:
        if self._own_stack is not None:
            self._own_stack = self._own_stack.again()
        self._renewed = True

    def _in_namespace(self, what: Callable[[], None]) -> None:
        """Call it where the sockets are, if that is to be found; peer says if not."""

        def there() -> str:
            here = life.is_in_our_namespace(self._queues[0].fd)
            if here:
                what()
                return ""
            return ELSEWHERE if here is False else UNKNOWN

        try:
            why = netns.call(self.netns, there)
        except OSError as error:
            why = str(error.strerror or error)
        said = f"{NOT_RENEWED}: {why}" if why else ""
        if said and said != self._not_renewed:
            log.warning("%s: %s", self._where(), said)
        self._not_renewed = said

    def mute(self) -> None:
        assert self._own_stack is not None, "not open"
        self._own_stack.mute()

    def close(self) -> None:
        with self._lock:
            if len(self._sending) == self._pairs:
                self._count()
        if self._own_stack is not None:
            self._own_stack.close()
        if self._receiver is not None:
            self._receiver.close()
        if self._xdp is not None:
            self._xdp.close()
        if self._link is not None:
            self._link.close()
        self._close_sockets()
        if self._claim is not None:
            self._claim.close()

    def _close_sockets(self) -> None:
        with self._lock:
            for queue in self._queues:
                queue.close()
            fds, self._sending = self._sending, []
            for fd in fds:
                os.close(fd)

    @property
    def slots(self) -> tuple[int, int]:
        """The (first) receive ring's slots: how many, and bytes of each. By AF_XDP: of each queue."""
        if self._receiver is not None:
            return self._receiver.slots
        return self._queues[0].slots

    def _where(self) -> str:
        return f"af_packet port on interface {self.interface!r}"

    def _error(self, text: str) -> PortError:
        return PortError(f"{self._where()}: {text}")

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            no_such = (
                f"no such interface; {netns.ip_command(self.netns)} link shows those there are"
            )
            missing = f"this kernel is too old or lacks packet sockets: {error}"
            advice = {
                errno.EPERM: "needs CAP_NET_RAW: run as root or under unshare -Urn, or use pcap",
                errno.ENODEV: no_such,
                errno.ENXIO: no_such,
                errno.ENOMEM: f"no memory for a ring of {self.ring_mib} MiB; make ring_mib smaller",
                errno.EAFNOSUPPORT: f"{missing}; modprobe af_packet",
                errno.ENOPROTOOPT: f"{missing}; Linux 4.20 has all that is needed",
            }
            raise self._error(advice.get(error.errno or 0, str(error))) from error

    def _look_up(self) -> tuple[int, int]:
        """Set the MAC; return the interface's index and MTU, set up if so wished."""
        if not 0 < len(self.interface.encode()) < linux.IFNAMSIZ:
            raise OSError(errno.ENODEV, "not the name of an interface")
        self._take()
        self._link = LinkSetup(self.interface)
        if self._link.link.kind != ARPHRD_ETHER:
            not_ethernet = f"not Ethernet (hardware type {self._link.link.kind})"
            raise self._error(not_ethernet)
        if self.set_up:
            self._link.set_up(self._given_mac, self._given_mtu)
        link = self._link.link
        if not link.up:
            run = f"{netns.ip_command(self.netns)} link set dev {self.interface} up"
            down = f"it is down; run: {run}, or say set_up = true"
            raise self._error(down)
        self.mac = self._given_mac or link.mac
        return link.index, link.mtu

    def _take(self) -> None:
        try:
            self._claim = claim.take(self.interface)
        except claim.Held as held:
            who = f" (process {held.process})" if held.process > 0 else ""
            both = (
                "and both would forward all that comes in; stop that one, or name another interface"
            )
            raise self._error(f"another forwarder has it{who}, {both}") from held

    def _fit_mtu(self, interface_mtu: int) -> None:
        self.mtu = min(self._given_mtu, interface_mtu)
        if self.mtu < self._given_mtu:
            own, given = self.mtu, self._given_mtu
            log.warning("%s: mtu is the interface's %d, not %d", self._where(), own, given)

    def _open_rx(self, number: int, index: int, interface_mtu: int, queue: int) -> None:
        made = PacketQueue(number, max(1, self.ring_mib // self._pairs), self.mode)
        self._queues.append(made)
        made.open(index, interface_mtu, promiscuous=self.promiscuous, number=queue, n=self._pairs)
        if made.slower:
            log.warning("%s: %s, which is slower", self._where(), made.says)

    def _open_tx(self, index: int) -> None:
        fd = shim.check(shim.lib.vf_packet_socket(0), "packet socket")
        self._sending.append(fd)
        shim.check(shim.lib.vf_packet_vnet_hdr(fd), "PACKET_VNET_HDR")
        shim.check(shim.lib.vf_packet_bind(fd, index, 0), "bind")
        words, keep = ring.sender(fd)
        self._sockets.append(words)
        self._keep += keep
