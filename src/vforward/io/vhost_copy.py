# SPDX-License-Identifier: Apache-2.0
"""Copies between a guest's scattered pieces of memory and a packet's buffers.

Of the table ``work``, what the vhost nodes note of a vector:

    0, SLOTS, 2 * SLOTS     of each available buffer: descriptor number, address here, bytes
    HEADER_AT               a virtio-net header
    PIECES_AT               pieces i64[CHAIN_PIECES, 2] of the buffers of one packet: address, bytes
    HEADS_AT                of each of these buffers: descriptor number, bytes
    PAIRS_AT, BACK_AT, END_AT, FLOW_AT, PLACE_AT, ROWS_AT, EDGES_AT: see io.vhost_steer, io.vhost_tx
"""

from __future__ import annotations

from typing import Any

from vforward.jit.intrinsics import address, ask_read, ask_write, copy
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import BUF_STRIDE, CHAINED, VECTOR_MAX
from vforward.memory.buffer import buffer_bytes, byte_address
from vforward.rings.virtqueue import PIECES_MAX

LINE = 64
SLOTS = VECTOR_MAX
HEADER_AT = 3 * SLOTS
HEADER_WORDS = 2
CHAIN_PIECES = PIECES_MAX
PIECES_AT = HEADER_AT + HEADER_WORDS
HEADS_AT = PIECES_AT + 2 * CHAIN_PIECES
HEADS_MAX = 1024
PAIRS_MAX = 8
PAIRS_AT = HEADS_AT + 2 * HEADS_MAX
BACK_AT = PAIRS_AT + PAIRS_MAX
END_AT = BACK_AT + PAIRS_MAX
FLOW_AT = END_AT + PAIRS_MAX
PLACE_AT = FLOW_AT + SLOTS
ROWS_AT = PLACE_AT + SLOTS
EDGES_AT = ROWS_AT + SLOTS // 2


AHEAD = 8
"""How far ahead of the buffer that is copied memory is asked for, in buffers. A CPU waits for few cache
lines at a time, and drops what it is asked for beyond that. Measured with `vforward bench vhost-tx`,
worker and driver on CPUs that are far from each other, while headers were written always (adr/0018): to
copy a packet took 257 clocks where the buffers of a whole vector were asked for at once, and 205 with 8
ahead. Since then it takes 168 with 8 or 16, 177 with 4, and 204 where nothing is asked for.
"""


@inline
def ask_to_read(work: Any, k: Any, n: Any) -> None:
    """Ask for the first two cache lines of the k-th of n buffers, if it is listed: a short frame behind its
    header lies in both.
    """
    if k < n and work[SLOTS + k] != u64(0):
        here = i64(work[SLOTS + k])
        ask_read(here)
        ask_read(here + min(i64(work[2 * SLOTS + k]) - 1, LINE))


@inline
def ask_to_write(work: Any, k: Any, n: Any, header: Any) -> None:
    """Ask for the lines in which a frame begins, behind a header of so many bytes, and in which byte 64
    lies, to write: the header may be right already.
    """
    if k < n and work[SLOTS + k] != u64(0):
        here, last = i64(work[SLOTS + k]), i64(work[2 * SLOTS + k]) - 1
        ask_write(here + min(last, header))
        ask_write(here + min(last, LINE))


@kernel
def copy_in(data: Any, meta: Any, work: Any, pieces: Any, header: Any, row: Any) -> None:
    """Copy header bytes to work[HEADER_AT:], and what follows to the packet, which is as long."""
    at, off = 0, i64(0)
    to, room = address(work) + 8 * HEADER_AT, header
    at_header = True
    while True:
        while room > 0:
            part = min(room, pieces[at, 1] - off)
            copy(to, pieces[at, 0] + off, part)
            to += part
            room -= part
            off += part
            if off == pieces[at, 1]:
                at, off = at + 1, i64(0)
        if not at_header:
            if not meta[row].flags & CHAINED:
                return
            row = i64(meta[row].next)
        at_header = False
        to = byte_address(address(data), row, meta[row].off)
        room = buffer_bytes(meta, row)


@kernel
def copy_out(data: Any, meta: Any, work: Any, pieces: Any, header: Any, row: Any) -> None:
    """Copy header bytes of work[HEADER_AT:] and the packet to the pieces, which have the room."""
    at, off = 0, i64(0)
    source, left = address(work) + 8 * HEADER_AT, header
    at_header = True
    while True:
        while left > 0:
            part = min(left, pieces[at, 1] - off)
            copy(pieces[at, 0] + off, source, part)
            source += part
            left -= part
            off += part
            if off == pieces[at, 1]:
                at, off = at + 1, i64(0)
        if not at_header:
            if not meta[row].flags & CHAINED or meta[row].next >= meta.size:
                return
            row = i64(meta[row].next)
        at_header = False
        start: Any = min(i64(meta[row].off), BUF_STRIDE)
        source = byte_address(address(data), row, start)
        left = max(0, min(buffer_bytes(meta, row), BUF_STRIDE - start))
