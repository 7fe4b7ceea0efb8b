# SPDX-License-Identifier: Apache-2.0
"""nd-input: answers who solicits an address of the port; tells the control plane who is where.

RFC 4861 sections 7.1 (validity), 7.2.3, 7.2.4 (solicitations and their answers), 7.2.5
(advertisements, which are the control plane's to judge); RFC 4862 section 5.4.3 (solicitations from
:: are duplicate address detection, and answered to all nodes); RFC 4291 section 2.6.1 (a subnet's
anycast address is the router's; RFC 4861 section 7.2.7: another router's answer may stand); RFC 5942
section 3 (that somebody speaks does not put it on the link: its prefix does). The answer is made in
the message's buffer.

Reads   meta.off (the Ethernet header), l3, l4, end, rx_port; an ICMPv6 message of type 133 to 137,
        whose checksum and hop limit (255) ip6-local has found right
Writes  of a solicitation that is answered: all from the link-layer header on, meta.off, l4, end,
        tx_port, flags
Drops   see Count: what is not answered
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load32, load64, store32, store64
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import CHAINED, SELF_MADE, TRACED, U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.neighbor import events as ev
from vforward.packet import ethernet as eth
from vforward.packet import icmp6, ip6, nd
from vforward.tables.addresses import ELSEWHERE, MAPPED, ON_LINK, OURS, Addresses, standing
from vforward.tables.ports import Ports
from vforward.tables.scope import is_anycast


class Edge(Labels):
    """Ways out."""

    REPLY = 0, "the answer to a solicitation: wire to interface-output"
    DROP = 1, "see the counters"


class Count(Labels):
    """Reasons."""

    TRUNCATED = 0, "shorter than a message of its type"
    TOO_LONG = 1, "longer than a buffer"
    BAD_CODE = 2, "its code is not 0"
    BAD_TARGET = 3, "its target is multicast, or an IPv4-mapped address"
    BAD_OPTION = 4, "an option is of length 0, cut off, or no station's MAC"
    BAD_SOURCE = 5, "from no station; or from ::, but not as duplicate address detection is"
    BAD_FLAGS = 6, "an advertisement to a group that says it was solicited"
    ADDRESS_CONFLICT = 7, "another station uses an address of the port"
    OFF_LINK = 8, "its source is in no prefix of the port, and not link-local"
    NOT_FOR_US = 9, "solicits another station"
    ADVERTISEMENT = 10, "a neighbor advertisement, done with"
    IGNORED = 11, "a router solicitation, router advertisement or redirect"
    EVENTS_FULL = 12, "the control plane was too slow to be told of its sender", INFO


FIRST_WORD = u64(6 << 60 | nd.LENGTH << 16 | ip6.ICMP6 << 8 | nd.HOPS)
"""The first 8 bytes of an answer's IPv6 header."""
MAC_BITS = u64((1 << 48) - 1)
ALL_NODES_HIGH, ALL_NODES_LOW = u64(nd.ALL_NODES >> 64), u64(nd.ALL_NODES & 0xFF)
ALL_NODES_MAC = i64(icmp6.group_mac(nd.ALL_NODES))
SNM_HIGH, SNM_LOW = u64(icmp6.SOLICITED_NODE_HIGH), u64(icmp6.SOLICITED_NODE_LOW >> 24)


@inline
def _is_mapped(high: Any, low: Any) -> Any:
    """Whether it stands for an IPv4 address (RFC 4291 section 2.5.5.2): those are ARP's."""
    return (high == u64(0)) & (low >> u64(32) == u64(MAPPED >> 32))


@kernel
def _link_address(data: Any, row: Any, at: Any, end: Any, wanted: Any) -> Any:
    """The MAC in the first option of the wanted type; 0: there is none; -1: an option is bad."""
    mac = i64(0)
    while at < end:
        length = nd.UNIT * i64(data[row, at + 1]) if end - at >= nd.UNIT else 0
        if length == 0 or length > end - at:
            return i64(-1)
        if data[row, at] == wanted and mac == 0:
            mac = i64(load64(data, row, at) & MAC_BITS)
            if length != nd.UNIT or mac == 0 or mac & eth.GROUP_BIT:
                return i64(-1)
        at += length
    return mac


