# SPDX-License-Identifier: Apache-2.0
"""l2-forward: the learning bridge. Where a frame's source is, and by which port to its destination.

IEEE 802.1Q-2018 section 8.6.3 (reserved addresses), 8.7 (learning), 8.8 (the table: tables.mac);
tags of the port that a frame comes in by are changed first, and those of the port it goes out by
last. A frame goes neither back nor to a port of its own port's split-horizon group.

Reads   meta.off, end, rx_port (of a bridge domain); the Ethernet header, its tags
Writes  meta.tx_port (by OUTPUT), rx_port (by BVI: the BVI); tags, meta.off, hdr_len where they change
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load64
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.l2 import tags
from vforward.packet import ethernet as eth
from vforward.tables import mac as macs
from vforward.tables.bridge import (
    FLOOD_BROADCAST,
    FLOOD_MULTICAST,
    FLOOD_UNKNOWN,
    FORWARD_RESERVED,
    IS_BVI,
    Domains,
    Relay,
    domain_of,
    refuses,
)
from vforward.tables.ports import Ports

AHEAD = 24
"""Frames between asking for lines of a large table and their use: that many lines fit level 1."""
RESERVED = 0x0180C2000000
"""The first of sixteen group addresses that no bridge forwards: 802.1Q table 8-1."""
HIGH48 = 0xFFFFFFFFFFFF0000


class Edge(Labels):
    """Ways out."""

    OUTPUT = 0, "to the port where its destination is: wire to interface-output"
    FLOOD = 1, "to all ports of the domain: wire to l2-flood"
    BVI = 2, "to the routed interface of the domain: wire to bvi-input"
    DROP = 3, "see the counters"


class Count(Labels):
    """Reasons; and what was learned."""

    TRUNCATED = 0, "shorter than its link-layer header"
    TAGS = 1, "has not the tags that are to be taken off, or no room for those to be put on"
    BAD_SOURCE = 2, "its source is a group address or zero"
    RESERVED = 3, "to a link-local group address, which no bridge forwards"
    UNKNOWN = 4, "to an unknown MAC, and those are not flooded"
    BROADCAST = 5, "a broadcast, and those are not flooded"
    MULTICAST = 6, "to a group, and those are not flooded"
    SAME_PORT = 7, "its destination is where it came from"
    SPLIT_HORIZON = 8, "its destination is at a port of the same split-horizon group"
    NO_PORT = 9, "its destination's port is not in the domain any more"
    LEARNED = 10, "a new source", INFO
    MOVED = 11, "a source that was at another port", INFO
    STATIC = 12, "a source with a static entry at another port", INFO
    OVER_LIMIT = 13, "a new source, not learned: the domain has as many as it may", INFO
    TABLE_FULL = 14, "a new source, not learned: the MAC table has no room for it", INFO


@inline
def _to(data: Any, row: Any, off: Any, word: Any) -> Any:
    """x (tables.mac) of the destination of a frame from a port with this word of relay."""
    return macs.mix(load64(data, row, off) & u64(HIGH48) | _domain_byte(word))


@inline
def _source(data: Any, row: Any, off: Any, word: Any) -> Any:
    """x of its source."""
    return macs.mix(load64(data, row, off + 4) << u64(16) | _domain_byte(word))


@inline
def _domain_byte(word: Any) -> Any:
    return u64(i64(word) >> 8 & 0xFF00)


@kernel
def _learn(table: Any, domains: Any, domain: Any, x: Any, port: Any, count: Any) -> None:
    """Learn, and count what became of it."""
    said = macs.learn(table, domains, domain, x, port, i64(domains[0].now))
    if said == macs.LEARNED:
        count[Count.LEARNED] += u64(1)
    elif said == macs.MOVED:
        count[Count.MOVED] += u64(1)
    elif said == macs.FIXED:
        count[Count.STATIC] += u64(1)
    elif said == macs.OVER_LIMIT:
        count[Count.OVER_LIMIT] += u64(1)
    elif said == macs.FULL:
        count[Count.TABLE_FULL] += u64(1)


@inline
def _group_reason(to: Any, flags: Any) -> Any:
    """Why a frame to a group is not flooded, or -1."""
    if to == u64(eth.BROADCAST):
        return i64(-1) if flags & FLOOD_BROADCAST else i64(Count.BROADCAST)
    return i64(-1) if flags & FLOOD_MULTICAST else i64(Count.MULTICAST)


@inline
def _unicast_reason(rx: Any, tx: Any, same: Any) -> Any:
    """Why a frame does not go out at the port where its destination is, or -1: words of relay."""
    if same:
        return i64(Count.SAME_PORT)
    if domain_of(rx) != domain_of(tx):
        return i64(Count.NO_PORT)
    return i64(Count.SPLIT_HORIZON) if (rx ^ tx) & 0xFFFF == 0 else i64(-1)


@kernel
def _unusual(data: Any, meta: Any, row: Any, count: Any, tables: Any) -> Any:
    """All but a frame between two known stations. Returns the edge."""
    relay, domains, table = tables
    off = i64(meta[row].off)
    port = i64(meta[row].rx_port)
    word = i64(relay[port])
    flags = i64(domains[domain_of(word)].flags)
    edge = i64(Edge.FLOOD)
    reason = i64(-1)
    to = load64(data, row, off) >> u64(16)
    source = load64(data, row, off + 4) << u64(16)
    is_group = to & u64(eth.GROUP_BIT) != u64(0)
    if i64(meta[row].end) < off + eth.HEADER:
        reason = i64(Count.TRUNCATED)
    elif source == u64(0) or source >> u64(16) & u64(eth.GROUP_BIT):
        reason = i64(Count.BAD_SOURCE)
    elif (to ^ u64(RESERVED)) < u64(16) and not flags & FORWARD_RESERVED:
        reason = i64(Count.RESERVED)
    else:
        if not word & IS_BVI:
            x = _source(data, row, off, word)
            _learn(table, domains, domain_of(word), x, port, count)
        if is_group:
            reason = _group_reason(to, flags)
        else:
            at = macs.port_of(macs.find_all(table, _to(data, row, off, word)))
            if at == 0:
                reason = i64(-1) if flags & FLOOD_UNKNOWN else i64(Count.UNKNOWN)
            else:
                reason = _unicast_reason(word, i64(relay[at]), at == port)
                if reason < 0 and i64(relay[at]) & IS_BVI:
                    edge = i64(Edge.BVI)
                    meta[row].rx_port = at
                else:
                    edge = i64(Edge.OUTPUT)
                    meta[row].tx_port = at
    if reason >= 0:
        edge = i64(Edge.DROP)
        count[reason] += u64(1)
        meta[row].reason = reason
    return edge


@kernel
def _tags_in(data: Any, meta: Any, idx: Any, edge: Any, count: Any, ports: Any) -> None:
    """Change the tags of what came in. What cannot be is dropped."""
    for i in range(idx.size):
        row = i64(idx[i])
        port = ports[meta[row].rx_port]
        if tags.changes_in(port) and not tags.come_in(data, meta, row, port):
            count[Count.TAGS] += u64(1)
            meta[row].reason = Count.TAGS
            edge[i] = Edge.DROP


@kernel
def _tags_out(data: Any, meta: Any, idx: Any, edge: Any, count: Any, ports: Any) -> None:
    """Change the tags of what goes out. What cannot be is dropped."""
    for i in range(idx.size):
        row = i64(idx[i])
        port = ports[meta[row].tx_port]
        if (
            edge[i] == Edge.OUTPUT
            and tags.changes_out(port)
            and not tags.go_out(data, meta, row, port)
        ):
            count[Count.TAGS] += u64(1)
            meta[row].reason = Count.TAGS
            edge[i] = Edge.DROP


@inline
def _ask(data: Any, meta: Any, row: Any, relay: Any, table: Any, shift: Any) -> None:
    """Ask for the lines of the table that a packet needs."""
    off = i64(meta[row].off)
    word = relay[meta[row].rx_port]
    macs.ask(table, shift, _to(data, row, off, word))
    macs.ask(table, shift, _source(data, row, off, word))


@inline
def _is_usual(data: Any, meta: Any, row: Any, relay: Any, table: Any, shift: Any, now: Any) -> Any:
    """Forward a frame whose source needs no learning and whose destination is known. Else 0."""
    record = meta[row]
    off = i64(record.off)
    port = i64(record.rx_port)
    word = relay[port]
    fresh = macs.is_fresh(table, shift, _source(data, row, off, word), port, now)
    found = macs.port_of(macs.find(table, shift, _to(data, row, off, word)))
    record.tx_port = found
    refused = refuses(word, relay[found]) | (i64(record.end) < off + eth.HEADER)
    return fresh & (not refused)


@kernel
def _look_closer(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, first: Any, tables: Any
) -> None:
    """Do the frames from the first one on that is not usual. One after the other: the second may be
    to the station that was learned of the first."""
    relay, domains, table = tables
    shift = macs.shift_of(table)
    now = i64(domains[0].now)
    for i in range(first, idx.size):
        if i + AHEAD < idx.size:
            _ask(data, meta, i64(idx[i + AHEAD]), relay, table, shift)
        row = i64(idx[i])
        if edge[i] == Edge.OUTPUT and not _is_usual(data, meta, row, relay, table, shift, now):
            edge[i] = _unusual(data, meta, row, count, tables)


@kernel
def l2_forward(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, relay: Relay, domains: Domains, mac: U64,
) -> None:  # fmt: skip
    edge[:] = Edge.OUTPUT
    rewriting = domains[0].rewriting != 0
    if rewriting:
        _tags_in(data, meta, idx, edge, count, ports)
    shift = macs.shift_of(mac)
    now = i64(domains[0].now)
    n = idx.size
    usual = 0
    if mac.size < macs.LARGE:
        while usual < n and _is_usual(data, meta, i64(idx[usual]), relay, mac, shift, now):
            usual += 1
    else:
        for i in range(min(AHEAD, n)):
            _ask(data, meta, i64(idx[i]), relay, mac, shift)
        while usual < n:
            if usual + AHEAD < n:
                _ask(data, meta, i64(idx[usual + AHEAD]), relay, mac, shift)
            if not _is_usual(data, meta, i64(idx[usual]), relay, mac, shift, now):
                break
            usual += 1
    if usual < n:
        _look_closer(data, meta, idx, edge, count, usual, (relay, domains, mac))
    if rewriting:
        _tags_out(data, meta, idx, edge, count, ports)


NODE = Node("l2-forward", l2_forward, Edge, Count)
