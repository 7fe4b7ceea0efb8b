# SPDX-License-Identifier: Apache-2.0
"""tap-rx: read frames that the host sends on a TAP interface.

Linux tuntap.rst and linux/virtio_net.h. One readv brings one frame, its VIRTIO_NET_HDR in the
headroom directly before it. What does not fit the first buffer (super-frames of up to 64 KB) comes
into an overflow area, and is copied into the chain from there.

    tap     u64[queues, TAP_WORDS], flat: of each queue
    FD, READ        the descriptor, the address of vf_readv
    PIECES          two IOVECs: the buffer, and the overflow area at OVERFLOW
    PORT            the port's number
    SKIP            rounds still to pass before an idle queue is read again
    FRAMES          how many it brought
    FIRST           of queue 0: the one that is read first in the next round

A read that finds nothing costs a system call, as much as a few packets: an idle queue is read in one
round of IDLE_ROUNDS. A queue that fills the vector is the last one in the next round.

Reads   the descriptor
Writes  data, meta (as every receive node); flags CHAINED, CSUM_PARTIAL, CSUM_VALID, GSO
Drops   before the graph sees them: frames that are no Ethernet frames, or that find no buffers
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.io.af_packet_rx import vnet_header
from vforward.io.linux import IOVEC, VIRTIO_NET_HDR
from vforward.io.port import RxEdge
from vforward.jit.intrinsics import address, call3, view
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import BUF_ROOM, HEADROOM, NIL, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import byte_address
from vforward.memory.chain import begin_chain, scatter
from vforward.memory.pool import put_one, put_rest, take_one

# Words of a queue in the table ``tap``. Those up to PORT are set at open.
FD, READ, PIECES, OVERFLOW, PORT, SKIP, FRAMES, FIRST = range(8)
TAP_WORDS = 8

VNET = VIRTIO_NET_HDR.itemsize
ETHERNET = 14
OVERFLOW_BYTES = 65536 + 64
IDLE_ROUNDS = 8


class RxCount(Labels):
    """Counters of tap-rx and af-packet-raw-rx."""

    BYTES = 0, "bytes received", INFO
    NO_BUFFER = 1, "frames left where they were, since no buffer was free: calls", INFO
    TRUNCATED = 2, "frames that did not come whole, or of no Ethernet length"
    BAD_OFFLOAD = 3, "frames whose checksum or segmentation fields point outside of their headers"
    NO_CHAIN = 4, "long frames for which too few buffers were free"


@kernel
def take_up(
    data: Any, meta: Any, pool: Any, row: Any, length: Any, overflow: Any, port: Any, tag: Any
) -> Any:
    """Make a frame of length bytes, which was read into a buffer and an overflow area, a packet.

    tag: bytes of a VLAN tag to come behind the MAC addresses, which are still at HEADROOM: the packet
    begins so much before. Returns the counter if it is none, or -1.
    """
    if length < ETHERNET:
        return i64(RxCount.TRUNCATED)
    if not begin_chain(meta, pool, row, length, port):
        return i64(RxCount.NO_CHAIN)
    if length > BUF_ROOM:
        scatter(data, meta, i64(meta[row].next), overflow, length - BUF_ROOM)
    meta[row].off = meta[row].l3 = meta[row].l4 = HEADROOM - tag
    if not vnet_header(data, meta, row, byte_address(address(data), row, HEADROOM) - VNET, tag):
        put_rest(pool, meta, row)
        return i64(RxCount.BAD_OFFLOAD)
    return i64(-1)


@kernel
def _read(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, pool: Any, tap: Any, n: Any
) -> Any:
    """Read one queue's frames to idx[n:]. Returns how many are in idx now."""
    pieces = view(i64(tap[PIECES]), 2, IOVEC)
    for tried in range(idx.size - n):
        row = take_one(pool)
        if row == NIL:
            count[RxCount.NO_BUFFER] += u64(1)
            break
        pieces[0].iov_base = byte_address(address(data), row, HEADROOM) - VNET
        got = call3(i64(tap[READ]), i64(tap[FD]), i64(tap[PIECES]), 2)
        if got < 0:  # nothing there (EAGAIN), or the interface is down or gone
            put_one(pool, row)
            if tried == 0:
                tap[SKIP] = u64(IDLE_ROUNDS - 1)
            break
        tap[FRAMES] += u64(1)
        overflow = i64(tap[OVERFLOW])
        reason = take_up(data, meta, pool, row, got - VNET, overflow, tap[PORT], 0)
        if reason >= 0:
            count[reason] += u64(1)
            put_one(pool, row)
            continue
        count[RxCount.BYTES] += u64(got - VNET)
        idx[n] = row
        edge[n] = RxEdge.NEXT
        n += 1
    return n


@kernel
def rx(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, tap: U64) -> int:
    queues, n = tap.size // TAP_WORDS, i64(0)
    first = i64(tap[FIRST])
    for k in range(queues):
        queue = first + k if first + k < queues else first + k - queues
        words = tap[queue * TAP_WORDS : (queue + 1) * TAP_WORDS]
        if words[SKIP]:
            words[SKIP] -= u64(1)
            continue
        n = _read(data, meta, idx, edge, count, pool, words, n)
        if n == idx.size:
            tap[FIRST] = u64(queue + 1 if queue + 1 < queues else 0)
            break
    return n


NODE = Node("tap-rx", rx, RxEdge, RxCount, Kind.INPUT)
