# SPDX-License-Identifier: Apache-2.0
"""arp-input: answers who asks for an address of the port; tells the control plane who is where.

RFC 826 (packet reception), RFC 5227 sections 1.1 (probes, without sender address), 2.4 (conflicts).
A reply is made in place and keeps the frame's length. What is told need not be learned: that is the
control plane's to decide (it knows the neighbors). In the terms of RFC 4861: each message overrides
what was known before, and a reply to us alone is solicited, which confirms that its sender hears us.

Reads   meta.off, end, l3, rx_port; the message
Writes  of a request that is answered: the link-layer addresses, the message, meta.off (a priority
        tag is taken off), tx_port, flags
Drops   see Count: what is not answered
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load16, load32, load64, store16, store32, store64
from vforward.jit.kernel import kernel
from vforward.layout import (
    CHAINED,
    LINK_BROADCAST,
    SELF_MADE,
    TRACED,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.nodes.neighbor import events as ev
from vforward.packet import arp
from vforward.packet import ethernet as eth
from vforward.tables.addresses import ELSEWHERE, OURS, Addresses, mapped, standing
from vforward.tables.ports import Ports


class Edge(Labels):
    """Ways out."""

    REPLY = 0, "the answer to a request: wire to interface-output"
    DROP = 1, "see the counters"


class Count(Labels):
    """Reasons."""

    TRUNCATED = 0, "shorter than an ARP message"
    MALFORMED = 1, "not about IPv4 over Ethernet"
    UNKNOWN_OP = 2, "neither request nor reply"
    BAD_SENDER = 3, "its sender's MAC is multicast or zero"
    ADDRESS_CONFLICT = 4, "another station uses an address of the port"
    OFF_LINK = 5, "its sender's address is in no prefix of the port"
    NOT_FOR_US = 6, "asks for, or answers, another station"
    REPLY = 7, "a reply to us, done with"
    EVENTS_FULL = 8, "the control plane was too slow to be told of its sender", INFO


@kernel
def _fault(data: Any, meta: Any, row: Any, addresses: Any) -> Any:
    """What is wrong with a message, in the order in which it is looked for; -1: nothing."""
    l3 = np.int64(meta[row].l3)
    if np.int64(meta[row].end) - l3 < arp.LENGTH:
        return np.int64(Count.TRUNCATED)
    sizes = load16(data, row, l3 + arp.PROTOCOL)
    if load32(data, row, l3 + arp.HARDWARE) != arp.ETHERNET_IP4 or sizes != arp.SIZES:
        return np.int64(Count.MALFORMED)
    operation = load16(data, row, l3 + arp.OPERATION)
    if operation != arp.REQUEST and operation != arp.REPLY:
        return np.int64(Count.UNKNOWN_OP)
    mac = np.int64(load64(data, row, l3 + arp.SENDER_MAC) >> np.uint64(16))
    if mac == 0 or mac & eth.GROUP_BIT:
        return np.int64(Count.BAD_SENDER)
    sender = load32(data, row, l3 + arp.SENDER_IP)
    its = standing(addresses, meta[row].rx_port, np.uint64(0), mapped(sender))
    if its == OURS:
        return np.int64(Count.ADDRESS_CONFLICT)
    if sender != 0 and its == ELSEWHERE:
        return np.int64(Count.OFF_LINK)
    return np.int64(-1)


@kernel
def _answer(data: Any, meta: Any, row: Any, mac: Any, tags: Any) -> None:
    """Turn a request into its reply: RFC 826, "Swap hardware and protocol fields"."""
    l3 = np.int64(meta[row].l3)
    to = load64(data, row, l3 + arp.SENDER_MAC) >> np.uint64(16)
    sender = load32(data, row, l3 + arp.SENDER_IP)
    target = load32(data, row, l3 + arp.TARGET_IP)
    low = np.int64(mac & np.uint64(0xFFFFFFFF))
    store16(data, row, l3 + arp.OPERATION, arp.REPLY)
    store64(data, row, l3 + arp.SENDER_MAC, (mac << np.uint64(16)) | np.uint64(target >> 16))
    store16(data, row, l3 + arp.SENDER_IP + 2, target)
    store64(data, row, l3 + arp.TARGET_MAC, (to << np.uint64(16)) | np.uint64(sender >> 16))
    store16(data, row, l3 + arp.TARGET_MAC + 8, sender)
    # The type in front of l3 stays, and of a sub-interface's frame the tags before it.
    off = l3 - eth.HEADER - eth.TAG * np.int64(tags)
    store64(data, row, off + eth.DST, (to << np.uint64(16)) | (mac >> np.uint64(32)))
    store32(data, row, off + eth.SRC + 2, low)
    meta[row].off = off
    meta[row].flags = (meta[row].flags & np.uint32(TRACED | CHAINED)) | np.uint32(SELF_MADE)
    meta[row].tx_port = meta[row].rx_port


@kernel
def arp_input(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, addresses: Addresses, events: U64,
) -> None:  # fmt: skip
    told = 0
    for i in range(idx.size):
        row = np.int64(idx[i])
        reason = _fault(data, meta, row, addresses)
        if reason < 0:
            l3 = np.int64(meta[row].l3)
            port = np.int64(meta[row].rx_port)
            target = mapped(load32(data, row, l3 + arp.TARGET_IP))
            ours = standing(addresses, port, np.uint64(0), target) == OURS
            sender = load32(data, row, l3 + arp.SENDER_IP)
            reply = load16(data, row, l3 + arp.OPERATION) == arp.REPLY
            if sender != 0:
                mac = load64(data, row, l3 + arp.SENDER_MAC) >> np.uint64(16)
                flags = ev.OVERRIDE | (ev.ADD if ours else 0)
                if ours and reply and not meta[row].flags & LINK_BROADCAST:
                    flags |= ev.SOLICITED
                if ev.post(events, ev.LEARN, flags, port, np.uint64(0), mapped(sender), mac):
                    told += 1
                else:
                    count[Count.EVENTS_FULL] += np.uint64(1)
            if not ours:
                reason = np.int64(Count.NOT_FOR_US)
            elif reply:
                reason = np.int64(Count.REPLY)
            else:
                _answer(data, meta, row, ports[port].mac, ports[port].tags)
                edge[i] = Edge.REPLY
        if reason >= 0:
            count[reason] += np.uint64(1)
            meta[row].reason = reason
            edge[i] = Edge.DROP
    if told:
        ev.wake(events)


NODE = Node("arp-input", arp_input, Edge, Count)
