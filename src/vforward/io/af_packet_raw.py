# SPDX-License-Identifier: Apache-2.0
"""af-packet-raw-rx: take frames from a packet socket by recvmmsg, where there is no ring.

packet(7), recvmmsg(2) and linux/virtio_net.h. A call brings up to BATCH frames, each straight into a
buffer of its own, its VIRTIO_NET_HDR in the headroom directly before it; what does not fit there comes
into an overflow area and is copied into the chain. VLAN tags, which the kernel takes off, are told
aside (PACKET_AUXDATA) and put back: the MAC addresses move four bytes forward.

    raw     u64[8]
    FD, RECEIVE     the descriptor, the address of vf_recvmmsg
    MESSAGES        MMSGHDR[BATCH]
    PIECES          IOVEC[BATCH, 2]: of each message the buffer, and its overflow area
    ASIDE           what is told aside of each message, ASIDE_BYTES each
    PORT            the port's number
    SKIP            rounds still to pass before an idle socket is asked again (io.tap_rx)

Reads   the socket
Writes  data, meta (as every receive node); flags CHAINED, CSUM_PARTIAL, CSUM_VALID, GSO
Drops   before the graph sees them: frames that are no Ethernet frames, or that find no buffers
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.graph.node import Kind, Node
from vforward.io import linux, shim
from vforward.io.linux import CMSGHDR, IOVEC, MMSGHDR, TPACKET_AUXDATA
from vforward.io.port import RxEdge
from vforward.io.tap_rx import IDLE_ROUNDS, OVERFLOW_BYTES, VNET, RxCount, take_up
from vforward.jit import be
from vforward.jit.intrinsics import address, call4, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import BUF_ROOM, HEADROOM, NIL, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import byte_address, packet_bytes
from vforward.memory.pool import put_one, take_one

# Words of the table ``raw``. All but SKIP are set at open.
FD, RECEIVE, MESSAGES, PIECES, ASIDE, PORT, SKIP = range(7)
RAW_WORDS = 8

BATCH = 64  # more gains nothing
ASIDE_BYTES = 40  # CMSG_SPACE of a TPACKET_AUXDATA
ASIDE_HEAD = CMSGHDR.itemsize
ASIDE_LEAST = ASIDE_HEAD + TPACKET_AUXDATA.itemsize
DONTWAIT, MSG_TRUNC = linux.MSG_DONTWAIT, linux.MSG_TRUNC
SOL_PACKET, PACKET_AUXDATA = linux.SOL_PACKET, linux.PACKET_AUXDATA
VLAN_VALID, TPID_VALID = linux.TP_STATUS_VLAN_VALID, linux.TP_STATUS_VLAN_TPID_VALID
VLAN, TAG, MACS = 0x8100, 4, 12


def table(fd: int, number: int) -> tuple[U64, list[NDArray[np.generic]]]:
    """The table of a socket, and arrays that it knows by address only."""
    messages = np.zeros(BATCH, MMSGHDR)
    pieces = np.zeros((BATCH, 2), IOVEC)
    aside = np.zeros(BATCH * ASIDE_BYTES, np.uint8)
    overflow = np.zeros(
        (BATCH, OVERFLOW_BYTES), np.uint8
    )  # Linux gives memory to what is used of it
    nth = np.arange(BATCH, dtype=np.uint64)
    pieces["iov_len"] = VNET + BUF_ROOM, OVERFLOW_BYTES
    pieces["iov_base"][:, 1] = overflow.ctypes.data + nth * np.uint64(OVERFLOW_BYTES)
    head = messages["msg_hdr"]
    head["msg_iov"] = pieces.ctypes.data + nth * np.uint64(2 * IOVEC.itemsize)
    head["msg_iovlen"] = 2
    head["msg_control"] = aside.ctypes.data + nth * np.uint64(ASIDE_BYTES)
    words = np.zeros(RAW_WORDS, np.uint64)
    words[FD], words[RECEIVE], words[PORT] = fd, shim.address("vf_recvmmsg"), number
    words[MESSAGES], words[PIECES] = messages.ctypes.data, pieces.ctypes.data
    words[ASIDE] = aside.ctypes.data
    return words, [messages, pieces, aside, overflow]


@inline
def _lay(data: Any, pool: Any, idx: Any, n: Any, pieces: Any, messages: Any) -> int:
    """Give each message a fresh buffer, whose row is in idx[n:]. Returns how many have one."""
    for m in range(min(BATCH, idx.size - n)):
        row = take_one(pool)
        if row == NIL:
            return m
        idx[n + m] = row
        pieces[2 * m].iov_base = byte_address(address(data), row, HEADROOM) - VNET
        messages[m].msg_hdr.msg_controllen = ASIDE_BYTES
    return i64(min(BATCH, idx.size - n))


@inline
def _told(raw: Any, messages: Any, m: Any) -> int:
    """A frame's VLAN tag, TPID << 16 | TCI, if the kernel took one off; else -1."""
    if i64(messages[m].msg_hdr.msg_controllen) < ASIDE_LEAST:
        return i64(-1)
    where = i64(raw[ASIDE]) + ASIDE_BYTES * m
    head = view(where, 1, CMSGHDR)[0]
    if head.cmsg_level != SOL_PACKET or head.cmsg_type != PACKET_AUXDATA:
        return i64(-1)
    told = view(where + ASIDE_HEAD, 1, TPACKET_AUXDATA)[0]
    status = i64(told.tp_status)
    if not status & VLAN_VALID:
        return i64(-1)
    tpid = i64(told.tp_vlan_tpid) if status & TPID_VALID else i64(VLAN)
    return tpid << 16 | i64(told.tp_vlan_tci)


