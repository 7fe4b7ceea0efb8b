# SPDX-License-Identifier: Apache-2.0
"""tap: a port whose other end is an interface of the host, so that its programs stand at the router.

Sources: Linux tuntap.rst, rtnetlink(7). Receiving: io.tap_rx; sending: io.tap_tx. Frames carry a
virtio_net_hdr both ways, so checksums and 64 KB super-frames cross as they do inside the host.

The interface is made at open and gone at close; one that is there already (`ip tuntap add`) is used
and left. With several queues the host's CPUs send at the same time, and each flow has its queue; where
there is one for each worker, each receives by its own. All workers send by all queues. Given
addresses it owns them, with the route to each prefix: a daemon that binds to the router's address is
reached by it. host_routes: besides, replies from these addresses leave by the
TAP wherever they go, by a rule and a table of their own (TABLES + the interface's index); neither the
host's default route nor any other is touched.

    ip rule:                1000: from ADDRESS lookup TABLE
    ip route show table T:  default dev TAP scope link

Limits: the TAP's MAC should be that of the port it stands for (nodes/host). An address has one rule:
of two VRFs with the same address, the TAP that was opened last has it. Without root, works under
`unshare -Urn`; needs CAP_NET_ADMIN in its network namespace and /dev/net/tun.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vforward.errors import PortError
from vforward.graph.node import Node
from vforward.io import af_packet_tx, linux, netns, shim, tap_rx, tap_tx
from vforward.io.port import Port, Receiver, Tables, default_mac
from vforward.io.rtnetlink import Interface, RtNetlink
from vforward.layout import BUF_ROOM, VECTOR_MAX
from vforward.memory.pool import Pool

CLONE = "/dev/net/tun"
TABLES = 100_000
OFFLOADS = linux.TUN_F_CSUM | linux.TUN_F_TSO4 | linux.TUN_F_TSO6 | linux.TUN_F_TSO_ECN
OFFLOADS_6_2 = OFFLOADS | linux.TUN_F_USO4 | linux.TUN_F_USO6

SETTINGS = {
    "ipv6/conf/{}/disable_ipv6": 1,  # until it is given an address
    "ipv6/conf/{}/accept_ra": 0,
    "ipv6/conf/{}/autoconf": 0,
    "ipv6/conf/{}/router_solicitations": 0,
    "ipv6/conf/{}/accept_dad": 0,
}
"""Of a TAP: it is told who it is, and need not ask."""
LOOSE = {"ipv4/conf/{}/rp_filter": 2}
"""With host_routes: one router's packets may come by one TAP and go by another."""


