# SPDX-License-Identifier: Apache-2.0
"""vhost-rx: take frames that a virtual machine, or another virtio driver, sends.

VIRTIO 1.2, section 5.1.6 (network device) over rings.vring. Each buffer of a transmit queue is
a virtio-net header and a frame, in one descriptor or many. The queues are polled one after the other;
who fills the vector is last in the next one. Two passes over a queue's buffers: find the
buffers and ask for their cache lines; then copy. What the guest can still change is never looked at
twice: headers are parsed in our own buffers, after the copy.

While packets come a queue is polled and the driver told not to kick. It is asked to at the start, and
after virtqueue.IDLE_POLLS polls that found nothing, long before the worker would sleep; its eventfd then
lies in an epoll that the worker sleeps on. That is edge-triggered, so that nobody reads the guest's
descriptor, and is emptied now and then so that a needless kick wakes the worker once only.

Reads   the transmit queues, the guest's memory
Writes  data, meta (as every receive node); flags CHAINED, CSUM_PARTIAL, GSO; the used ring
Drops   before the graph sees them: see RxCount
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.io.port import RxEdge
from vforward.io.vhost_copy import AHEAD, CHAIN_PIECES, PIECES_AT, SLOTS, ask_to_read, copy_in
from vforward.io.vhost_header import take_over
from vforward.io.vhost_steer import Flows, hear
from vforward.jit.atomics import load_acquire64, load_once64
from vforward.jit.intrinsics import address, call2, call4, copy, view2
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import BUF_ROOM, HEADROOM, NIL, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address, packet_bytes
from vforward.memory.chain import LONGEST, begin_chain
from vforward.memory.pool import put, put_one, put_rest, take_one
from vforward.rings import guest_memory, vring
from vforward.rings import virtqueue as vq

# Words of the table ``port``, set at open.
NUMBER, RING, EPOLL_WAIT, EPOLL, EVENTS, BELL = range(6)  # the last is three words
# And of the nodes. vhost-rx: the pair of queues to begin with; polls of the port that found nothing.
# vhost-tx: pair + 1 by which all packets went last; 0: they went by several.
FIRST, POLLS, ALONE = 8, 9, 10
# By the port's thread: how many peers it has let go, and of each reason, in the order of RxCount. By the
# receive node: how many of them it has counted.
LET_GO, LET_GO_SEEN, WHY, WHY_SEEN = 11, 12, 16, 40
PORT_WORDS = 64
EPOLL_EVENTS = 8

DRAIN_EVERY = 64
ETHERNET = 14
PUBLISH_EVERY = 32
"""Buffers, after which the driver may have them back: it need not wait for all of a vector."""


class RxCount(Labels):
    """Counters of vhost-rx, and of virtio-rx, the other side's. LET_GO_X: for the reason X of a BadPeer."""

    BYTES = 0, "bytes received", INFO
    NO_BUFFER = 1, "frames left where they were, since no buffer was free: calls", INFO
    TRUNCATED = 2, "frames of no Ethernet length, or longer than any packet"
    BAD_OFFLOAD = 3, "frames whose checksum or segmentation fields are wrong, or not agreed on"
    NO_CHAIN = 4, "long frames for which too few buffers were free"
    MEMORY_GONE = 5, "frames whose memory was taken away while they were copied"
    LET_GO_REQUEST = 6, "peers let go: a message that is not known here, or was not asked for", INFO
    LET_GO_LENGTH = 7, "peers let go: a message of a wrong length, or half of one", INFO
    LET_GO_VERSION = 8, "peers let go: a message of another version of the protocol", INFO
    LET_GO_FEATURES = 9, "peers let go: features that were not offered, or too few", INFO
    LET_GO_DESCRIPTOR = (
        10,
        "peers let go: file descriptors missing, too many, or of a wrong kind",
        INFO,
    )
    LET_GO_MEMORY = (
        11,
        "peers let go: memory that cannot be used, was taken away, or lacks a queue",
        INFO,
    )
    LET_GO_QUEUE = 12, "peers let go: a queue that there is not, or of a wrong size or place", INFO
    LET_GO_QUEUES = 13, "peers let go: a device with fewer pairs of queues than the port uses", INFO
    LET_GO_ANSWER = 14, "peers let go: a device that gave no answer, or a wrong one", INFO
    LET_GO_REFUSED = 15, "peers let go: a device that answered with an error", INFO
    LET_GO_QUEUE_INDEX = 16, "peers let go: more buffers in a queue than there are", INFO
    LET_GO_QUEUE_DESCRIPTOR = 17, "peers let go: a descriptor's number outside of its table", INFO
    LET_GO_QUEUE_ADDRESS = 18, "peers let go: a buffer outside of the memory that was shared", INFO
    LET_GO_QUEUE_DIRECTION = (
        19,
        "peers let go: a buffer to write to that is to be read, or reverse",
        INFO,
    )
    LET_GO_QUEUE_INDIRECT = 20, "peers let go: an indirect table that is none", INFO
    LET_GO_QUEUE_LENGTH = (
        21,
        "peers let go: a chain without end or room, or a buffer's length",
        INFO,
    )
    LET_GO_QUEUE_NUMBER = 22, "peers let go: a used buffer that was not available", INFO
    LET_GO_QUEUE_MERGED = 23, "peers let go: a frame in no buffer, or in too many", INFO
    LET_GO_SOCKET = 24, "peers let go: the connection failed", INFO
    LET_GO_INTERNAL = 25, "peers let go: a fault of ours, which is in the log", INFO


