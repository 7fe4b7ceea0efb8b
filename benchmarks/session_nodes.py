# SPDX-License-Identifier: Apache-2.0
"""bench-rx of flows, and their sessions: endpoints are made from a flow's number.

flow    initiator 10.x.x.x : 1024 + flow % 50000    responder 11.x.x.x : 80
        with NAT the responder knows the initiator as 192.0.2.x : 1024 + flow % 60000

TCP's sequence numbers go on with time: they grow by one whenever LAP packets for each flow were sent, so
that nearly each packet is the next of its flow and says something new. What is acknowledged is LAG older.
"""

from __future__ import annotations

from typing import Any

from benchmarks.frames import CHECKSUM, FRAME_BYTES
from benchmarks.nodes import PORT, Rx
from vforward.graph.node import Kind, Node
from vforward.jit.be import store16, store32
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import HEADROOM, U8, U32, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address
from vforward.packet import ip4, tcp
from vforward.tables import session as t
from vforward.tables import session_open
from vforward.tables.session_follow import follow

L3 = 14
L4 = L3 + 20
ISS, IRS = 1000, 2000
"""First sequence numbers of both sides, in every flow."""
WINDOW = 30_000
LAG = 20_000
"""No flow is silent for that long, so that nobody acknowledges what was not sent."""
LEFT, RANDOM, FLOWS, IP_SUM, NEXT, L4_SUM, NAT, SENT, LAP = range(9)
"""Words of bench-rx's state: packets to come; random; flows; the sum of the IPv4 header without addresses;
the next new flow, or 0: packets of known ones in both directions; the sum of the rest without what changes;
1: replies go to the address that NAT gave; packets sent; packets after which numbers grow by one."""


@inline
def initiator(flow: Any) -> Any:
    """A flow's first endpoint: address << 16 | port."""
    return (i64(0x0A000000) | flow & 0xFFFFFF) << 16 | 1024 + flow % 50000


@inline
def responder(flow: Any) -> Any:
    """A flow's other endpoint."""
    return (i64(0x0B000000) | (flow * 40503 & 0xFFFFFF)) << 16 | 80


@inline
def public(flow: Any) -> Any:
    """What NAT makes of the first endpoint."""
    return i64(0xC0000200) + flow // 60000 << 16 | 1024 + flow % 60000


@inline
def write_ends(data: Any, row: Any, l3: Any, src: Any, dst: Any) -> None:
    """Put two endpoints into headers."""
    store32(data, row, l3 + ip4.SRC, src >> 16)
    store32(data, row, l3 + ip4.DST, dst >> 16)
    store32(data, row, l3 + 20, (src & 0xFFFF) << 16 | dst & 0xFFFF)


@inline
def _folded(total: Any) -> Any:
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@inline
def _halves(word: Any) -> Any:
    return (word >> 16) + (word & 0xFFFF)


@kernel
def receive(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, rows: U32, frame: U8, state: U64
) -> int:
    """Packets of random flows, whole: with both checksums right. state: see LEFT ... LAP."""
    n = min(idx.size, i64(state[LEFT]))
    x = state[RANDOM]
    template = frame.reshape(1, frame.size)
    is_tcp = template[0, L3 + ip4.PROTOCOL] == ip4.TCP
    checksum = L4 + (16 if is_tcp else 6)
    now = i64(state[SENT] // state[LAP])
    for i in range(n):
        x ^= x << u64(13)
        x ^= x >> u64(7)
        x ^= x << u64(17)
        flow = i64(((x >> u64(32)) * state[FLOWS]) >> u64(32))
        back = i64(x & u64(1))
        if state[NEXT]:
            flow, back = i64(state[NEXT]), 0
            state[NEXT] += u64(1)
        mine = public(flow) if back and state[NAT] else initiator(flow)
        src = responder(flow) if back else mine
        dst = mine if back else responder(flow)
        addresses = _halves(src >> 16) + _halves(dst >> 16)
        write_ends(template, 0, L3, src, dst)
        store16(template, 0, CHECKSUM, _folded(i64(state[IP_SUM]) + addresses) ^ 0xFFFF)
        total = i64(state[L4_SUM]) + addresses + (src & 0xFFFF) + (dst & 0xFFFF)
        if is_tcp:
            seq = (IRS if back else ISS) + 1 + now
            ack = i64(0) if state[NEXT] else (ISS if back else IRS) + 1 + max(now - LAG, 0)
            store32(template, 0, L4 + tcp.SEQUENCE, seq)
            store32(template, 0, L4 + tcp.ACKNOWLEDGMENT, ack)
            total += _halves(seq) + _halves(ack)
        store16(template, 0, checksum, _folded(total) ^ 0xFFFF)
        row = i64(rows[i])
        copy(byte_address(address(data), row, HEADROOM), address(frame), FRAME_BYTES)
        begin_packet(meta, row, FRAME_BYTES, PORT)
        idx[i] = row
        edge[i] = Rx.NEXT
    state[LEFT] -= u64(n)
    state[RANDOM] = x
    state[SENT] += u64(n)
    return n


RX = Node("bench-rx", receive, Rx, kind=Kind.INPUT)


@kernel
def _segment(data: Any, row: Any, flags: Any, seq: Any, ack: Any) -> None:
    l4 = HEADROOM + L4
    data[row, l4 + tcp.OFFSET] = 0x50
    data[row, l4 + tcp.FLAGS] = flags
    store32(data, row, l4 + tcp.SEQUENCE, seq)
    store32(data, row, l4 + tcp.ACKNOWLEDGMENT, ack)
    store16(data, row, l4 + tcp.WINDOW, WINDOW)


@kernel
def establish(
    sessions: Any, data: Any, meta: Any, row: Any, flows: Any, protocol: Any, nat: Any
) -> Any:
    """Open a session for each flow, and see it replied to. Returns how many were."""
    s = t.shard(sessions)
    l4 = HEADROOM + L4
    meta[row].l3 = HEADROOM + L3
    meta[row].end = l4 + 20
    done = 0
    for flow in range(flows):
        known_as = public(flow) if nat else initiator(flow)
        write_ends(data, row, HEADROOM + L3, initiator(flow), responder(flow))
        _segment(data, row, tcp.SYN, ISS, 0)
        number = session_open.open4(
            s, data, meta, row, l4, initiator(flow), responder(flow),
            responder(flow), known_as, protocol, 0, (0, 0, 0, 0, 0, 0),
        )  # fmt: skip
        if number <= 0:
            continue
        _segment(data, row, tcp.SYN | tcp.ACK, IRS, ISS + 1)
        follow(s, data, meta, row, l4, i64(1), number, 1)
        _segment(data, row, tcp.ACK, ISS + 1, IRS + 1)
        follow(s, data, meta, row, l4, i64(1), number, 0)
        done += i64(s.hot[number].state in (t.ESTABLISHED, t.REPLIED))
    return done