class TapPort(Port):
    """A TAP interface.

    netns: its network namespace, a name or a path (io.netns); "": that in which open is called. mac: of
    the interface, 6 bytes; default: one by the port's number. mtu: of the interface.
    addresses: what it is to own, as 10.0.0.1/24 or 2001:db8::1/64. IPv6 is switched off on it
    until it is given an IPv6 address. queues: how many it has, 1 to QUEUES_MAX.
    """

    kind = "tap"

    def __init__(
        self,
        interface: str,
        mac: bytes | None = None,
        mtu: int = 1500,
        addresses: Iterable[str | Interface] = (),
        *,
        host_routes: bool = True,
        netns: str = "",
        queues: int = 1,
    ) -> None:
        if not 1 <= queues <= tap_tx.QUEUES_MAX:
            raise PortError(f"tap port: 1 to {tap_tx.QUEUES_MAX} queues, not {queues}")
        self.interface = interface
        self.mtu = mtu
        self.host_routes = host_routes
        self.netns = netns
        self.queues = queues
        self._given_mac = mac
        self._addresses = [ipaddress.ip_interface(address) for address in addresses]
        self._fds: list[int] = []
        self._index = 0
        self._netlink: RtNetlink | None = None
        self._queue_full = 0
        self._taps = np.zeros((queues, tap_rx.TAP_WORDS), np.uint64)
        self._sockets: list[NDArray[np.uint64]] = []  # by worker
        self._keep: list[NDArray[np.generic]] = []  # arrays that are known by address only

    def open(self, number: int, pool: Pool) -> None:
        """Make the interface and set it up. Raises PortError: not allowed, busy, bad address."""
        shim.address("vf_readv")  # ShimMissing here, before anything is open
        self.mac = self._given_mac or default_mac(number)
        try:
            with self._named_errors():
                netns.call(self.netns, partial(self._open, number))
        except BaseException:
            self.close()
            raise

    def _open(self, number: int) -> None:
        self._attach()
        self._lay_out(number)
        self._set_up()

    def rx(self) -> tuple[Node, Tables]:
        return tap_rx.NODE, {"tap": self._taps.reshape(-1)}

    def receivers(self) -> list[Receiver]:
        if self.workers == 1 or self.queues < self.workers:
            return super().receivers()
        pairs = zip(self._taps, self._fds, strict=True)
        return [Receiver(tap_rx.NODE, {"tap": taps}, [fd]) for taps, fd in pairs]

    def tx(self) -> tuple[Node, Tables]:
        node, tables = self.senders()
        return node, tables[0]

    def senders(self) -> tuple[Node, list[Tables]]:
        return tap_tx.NODE, [
            {"sockets": sockets.reshape(-1), "work": np.zeros(tap_tx.WORK_WORDS, np.uint64)}
            for sockets in self._sockets
        ]

    def descriptors(self) -> list[int]:
        return list(self._fds)

    def peer(self) -> str:
        """What came by each queue, if there are several."""
        frames = ", ".join(map(str, self._taps[:, tap_rx.FRAMES].tolist()))
        return f"frames from the host by queue: {frames}" if self.queues > 1 else ""

    @property
    def table(self) -> int:
        """Number of the routing table for what is sent from the TAP's addresses."""
        return TABLES + self._index

    def add_address(self, address: str | Interface) -> None:
        """Let the open port's interface own one more address. Raises PortError."""
        interface = ipaddress.ip_interface(address)
        with self._named_errors():
            self._own(interface)
        self._addresses.append(interface)

    def delete_address(self, address: str | Interface) -> None:
        """The open port's interface is to own it no longer; nothing happens if it does not."""
        interface = ipaddress.ip_interface(address)
        self._disown(interface)
        self._addresses = [own for own in self._addresses if own != interface]

    def statistics(self) -> dict[str, int]:
        """Frames of the host that the kernel dropped because its queue to this port was full."""
        netlink = self._netlink
        if netlink is not None:
            with contextlib.suppress(OSError):  # the interface was deleted
                self._queue_full = netlink.dropped(self._index)
        return {"kernel-queue-full": self._queue_full}

    def close(self) -> None:
        self.statistics()
        netlink = self._netlink
        if netlink is not None:
            for interface in self._addresses:
                self._disown(interface)
            for version in (4, 6):
                netlink.delete_default_route(self._index, version, self.table)
            netlink.close()
            self._netlink = None
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = {
                errno.EPERM: "needs CAP_NET_ADMIN: run as root or under unshare -Urn",
                errno.EACCES: f"{CLONE} or IPv6 is not for this process: {error}",
                errno.ENOENT: f"{CLONE} is missing: modprobe tun, or give the container the device",
                errno.EBUSY: "another process has this interface open",
                errno.EINVAL: "another kind of interface has this name, or it is no name, or it was made "
                "for one queue and queues says more, or the other way (ip tuntap add ... multi_queue)",
            }
            text = advice.get(error.errno or 0, str(error))
            msg = f"tap port on interface {self.interface!r}: {text}"
            raise PortError(msg) from error

    def _attach(self) -> None:
        """Make the interface, or take hold of it."""
        name = self.interface.encode()
        if not 0 < len(name) < linux.IFNAMSIZ:
            raise OSError(errno.EINVAL, "not the name of an interface")
        flags = linux.IFF_TAP | linux.IFF_NO_PI | linux.IFF_VNET_HDR
        flags |= linux.IFF_MULTI_QUEUE if self.queues > 1 else 0
        for _ in range(self.queues):
            self._fds.append(os.open(CLONE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            fcntl.ioctl(self._fds[-1], linux.TUNSETIFF, struct.pack("16sH22x", name, flags))
        try:
            fcntl.ioctl(self._fds[0], linux.TUNSETOFFLOAD, OFFLOADS_6_2)
        except OSError:
            fcntl.ioctl(self._fds[0], linux.TUNSETOFFLOAD, OFFLOADS)
        self._index = socket.if_nametoindex(self.interface)

    def _lay_out(self, number: int) -> None:
        """The words of both tables: each queue's to receive, each worker's of all queues to send."""
        self._keep = []
        for taps, fd in zip(self._taps, self._fds, strict=True):
            overflow = np.zeros(tap_rx.OVERFLOW_BYTES, np.uint8)
            pieces = np.zeros(2, linux.IOVEC)
            pieces["iov_base"][1], pieces["iov_len"][1] = overflow.ctypes.data, overflow.size
            pieces["iov_len"][0] = tap_rx.VNET + BUF_ROOM
            self._keep += [overflow, pieces]
            taps[:] = 0
            taps[tap_rx.FD], taps[tap_rx.READ] = fd, shim.address("vf_readv")
            taps[tap_rx.PIECES], taps[tap_rx.OVERFLOW] = pieces.ctypes.data, overflow.ctypes.data
            taps[tap_rx.PORT] = number
        self._sockets = []
        for _ in range(self.workers):
            messages = np.zeros(VECTOR_MAX, linux.MMSGHDR)
            laid = np.zeros(VECTOR_MAX * af_packet_tx.PIECES_EACH, linux.IOVEC)
            places = np.zeros(VECTOR_MAX, np.uint32)
            self._keep += [messages, laid, places]
            made = np.zeros((self.queues, af_packet_tx.SOCKET_WORDS), np.uint64)
            sockets = made.T  # by word
            sockets[af_packet_tx.FD] = self._fds
            sockets[af_packet_tx.SEND] = shim.address("vf_writev_each")
            sockets[af_packet_tx.MESSAGES] = messages.ctypes.data
            sockets[af_packet_tx.PIECES] = laid.ctypes.data
            sockets[af_packet_tx.PLACES] = places.ctypes.data
            self._sockets.append(made)

    def _set_up(self) -> None:
        """MAC, MTU, addresses and routes."""
        self._set(SETTINGS | (LOOSE if self.host_routes else {}))
        self._netlink = RtNetlink()
        self._netlink.set_link(self._index, mac=self.mac, mtu=self.mtu, up=True)
        for interface in self._addresses:
            self._own(interface)

    def _set(self, settings: dict[str, int]) -> None:
        """Change settings, in the namespace. Where that cannot be, what needs it fails by itself."""
        for name, value in settings.items():
            with contextlib.suppress(OSError):
                Path("/proc/sys/net", name.format(self.interface)).write_text(str(value))

    def _own(self, interface: Interface) -> None:
        assert self._netlink is not None, "not open"
        if interface.version == 6:
            netns.call(self.netns, partial(self._set, {"ipv6/conf/{}/disable_ipv6": 0}))
        self._netlink.add_address(self._index, interface)
        if self.host_routes and not interface.ip.is_link_local:  # that one is this link's anyway
            self._netlink.add_default_route(self._index, interface.version, self.table)
            self._netlink.add_rule(interface.ip, self.table)

    def _disown(self, interface: Interface) -> None:
        assert self._netlink is not None, "not open"
        if self.host_routes:
            self._netlink.delete_rule(interface.ip, self.table)  # another TAP's may be there
        self._netlink.delete_address(self._index, interface)
