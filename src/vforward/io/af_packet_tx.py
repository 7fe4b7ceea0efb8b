# SPDX-License-Identifier: Apache-2.0
"""af-packet-tx: send frames through a packet socket, a vector per sendmmsg.

packet(7), sendmmsg(2) and linux/virtio_net.h. A frame's VIRTIO_NET_HDR is written into the headroom
directly before it, so that a frame of one buffer is one piece of memory to the kernel.

Reads   meta: off, end, next, flags, checksum and segmentation fields; data
Writes  data: the 10 bytes before the frame. Frees what was sent
Drops   what the kernel does not take (TxCount)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, Labels, Node
from vforward.io.linux import (
    IOVEC,
    MMSGHDR,
    MSG_DONTWAIT,
    VIRTIO_NET_HDR,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
)
from vforward.io.port import TxEdge, drop
from vforward.jit.intrinsics import address, call4, relax, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import (
    BUF_STRIDE,
    CHAINED,
    CSUM_PARTIAL,
    EDGE_HELD,
    GSO,
    U64,
    VECTOR_MAX,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.buffer import buffer_bytes, byte_address, packet_bytes
from vforward.memory.pool import put_one, put_rest

# Words of the table ``socket``, set at open.
FD, SEND, MESSAGES, PIECES, PLACES = range(5)
SOCKET_WORDS = 8

PIECES_EACH = 64
"""Buffers of the longest chain that is sent."""
VNET = VIRTIO_NET_HDR.itemsize
PIECE = IOVEC.itemsize
MESSAGE = MMSGHDR.itemsize
RETRIES = 64  # calls, about 50 microseconds, before a full socket means a drop

EINTR, EIO, ENXIO, EAGAIN, ENODEV, EBADFD, ENETDOWN, ENOBUFS = 4, 5, 6, 11, 19, 77, 100, 105


class TxCount(Labels):
    """Counters of af-packet-tx."""

    BYTES = 0, "bytes sent", INFO
    RING_FULL = 1, "the socket's send buffer stayed full"
    NO_BUFFERS = 2, "the interface's queue was full, or the kernel had no memory"
    REFUSED = 3, "the kernel refused the frame: longer than the MTU, or its offload fields are bad"
    LINK_DOWN = 4, "the interface is down or gone"


@inline
def _store_vnet_header(meta: Any, row: Any, where: Any) -> bool:
    """Write a packet's header to an address. Returns False when its fields cannot be right."""
    record = meta[row]
    flags = i64(record.flags)
    vnet = view(where, 1, VIRTIO_NET_HDR)[0]
    vnet.flags = 0
    vnet.gso_type = 0
    vnet.hdr_len = 0
    vnet.gso_size = 0
    vnet.csum_start = 0
    vnet.csum_offset = 0
    if not flags & (CSUM_PARTIAL | GSO):
        return True
    if flags & CSUM_PARTIAL:
        start = i64(record.csum_start) - i64(record.off)
        if start < 0 or start + i64(record.csum_off) + 2 > buffer_bytes(meta, row):
            return False
        vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM
        vnet.csum_start = start
        vnet.csum_offset = record.csum_off
    if flags & GSO:
        vnet.gso_type = record.gso_type
        vnet.gso_size = record.gso_size
        vnet.hdr_len = min(i64(record.hdr_len), buffer_bytes(meta, row))
    return True


@inline
def _lay_pieces(meta: Any, pieces: Any, used: Any, base: Any, row: Any) -> int:
    """List a packet's memory in pieces[used:]. Returns how many pieces, 0 if it cannot be sent."""
    record = meta[row]
    if record.off < VNET or i64(record.end) > BUF_STRIDE:
        return 0
    start = byte_address(base, row, record.off) - VNET
    if not _store_vnet_header(meta, row, start):
        return 0
    pieces[used].iov_base = start
    pieces[used].iov_len = VNET + buffer_bytes(meta, row)
    n = 1
    while meta[row].flags & CHAINED:
        row = i64(meta[row].next)
        if n == PIECES_EACH or row >= meta.size:
            return 0
        if i64(meta[row].end) > BUF_STRIDE:
            return 0
        pieces[used + n].iov_base = byte_address(base, row, meta[row].off)
        pieces[used + n].iov_len = buffer_bytes(meta, row)
        n += 1
    return n


@inline
def reason_of(error: Any) -> int:
    """Why frames are dropped after -error from sendmmsg."""
    if error in (EAGAIN, EINTR):
        return TxCount.RING_FULL.value
    if error == ENOBUFS:
        return TxCount.NO_BUFFERS.value
    if error in (ENETDOWN, ENXIO, ENODEV, EIO, EBADFD):  # EIO, EBADFD: a TAP's
        return TxCount.LINK_DOWN.value
    return TxCount.REFUSED.value


@kernel
def tx(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, socket: U64
) -> None:
    messages = view(i64(socket[MESSAGES]), VECTOR_MAX, MMSGHDR)
    pieces = view(i64(socket[PIECES]), VECTOR_MAX * PIECES_EACH, IOVEC)
    places = view(i64(socket[PLACES]), VECTOR_MAX, np.uint32)  # message -> i
    n, used = 0, 0
    for i in range(idx.size):
        pieces_here = _lay_pieces(meta, pieces, used, address(data), i64(idx[i]))
        if pieces_here == 0:
            drop(meta, idx[i], edge, i, count, TxCount.REFUSED.value)
            continue
        messages[n].msg_hdr.msg_iov = i64(socket[PIECES]) + PIECE * used
        messages[n].msg_hdr.msg_iovlen = pieces_here
        places[n] = i
        n += 1
        used += pieces_here
    done, tries = 0, 0
    while done < n:
        first = i64(socket[MESSAGES]) + MESSAGE * done
        sent = call4(i64(socket[SEND]), i64(socket[FD]), first, n - done, MSG_DONTWAIT)
        for m in range(done, done + max(sent, 0)):
            row = i64(idx[places[m]])
            count[TxCount.BYTES] += u64(packet_bytes(meta, row))
            edge[places[m]] = EDGE_HELD
            if meta[row].flags & CHAINED:
                put_rest(pool, meta, row)
            put_one(pool, row)
        if sent > 0:
            done, tries = done + sent, 0
            continue
        reason = reason_of(-sent)
        if tries < RETRIES and reason in (TxCount.RING_FULL.value, TxCount.NO_BUFFERS.value):
            tries += 1
            relax()
            continue
        last = done + 1 if reason == TxCount.REFUSED else n
        for m in range(done, last):
            drop(meta, i64(idx[places[m]]), edge, places[m], count, reason)
        done = last


NODE = Node(name="af-packet-tx", kernel=tx, edges=TxEdge, counters=TxCount)
