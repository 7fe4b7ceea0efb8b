# SPDX-License-Identifier: Apache-2.0
"""The two ends of a measured graph: a node that receives, and one that sends; neither is measured.

bench-rx stands for a port's receive node: it writes the whole frame and the meta record of each
packet, with a new random destination. So the measured nodes find a packet in the caches as they
would behind a real port, and find nothing else of it there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.frames import CHECKSUM, DST, FRAME_BYTES
from vforward.graph.node import Kind, Labels, Node
from vforward.io.null import swallow
from vforward.io.port import TxCount
from vforward.jit.be import store16, store32, store64
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import (
    EDGE_HELD,
    HEADROOM,
    U8,
    U32,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)  # fmt: skip
from vforward.memory.buffer import begin_packet, byte_address

PORT = 1
SOURCE_HIGH = np.uint64(0x0200)
"""The first two bytes of every station's MAC."""


class Rx(Labels):
    """The one way out."""

    NEXT = 0, "every packet"


class Tx(Labels):
    """None: nothing goes on from here."""


@kernel
def receive(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    rows: U32, frame: U8, prefixes: U32, state: U64,
) -> int:  # fmt: skip
    """state: packets to come; random number; sum of the header without destination; the first prefix
    where they lie side by side, and 0 where they do not. There the prefixes need not be read, which
    costs nothing here but takes cache away from the routes."""
    n = min(idx.size, np.int64(state[0]))
    x = state[1]
    template = frame.reshape(1, frame.size)
    for i in range(n):
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
        which = np.int64(((x >> np.uint64(32)) * np.uint64(prefixes.size)) >> np.uint64(32))
        prefix = np.int64(state[3]) + (which << 8) if state[3] else np.int64(prefixes[which])
        dst = prefix | np.int64(x & np.uint64(0xFF))
        total = np.int64(state[2]) + (dst >> 16) + (dst & 0xFFFF)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        store32(template, 0, DST, dst)
        store16(template, 0, CHECKSUM, total ^ 0xFFFF)
        row = np.int64(rows[i])
        copy(byte_address(address(data), row, HEADROOM), address(frame), FRAME_BYTES)
        begin_packet(meta, row, FRAME_BYTES, PORT)
        idx[i] = row
        edge[i] = Rx.NEXT
    state[0] -= np.uint64(n)
    state[1] = x
    return n


@kernel
def send(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    edge[:] = EDGE_HELD


@kernel
def nothing(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    """Not even edges: those of the node before stay as they are."""


RX = Node("bench-rx", receive, Rx, kind=Kind.INPUT)
TX = Node("bench-tx", send, Tx)
DROP = Node("bench-drop", swallow, Tx, TxCount)
"""Gives buffers back."""
NOTHING = Node("bench-nothing", nothing, Rx)


@inline
def station(number: Any) -> Any:
    """The MAC of a station, u64: 02:00 and 32 bits that are all over the place."""
    return SOURCE_HIGH << u64(32) | number * u64(0x9E3779B1) & u64(0xFFFFFFFF)


@kernel
def receive_bridged(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, rows: U32, frame: U8, state: U64
) -> int:
    """Frames between two ports of a bridge, a vector from the one, a vector from the other.

    state: packets to come; random number; stations, every second one at port 1, the others at 2.
    """
    n = min(idx.size, i64(state[0]))
    x = state[1]
    half = state[2] >> u64(1)
    template = frame.reshape(1, frame.size)
    side = x & u64(1)
    for i in range(n):
        x ^= x << u64(13)
        x ^= x >> u64(7)
        x ^= x << u64(17)
        source = ((x >> u64(32)) * half) >> u64(32)
        to = ((x & u64(0xFFFFFFFF)) * half) >> u64(32)
        store64(template, 0, 4, station(source << u64(1) | side))
        store64(template, 0, 0, station(to << u64(1) | (side ^ u64(1))) << u64(16) | SOURCE_HIGH)
        row = i64(rows[i])
        copy(byte_address(address(data), row, HEADROOM), address(frame), FRAME_BYTES)
        begin_packet(meta, row, FRAME_BYTES, PORT + i64(side))
        idx[i] = row
        edge[i] = Rx.NEXT
    state[0] -= u64(n)
    state[1] = x
    return n


RX_BRIDGED = Node("bench-rx", receive_bridged, Rx, kind=Kind.INPUT)