REASONS = [count for count in RxCount if count.name.startswith("LET_GO_")]
FIRST_REASON, N_REASONS = int(REASONS[0]), len(REASONS)


@inline
def count_let_go(count: Any, port: Any) -> None:
    """Count the peers that the port's thread has let go since, by reason."""
    total = load_acquire64(address(port) + 8 * LET_GO)
    if total != port[LET_GO_SEEN]:
        for k in range(N_REASONS):
            n = load_acquire64(address(port) + 8 * (WHY + k))
            count[FIRST_REASON + k] += n - port[WHY_SEEN + k]
            port[WHY_SEEN + k] = n
        port[LET_GO_SEEN] = total


@inline
def forget_kicks(port: Any) -> None:
    """Empty the epoll now and then while nothing comes, before the queues are looked at: what a kick
    was for is found there.
    """
    polls = i64(port[POLLS]) + 1
    port[POLLS] = u64(polls)
    if polls >= vq.IDLE_POLLS and polls % DRAIN_EVERY == 0:
        call4(i64(port[EPOLL_WAIT]), i64(port[EPOLL]), i64(port[EVENTS]), EPOLL_EVENTS, 0)


@inline
def interrupt(queue: Any, port: Any, since: Any) -> None:
    """Call the driver for what was published since NEXT was that, if it wants that."""
    fd = i64(queue[vq.CALL])
    if fd >= 0 and vring.wants_call(queue, since):
        call2(i64(port[RING]), address(port) + 8 * BELL, fd)


@kernel
def frame_of(
    data: Any, meta: Any, count: Any, pool: Any, work: Any, n: Any, header: Any, features: Any, port: Any
) -> Any:  # fmt: skip
    """Take the frame whose n pieces are listed in work (io.vhost_copy), behind so many bytes of header.

    features: as a device has them. Returns its row, or NIL: it is dropped, and counted.
    """
    pieces = view2(address(work) + 8 * PIECES_AT, CHAIN_PIECES, 2, np.int64)
    total = -header
    for p in range(n):
        total += pieces[p, 1]
    if total < ETHERNET or total > LONGEST:
        count[RxCount.TRUNCATED] += u64(1)
        return i64(NIL)
    row = take_one(pool)
    if row == NIL or not begin_chain(meta, pool, row, total, port):
        if row != NIL:
            put_one(pool, row)
        count[RxCount.NO_CHAIN] += u64(1)
        return i64(NIL)
    copy_in(data, meta, work, pieces, header, row)
    if not take_over(data, meta, work, features, row):
        put_rest(pool, meta, row)
        put_one(pool, row)
        count[RxCount.BAD_OFFLOAD] += u64(1)
        return i64(NIL)
    return row


@kernel
def _any(
    data: Any, meta: Any, count: Any, pool: Any, queue: Any, memory: Any, work: Any, token: Any,
    port: Any,
) -> Any:  # fmt: skip
    """Take a frame of any shape. Returns its row, NIL (dropped, and counted) or -Fault."""
    pieces = view2(address(work) + 8 * PIECES_AT, CHAIN_PIECES, 2, np.int64)
    n = vring.read_chain(queue, memory, pieces, 0, token, False, vring.is_packed(queue))
    if n < 0:
        return n
    header, features = i64(queue[vq.HEADER]), i64(queue[vq.FEATURES])
    return frame_of(data, meta, count, pool, work, n, header, features, port)


