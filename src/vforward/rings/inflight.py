# SPDX-License-Identifier: Apache-2.0
"""A region in which a peer keeps, for us, what must outlive us: where we are in its packed queues.

Layout: QEMU, docs/interop/vhost-user.rst, "Inflight I/O tracking", QueueRegionPacked of version 1. What
of it is used (offsets in bytes; u16, but where said):

    8 version    10 desc_num    16 used_idx    18 old_used_idx    20, 21 their wrap counters (u8)
    32 + 32n     of descriptor n: 0 inflight (u8)  2 next  16 id  18 flags  20 len u32  24 addr u64

A region of a split queue (QueueRegionSplit) is made, and left: used.idx is in the guest's memory, and
nothing is in flight between two calls of a node.

Publishing buffers: each descriptor but the first is kept in the region before it is written over. Then
begin: used_idx says where we shall be. The first is written: the driver sees them all from now on. Then
end: nothing is kept any more, and old_used_idx follows. So whoever comes next sees in old_used_idx's
descriptor whether they are out; if not, it puts back what was kept, and uses the buffers anew (recover).

The peer can write to the region. What is read in it is bounded, and goes nowhere but to its ring.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.atomics import (
    load_acquire16,
    load_acquire64,
    load_once16,
    load_once64,
    store_release16,
    store_release64,
)
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings import virtqueue as vq
from vforward.rings.position import F_LAPS, NUMBER, WRAP, advance, available_flags

VERSION = 1
VERSION_AT, SIZE_AT, POSITIONS_AT = 8, 10, 16
SPLIT_USED_AT = 14
ENTRY, ADDRESS_AT = 32, 24
WORD_AT = 16  # id, flags, len
ALIGN = 64


def region_bytes(size: int, *, packed: bool) -> int:
    """Of a queue of size descriptors."""
    n = 32 + ENTRY * size if packed else 16 + 16 * size
    return -(-n // ALIGN) * ALIGN


@inline
def _positions(used: Any, old: Any) -> Any:
    """The word at POSITIONS_AT."""
    numbers = used & NUMBER | (old & NUMBER) << 16
    return u64(numbers | used >> 15 << 32 | old >> 15 << 40)


@inline
def _position(word: Any, which: Any) -> Any:
    """used_idx (0) or old_used_idx (1) in that word, with its wrap counter."""
    return word >> 16 * which & NUMBER | (WRAP if word >> 32 + 8 * which & 1 else 0)


@kernel
def prepare(queue: Any, region: Any, position: Any) -> None:
    """Make what nobody has used a region of a packed queue that is at a position."""
    for n in range(i64(queue[vq.SIZE])):
        store_release64(region + 32 + ENTRY * n, u64(n + 1 << 16))  # next; not inflight
    store_release64(region + POSITIONS_AT, _positions(position, position))
    store_release16(region + SIZE_AT, queue[vq.SIZE])
    store_release16(region + VERSION_AT, u64(VERSION))


@kernel
def prepare_split(queue: Any, region: Any) -> None:
    """The same for a split queue."""
    for n in range(i64(queue[vq.SIZE])):
        store_release64(region + 16 + 16 * n, u64(0))
    store_release16(region + SPLIT_USED_AT, queue[vq.NEXT])
    store_release16(region + SIZE_AT, queue[vq.SIZE])
    store_release16(region + VERSION_AT, u64(VERSION))


@kernel
def prepared(region: Any) -> bool:
    """Whether a device has used the region."""
    return load_acquire16(region + VERSION_AT) == u64(VERSION)


@inline
def keep(region: Any, number: Any, descriptor: Any) -> None:
    """Keep a descriptor of the ring, which is about to be written over."""
    entry = region + 32 + ENTRY * number
    word = load_once64(descriptor + 8)  # len u32, id u16, flags u16
    store_release64(entry + WORD_AT, word >> u64(32) | word << u64(32))
    store_release64(entry + ADDRESS_AT, load_once64(descriptor))
    store_release16(entry, u64(1))


@inline
def begin(region: Any, before: Any, after: Any) -> None:
    """About to publish what lies between two positions."""
    store_release64(region + POSITIONS_AT, _positions(after, before))


@kernel
def end(queue: Any, before: Any, after: Any) -> None:
    """It is out."""
    region, position = i64(queue[vq.REGION]), before
    while position != after:
        store_release16(region + 32 + ENTRY * (position & NUMBER), u64(0))
        position = advance(queue, position, 1)
    store_release64(region + POSITIONS_AT, _positions(after, after))


@kernel
def recover(queue: Any) -> Any:
    """Finish, or take back, what a device was killed at. Returns the position to go on at, or -1.

    It may be killed itself at any time, and done again.
    """
    region, size = i64(queue[vq.REGION]), i64(queue[vq.SIZE])
    word = i64(load_acquire64(region + POSITIONS_AT))
    after, before = _position(word, 0), _position(word, 1)
    if after & NUMBER >= size or before & NUMBER >= size:
        return i64(-1)
    first = i64(queue[vq.DESC]) + vq.DESCRIPTOR * (before & NUMBER)
    flags = i64(load_acquire64(first + 8)) >> 48
    out = after != before and flags & F_LAPS != available_flags(before)
    for number in range(size):
        entry = region + 32 + ENTRY * number
        if load_once16(entry) & u64(0xFF):
            if not out:
                descriptor = i64(queue[vq.DESC]) + vq.DESCRIPTOR * number
                word = i64(load_once64(entry + WORD_AT))
                store_release64(descriptor, load_once64(entry + ADDRESS_AT))
                store_release64(descriptor + 8, u64(word) >> u64(32) | u64(word) << u64(32))
            store_release16(entry, u64(0))
    position = after if out else before
    store_release64(region + POSITIONS_AT, _positions(position, position))
    return position
