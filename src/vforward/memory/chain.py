# SPDX-License-Identifier: Apache-2.0
"""Packets that fill more than one buffer: copied in from plain memory, and out to it.

Every buffer of a chain begins at HEADROOM when it is filled here and holds up to BUF_ROOM; nodes
may have moved the first one's start since. CHAINED is set in all but the last.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, kernel
from vforward.layout import BUF_ROOM, BUF_STRIDE, CHAINED, HEADROOM, NIL
from vforward.memory.buffer import begin_packet, buffer_bytes, byte_address
from vforward.memory.pool import put_rest, take_one

LONGEST = 65535 + 14
"""Bytes of the longest frame that a port takes up: an IP packet behind an Ethernet header."""


@kernel
def begin_chain(meta: Any, pool: Any, row: Any, n: Any, port: Any) -> bool:
    """Make row, freshly taken, a packet of n bytes, whatever these are; more buffers as needed.

    Returns False when they ran out: row is then alone again, and the caller's to give back.
    """
    part = min(n, BUF_ROOM)
    begin_packet(meta, row, part, port)
    done, last = part, row
    while done < n:
        more = take_one(pool)
        if more == NIL:
            put_rest(pool, meta, row)
            return False
        part = min(n - done, BUF_ROOM)
        begin_packet(meta, more, part, port)
        meta[last].next = more
        meta[last].flags = meta[last].flags | np.uint32(CHAINED)
        last = more
        done += part
    meta[row].rest = n - buffer_bytes(meta, row)
    return True


@kernel
def fill(data: Any, meta: Any, pool: Any, row: Any, source: Any, n: Any, port: Any) -> bool:
    """As begin_chain, and copy in the n bytes at address source."""
    if not begin_chain(meta, pool, row, n, port):
        return False
    scatter(data, meta, row, source, n)
    return True


@kernel
def scatter(data: Any, meta: Any, row: Any, source: Any, n: Any) -> None:
    """Copy the n bytes at address source to the packet's start, as begin_chain has laid it out."""
    done = i64(0)
    while done < n:
        part = min(n - done, BUF_ROOM)
        copy(byte_address(address(data), row, HEADROOM), source + done, part)
        done += part
        row = i64(meta[row].next)


@kernel
def length(meta: Any, row: Any) -> Any:
    """Bytes of the packet, counted buffer by buffer."""
    total = buffer_bytes(meta, row)
    for _ in range(meta.size):  # a chain longer than the pool would be a loop
        if not meta[row].flags & CHAINED or meta[row].next >= meta.size:
            break
        row = i64(meta[row].next)
        total += buffer_bytes(meta, row)
    return total


@kernel
def gather(data: Any, meta: Any, row: Any, to: Any, room: Any) -> Any:
    """Copy the packet to address to, at most room bytes of it; returns how many."""
    done = 0
    for _ in range(meta.size):
        off: Any = min(i64(meta[row].off), BUF_STRIDE)
        part = max(0, min(buffer_bytes(meta, row), BUF_STRIDE - off, room - done))
        copy(to + done, byte_address(address(data), row, off), part)
        done += part
        if not meta[row].flags & CHAINED or meta[row].next >= meta.size:
            break
        row = i64(meta[row].next)
    return done
