# SPDX-License-Identifier: Apache-2.0
"""host-input: what the host's own programs send by the TAP that stands for a port (its peer).

Unicast IP is routed as the router's own, whatever its destination's MAC: so the TAP's link needs no
neighbors, and host-input answers for all of them, by RFC 826 and RFC 1027 (proxy ARP) and by RFC 4861
section 7.2.8 (proxy advertisements), with the peer's MAC with the other LOCAL_BIT. Multicast and
broadcast (OSPF, VRRP, DHCP) leave at the peer as they are, with its tags (IEEE 802.1Q section 9.6).

Limits  link-local unicast IPv6 is not carried: the host has no neighbors of its own

Reads   meta.off, end, rest, rx_port; the Ethernet header; ARP and NS messages; destinations
Writes  meta.l3, rx_port (the peer), tx_port, flags (SELF_MADE); the peer's tags; answers in place
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import Labels, Node
from vforward.jit.be import load16, load32, load64, store16, store32, store64
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import CHAINED, SELF_MADE, TRACED, Counts, Data, Edges, Meta, Rows
from vforward.packet import arp, icmp6, ip4, ip6
from vforward.packet import ethernet as eth
from vforward.tables.addresses import Addresses, mapped
from vforward.tables.ports import Ports
from vforward.tables.scope import is_ours


class Edge(Labels):
    """Ways out."""

    IP4 = 0, "an IPv4 packet to route: wire to ip4-input"
    IP6 = 1, "an IPv6 packet to route: wire to ip6-input"
    OUTPUT = 2, "a frame to a group, for the peer's link: wire to interface-output"
    REPLY = 3, "the answer to who has an address, for the host: wire to interface-output"
    DROP = 4, "see the counters"


class Count(Labels):
    """Reasons."""

    TRUNCATED = 0, "shorter than its headers"
    MALFORMED = 1, "ARP that is not about IPv4 over Ethernet, or a solicitation that is none"
    NOT_ANSWERED = 2, "an ARP reply, a probe, or about an address of the router or of one link"
    TO_OWN = 3, "to an address of the router itself: it would come back"
    LINK_LOCAL = 4, "to one link-local address; only groups are carried"
    UNKNOWN_ETHERTYPE = 5, "neither IPv4 nor IPv6 nor ARP"
    NO_PEER = 6, "the port that the TAP stands for is down"


NS_LENGTH, NA_LENGTH = 24, 32
TARGET, OPTION = 8, 24
SOLICITED = 0x40000000
TARGET_MAC_OPTION = 0x0201
ND_HOPS = 255


@kernel
def _send_back(data: Any, meta: Any, row: Any, mac: Any) -> int:
    """The frame, whose content is an answer now, goes to where it came from."""
    off = i64(meta[row].off)
    to = load64(data, row, off + eth.SRC) >> u64(16)
    store64(data, row, off + eth.DST, to << u64(16) | mac >> u64(32))
    store32(data, row, off + eth.SRC + 2, i64(mac & u64(0xFFFFFFFF)))
    meta[row].flags = (meta[row].flags & np.uint32(TRACED | CHAINED)) | np.uint32(SELF_MADE)
    meta[row].tx_port = meta[row].rx_port
    return i64(Edge.REPLY)


@kernel
def _arp(data: Any, meta: Any, row: Any, mac: Any, peer: Any, tables: Any) -> int:
    """Answer a request in place. Returns the edge, or the reason as a negative number."""
    addresses, ports = tables
    l3 = i64(meta[row].l3)
    if i64(meta[row].end) - l3 < arp.LENGTH:
        return ~i64(Count.TRUNCATED)
    sizes = load16(data, row, l3 + arp.PROTOCOL)
    if load32(data, row, l3 + arp.HARDWARE) != arp.ETHERNET_IP4 or sizes != arp.SIZES:
        return ~i64(Count.MALFORMED)
    sender = load32(data, row, l3 + arp.SENDER_IP)
    target = load32(data, row, l3 + arp.TARGET_IP)
    request = load16(data, row, l3 + arp.OPERATION) == arp.REQUEST
    if not request or sender == 0 or is_ours(addresses, ports, peer, u64(0), mapped(target)):
        return ~i64(Count.NOT_ANSWERED)
    asker = load64(data, row, l3 + arp.SENDER_MAC) >> u64(16)
    store16(data, row, l3 + arp.OPERATION, arp.REPLY)
    store64(data, row, l3 + arp.SENDER_MAC, mac << u64(16) | u64(target >> 16))
    store16(data, row, l3 + arp.SENDER_IP + 2, target)
    store64(data, row, l3 + arp.TARGET_MAC, asker << u64(16) | u64(sender >> 16))
    store16(data, row, l3 + arp.TARGET_IP + 2, sender)
    return _send_back(data, meta, row, mac)


@kernel
def _solicitation(data: Any, meta: Any, row: Any, mac: Any, peer: Any, tables: Any) -> int:
    """Answer a neighbor solicitation in place. Returns as _arp."""
    addresses, ports = tables
    l3 = i64(meta[row].l3)
    l4 = l3 + ip6.HEADER
    length = load16(data, row, l3 + ip6.LENGTH)
    if length < NS_LENGTH or l4 + length > i64(meta[row].end) or meta[row].flags & CHAINED:
        return ~i64(Count.TRUNCATED)
    meta[row].end = l4 + length  # what follows is padding
    high, low = ip6.load_address(data, row, l4 + TARGET)
    valid = data[row, l3 + ip6.HOP_LIMIT] == ND_HOPS and data[row, l4 + icmp6.CODE] == 0
    if not valid or ip6.is_multicast(high):
        return ~i64(Count.MALFORMED)
    if icmp6.message_sum(data, meta, row, l3, l4) != 0xFFFF:
        return ~i64(Count.MALFORMED)
    asker_high, asker_low = ip6.load_address(data, row, l3 + ip6.SRC)
    if ip6.is_zero(asker_high, asker_low) or ip6.is_link_local(high):
        return ~i64(Count.NOT_ANSWERED)
    if is_ours(addresses, ports, peer, high, low):
        return ~i64(Count.NOT_ANSWERED)
    store32(data, row, l3 + ip6.VERSION_CLASS_FLOW, 6 << 28)
    store16(data, row, l3 + ip6.LENGTH, NA_LENGTH)
    ip6.store_address(data, row, l3 + ip6.SRC, high, low)
    ip6.store_address(data, row, l3 + ip6.DST, asker_high, asker_low)
    store32(data, row, l4 + icmp6.TYPE, icmp6.ADVERTISEMENT << 24)
    store32(data, row, l4 + icmp6.REST, SOLICITED)
    store64(data, row, l4 + OPTION, u64(TARGET_MAC_OPTION) << u64(48) | mac)
    meta[row].end = l4 + NA_LENGTH
    icmp6.put_checksum(data, meta, row, l3, l4)
    return _send_back(data, meta, row, mac)


@kernel
def _to_group(data: Any, meta: Any, row: Any, port: Any) -> int:
    """Put on the tags of the peer's frames."""
    off = i64(meta[row].off)
    macs, rest = load64(data, row, off), load32(data, row, off + 8)
    off -= i64(port.tags) * eth.TAG
    store64(data, row, off, macs)
    store32(data, row, off + 8, rest)
    if port.tags:
        store32(data, row, off + eth.TYPE, i64(port.tpid) << 16 | i64(port.vlan))
    if port.tags == 2:
        store32(data, row, off + eth.TYPE + eth.TAG, eth.VLAN << 16 | i64(port.inner))
    meta[row].off = off
    return i64(Edge.OUTPUT)


