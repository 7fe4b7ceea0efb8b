# SPDX-License-Identifier: Apache-2.0
"""What ports need of Linux's interfaces and routing: rtnetlink(7), as few messages as do.

A request is a header, a fixed part and attributes; the kernel answers with an error number, 0 for
done. Numbers are in the host's byte order, addresses in network order.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from vforward.io import linux

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

NLMSGHDR = struct.Struct("=IHHII")
IFINFOMSG = struct.Struct("=BxHiII")
IFADDRMSG = struct.Struct("=BBBBI")
RTMSG = struct.Struct("=BBBBBBBBI")  # fib_rule_hdr is laid out alike
RTATTR = struct.Struct("=HH")
REPLY_ROOM = 65536
TX_DROPPED = 7
"""Which of the counters of rtnl_link_stats64, u64 each."""

PROTOCOL = 118
"""The origin of our rules, as `ip rule show` and `ip route` would print it."""
PRIORITY = 1000
"""Of our rules: before the main table's (32766), behind the local one's (0)."""


@dataclass(frozen=True)
class Link:
    """An interface: its number, kind (ARPHRD_ETHER, ...), MAC and MTU, and whether it is set up."""

    index: int
    kind: int
    mac: bytes
    mtu: int
    up: bool


class RtNetlink:
    """A connection to the network namespace in which it was opened. Any thread may use it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._sequence = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection. Harmless when repeated."""
        self._socket.close()

    def link(self, name: str) -> Link:
        """The interface of that name."""
        fixed, told = self._told(0, {linux.IFLA_IFNAME: name.encode() + b"\0"})
        kind, index, flags, _ = IFINFOMSG.unpack(fixed)[1:]
        (mtu,) = struct.unpack("=I", told[linux.IFLA_MTU])
        return Link(index, kind, told.get(linux.IFLA_ADDRESS, b""), mtu, bool(flags & linux.IFF_UP))

    def set_link(
        self,
        index: int,
        *,
        mac: bytes | None = None,
        mtu: int | None = None,
        up: bool | None = None,
    ) -> None:
        """Change what is given of an interface."""
        change = 0 if up is None else linux.IFF_UP
        fixed = IFINFOMSG.pack(0, 0, index, linux.IFF_UP if up else 0, change)
        attributes = {} if mac is None else {linux.IFLA_ADDRESS: mac}
        if mtu is not None:
            attributes[linux.IFLA_MTU] = _u32(mtu)
        self._ask(linux.RTM_NEWLINK, 0, fixed, attributes)

    def dropped(self, index: int) -> int:
        """Packets that the host sent on an interface and that were dropped there."""
        told = self._told(index)[1].get(linux.IFLA_STATS64)
        return int(struct.unpack_from("=Q", told, 8 * TX_DROPPED)[0]) if told else 0

    def queueing(self, index: int) -> tuple[str, int, int]:
        """An interface's queueing discipline ("noqueue": none), and how many queues it may receive and
        send by.
        """
        told = self._told(index)[1]
        counts = linux.IFLA_NUM_RX_QUEUES, linux.IFLA_NUM_TX_QUEUES
        receive, send = (struct.unpack("=I", told.get(count, _u32(1)))[0] for count in counts)
        return told.get(linux.IFLA_QDISC, b"").rstrip(b"\0").decode(), receive, send

    def _told(
        self, index: int, by: dict[int, bytes] | None = None
    ) -> tuple[bytes, dict[int, bytes]]:
        """What the kernel tells of an interface: the fixed part, and the rest by attribute."""
        reply = self._ask(linux.RTM_GETLINK, 0, IFINFOMSG.pack(0, 0, index, 0, 0), by or {})
        told, at = {}, IFINFOMSG.size
        while at + RTATTR.size <= len(reply):
            length, kind = RTATTR.unpack_from(reply, at)
            told[kind] = reply[at + RTATTR.size : at + length]
            at += max(RTATTR.size, length + -length % 4)
        return reply[: IFINFOMSG.size], told

    def add_address(self, index: int, interface: Interface) -> None:
        """Give an interface an address and the route to its prefix. It may be there already."""
        self._address(linux.RTM_NEWADDR, linux.NLM_F_CREATE | linux.NLM_F_REPLACE, index, interface)

    def delete_address(self, index: int, interface: Interface) -> None:
        """Take it off, if it is there."""
        with contextlib.suppress(OSError):
            self._address(linux.RTM_DELADDR, 0, index, interface)

    def add_default_route(self, index: int, version: int, table: int) -> None:
        """Route everything of an IP version to an interface, in a table of its own."""
        fixed = _rtmsg(version, 0, linux.RTPROT_STATIC, linux.RT_SCOPE_LINK, linux.RTN_UNICAST)
        attributes = {linux.RTA_OIF: _u32(index), linux.RTA_TABLE: _u32(table)}
        self._ask(linux.RTM_NEWROUTE, linux.NLM_F_CREATE | linux.NLM_F_REPLACE, fixed, attributes)

    def delete_default_route(self, index: int, version: int, table: int) -> None:
        """Take it away, if it is there."""
        fixed = _rtmsg(version, 0, 0, linux.RT_SCOPE_LINK, 0)
        attributes = {linux.RTA_OIF: _u32(index), linux.RTA_TABLE: _u32(table)}
        with contextlib.suppress(OSError):
            self._ask(linux.RTM_DELROUTE, 0, fixed, attributes)

    def add_rule(self, source: Address, table: int) -> None:
        """What is sent from an address is routed by a table."""
        self.delete_rule(source)  # of an owner that died
        attributes = _source(source) | {linux.FRA_TABLE: _u32(table)}
        flags = linux.NLM_F_CREATE | linux.NLM_F_EXCL
        self._ask(linux.RTM_NEWRULE, flags, _rule(source, linux.FR_ACT_TO_TBL), attributes)

    def delete_rule(self, source: Address, table: int = 0) -> None:
        """Take away the rule for an address, if it is there. table: only if it names that one."""
        attributes = _source(source) | ({linux.FRA_TABLE: _u32(table)} if table else {})
        with contextlib.suppress(OSError):
            self._ask(linux.RTM_DELRULE, 0, _rule(source, 0), attributes)

    def _address(self, kind: int, flags: int, index: int, interface: Interface) -> None:
        length = interface.network.prefixlen
        fixed = IFADDRMSG.pack(_family(interface.version), length, 0, 0, index)
        own = interface.ip.packed
        attributes = {linux.IFA_LOCAL: own, linux.IFA_ADDRESS: own}
        if interface.version == 6 and kind == linux.RTM_NEWADDR:
            attributes[linux.IFA_FLAGS] = _u32(linux.IFA_F_NODAD)  # the router has seen to it
        self._ask(kind, flags, fixed, attributes)

    def _ask(self, kind: int, flags: int, fixed: bytes, attributes: dict[int, bytes]) -> bytes:
        """Send a request and await its end. Returns what was told, if anything. Raises OSError."""
        body = fixed + b"".join(_attribute(*item) for item in attributes.items())
        flags |= linux.NLM_F_REQUEST | linux.NLM_F_ACK
        told = b""
        with self._lock:
            self._sequence += 1
            header = NLMSGHDR.pack(NLMSGHDR.size + len(body), kind, flags, self._sequence, 0)
            self._socket.send(header + body)
            while True:
                reply = self._socket.recv(REPLY_ROOM)
                _, answer, _, sequence, _ = NLMSGHDR.unpack_from(reply)
                if sequence == self._sequence and answer == linux.NLMSG_ERROR:
                    break
                told = reply[NLMSGHDR.size :]
        error = -struct.unpack_from("=i", reply, NLMSGHDR.size)[0]
        if error:
            raise OSError(error, os.strerror(error))
        return told


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)


def _attribute(kind: int, value: bytes) -> bytes:
    """Length and type before, padding to four bytes behind."""
    return RTATTR.pack(RTATTR.size + len(value), kind) + value + bytes(-len(value) % 4)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _rtmsg(version: int, source_length: int, protocol: int, scope: int, kind: int) -> bytes:
    return RTMSG.pack(_family(version), 0, source_length, 0, 0, protocol, scope, kind, 0)


def _rule(source: Address, action: int) -> bytes:
    return _rtmsg(source.version, source.max_prefixlen, 0, 0, action)


def _source(source: Address) -> dict[int, bytes]:
    return {
        linux.FRA_SRC: source.packed,
        linux.FRA_PRIORITY: _u32(PRIORITY),
        linux.FRA_PROTOCOL: bytes([PROTOCOL]),
    }
