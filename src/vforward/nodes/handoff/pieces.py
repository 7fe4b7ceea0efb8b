# SPDX-License-Identifier: Apache-2.0
"""piece-hand-off: pieces of datagrams, whose ports are known now, go to the worker that has their flow.

Of either family, under a name of its own in each; a feature of the arcs ip4-input and ip6-input, behind
reassembly. What is no piece came here because it is this worker's.

Reads   meta.l3, end, rx_port, flags, hash (with PORTS_KNOWN); IP headers; seeds in the head of sessions
Writes  work; meta.features, reason
Drops   see outcome.Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import Node
from vforward.jit.be import load32
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import PORTS_KNOWN, U64, VECTOR_MAX, Counts, Data, Edges, Meta, Rows
from vforward.nodes.handoff.outcome import NO_FLOW, Count, Edge, sort
from vforward.packet import ip4, ip6
from vforward.tables import flow_home
from vforward.tables import session as t
from vforward.tables.ports import Ports


@kernel
def _of_piece(data: Any, meta: Any, row: Any, s: Any, zone: Any) -> Any:
    """The hash of a piece's flow."""
    l3, both = i64(meta[row].l3), i64(meta[row].hash)
    if data[row, l3] >> 4 == 4:
        src = load32(data, row, l3 + ip4.SRC) << 16 | both >> 16
        dst = load32(data, row, l3 + ip4.DST) << 16 | both & 0xFFFF
        return flow_home.mixed4(s, src, dst, i64(data[row, l3 + ip4.PROTOCOL]), zone)
    protocol, l4 = ip6.upper(data, row, l3, i64(meta[row].end))
    if protocol == ip6.FRAGMENT:  # a later one: its header says what it is of
        protocol = i64(data[row, l4])
    src_high, src_low = ip6.load_address(data, row, l3 + ip6.SRC)
    dst_high, dst_low = ip6.load_address(data, row, l3 + ip6.DST)
    return flow_home.mixed6(s, src_high, src_low, dst_high, dst_low, both, protocol, zone)


@kernel
def piece_hand_off(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    sessions: U64, ports: Ports, handoff: U64, work: U64,
) -> None:  # fmt: skip
    s = t.shard(sessions)
    mixed = work[2 * VECTOR_MAX :]
    pieces = 0
    for i in range(idx.size):
        row = i64(idx[i])
        mixed[i] = u64(NO_FLOW)
        if meta[row].flags & PORTS_KNOWN:
            mixed[i] = _of_piece(data, meta, row, s, i64(ports[meta[row].rx_port].vrf))
            pieces += 1
    if pieces:
        sort(meta, idx, edge, count, s, handoff, work)
        return
    for i in range(idx.size):
        edge[i] = arcs.proceed(meta, i64(idx[i]))


NODE = Node("piece-hand-off", piece_hand_off, Edge, Count)