@kernel
def _fault(data: Any, meta: Any, row: Any, mac: Any) -> Any:
    """What RFC 4861 section 7.1 finds wrong with a message of 24 bytes at least; -1: nothing.

    mac: what _link_address found.
    """
    l3, l4 = i64(meta[row].l3), i64(meta[row].l4)
    if data[row, l4 + icmp6.CODE] != 0:
        return i64(Count.BAD_CODE)
    high, low = ip6.load_address(data, row, l4 + nd.TARGET)
    if ip6.is_multicast(high) or _is_mapped(high, low):
        return i64(Count.BAD_TARGET)
    if mac < 0:
        return i64(Count.BAD_OPTION)
    to_high, to_low = ip6.load_address(data, row, l3 + ip6.DST)
    if data[row, l4] == icmp6.ADVERTISEMENT:
        solicited = data[row, l4 + nd.FLAGS] & nd.SOLICITED
        if solicited and ip6.is_multicast(to_high):
            return i64(Count.BAD_FLAGS)
        return i64(-1)
    high, low = ip6.load_address(data, row, l3 + ip6.SRC)
    if ip6.is_zero(high, low):
        to_group = to_high == SNM_HIGH and to_low >> u64(24) == SNM_LOW
        if mac or not to_group:
            return i64(Count.BAD_SOURCE)
    elif ip6.is_multicast(high) or _is_mapped(high, low):
        return i64(Count.BAD_SOURCE)
    return i64(-1)


@kernel
def _is_anycast(data: Any, meta: Any, row: Any, ports: Any, addresses: Any) -> bool:
    """Whether the target is the subnet-router anycast address of one of the port's prefixes."""
    port = i64(meta[row].rx_port)
    high, low = ip6.load_address(data, row, i64(meta[row].l4) + nd.TARGET)
    if ip6.is_link_local(high) or standing(addresses, port, high, low) != ON_LINK:
        return False
    return is_anycast(addresses, ports, port, high, low)


@kernel
def _unanswered(data: Any, meta: Any, row: Any, ports: Any, addresses: Any) -> Any:
    """Why a valid solicitation is not to be answered; -1: it is."""
    l3, l4 = i64(meta[row].l3), i64(meta[row].l4)
    port = meta[row].rx_port
    source_high, source_low = ip6.load_address(data, row, l3 + ip6.SRC)
    high, low = ip6.load_address(data, row, l4 + nd.TARGET)
    if standing(addresses, port, high, low) != OURS:
        duplicate = ip6.is_zero(source_high, source_low)  # asks whether it may use the address
        if duplicate or not _is_anycast(data, meta, row, ports, addresses):
            return i64(Count.NOT_FOR_US)
    high, low = source_high, source_low
    its = standing(addresses, port, high, low)
    if its == OURS:
        return i64(Count.ADDRESS_CONFLICT)
    if its == ELSEWHERE and not ip6.is_link_local(high) and not ip6.is_zero(high, low):
        return i64(Count.OFF_LINK)
    return i64(-1)


@kernel
def _answer(data: Any, meta: Any, row: Any, port: Any, asker: Any, override: Any) -> None:
    """Make the answer to a solicitation: RFC 4861 sections 4.4, 7.2.4. asker: its MAC, 0: not said.

    override: the flag, or 0.
    """
    l3 = i64(meta[row].l3)
    high, low = ip6.load_address(data, row, i64(meta[row].l4) + nd.TARGET)
    to_high, to_low = ip6.load_address(data, row, l3 + ip6.SRC)
    flags = nd.ROUTER | nd.SOLICITED | override
    to = asker
    if ip6.is_zero(to_high, to_low):
        to_high, to_low, to = ALL_NODES_HIGH, ALL_NODES_LOW, ALL_NODES_MAC
        flags = nd.ROUTER | override
    elif to == 0:
        to = i64(load64(data, row, i64(meta[row].off) + eth.SRC) >> u64(16))
    l4 = l3 + ip6.HEADER
    store64(data, row, l3, FIRST_WORD)
    ip6.store_address(data, row, l3 + ip6.SRC, high, low)
    ip6.store_address(data, row, l3 + ip6.DST, to_high, to_low)
    store32(data, row, l4, icmp6.ADVERTISEMENT << 24)
    store32(data, row, l4 + nd.FLAGS, flags << 24)
    ip6.store_address(data, row, l4 + nd.TARGET, high, low)
    store64(data, row, l4 + nd.OPTIONS, u64(nd.TARGET_LINK << 56 | 1 << 48) | port.mac)
    # The type in front of l3 stays, and of a sub-interface's frame the tags before it.
    off = l3 - eth.HEADER - eth.TAG * i64(port.tags)
    store64(data, row, off + eth.DST, u64(to) << u64(16) | port.mac >> u64(32))
    store32(data, row, off + eth.SRC + 2, i64(port.mac & u64(0xFFFFFFFF)))
    meta[row].off, meta[row].l4, meta[row].end = off, l4, l4 + nd.LENGTH
    meta[row].flags = (meta[row].flags & np.uint32(TRACED)) | np.uint32(SELF_MADE)
    meta[row].tx_port = meta[row].rx_port
    icmp6.put_checksum(data, meta, row, l3, l4)