@kernel
def _way(data: Any, meta: Any, row: Any, tables: Any) -> int:
    """The edge of a frame, or ~reason."""
    addresses, ports = tables
    off, end = i64(meta[row].off), i64(meta[row].end)
    peer = i64(ports[meta[row].rx_port].peer)
    port = ports[peer]
    if port.mode == 0:
        return ~i64(Count.NO_PEER)
    if end - off < eth.HEADER:
        return ~i64(Count.TRUNCATED)
    l3 = off + eth.HEADER
    meta[row].l3 = l3
    kind = load16(data, row, off + eth.TYPE)
    proxy = port.mac ^ u64(eth.LOCAL_BIT)
    if kind == eth.ARP:
        return _arp(data, meta, row, proxy, peer, tables)
    if kind != eth.IP4 and kind != eth.IP6:
        return ~i64(Count.UNKNOWN_ETHERTYPE)
    if end - l3 < (ip4.HEADER if kind == eth.IP4 else ip6.HEADER):
        return ~i64(Count.TRUNCATED)
    icmp = kind == eth.IP6 and data[row, l3 + ip6.NEXT_HEADER] == ip6.ICMP6
    if icmp and end > l3 + ip6.HEADER:
        if data[row, l3 + ip6.HEADER + icmp6.TYPE] == icmp6.SOLICITATION:
            return _solicitation(data, meta, row, proxy, peer, tables)
    group = load64(data, row, off + eth.DST) >> u64(16) & u64(eth.GROUP_BIT)
    if group:
        meta[row].tx_port = peer
    elif kind == eth.IP4:
        if is_ours(addresses, ports, peer, u64(0), mapped(load32(data, row, l3 + ip4.DST))):
            return ~i64(Count.TO_OWN)
    else:
        high, low = ip6.load_address(data, row, l3 + ip6.DST)
        if is_ours(addresses, ports, peer, high, low):
            return ~i64(Count.TO_OWN)
        if ip6.is_link_local(high):
            return ~i64(Count.LINK_LOCAL)
    meta[row].rx_port = peer
    meta[row].flags = meta[row].flags | np.uint32(SELF_MADE)
    if group:
        return _to_group(data, meta, row, port)
    return i64(Edge.IP4) if kind == eth.IP4 else i64(Edge.IP6)


@kernel
def host_input(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, addresses: Addresses,
) -> None:  # fmt: skip
    tables = (addresses, ports)
    for i in range(idx.size):
        row = np.int64(idx[i])
        way = _way(data, meta, row, tables)
        if way < 0:
            count[~way] += u64(1)
            meta[row].reason = ~way
            way = i64(Edge.DROP)
        edge[i] = way


NODE = Node("host-input", host_input, Edge, Count)
