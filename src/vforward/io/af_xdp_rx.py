# SPDX-License-Identifier: Apache-2.0
"""af-xdp-rx: take frames from AF_XDP sockets, one for each queue of an interface.

Linux af_xdp.rst, linux/if_xdp.h. A frame is copied out of its slot into a buffer, and the slot goes back
to the kernel at once: so slots, which lie in memory that the kernel has too, are never waited for.

    queues  u64[QUEUES_MAX, QUEUE_WORDS], flat: of each queue
    PORT                    the port's number
    MEMORY, SIZE            the socket's memory (UMEM), in bytes
    SLOT, SLOTS             bytes of a slot (a power of two), and how many; entries of both rings
    RING, PRODUCER, CONSUMER, AT        received: XDP_DESC[SLOTS]; AT is our index
    FILL, FILL_PRODUCER, FILLED         slots for the kernel: u64[SLOTS]; FILLED is our index
    FRAMES                  how many it brought
    WAKE                    0, or of a driver without copies, which may ask to be called when slots
                            came, the address of the fill ring's flags
    FD, RECEIVE, MESSAGE    what it is called with
    and of queue 0
    OPEN                    how many queues there are. Who has the table: control while it is 0, else the
                            node; what control sets to 0 it has after a quiet point
    FIRST                   the queue that is asked first in the next round

Reads   the received rings, frames
Writes  data, meta (as every receive node); flags CHAINED, CSUM_PARTIAL; the fill rings
Drops   before the graph sees them: frames that cannot be, or that find too few buffers
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.io.af_xdp_tx import ETHERNET, LOW32, NEED_WAKEUP, XDP_DESC
from vforward.io.linux import MSG_DONTWAIT
from vforward.io.port import RxEdge
from vforward.jit.atomics import (
    fence,
    load_acquire32,
    load_acquire64,
    store_release32,
    store_release64,
)
from vforward.jit.intrinsics import address, ask_read, call4, copy, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import BUF_ROOM, HEADROOM, NIL, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address
from vforward.memory.chain import fill
from vforward.memory.pool import put_one, take_one
from vforward.packet.notice_partial import notice

# Words of a queue in the table ``queues``. Those up to MESSAGE are set at open.
PORT, MEMORY, SIZE, SLOT, SLOTS, RING, PRODUCER, CONSUMER = range(8)
FILL, FILL_PRODUCER, WAKE, FD, RECEIVE, MESSAGE = range(8, 14)
AT, FILLED, FRAMES, OPEN, FIRST = range(14, 19)
QUEUE_WORDS = 24
QUEUES_MAX = 64

AHEAD = 4  # frames that are asked for before they are needed


class RxCount(Labels):
    """Counters of af-xdp-rx."""

    BYTES = 0, "bytes received", INFO
    NO_BUFFER = 1, "frames left where they were, since no buffer was free: calls", INFO
    TRUNCATED = 2, "frames of no Ethernet length, or that do not lie in their memory"
    NO_CHAIN = 3, "long frames for which too few buffers were free"
    PARTIAL = 4, "frames whose checksum their sender left to be completed", INFO


@kernel
def hand_over(queues: Any, n: Any) -> None:
    """Give the table to the node, with so many queues."""
    store_release64(address(queues) + 8 * OPEN, u64(n))


@inline
def _take(
    data: Any, meta: Any, count: Any, pool: Any, queue: Any, where: Any, length: Any, row: Any
) -> bool:
    """Copy a frame into a fresh buffer. Returns whether it is a packet now."""
    if where < 0 or length < ETHERNET or where > i64(queue[SIZE]) - length:
        count[RxCount.TRUNCATED] += u64(1)
        return False
    source = i64(queue[MEMORY]) + where
    if length <= BUF_ROOM:
        copy(byte_address(address(data), row, HEADROOM), source, length)
        begin_packet(meta, row, length, queue[PORT])
    elif not fill(data, meta, pool, row, source, length, queue[PORT]):
        count[RxCount.NO_CHAIN] += u64(1)
        return False
    count[RxCount.BYTES] += u64(length)
    if notice(data, meta, row):
        count[RxCount.PARTIAL] += u64(1)
    return True


@inline
def _wake(queue: Any) -> None:
    """Call a driver that asks for that. Its flag is looked at when it can see all slots."""
    if queue[WAKE]:
        fence()
        if i64(load_acquire32(i64(queue[WAKE]))) & NEED_WAKEUP:
            call4(i64(queue[RECEIVE]), i64(queue[FD]), i64(queue[MESSAGE]), 1, MSG_DONTWAIT)


@kernel
def _queue(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, queue: Any, n: Any
) -> Any:
    """Take the frames of a queue to idx[n:]. Returns how many are in idx now."""
    at, filled, slots = i64(queue[AT]), i64(queue[FILLED]), i64(queue[SLOTS])
    waiting = (i64(load_acquire32(i64(queue[PRODUCER]))) - at) & LOW32
    most = min(waiting, slots, idx.size - n)
    if most == 0:
        _wake(queue)
        return n
    ring = view(i64(queue[RING]), slots, XDP_DESC)
    free = view(i64(queue[FILL]), slots, np.uint64)
    mask, slot_mask, size = slots - 1, i64(queue[SLOT]) - 1, i64(queue[SIZE])
    taken = 0
    while taken < most:
        if taken + AHEAD < most:
            ask_read(i64(queue[MEMORY]) + i64(ring[(at + taken + AHEAD) & mask].addr))
        row = take_one(pool)
        if row == NIL:
            count[RxCount.NO_BUFFER] += u64(1)
            break
        entry = ring[(at + taken) & mask]
        where, length = i64(entry.addr), i64(entry.len)
        taken += 1
        if _take(data, meta, count, pool, queue, where, length, row):
            idx[n] = row
            edge[n] = RxEdge.NEXT
            n += 1
        else:
            put_one(pool, row)
        if 0 <= where < size:
            free[filled & mask] = u64(where & ~slot_mask)
            filled += 1
    queue[AT] = u64((at + taken) & LOW32)
    queue[FILLED] = u64(filled & LOW32)
    queue[FRAMES] += u64(taken)
    store_release32(i64(queue[CONSUMER]), queue[AT])
    store_release32(i64(queue[FILL_PRODUCER]), queue[FILLED])
    _wake(queue)
    return n


@kernel
def rx(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, queues: U64
) -> int:
    opened, n = i64(load_acquire64(address(queues) + 8 * OPEN)), i64(0)
    first = i64(queues[FIRST])
    if first >= opened:  # there were more before
        first = i64(0)
    for k in range(opened):
        number = first + k if first + k < opened else first + k - opened
        queue = queues[number * QUEUE_WORDS : (number + 1) * QUEUE_WORDS]
        n = _queue(data, meta, idx, edge, count, pool, queue, n)
        if n == idx.size:
            queues[FIRST] = u64(number + 1 if number + 1 < opened else 0)
            break
    return n


NODE = Node("af-xdp-rx", rx, RxEdge, RxCount, Kind.INPUT)
