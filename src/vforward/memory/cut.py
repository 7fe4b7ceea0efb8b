# SPDX-License-Identifier: Apache-2.0
"""A packet is cut into several: fragments, segments. Their buffers, and what is copied to them.

The packet becomes its own first piece. The others are taken first, all or none, in a list: each names
the next by its meta.scratch, NIL at the end.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, inline, kernel
from vforward.layout import NIL
from vforward.memory.buffer import byte_address
from vforward.memory.chain import begin_chain
from vforward.memory.pool import put_one, put_rest, take_one


@inline
def forward(meta: Any, row: Any, at: Any, n: Any) -> Any:
    """The place (row, off) n bytes behind a place of a packet that has so many."""
    at += n
    while at > i64(meta[row].end):
        at -= i64(meta[row].end)
        row = i64(meta[row].next)
        at += i64(meta[row].off)
    return row, at


@kernel
def copy_payload(data: Any, meta: Any, source: Any, at: Any, to: Any, to_at: Any, n: Any) -> Any:
    """Copy n bytes of one packet to another that has room; returns the source's next place."""
    base = address(data)
    while n > 0:
        if at >= i64(meta[source].end):
            source = i64(meta[source].next)
            at = i64(meta[source].off)
            continue
        if to_at >= i64(meta[to].end):
            to = i64(meta[to].next)
            to_at = i64(meta[to].off)
            continue
        part = min(n, min(i64(meta[source].end) - at, i64(meta[to].end) - to_at))
        copy(byte_address(base, to, to_at), byte_address(base, source, at), part)
        at += part
        to_at += part
        n -= part
    return source, at


@kernel
def cut(meta: Any, pool: Any, row: Any, end: Any) -> None:
    """End a packet where so many bytes of its first buffer's start are behind; free what is over."""
    left = end
    last = row
    while left > i64(meta[last].end) - i64(meta[last].off):
        left -= i64(meta[last].end) - i64(meta[last].off)
        last = i64(meta[last].next)
    meta[last].end = i64(meta[last].off) + left
    put_rest(pool, meta, last)
    meta[row].rest = end - (i64(meta[row].end) - i64(meta[row].off))


@kernel
def give_back(meta: Any, pool: Any, piece: Any) -> None:
    """Give back pieces, each of which names the next by its scratch."""
    while piece != NIL:
        following = i64(meta[piece].scratch)
        put_rest(pool, meta, piece)
        put_one(pool, piece)
        piece = following


@kernel
def take_pieces(meta: Any, pool: Any, n: Any, longest: Any, last: Any, port: Any) -> Any:
    """Take buffers for n pieces, of which the last has fewer bytes; each names the next by scratch.

    Returns the first, or NIL when the pool ran out; then none was taken.
    """
    piece = i64(NIL)
    for k in range(n):
        row = take_one(pool)
        if row == NIL:
            give_back(meta, pool, piece)
            return i64(NIL)
        meta[row].scratch = piece
        if not begin_chain(meta, pool, row, longest if k else last, port):
            put_one(pool, row)
            give_back(meta, pool, piece)
            return i64(NIL)
        piece = row
    return piece
