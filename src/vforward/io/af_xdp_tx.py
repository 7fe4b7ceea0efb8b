# SPDX-License-Identifier: Apache-2.0
"""af-xdp-tx: af-packet-tx that sends complete frames of one buffer through an AF_XDP socket.

Linux af_xdp.rst, linux/if_xdp.h. Frames are copied into slots of memory that the kernel knows (the
UMEM), and named in a ring. There is no XDP program, and the kernel copies again: on a veth that is
still much cheaper than a message for each frame. Why: docs/adr/0026.

    stack  u32[SLOTS]   stack[:FREE] are the slots that nobody has
    busy   u8[SLOTS]    1: in the ring, or on its way in the kernel
    ring   XDP_DESC[SLOTS], producer: we         slots to send
    done   u64[SLOTS],      producer: the kernel addresses of slots that have been sent

In copy mode the kernel reads the ring inside of our call and at no other time. A call ends when the
ring is empty: what it did not take after TRIES is made invalid, which the kernel skips, and dropped.
So nothing waits here for the next vector, and a flow's frames stay in order when the packet socket
sends the next ones. Linux before 6.17 says late what it has taken: then a frame that is counted as
dropped here may have been sent.

Without copies the driver reads the ring when it comes to it (io.af_xdp_receiver has such sockets). Then
frames stay in the ring, counted as sent, and it is called only where it asks for that; what finds no slot
is dropped. Between such frames and the packet socket's there is no order.

A socket whose interface was deleted is good for nothing any more (ENXIO): every frame goes by the packet
socket, until control has put another one in its place.

Reads   as af-packet-tx, and the done ring
Writes  as af-packet-tx, and the slots. Frees what was sent
Drops   as af-packet-tx (TxCount)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, Labels, Node
from vforward.io import af_packet_tx
from vforward.io.af_packet_tx import EAGAIN, EINTR, ENOBUFS, ENXIO, SEND, reason_of
from vforward.io.linux import MSG_DONTWAIT
from vforward.io.port import TxEdge, drop
from vforward.jit.atomics import (
    fence,
    load_acquire32,
    load_acquire64,
    store_release32,
    store_release64,
)
from vforward.jit.intrinsics import address, call4, copy, relax, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import (
    BUF_STRIDE,
    CHAINED,
    CSUM_PARTIAL,
    EDGE_HELD,
    GSO,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.buffer import buffer_bytes, byte_address
from vforward.memory.pool import put_one

# Words of the table ``xdp``, set at open; FREE, HEAD and TAIL are the node's own from then on. Who has
# the table: while LONGEST is 0 control, else the node, which gives it back by setting it to 0.
FD, MESSAGE, LONGEST, MEMORY, STACK, BUSY, FREE = range(7)
RING, PRODUCER, CONSUMER, HEAD = range(7, 11)
DONE, DONE_PRODUCER, DONE_CONSUMER, TAIL = range(11, 15)
LIMIT = 15  # control's: the longest frame that the interface's MTU allows now
ZERO_COPY, WAKE = 16, 17  # whether the driver sends; the address of the ring's flags
XDP_WORDS = 24

SLOTS = 1024
SLOT_SHIFT = 11
SLOT = 1 << SLOT_SHIFT  # the least that Linux allows
ETHERNET = 14
RUN_MIN = 4
"""Fewer frames in between others go with them: two more system calls would cost more than they save."""
TRIES = 64  # calls for one vector; Linux before 6.17 takes 32 frames in each
EBUSY = 16
LOW32 = 0xFFFFFFFF
INVALID = 0xFFFFFFFFFFFFFFFF
NEED_WAKEUP = 1  # XDP_RING_NEED_WAKEUP

# linux/if_xdp.h: struct xdp_desc
XDP_DESC = np.dtype([("addr", np.uint64), ("len", np.uint32), ("options", np.uint32)])


class TxCount(Labels):
    """Counters of af-xdp-tx: those of af-packet-tx, and one."""

    BYTES = 0, "bytes sent", INFO
    RING_FULL = 1, "the socket's send buffer stayed full"
    NO_BUFFERS = 2, "the interface's queue was full, or the kernel had no memory"
    REFUSED = 3, "the kernel refused the frame: longer than the MTU, or its offload fields are bad"
    LINK_DOWN = 4, "the interface is down or gone"
    XDP = 5, "frames sent by AF_XDP", INFO


@kernel
def hand_over(xdp: Any, longest: Any) -> None:
    """Give the table to the node, with the longest frame for it to send; 0: give it to control."""
    store_release64(address(xdp) + 8 * LONGEST, u64(longest))


@inline
def _longest(xdp: Any) -> int:
    """The longest frame to send here: what is longer the packet socket refuses, and that is counted."""
    limit = i64(load_acquire64(address(xdp) + 8 * LIMIT))
    return min(i64(load_acquire64(address(xdp) + 8 * LONGEST)), limit)


@inline
def _reap(xdp: Any) -> None:
    """Take back the slots whose frames the kernel has sent."""
    tail = i64(xdp[TAIL])
    n = (i64(load_acquire32(i64(xdp[DONE_PRODUCER]))) - tail) & LOW32
    if n == 0:
        return
    done = view(i64(xdp[DONE]), SLOTS, np.uint64)
    stack = view(i64(xdp[STACK]), SLOTS, np.uint32)
    busy = view(i64(xdp[BUSY]), SLOTS, np.uint8)
    free = i64(xdp[FREE])
    for k in range(min(n, SLOTS)):
        slot = i64(done[(tail + k) & (SLOTS - 1)] >> u64(SLOT_SHIFT))
        if slot < SLOTS and busy[slot]:
            busy[slot] = 0
            stack[free] = slot
            free += 1
    xdp[FREE] = u64(free)
    xdp[TAIL] = u64((tail + n) & LOW32)
    store_release32(i64(xdp[DONE_CONSUMER]), u64(xdp[TAIL]))


@inline
def _call(socket: Any, xdp: Any) -> int:
    """Have the kernel send what is in the ring. Returns 0 or the error's number."""
    return max(0, -call4(i64(socket[SEND]), i64(xdp[FD]), i64(xdp[MESSAGE]), 1, MSG_DONTWAIT))


