# SPDX-License-Identifier: Apache-2.0
"""af-packet-rx: take frames from a packet socket's mapped ring.

packet_mmap.rst (TPACKET_V2), packet(7) and linux/virtio_net.h.

Each slot of the ring holds a TPACKET2_HDR, then, at tp_mac, the frame with its VIRTIO_NET_HDR
directly before it. Owner of a slot: the kernel, or this node while tp_status has TP_STATUS_USER.

A frame too long for its slot (a 64 KB super-frame) waits, in the same order, in the socket's queue,
and its slot says TP_STATUS_COPY: recvmmsg scatters it straight into the buffers of its chain. So
slots can be small and many. No other frame costs a system call.

Reads   the ring, the socket's queue of long frames
Writes  data, meta (as every receive node); flags CHAINED, CSUM_PARTIAL, CSUM_VALID, GSO
Drops   in the ring, before the graph sees them: frames whose bytes or offload fields are not whole
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.io.linux import (
    IOVEC,
    MSG_DONTWAIT,
    TP_STATUS_COPY,
    TP_STATUS_KERNEL,
    TP_STATUS_USER,
    TP_STATUS_VLAN_TPID_VALID,
    TP_STATUS_VLAN_VALID,
    TPACKET2_HDR,
    VIRTIO_NET_HDR,
    VIRTIO_NET_HDR_F_DATA_VALID,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6,
    VIRTIO_NET_HDR_GSO_UDP_L4,
)
from vforward.io.port import RxEdge
from vforward.jit import be
from vforward.jit.atomics import load_acquire32, store_release32
from vforward.jit.intrinsics import address, call4, copy, prefetch, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import (
    BUF_ROOM,
    CHAINED,
    CSUM_PARTIAL,
    CSUM_VALID,
    GSO,
    HEADROOM,
    NIL,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.buffer import begin_packet, buffer_bytes, byte_address, packet_bytes
from vforward.memory.pool import put_one, put_rest, take, take_one

# Words of the table ``ring``. Addresses and sizes are set at open; AT is the node's own.
RING, SLOT, SLOTS, AT, PORT, FD, RECEIVE, MESSAGE, PIECES, CHAIN, VNET = range(11)
RING_WORDS = 16

CHAIN_MAX = 36
"""Buffers of the longest frame taken: 64 KB of packet and its headers."""
PIECES_MAX = CHAIN_MAX + 3
AHEAD = 6  # slots; further ahead gains nothing
TRIES = 3  # a socket's pending error is reported once, in place of the frame
MACS = 12  # bytes before the VLAN tag
ETHERNET = 14
SHORTEST = 20
"""Bytes of the shortest network header (IPv4's): no checksum of a transport begins before its end."""
VLAN = 0x8100
TCP_CSUM_OFF = 16
DROPPED = -1
HEADER = TPACKET2_HDR.itemsize
VNET_BYTES = VIRTIO_NET_HDR.itemsize


class RxCount(Labels):
    """Counters of af-packet-rx."""

    BYTES = 0, "bytes received", INFO
    NO_BUFFER = 1, "frames left where they were, since no buffer was free: calls", INFO
    TRUNCATED = 2, "frames that the ring did not hold whole, or of no Ethernet length"
    BAD_OFFLOAD = 3, "frames whose checksum or segmentation fields point outside of their headers"


@inline
def vnet_header(data: Any, meta: Any, row: Any, where: Any, tag: Any) -> bool:
    """Take over the virtio_net_hdr at an address. Returns whether its fields are within bounds."""
    vnet = view(where, 1, VIRTIO_NET_HDR)[0]
    if vnet.flags == 0 and vnet.gso_type == 0:
        return True
    return _offload(data, meta, row, vnet, tag)


@kernel
def _offload(data: Any, meta: Any, row: Any, vnet: Any, tag: Any) -> bool:
    record = meta[row]
    begin, first = i64(record.off), buffer_bytes(meta, row)
    flags = 0
    hdr_len = min(i64(vnet.hdr_len) + tag, first)
    if vnet.flags & VIRTIO_NET_HDR_F_DATA_VALID:
        flags = CSUM_VALID
    if vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:
        start, off = i64(vnet.csum_start) + tag, i64(vnet.csum_offset)
        if start < ETHERNET + SHORTEST + tag or start + off + 2 > first:
            return False
        flags = CSUM_PARTIAL
        record.csum_start = begin + start
        record.csum_off = off
        # The kernel's hdr_len says how much lies together, which may be more than the headers.
        if off == TCP_CSUM_OFF:
            doff = i64(data[row, begin + start + 12]) >> 4
            hdr_len = min(start + 4 * doff, first)
        else:
            hdr_len = min(start + 8, first)
    kind = i64(vnet.gso_type) & ~VIRTIO_NET_HDR_GSO_ECN
    if kind:
        known = (VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4)
        if kind not in known or vnet.gso_size == 0:
            return False
        flags |= GSO
        record.gso_type = vnet.gso_type
        record.gso_size = vnet.gso_size
        record.hdr_len = hdr_len
    record.flags = record.flags | np.uint32(flags)
    return True


@inline
def _store_tag(data: Any, row: Any, head: Any, status: Any) -> None:
    tpid = i64(head.tp_vlan_tpid) if status & TP_STATUS_VLAN_TPID_VALID else i64(VLAN)
    be.store16(data, row, HEADROOM + MACS, tpid)
    be.store16(data, row, HEADROOM + MACS + 2, i64(head.tp_vlan_tci))


@inline
def _short(data: Any, meta: Any, row: Any, ring: Any, frame: Any, length: Any, tag: Any) -> bool:
    """Copy a frame that fits one buffer out of its slot."""
    to = byte_address(address(data), row, HEADROOM)
    begin_packet(meta, row, length + tag, ring[PORT])
    if tag:
        copy(to, frame, MACS)
        copy(to + MACS + tag, frame + MACS, length - MACS)
    else:
        copy(to, frame, length)
    return vnet_header(data, meta, row, frame - VNET_BYTES, tag)


@inline
def _take_chain(meta: Any, pool: Any, ring: Any, n: Any, total: Any) -> int:
    """Take n buffers and link them for total bytes. Returns the first, or NIL if there are less."""
    rows = view(i64(ring[CHAIN]), CHAIN_MAX, np.uint32)
    got = take(pool, rows, n)
    if got < n:
        for i in range(got):
            put_one(pool, i64(rows[i]))
        return i64(NIL)
    for i in range(n):
        begin_packet(meta, rows[i], min(BUF_ROOM, total - i * BUF_ROOM), ring[PORT])
        if i < n - 1:
            meta[rows[i]].flags = np.uint32(CHAINED)
            meta[rows[i]].next = rows[i + 1]
    meta[rows[0]].rest = total - buffer_bytes(meta, rows[0])
    return i64(rows[0])


@inline
def _lay_pieces(data: Any, meta: Any, ring: Any, n: Any, tag: Any) -> int:
    """List where the vnet header and the frame's bytes go, in their order. Returns how many."""
    rows = view(i64(ring[CHAIN]), CHAIN_MAX, np.uint32)
    pieces = view(i64(ring[PIECES]), PIECES_MAX, IOVEC)
    base = address(data)
    pieces[0].iov_base, pieces[0].iov_len = ring[VNET], VNET_BYTES
    used = 1
    for i in range(n):
        to = byte_address(base, rows[i], HEADROOM)
        length = buffer_bytes(meta, rows[i])
        if i == 0 and tag:
            pieces[1].iov_base, pieces[1].iov_len = to, MACS
            used = 2
            to += MACS + tag
            length -= MACS + tag
        pieces[used].iov_base, pieces[used].iov_len = to, length
        used += 1
    return used


@inline
def _receive(ring: Any, used: Any) -> int:
    """Receive the frame at the head of the socket's queue into the first pieces. Returns bytes."""
    words = view(i64(ring[MESSAGE]), 8, np.uint64)  # MMSGHDR: 3 is msg_iovlen, 7 is msg_len
    words[3] = used
    for _ in range(TRIES):
        where = i64(ring[MESSAGE])
        if call4(i64(ring[RECEIVE]), i64(ring[FD]), where, 1, MSG_DONTWAIT) == 1:
            return i64(words[7] & u64(0xFFFFFFFF))
    return 0


@kernel
def _long(
    data: Any, meta: Any, pool: Any, ring: Any, frame: Any, length: Any, tag: Any, copied: Any
) -> int:
    """Take a frame of several buffers, or one in the socket's queue. Row, NIL or DROPPED."""
    total = length + tag
    n = (total + BUF_ROOM - 1) // BUF_ROOM
    if n > CHAIN_MAX:
        if copied:
            _receive(ring, 0)
        return DROPPED
    row = _take_chain(meta, pool, ring, n, total)
    if row == NIL:
        return row
    used = _lay_pieces(data, meta, ring, n, tag)
    if copied:
        if _receive(ring, used) == VNET_BYTES + length:
            return row
        put_rest(pool, meta, row)
        put_one(pool, row)
        return DROPPED
    pieces = view(i64(ring[PIECES]), PIECES_MAX, IOVEC)
    source = frame - VNET_BYTES
    for i in range(used):
        copy(i64(pieces[i].iov_base), source, i64(pieces[i].iov_len))
        source += i64(pieces[i].iov_len)
    return row


@inline
def _frame(data: Any, meta: Any, count: Any, pool: Any, ring: Any, slot: Any, status: Any) -> int:
    """Take the frame of one slot. Returns its row, NIL (no buffer: try again) or DROPPED."""
    head = view(slot, 1, TPACKET2_HDR)[0]
    length, mac = i64(head.tp_len), i64(head.tp_mac)
    tag = 4 if status & TP_STATUS_VLAN_VALID else 0
    copied = i64(status) & TP_STATUS_COPY
    room = i64(ring[SLOT]) - mac
    whole = i64(head.tp_snaplen) == length and length <= room and mac > HEADER
    if length < ETHERNET or not (whole or copied):
        count[RxCount.TRUNCATED] += u64(1)
        return DROPPED
    if copied or length + tag > BUF_ROOM:
        row = _long(data, meta, pool, ring, slot + mac, length, tag, copied)
        if row == DROPPED:
            count[RxCount.TRUNCATED] += u64(1)
        if row in (DROPPED, NIL):
            return row
        good = vnet_header(data, meta, row, i64(ring[VNET]), tag)
    else:
        row = take_one(pool)
        if row == NIL:
            return row
        good = _short(data, meta, row, ring, slot + mac, length, tag)
    if not good:
        count[RxCount.BAD_OFFLOAD] += u64(1)
        put_rest(pool, meta, row)
        put_one(pool, row)
        return DROPPED
    if tag:
        _store_tag(data, row, head, status)
    return row


@kernel
def rx(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, ring: U64) -> int:
    size, slots, at = i64(ring[SLOT]), i64(ring[SLOTS]), i64(ring[AT])
    base = i64(ring[RING])
    mapped = view(base, size * slots, np.uint8)
    n = 0
    for _ in range(idx.size):
        slot = base + at * size
        status = load_acquire32(slot)
        if not status & u64(TP_STATUS_USER):
            break
        ahead = at + AHEAD if at + AHEAD < slots else at + AHEAD - slots
        prefetch(mapped, ahead * size)
        prefetch(mapped, ahead * size + 64)
        row = _frame(data, meta, count, pool, ring, slot, i64(status))
        if row == NIL:
            count[RxCount.NO_BUFFER] += u64(1)
            break
        store_release32(slot, u64(TP_STATUS_KERNEL))
        at = at + 1 if at + 1 < slots else 0
        if row != DROPPED:
            count[RxCount.BYTES] += u64(packet_bytes(meta, row))
            idx[n] = row
            edge[n] = RxEdge.NEXT
            n += 1
    ring[AT] = u64(at)
    return n


NODE = Node(name="af-packet-rx", kernel=rx, edges=RxEdge, counters=RxCount, kind=Kind.INPUT)
