# SPDX-License-Identifier: Apache-2.0
"""tap-tx: send frames to the host by a TAP of one queue or several, a writev each.

Linux tuntap.rst. A flow goes by one queue, chosen by its hash. Linux remembers by which queue a flow has
last been sent here and gives it the host's answers there (tun_flow_update), so a flow has one queue both
ways, and the host's CPUs do not wait for each other.

    sockets     u64[queues, SOCKET_WORDS], flat: of each queue what io.af_packet_tx sends by
    work        u64[WORK_WORDS]: a vector sorted by queue; see the offsets below

Reads   meta: off, end, next, flags, checksum and segmentation fields; data
Writes  data: the 10 bytes before the frame. Frees what was sent
Drops   what the kernel does not take (io.af_packet_tx.TxCount)
"""

from __future__ import annotations

import numpy as np

from vforward.graph.node import Node
from vforward.io import af_packet_tx
from vforward.io.af_packet_tx import SOCKET_WORDS, TxCount
from vforward.io.port import TxEdge
from vforward.io.spread import spread
from vforward.jit.intrinsics import address, view
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import U64, VECTOR_MAX, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import sound
from vforward.packet.flow_hash import frame_hash

QUEUES_MAX = 16

# Words of ``work``: where a queue's packets end among the sorted ones; a packet's place among them;
# then the sorted rows, u32, and what became of them, u8.
END_AT = 0
PLACE_AT = END_AT + QUEUES_MAX
ROWS_AT = PLACE_AT + VECTOR_MAX
EDGES_AT = ROWS_AT + VECTOR_MAX // 2
WORK_WORDS = EDGES_AT + VECTOR_MAX // 8


@kernel
def tx(
    data: Data,
    meta: Meta,
    idx: Rows,
    edge: Edges,
    count: Counts,
    pool: U64,
    sockets: U64,
    work: U64,
) -> None:
    n = sockets.size // SOCKET_WORDS
    if n == 1:
        af_packet_tx.tx(data, meta, idx, edge, count, pool, sockets)
        return
    rows = view(address(work) + 8 * ROWS_AT, idx.size, np.uint32)
    edges = view(address(work) + 8 * EDGES_AT, idx.size, np.uint8)
    for i in range(idx.size):
        row, queue = i64(idx[i]), i64(0)
        if sound(meta, row):
            queue = frame_hash(data, row, i64(meta[row].off), i64(meta[row].end)) * n >> 32
        work[PLACE_AT + i] = u64(queue)
    spread(idx, work, n, END_AT, PLACE_AT, rows)
    first = i64(0)
    for queue in range(n):
        end = i64(work[END_AT + queue])
        if end > first:
            words = sockets[queue * SOCKET_WORDS : (queue + 1) * SOCKET_WORDS]
            here, left = rows[first:end], edges[first:end]
            af_packet_tx.tx(data, meta, here, left, count, pool, words)
        first = end
    for i in range(idx.size):
        edge[i] = edges[i64(work[PLACE_AT + i])]


NODE = Node("tap-tx", tx, TxEdge, TxCount)