@inline
def _why(error: Any) -> int:
    """Why frames are dropped that the kernel has not taken after an error, or none."""
    if error == 0:
        return TxCount.RING_FULL.value
    if error == EBUSY:
        return TxCount.NO_BUFFERS.value
    return reason_of(error)


@inline
def _taken(xdp: Any, since: Any) -> int:
    """How many entries of the ring the kernel has taken since the one of that number."""
    return (i64(load_acquire32(i64(xdp[CONSUMER]))) - since) & LOW32


@kernel
def _empty(socket: Any, xdp: Any, head: Any) -> int:
    """Have the kernel skip what was cancelled. Returns 0, or an error: it is not done.

    Linux skips one entry in a call (before 6.6 all of them), and may say so in the next.
    """
    error = i64(0)
    for _ in range(SLOTS + 2):
        if i64(load_acquire32(i64(xdp[CONSUMER]))) == head:
            return 0
        error = _call(socket, xdp)
        _reap(xdp)
        if error not in (0, EAGAIN, EINTR):
            return error
    return EAGAIN


@inline
def _post(data: Any, meta: Any, idx: Any, xdp: Any) -> None:
    """Copy frames into free slots, and put these into the ring."""
    ring = view(i64(xdp[RING]), SLOTS, XDP_DESC)
    stack = view(i64(xdp[STACK]), SLOTS, np.uint32)
    busy = view(i64(xdp[BUSY]), SLOTS, np.uint8)
    free, head, base = i64(xdp[FREE]), i64(xdp[HEAD]), address(data)
    for k in range(idx.size):
        row = i64(idx[k])
        free -= 1
        slot = i64(stack[free])
        busy[slot] = 1
        where = slot << SLOT_SHIFT
        length = buffer_bytes(meta, row)
        copy(i64(xdp[MEMORY]) + where, byte_address(base, row, meta[row].off), length)
        entry = ring[(head + k) & (SLOTS - 1)]
        entry.addr = where
        entry.len = length
        entry.options = 0
    xdp[FREE] = u64(free)
    xdp[HEAD] = u64((head + idx.size) & LOW32)
    store_release32(i64(xdp[PRODUCER]), u64(xdp[HEAD]))


@inline
def _cancel(xdp: Any, first: Any, n: Any) -> None:
    """Take n entries of the ring, from the one of that number on, out of it and free their slots."""
    ring = view(i64(xdp[RING]), SLOTS, XDP_DESC)
    stack = view(i64(xdp[STACK]), SLOTS, np.uint32)
    busy = view(i64(xdp[BUSY]), SLOTS, np.uint8)
    for k in range(n):
        entry = ring[(first + k) & (SLOTS - 1)]
        slot = i64(entry.addr >> u64(SLOT_SHIFT))
        if busy[slot]:
            busy[slot] = 0
            stack[i64(xdp[FREE])] = slot
            xdp[FREE] += u64(1)
        entry.addr = u64(INVALID)


