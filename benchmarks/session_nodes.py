# SPDX-License-Identifier: Apache-2.0
"""bench-rx of flows, and what opens sessions for them: endpoints are made from a flow's number.

flow    initiator 10.x.x.x : 1024 + flow % 50000    responder 11.x.x.x : 80
"""

from __future__ import annotations

from typing import Any

from benchmarks.frames import CHECKSUM, FRAME_BYTES
from benchmarks.nodes import PORT, Rx
from vforward.graph import arcs
from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.jit.be import load32, load64, store16, store32
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import HEADROOM, U8, U32, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address
from vforward.packet import ip4, tcp
from vforward.tables import session as t
from vforward.tables import session_open, session_tcp
from vforward.tables.session_follow import follow

L3 = 14
L4 = L3 + 20
ISS, IRS = 1000, 2000
"""First sequence numbers of both sides, in every flow."""


@inline
def initiator(flow: Any) -> Any:
    """A flow's first endpoint: address << 16 | port."""
    return (i64(0x0A000000) | flow & 0xFFFFFF) << 16 | 1024 + flow % 50000


@inline
def responder(flow: Any) -> Any:
    """A flow's other endpoint."""
    return (i64(0x0B000000) | (flow * 40503 & 0xFFFFFF)) << 16 | 80


@inline
def write_ends(data: Any, row: Any, l3: Any, src: Any, dst: Any) -> None:
    """Put two endpoints into headers."""
    store32(data, row, l3 + ip4.SRC, src >> 16)
    store32(data, row, l3 + ip4.DST, dst >> 16)
    store32(data, row, l3 + 20, (src & 0xFFFF) << 16 | dst & 0xFFFF)


@kernel
def receive(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, rows: U32, frame: U8, state: U64
) -> int:
    """state: packets to come; random; flows; sum of the header without addresses; next new flow, or 0:
    packets of both directions of known ones."""
    n = min(idx.size, i64(state[0]))
    x = state[1]
    template = frame.reshape(1, frame.size)
    is_tcp = template[0, L3 + ip4.PROTOCOL] == ip4.TCP
    for i in range(n):
        x ^= x << u64(13)
        x ^= x >> u64(7)
        x ^= x << u64(17)
        flow = i64(((x >> u64(32)) * state[2]) >> u64(32))
        back = i64(x & u64(1))
        if state[4]:
            flow, back = i64(state[4]), 0
            state[4] += u64(1)
        src = responder(flow) if back else initiator(flow)
        dst = initiator(flow) if back else responder(flow)
        total = (
            i64(state[3]) + (src >> 32) + (src >> 16 & 0xFFFF) + (dst >> 32) + (dst >> 16 & 0xFFFF)
        )
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        write_ends(template, 0, L3, src, dst)
        store16(template, 0, CHECKSUM, total ^ 0xFFFF)
        if is_tcp:
            store32(template, 0, L4 + tcp.SEQUENCE, (IRS if back else ISS) + 1)
            store32(template, 0, L4 + tcp.ACKNOWLEDGMENT, (ISS if back else IRS) + 1)
        row = i64(rows[i])
        copy(byte_address(address(data), row, HEADROOM), address(frame), FRAME_BYTES)
        begin_packet(meta, row, FRAME_BYTES, PORT)
        idx[i] = row
        edge[i] = Rx.NEXT
    state[0] -= u64(n)
    state[1] = x
    return n


RX = Node("bench-rx", receive, Rx, kind=Kind.INPUT)


@kernel
def _segment(data: Any, row: Any, flags: Any, seq: Any, ack: Any) -> None:
    l4 = HEADROOM + L4
    data[row, l4 + tcp.OFFSET] = 0x50
    data[row, l4 + tcp.FLAGS] = flags
    store32(data, row, l4 + tcp.SEQUENCE, seq)
    store32(data, row, l4 + tcp.ACKNOWLEDGMENT, ack)
    store16(data, row, l4 + tcp.WINDOW, 30000)


@kernel
def establish(sessions: Any, data: Any, meta: Any, row: Any, flows: Any, protocol: Any) -> Any:
    """Open a session for each flow, and see it replied to. Returns how many were."""
    s = t.shard(sessions)
    l4 = HEADROOM + L4
    meta[row].l3 = HEADROOM + L3
    meta[row].end = l4 + 20
    done = 0
    for flow in range(flows):
        write_ends(data, row, HEADROOM + L3, initiator(flow), responder(flow))
        _segment(data, row, tcp.SYN, ISS, 0)
        number = session_open.open4(
            s, data, meta, row, l4, initiator(flow), responder(flow),
            responder(flow), initiator(flow), protocol, 0, (0, 0, 0, 0, 0, 0),
        )  # fmt: skip
        if number <= 0:
            continue
        _segment(data, row, tcp.SYN | tcp.ACK, IRS, ISS + 1)
        follow(s, data, meta, row, l4, True, number, 1)
        _segment(data, row, tcp.ACK, ISS + 1, IRS + 1)
        follow(s, data, meta, row, l4, True, number, 0)
        done += i64(s.hot[number].state in (t.ESTABLISHED, t.REPLIED))
    return done


class Edge(Labels):
    """None but those of the arc."""


class Count(Labels):
    """What became of new flows."""

    REFUSED = 0, "no session", INFO


@kernel
def open_all(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, sessions: U64) -> None:
    """A session for each packet, without any rules."""
    s = t.shard(sessions)
    for i in range(idx.size):
        row = i64(idx[i])
        l3 = i64(meta[row].l3)
        both, ends = load32(data, row, l3 + 20), load64(data, row, l3 + ip4.SRC)
        src = i64(ends >> u64(32)) << 16 | both >> 16
        dst = i64(ends & u64(0xFFFFFFFF)) << 16 | both & 0xFFFF
        protocol = i64(data[row, l3 + ip4.PROTOCOL])
        number = session_open.open4(
            s, data, meta, row, l3 + 20, src, dst, dst, src, protocol, 0, (0, 0, 0, 0, 0, 0)
        )
        if number < 0:
            count[Count.REFUSED] += u64(1)
        edge[i] = arcs.proceed(meta, row)


OPEN = Node("bench-open", open_all, Edge, Count)
assert session_tcp.PASS == 0
