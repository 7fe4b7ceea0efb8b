# SPDX-License-Identifier: Apache-2.0
"""bench-rx of packets out of a list, for rules: addresses, ports and protocol differ.

The list is read from end to end and then again, so it takes a cache line for 4 packets, and no more of
the caches than that.
"""

from __future__ import annotations

from benchmarks.frames import CHECKSUM, FRAME_BYTES
from benchmarks.nodes import PORT, Rx
from vforward.graph.node import Kind, Node
from vforward.jit.be import store16, store32
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import HEADROOM, U8, U32, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address
from vforward.packet import ip4, tcp

L3 = 14
L4 = L3 + 20
LEFT, AT, IP_SUM = range(3)
"""Words of bench-rx's state: packets to come; the next one, by number; the sum of the header without
addresses and protocol."""


@kernel
def receive(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    rows: U32, frame: U8, listed: U32, state: U64,
) -> int:  # fmt: skip
    """listed: source, destination, both ports, protocol << 24 of each packet, u32[4 * 2**k]."""
    n = min(idx.size, i64(state[LEFT]))
    at = i64(state[AT])
    template = frame.reshape(1, frame.size)
    for i in range(n):
        src, dst = i64(listed[4 * at]), i64(listed[4 * at + 1])
        ports, protocol = i64(listed[4 * at + 2]), i64(listed[4 * at + 3]) >> 24
        at = 4 * (at + 1) % listed.size >> 2
        total = i64(state[IP_SUM]) + protocol + (src >> 16) + (src & 0xFFFF)
        total += (dst >> 16) + (dst & 0xFFFF)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        store16(template, 0, CHECKSUM, total ^ 0xFFFF)
        template[0, L3 + ip4.PROTOCOL] = protocol
        store32(template, 0, L3 + ip4.SRC, src)
        store32(template, 0, L3 + ip4.DST, dst)
        store32(template, 0, L4, ports)
        store32(template, 0, L4 + 4, 26 << 16 if protocol == ip4.UDP else 0)
        template[0, L4 + tcp.OFFSET] = 0x50
        template[0, L4 + tcp.FLAGS] = tcp.ACK
        row = i64(rows[i])
        copy(byte_address(address(data), row, HEADROOM), address(frame), FRAME_BYTES)
        begin_packet(meta, row, FRAME_BYTES, PORT)
        idx[i] = row
        edge[i] = Rx.NEXT
    state[LEFT] -= u64(n)
    state[AT] = at
    return n


RX = Node("bench-rx", receive, Rx, kind=Kind.INPUT)