@kernel
def _send(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, socket: Any, xdp: Any
) -> None:
    """Send frames, of which each is complete and fits a slot; there are slots enough."""
    n, head = i64(idx.size), i64(xdp[HEAD])
    error = _empty(socket, xdp, head)
    if error == ENXIO:
        hand_over(xdp, u64(0))
        af_packet_tx.tx(data, meta, idx, edge, count, pool, socket)
        return
    if error:
        for k in range(n):
            drop(meta, idx[k], edge, k, count, _why(error))
        return
    _post(data, meta, idx, xdp)
    for k in range(n):
        edge[k] = EDGE_HELD
    taken = i64(0)
    for _ in range(TRIES):
        error = _call(socket, xdp)
        seen = _taken(xdp, head)
        if error == EBUSY:  # the last frame that it took was dropped by the interface
            taken = min(max(taken + 1, seen), n)
            drop(meta, idx[taken - 1], edge, taken - 1, count, TxCount.NO_BUFFERS.value)
        else:
            taken = max(taken, min(seen, n))
        _reap(xdp)
        if taken == n or error not in (0, EAGAIN, EINTR, ENOBUFS, EBUSY):
            break
        relax()
    for k in range(taken):
        if edge[k] == EDGE_HELD:
            count[TxCount.BYTES] += u64(buffer_bytes(meta, idx[k]))
            count[TxCount.XDP] += u64(1)
            put_one(pool, i64(idx[k]))
    if taken < n:
        _cancel(xdp, head + taken, n - taken)
        if error == ENXIO:
            hand_over(xdp, u64(0))
            af_packet_tx.tx(data, meta, idx[taken:], edge[taken:], count, pool, socket)
            return
        for k in range(taken, n):
            drop(meta, idx[k], edge, k, count, _why(error))


@inline
def _send_later(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, socket: Any, xdp: Any
) -> None:
    """Leave frames, of which each is complete and fits a slot, to a driver that sends without copies."""
    n = min(i64(idx.size), i64(xdp[FREE]))
    _post(data, meta, idx[:n], xdp)
    for k in range(idx.size):
        if k >= n:
            drop(meta, idx[k], edge, k, count, TxCount.RING_FULL.value)
            continue
        count[TxCount.BYTES] += u64(buffer_bytes(meta, idx[k]))
        count[TxCount.XDP] += u64(1)
        edge[k] = EDGE_HELD
        put_one(pool, i64(idx[k]))
    fence()
    if i64(load_acquire32(i64(xdp[WAKE]))) & NEED_WAKEUP and _call(socket, xdp) == ENXIO:
        hand_over(xdp, u64(0))


@inline
def _fits(meta: Any, row: Any, longest: Any) -> bool:
    """Whether a packet is one frame, complete, that fits a slot."""
    if meta[row].flags & (CHAINED | CSUM_PARTIAL | GSO):
        return False
    return ETHERNET <= buffer_bytes(meta, row) <= longest and i64(meta[row].end) <= BUF_STRIDE


@inline
def _run(meta: Any, idx: Any, i: Any, most: Any, longest: Any) -> int:
    """How many packets from i on fit, most if there are more."""
    n = 0
    while n < most and i + n < idx.size and _fits(meta, i64(idx[i + n]), longest):
        n += 1
    return n


@kernel
def tx(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, socket: U64, xdp: U64
) -> None:
    size, longest = i64(idx.size), _longest(xdp)
    if longest:
        _reap(xdp)
    later = xdp[ZERO_COPY] != u64(0)
    if longest == 0 or not (later or i64(xdp[FREE]) >= size):  # or it is slow to give them back
        af_packet_tx.tx(data, meta, idx, edge, count, pool, socket)
        return
    i = 0
    while i < size:
        n = _run(meta, idx, i, size, longest)
        if n >= RUN_MIN or n == size:
            if later:
                _send_later(data, meta, idx[i : i + n], edge[i : i + n], count, pool, socket, xdp)
            else:
                _send(data, meta, idx[i : i + n], edge[i : i + n], count, pool, socket, xdp)
            i += n
            longest = _longest(xdp)
            continue
        n = max(n, 1)
        while i + n < size and _run(meta, idx, i + n, RUN_MIN, longest) < RUN_MIN:
            n += 1
        af_packet_tx.tx(data, meta, idx[i : i + n], edge[i : i + n], count, pool, socket)
        i += n


NODE = Node(name="af-xdp-tx", kernel=tx, edges=TxEdge, counters=TxCount)
