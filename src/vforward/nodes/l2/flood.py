# SPDX-License-Identifier: Apache-2.0
"""l2-flood: a copy of the frame to every port of its domain but its own; the last one gets itself.

IEEE 802.1Q-2018 section 8.6.1 and 8.8.8. No port of the same split-horizon group gets it. The BVI
gets what is sent to a group. Tags are changed for each port that it goes out by.

Reads   meta.rx_port, off, end and all of the packet
Writes  meta.tx_port (by OUTPUT), rx_port (by BVI: the BVI); tags, meta.off, hdr_len where they change
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import emit
from vforward.graph.node import INFO, Labels, Node
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import CHAINED, NIL, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import buffer_bytes, byte_address
from vforward.memory.pool import put_one, put_rest, take_one
from vforward.nodes.l2 import tags
from vforward.packet import ethernet as eth
from vforward.tables.bridge import MEMBERS_MAX, Domains, Members, Relay, domain_of, refuses
from vforward.tables.ports import Ports

META_BYTES = 64
GROUP = 1
"""The bit in the first byte of a MAC that is a group's."""


class Edge(Labels):
    """Ways out."""

    OUTPUT = 0, "to a port of the domain: wire to interface-output"
    BVI = 1, "to the routed interface of the domain: wire to bvi-input"
    DROP = 2, "see the counters"


class Count(Labels):
    """Reasons; and what was not sent."""

    ALONE = 0, "no other port that it may go to"
    TAGS = 1, "not to a port: it has not the tags to be taken off, or no room for others", INFO
    NO_BUFFER = 2, "a copy not made: no buffer was free", INFO
    NO_ROOM = 3, "a copy not made: too many in this round", INFO
    COPIES = 4, "copies made", INFO


@kernel
def _copied(data: Any, meta: Any, pool: Any, row: Any) -> Any:
    """A copy of the packet, chain and meta records included; NIL when buffers ran out."""
    first = i64(NIL)
    last = i64(NIL)
    for _ in range(meta.size):
        to = take_one(pool)
        if to == NIL:
            if first != NIL:
                put_rest(pool, meta, first)
                put_one(pool, first)
            return i64(NIL)
        copy(address(meta) + META_BYTES * to, address(meta) + META_BYTES * row, META_BYTES)
        off = i64(meta[row].off)
        base = address(data)
        copy(byte_address(base, to, off), byte_address(base, row, off), buffer_bytes(meta, row))
        meta[to].next = NIL
        meta[to].flags = meta[to].flags & ~np.uint32(CHAINED)
        if first == NIL:
            first = to
        else:
            meta[last].next = to
            meta[last].flags = meta[last].flags | np.uint32(CHAINED)
        last = to
        if not meta[row].flags & CHAINED:
            break
        row = i64(meta[row].next)
    return first


@kernel
def _address(data: Any, meta: Any, row: Any, to: Any, ports: Any, is_bvi: Any) -> Any:
    """Make the packet one for the port. Returns its edge."""
    if is_bvi:
        meta[row].rx_port = to
        return i64(Edge.BVI)
    meta[row].tx_port = to
    if tags.changes_out(ports[to]):
        tags.go_out(data, meta, row, ports[to])
    return i64(Edge.OUTPUT)


@kernel
def _send_copy(
    data: Any, meta: Any, row: Any, to: Any, count: Any, ports: Any, pool: Any, emitted: Any
) -> None:
    """Emit a copy for a member; of what cannot be, count why."""
    if emit.room(emitted) <= 0:
        count[Count.NO_ROOM] += u64(1)
        return
    twin = _copied(data, meta, pool, row)
    if twin == NIL:
        count[Count.NO_BUFFER] += u64(1)
        return
    count[Count.COPIES] += u64(1)
    emit.emit(emitted, twin, _address(data, meta, twin, to, ports, False))


@kernel
def _may(data: Any, meta: Any, row: Any, to: Any, count: Any, ports: Any, relay: Any) -> Any:
    """Whether the packet may go to this member."""
    if to == 0 or refuses(relay[meta[row].rx_port], relay[to]):
        return False
    if tags.changes_out(ports[to]) and not tags.fits(
        data, meta, row, ports[to].out_pop, ports[to].out_push
    ):
        count[Count.TAGS] += u64(1)
        return False
    return True


@kernel
def l2_flood(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    ports: Ports, relay: Relay, domains: Domains, members: Members, pool: U64, emitted: U64,
) -> None:  # fmt: skip
    for i in range(idx.size):
        row = i64(idx[i])
        port = i64(meta[row].rx_port)
        domain = domain_of(relay[port])
        chosen = i64(0)
        first = domain * MEMBERS_MAX
        for at in range(first, first + i64(domains[domain].n)):
            to = i64(members[at])
            if _may(data, meta, row, to, count, ports, relay):
                if chosen:
                    _send_copy(data, meta, row, chosen, count, ports, pool, emitted)
                chosen = to
        bvi = i64(domains[domain].bvi)
        is_bvi = bvi != 0 and bvi != port and data[row, i64(meta[row].off) + eth.DST] & GROUP != 0
        if is_bvi:
            if chosen:
                _send_copy(data, meta, row, chosen, count, ports, pool, emitted)
            chosen = bvi
        if chosen:
            edge[i] = _address(data, meta, row, chosen, ports, is_bvi)
        else:
            count[Count.ALONE] += u64(1)
            meta[row].reason = Count.ALONE
            edge[i] = Edge.DROP


NODE = Node("l2-flood", l2_flood, Edge, Count)