@kernel
def _short(data: Any, meta: Any, row: Any) -> Any:
    """Why a message is none of a neighbor's, or cannot be read; -1: it can."""
    length = i64(meta[row].end) - i64(meta[row].l4)
    if length < icmp6.HEADER:
        return i64(Count.TRUNCATED)
    kind = data[row, i64(meta[row].l4)]
    if kind != icmp6.SOLICITATION and kind != icmp6.ADVERTISEMENT:
        return i64(Count.IGNORED)
    if meta[row].flags & CHAINED:
        return i64(Count.TOO_LONG)
    return i64(-1) if length >= nd.OPTIONS else i64(Count.TRUNCATED)


@kernel
def _hear(data: Any, meta: Any, row: Any, ports: Any, addresses: Any, events: Any) -> Any:
    """Judge a message, and tell the control plane of its sender.

    Returns the reason to drop it or -1, its sender's MAC or 0, and whether control was (1), could
    not be (-1) or need not be told (0).
    """
    reason = _short(data, meta, row)
    if reason >= 0:
        return reason, i64(0), 0
    l3, l4, end = i64(meta[row].l3), i64(meta[row].l4), i64(meta[row].end)
    advertised = data[row, l4] == icmp6.ADVERTISEMENT
    wanted = nd.TARGET_LINK if advertised else nd.SOURCE_LINK
    mac = _link_address(data, row, l4 + nd.OPTIONS, end, wanted)
    reason = _fault(data, meta, row, mac)
    port = meta[row].rx_port
    high, low = ip6.load_address(data, row, l4 + nd.TARGET)
    flags = ev.ADD | ev.OVERRIDE
    if reason < 0 and advertised:
        said = load32(data, row, l4 + nd.FLAGS) >> 24
        flags = ev.SOLICITED if said & nd.SOLICITED else 0
        flags |= ev.OVERRIDE if said & nd.OVERRIDE else 0
        ours = standing(addresses, port, high, low) == OURS
        reason = i64(Count.ADDRESS_CONFLICT if ours else Count.ADVERTISEMENT)
    elif reason < 0:
        reason = _unanswered(data, meta, row, ports, addresses)
        high, low = ip6.load_address(data, row, l3 + ip6.SRC)
    told = 0
    if reason == Count.ADVERTISEMENT or (reason < 0 and mac > 0):
        told = 1 if ev.post(events, ev.LEARN, flags, port, high, low, mac) else -1
    return reason, mac, told


@kernel
def nd_input(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, addresses: Addresses, events: U64,
) -> None:  # fmt: skip
    wake = False
    for i in range(idx.size):
        row = i64(idx[i])
        reason, mac, told = _hear(data, meta, row, ports, addresses, events)
        wake |= told > 0
        if told < 0:
            count[Count.EVENTS_FULL] += u64(1)
        if reason < 0:
            anycast = _is_anycast(data, meta, row, ports, addresses)
            override = i64(0 if anycast else nd.OVERRIDE)
            _answer(data, meta, row, ports[meta[row].rx_port], mac, override)
            edge[i] = Edge.REPLY
        else:
            count[reason] += u64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP
    if wake:
        ev.wake(events)


NODE = Node("nd-input", nd_input, Edge, Count)
