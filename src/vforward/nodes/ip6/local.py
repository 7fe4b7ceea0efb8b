# SPDX-License-Identifier: Apache-2.0
"""ip6-local: packets for the router itself. Extension headers, pings, ND; the rest is the host's.

RFC 8200 sections 4 (extension headers), 4.2 (options), 4.4 (routing), 4.7 (no next header); RFC 5095
(routing type 0); RFC 6946 (atomic fragments; others are not put together); RFC 4443 sections 2.3
(checksum), 3.1, 3.4 and 4.2; RFC 4861 section 6.1 and 7.1 (ND's hop limit); RFC 6980 (ND in fragments).
Where a host stands at the packet's port (ports.host), all but echo requests and ND is the host's.

Reads   meta.l3, end, rest, flags, csum_start, csum_off, rx_port; the IPv6 header; all of a message
Writes  meta.l4 (behind the extension headers); the ICMPv6 checksum and meta.flags of a CSUM_PARTIAL
        message; meta.reason; scratch (pointer << 16 | ICMPv6 type << 8 | code, for ERROR)
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import Labels, Node
from vforward.jit.be import load16
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import Counts, Data, Edges, Meta, Rows
from vforward.packet import icmp6, ip6
from vforward.packet.checksum import complete
from vforward.packet.partial import is_partial_at
from vforward.tables.ports import Ports


class Edge(Labels):
    """Ways out."""

    ECHO = 0, "an echo request: wire to icmp6-echo"
    ND = 1, "a message of neighbor discovery from the link: wire to nd-input"
    PUNT = 2, "for the host that stands at its port: wire to host-punt"
    ERROR = 3, "nobody is here for it, or it is wrong: wire to icmp6-error"
    DROP = 4, "see the counters"


class Count(Labels):
    """Reasons. Those below BAD_CHECKSUM are no reasons where a host stands at the port."""

    FRAGMENT = 0, "a piece of a datagram; they are not put together"
    BAD_EXTENSION = 1, "an extension header or option is cut off, or there are too many"
    UNKNOWN_OPTION = 2, "an option that is not known and says: drop"
    NO_NEXT_HEADER = 3, "it carries nothing"
    NO_LISTENER = 4, "TCP; the router listens on no port"
    ICMP_TRUNCATED = 5, "shorter than an ICMPv6 header"
    ICMP_IGNORED = 6, "an ICMPv6 message that is neither an echo request nor of ND"
    BAD_CHECKSUM = 7, "the ICMPv6 checksum is wrong"
    ND_HOP_LIMIT = 8, "ND with another hop limit than 255: not from the link"
    ND_FRAGMENT = 9, "ND with a fragment header"
    ECHO_NO_SOURCE = 10, "an echo request from ::, to which no reply can be sent"


# Verdicts: a reason, or ~edge, or GO_ON.
GO_ON = -100
PAD1 = 0
"""The one option without a length."""
SKIP, DISCARD, TELL, TELL_UNLESS_MULTICAST = 0, 1, 2, 3
"""What an unknown option's two highest bits ask for: RFC 8200 section 4.2."""
FRAGMENT_BITS = ip6.FRAGMENT_OFFSET | 1
"""Of the fragment header's word at 2: set in all but atomic fragments."""


@kernel
def _problem(meta: Any, row: Any, what: Any, at: Any) -> Any:
    """Verdict of a packet with a wrong byte at that place: ICMPv6 is to say which it is."""
    meta[row].scratch = (at - i64(meta[row].l3)) << 16 | what
    return i64(~Edge.ERROR)


@kernel
def _options(data: Any, meta: Any, row: Any, at: Any, end: Any) -> Any:
    """Verdict on the options from at on: RFC 8200 section 4.2."""
    while at < end:
        kind = i64(data[row, at])
        size = i64(1)
        if kind != PAD1:
            if at + 2 > end or at + 2 + i64(data[row, at + 1]) > end:
                return i64(Count.BAD_EXTENSION)
            size = 2 + i64(data[row, at + 1])
        action = kind >> 6
        if action != SKIP:
            group = data[row, i64(meta[row].l3) + ip6.DST] == 0xFF
            if action == DISCARD or (action == TELL_UNLESS_MULTICAST and group):
                return i64(Count.UNKNOWN_OPTION)
            return _problem(meta, row, icmp6.UNKNOWN_OPTION, at)
        at += size
    return i64(GO_ON)