@inline
def _look_ahead(queue: Any, memory: Any, work: Any, n: Any, packed: Any) -> Any:
    """For each of n buffers: its token; where it lies and how long it is if it is one frame of the
    simple kind, which most are, else 0. And ask for the first AHEAD. Returns how many there are.
    """
    header = i64(queue[vq.HEADER])
    cursor = vring.begin(queue, packed)
    for k in range(n):
        token, where, length, flags = vring.look(queue, cursor, packed)
        if token == vring.NONE:
            return k
        here = i64(0)
        if flags == 0 and header + ETHERNET <= length <= header + BUF_ROOM:
            here = guest_memory.locate(memory, where, length)
        work[k] = u64(token)
        work[SLOTS + k] = here
        work[2 * SLOTS + k] = length
        ask_to_read(work, k, AHEAD)
        if token < 0:
            return k + 1
        cursor = vring.following(queue, cursor, token, packed)
    return n


@inline
def _frames(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, queue: Any, memory: Any,
    port: Any, work: Any, n: Any, packed: Any,
) -> Any:  # fmt: skip
    """_take, of a queue of one layout."""
    fault = -min(n, 0)
    n = _look_ahead(queue, memory, work, min(n, idx.size), packed)
    header, since = i64(queue[vq.HEADER]), i64(queue[vq.NEXT])
    base, number = address(data), port[NUMBER]
    taken, kept, total, unpublished = 0, 0, i64(0), 0
    while taken < n:
        ask_to_read(work, taken + AHEAD, n)
        here, length = i64(work[SLOTS + taken]), i64(work[2 * SLOTS + taken]) - header
        if here != 0 and load_once64(here) & u64(0xFFFF) == u64(0):  # neither flags nor gso_type
            row = take_one(pool)
            if row == NIL:
                count[RxCount.NO_BUFFER] += u64(1)
                break
            copy(byte_address(base, row, HEADROOM), here + header, length)
            begin_packet(meta, row, length, number)
        else:
            row = _any(data, meta, count, pool, queue, memory, work, i64(work[taken]), number)
            if row < 0:
                fault = -row
                break
        vring.put_used(queue, unpublished, i64(work[taken]), 0, packed)
        unpublished += 1
        taken += 1
        if unpublished == PUBLISH_EVERY:
            vring.publish(queue, unpublished, packed)
            unpublished = 0
        if row != NIL:
            total += packet_bytes(meta, row)
            idx[kept] = row
            edge[kept] = RxEdge.NEXT
            kept += 1
    if guest_memory.gone(memory):
        put(pool, meta, idx, kept)
        count[RxCount.MEMORY_GONE] += u64(kept)
        taken, kept, total, fault = 0, 0, i64(0), i64(vq.Fault.MEMORY)
    if taken > 0:
        vring.publish(queue, unpublished, packed)
        interrupt(queue, port, since)
    if fault:
        vq.give_up(queue, fault)
    count[RxCount.BYTES] += u64(total)
    return taken < n or n == idx.size, kept


@kernel
def _take(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, queue: Any, memory: Any,
    port: Any, work: Any, n: Any,
) -> Any:  # fmt: skip
    """Take the frames of n available buffers (vring.waiting), or as many as idx has rows for.

    Returns whether some may be left, and how many packets that were. n below 0: a Fault.
    """
    if vring.is_packed(queue):
        return _frames(data, meta, idx, edge, count, pool, queue, memory, port, work, n, True)
    return _frames(data, meta, idx, edge, count, pool, queue, memory, port, work, n, False)


@kernel
def rx(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, queues: vq.Queues,
    flows: Flows, memory: U64, port: U64, work: U64,
) -> int:  # fmt: skip
    forget_kicks(port)
    count_let_go(count, port)
    pairs, kept = queues.shape[0] // 2, 0
    following = i64(port[FIRST])
    for _ in range(pairs):
        pair = following
        queue = queues[2 * pair + 1]
        following = pair + 1 if pair + 1 < pairs else 0
        if not vq.ready(queue):
            continue
        n = vring.waiting(queue, vring.is_packed(queue))
        if n == 0:
            if vq.is_idle(queue):
                vring.ask_for_kicks(queue)
            continue
        port[POLLS] = u64(0)
        if vq.was_idle(queue):
            vring.refuse_kicks(queue)
        left, received = _take(
            data, meta, idx[kept:], edge[kept:], count, pool, queue, memory, port, work, n
        )
        if pairs > 1:
            hear(data, meta, idx[kept : kept + received], flows, pair)
            queue[vq.MOVED] += u64(received)
        kept += received
        if left or kept == idx.size:  # no more room, or no more buffers: others come first now
            port[FIRST] = u64(following)
            break
    return kept


NODE = Node("vhost-rx", rx, RxEdge, RxCount, Kind.INPUT)