@inline
def _put_tag(data: Any, row: Any, tag: Any) -> None:
    to = HEADROOM - TAG
    first, second = be.load64(data, row, HEADROOM), be.load32(data, row, HEADROOM + 8)
    be.store64(data, row, to, first)
    be.store32(data, row, to + 8, second)
    be.store32(data, row, to + MACS, tag)


@kernel
def _frame(
    data: Any, meta: Any, pool: Any, raw: Any, messages: Any, m: Any, row: Any
) -> Any:  # fmt: skip
    """Make the m-th frame that came a packet. Returns the counter if that cannot be, or -1."""
    message = messages[m]
    if message.msg_hdr.msg_flags & MSG_TRUNC:
        return i64(RxCount.TRUNCATED)
    tag = _told(raw, messages, m)
    overflow = i64(view(i64(raw[PIECES]), 2 * BATCH, IOVEC)[2 * m + 1].iov_base)
    length = i64(message.msg_len) - VNET
    room = 0 if tag < 0 else TAG
    fault = take_up(data, meta, pool, row, length, overflow, raw[PORT], room)
    if fault < 0 and tag >= 0:
        _put_tag(data, row, tag)
    return fault


@kernel
def rx(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, raw: U64) -> int:
    if raw[SKIP]:
        raw[SKIP] -= u64(1)
        return 0
    messages = view(i64(raw[MESSAGES]), BATCH, MMSGHDR)
    pieces = view(i64(raw[PIECES]), 2 * BATCH, IOVEC)
    n, seen = 0, 0
    while n < idx.size:
        first = n
        had = _lay(data, pool, idx, n, pieces, messages)
        if had == 0:
            count[RxCount.NO_BUFFER] += u64(1)
            break
        # -errno: nothing there (EAGAIN), or the interface is down or gone.
        came = max(0, call4(i64(raw[RECEIVE]), i64(raw[FD]), i64(raw[MESSAGES]), had, DONTWAIT))
        for m in range(came):
            row = i64(idx[first + m])
            fault = _frame(data, meta, pool, raw, messages, m, row)
            if fault >= 0:
                count[fault] += u64(1)
                put_one(pool, row)
                continue
            count[RxCount.BYTES] += u64(packet_bytes(meta, row))
            idx[n] = row
            edge[n] = RxEdge.NEXT
            n += 1
        for m in range(came, had):
            put_one(pool, i64(idx[first + m]))
        seen += came
        if came < had:
            break
    if seen == 0:
        raw[SKIP] = u64(IDLE_ROUNDS - 1)
    return n


NODE = Node("af-packet-raw-rx", rx, RxEdge, RxCount, Kind.INPUT)