@kernel
def _walk(data: Any, meta: Any, row: Any) -> Any:
    """Go through the extension headers: (verdict, upper-layer protocol, whether one was a fragment's).

    Sets l4, and scratch to the problem that there is if nobody knows the protocol.
    """
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    field, at = l3 + ip6.NEXT_HEADER, l3 + ip6.HEADER
    fragmented = False
    protocol = i64(0)
    for _ in range(ip6.HEADERS_MAX + 1):
        protocol = i64(data[row, field])
        first = field == l3 + ip6.NEXT_HEADER
        options = protocol == ip6.DESTINATION or (protocol == ip6.HOP_BY_HOP and first)
        if not (options or protocol == ip6.ROUTING or protocol == ip6.FRAGMENT):
            meta[row].l4 = at
            _problem(meta, row, icmp6.UNKNOWN_NEXT_HEADER, field)
            return i64(GO_ON), protocol, fragmented
        size = i64(8)
        if at + size <= end and protocol != ip6.FRAGMENT:
            size = (i64(data[row, at + 1]) + 1) * 8
        if at + size > end:
            break
        verdict = i64(GO_ON)
        if options:
            verdict = _options(data, meta, row, at + 2, at + size)
        elif protocol == ip6.ROUTING:
            if data[row, at + 3] != 0:  # segments left; no routing type is known
                verdict = _problem(meta, row, icmp6.ERRONEOUS_FIELD, at + 2)
        elif load16(data, row, at + 2) & FRAGMENT_BITS:
            verdict = i64(Count.FRAGMENT)
        else:
            fragmented = True
        if verdict != GO_ON:
            return verdict, protocol, fragmented
        field = at
        at += size
    return i64(Count.BAD_EXTENSION), protocol, fragmented


@kernel
def _checksum_right(data: Any, meta: Any, row: Any, l3: Any, l4: Any) -> Any:
    """Whether the message's checksum is right, or is now."""
    if is_partial_at(meta, row, l4, icmp6.CHECKSUM):
        return complete(data, meta, row)
    return icmp6.message_sum(data, meta, row, l3, l4) == 0xFFFF


@kernel
def _message(data: Any, meta: Any, row: Any, fragmented: bool) -> Any:
    """Verdict on an ICMPv6 message."""
    l3, l4 = i64(meta[row].l3), i64(meta[row].l4)
    if i64(meta[row].end) < l4 + icmp6.HEADER:
        return i64(Count.ICMP_TRUNCATED)
    kind = i64(data[row, l4 + icmp6.TYPE])
    echo = kind == icmp6.ECHO and data[row, l4 + icmp6.CODE] == 0
    if not echo and (kind < icmp6.ROUTER_SOLICITATION or kind > icmp6.REDIRECT):
        return i64(Count.ICMP_IGNORED)
    if not _checksum_right(data, meta, row, l3, l4):
        return i64(Count.BAD_CHECKSUM)
    if echo:
        high, low = ip6.load_address(data, row, l3 + ip6.SRC)
        return i64(Count.ECHO_NO_SOURCE) if ip6.is_zero(high, low) else i64(~Edge.ECHO)
    if data[row, l3 + ip6.HOP_LIMIT] != 255:
        return i64(Count.ND_HOP_LIMIT)
    return i64(Count.ND_FRAGMENT) if fragmented else i64(~Edge.ND)


@kernel
def _verdict(data: Any, meta: Any, row: Any) -> Any:
    walked, protocol, fragmented = _walk(data, meta, row)
    if walked != GO_ON:
        return walked
    if protocol == ip6.ICMP6:
        return _message(data, meta, row, fragmented)
    if protocol == ip6.TCP:
        return i64(Count.NO_LISTENER)
    if protocol == ip6.NO_NEXT:
        return i64(Count.NO_NEXT_HEADER)
    if protocol == ip6.UDP:
        meta[row].scratch = icmp6.PORT_UNREACHABLE
    return i64(~Edge.ERROR)


@kernel
def ip6_local(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, ports: Ports) -> None:
    for i in range(idx.size):
        row = i64(idx[i])
        verdict = _verdict(data, meta, row)
        hosts = verdict == ~Edge.ERROR or 0 <= verdict < Count.BAD_CHECKSUM
        if hosts and ports[meta[row].rx_port].host != 0:
            edge[i] = Edge.PUNT
        elif verdict < 0:
            edge[i] = ~verdict
        else:
            count[verdict] += u64(1)
            meta[row].reason = verdict
            edge[i] = Edge.DROP


NODE = Node("ip6-local", ip6_local, Edge, Count)
