# SPDX-License-Identifier: Apache-2.0
"""Input nodes of the cases with big tables: as bench-rx, with destinations out of a list.

The list is read from end to end and then again, so it takes a cache line for 16 packets or 4, and no
more of the caches than that.
"""

from __future__ import annotations

from benchmarks.frames import CHECKSUM, DST, DST6, FRAME_BYTES
from benchmarks.nodes import PORT, Rx
from vforward.graph.node import Kind, Node
from vforward.jit.be import store16, store32, store64
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import HEADROOM, U8, U32, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address


@kernel
def receive4(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    rows: U32, frame: U8, destinations: U32, state: U64,
) -> int:  # fmt: skip
    """state: packets to come; the next destination; sum of the header without destination."""
    n = min(idx.size, i64(state[0]))
    at = i64(state[1])
    template = frame.reshape(1, frame.size)
    for i in range(n):
        dst = i64(destinations[at])
        at = at + 1 & (destinations.size - 1)
        total = i64(state[2]) + (dst >> 16) + (dst & 0xFFFF)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        store32(template, 0, DST, dst)
        store16(template, 0, CHECKSUM, total ^ 0xFFFF)
        row = i64(rows[i])
        copy(byte_address(address(data), row, HEADROOM), address(frame), FRAME_BYTES)
        begin_packet(meta, row, FRAME_BYTES, PORT)
        idx[i] = row
        edge[i] = Rx.NEXT
    state[0] -= u64(n)
    state[1] = at
    return n


@kernel
def receive6(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    rows: U32, frame: U8, destinations6: U64, state: U64,
) -> int:  # fmt: skip
    """state: packets to come; the next destination, of two words each."""
    n = min(idx.size, i64(state[0]))
    at = i64(state[1])
    template = frame.reshape(1, frame.size)
    for i in range(n):
        store64(template, 0, DST6, destinations6[at])
        store64(template, 0, DST6 + 8, destinations6[at + 1])
        at = at + 2 & (destinations6.size - 1)
        row = i64(rows[i])
        copy(byte_address(address(data), row, HEADROOM), address(frame), FRAME_BYTES)
        begin_packet(meta, row, FRAME_BYTES, PORT)
        idx[i] = row
        edge[i] = Rx.NEXT
    state[0] -= u64(n)
    state[1] = at
    return n


RX4 = Node("bench-rx", receive4, Rx, kind=Kind.INPUT)
RX6 = Node("bench-rx", receive6, Rx, kind=Kind.INPUT)
