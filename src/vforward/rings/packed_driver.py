# SPDX-License-Identifier: Apache-2.0
"""A packed virtqueue as its driver sees it: buffers of ours, lent to a device and taken back.

Virtual I/O Device (VIRTIO) 1.2, section 2.8; the parts, and what a position is, are those of rings.packed,
buffers and the FIFO of free ones those of rings.virtqueue_driver. The descriptors of a buffer, one for each
STRIDE bytes, lie side by side in the ring; its id is the number of the first of these STRIDE bytes.

    NEXT    position of the first buffer that has not come back
    ADDED   position behind those that were made available
    HELD    what makes the first of those available that are described next

Of several that are published together the first one's is written last: a device looks no further.

The device is not trusted (see rings.virtqueue_driver). Of a descriptor that it has used, the word with id,
length and flags is read once and bounded; how many it had is not asked of the device. So it
cannot give back more than it has, and a lap has an end. Descriptors are never read to find anything else,
and are written anew each time.

With IN_ORDER (section 2.8.8) a device may say of several buffers only the last
one's id, where the first one was, and go on behind them all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.atomics import (
    fence,
    load_acquire32,
    load_acquire64,
    store_release32,
    store_release64,
)
from vforward.jit.intrinsics import view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings import virtqueue as vq
from vforward.rings.packed import AT_DESCRIPTOR, DISABLE, ENABLE, NONE, slot
from vforward.rings.position import (
    F_LAPS,
    NUMBER,
    START,
    advance,
    available_flags,
    between,
    used_flags,
)
from vforward.rings.virtqueue_driver import (
    ADDED,
    BATCH,
    COUNT_SHIFT,
    FIFO,
    FREE,
    STRIDE,
    TAKEN,
    WHERE,
    Fault,
    begin_buffers,
    free,
    lend,
)

HELD = vq.FIRST


@kernel
def begin(queue: Any, receives: Any) -> None:
    """As virtqueue_driver.begin."""
    begin_buffers(queue, receives)
    queue[vq.NEXT] = queue[ADDED] = u64(START)
    refuse_calls(queue)
    if receives:
        size = i64(queue[vq.SIZE])
        for number in range(size):
            offer(queue, number, number)
        publish(queue, size)


# To the device.


@inline
def _describe(
    queue: Any, hold: Any, at: Any, number: Any, head: Any, length: Any, flags: Any
) -> None:
    """The at-th descriptor from ADDED on is STRIDE bytes' of that number, in the buffer of id head."""
    position = advance(queue, i64(queue[ADDED]), at)
    where = slot(queue, position)
    view(where, 1, np.uint64)[0] = u64(i64(queue[WHERE]) + STRIDE * number)
    word = u64(length | head << 32 | (flags | available_flags(position)) << 48)
    if hold:
        queue[HELD] = word
    else:
        store_release64(where + 8, word)


@inline
def offer(queue: Any, k: Any, number: Any) -> None:
    """The k-th buffer that will be made available is one to write to, of this number."""
    _describe(queue, k == 0, k, number, number, STRIDE, vq.F_WRITE)


@inline
def add(queue: Any, k: Any, at: Any, length: Any) -> None:
    """As virtqueue_driver.add."""
    number = lend(queue, at, 1)
    _describe(queue, k == 0, at, number, number, length, 0)


@inline
def add_chain(queue: Any, k: Any, at: Any, pieces: Any, n: Any) -> None:
    """As virtqueue_driver.add_chain."""
    head = lend(queue, at, n)
    for p in range(n - 1, -1, -1):
        flags = vq.F_NEXT if p + 1 < n else 0
        hold = k == 0 and p == 0
        _describe(queue, hold, at + p, free(queue, at + p), head, pieces[p, 1], flags)


@inline
def publish(queue: Any, descriptors: Any) -> None:
    """Make the buffers available that were described, in so many descriptors."""
    if descriptors:
        position = i64(queue[ADDED])
        queue[ADDED] = u64(advance(queue, position, descriptors))
        store_release64(slot(queue, position) + 8, queue[HELD])


@inline
def wants_kick(queue: Any, since: Any) -> bool:
    """Whether the device is to be kicked for what was published from position since on (2.8.10)."""
    fence()  # the descriptors are out before the device's wish is read: it does it the other way round
    event = i64(load_acquire32(i64(queue[vq.USED])))
    wish = event >> 16 & 3
    if wish != AT_DESCRIPTOR:
        return wish != DISABLE
    return between(queue, since, event & 0xFFFF) < between(queue, since, i64(queue[ADDED]))


# From the device.


@inline
def _used(queue: Any, position: Any) -> Any:
    """What the device says of the buffer there: id | length << 16; NONE if it has not used it."""
    word = i64(load_acquire64(slot(queue, position) + 8))
    if word >> 48 & F_LAPS != used_flags(position):
        return i64(NONE)
    return word >> 32 & 0xFFFF | (word & 0xFFFFFFFF) << 16


@inline
def waiting(queue: Any) -> Any:
    """Of a queue that receives: 0 when no buffer was given back, else no less than there are."""
    some = i64(queue[BATCH]) >> 32 > 0 or _used(queue, i64(queue[vq.NEXT])) != NONE
    return i64(queue[vq.SIZE]) if some else i64(0)


@inline
def returned(queue: Any, k: Any, n: Any, batch: Any) -> Any:
    """As virtqueue_driver.returned; the number is NONE if there is no such buffer yet."""
    size = i64(queue[vq.SIZE])
    position = advance(queue, i64(queue[vq.NEXT]), k)
    due = position & NUMBER
    length, ahead = batch & 0xFFFFFFFF, (batch >> 32) - 1
    if ahead < 0:
        word = _used(queue, position)
        if word == NONE:
            return i64(NONE), i64(0), i64(0)
        number, length = word & 0xFFFF, word >> 16
        if number >= size:
            return i64(-1), i64(0), i64(0)
        if not queue[vq.FEATURES] & u64(vq.IN_ORDER):
            return number, length, i64(0)
        ahead = (number - due) & (size - 1)
        if k + ahead >= n:
            return i64(-1), i64(0), i64(0)
    if ahead > 0:
        return due, i64(STRIDE), ahead << 32 | length
    return due, length, i64(0)


@inline
def took(queue: Any, n: Any) -> None:
    """The n buffers that were given back are not looked at again."""
    queue[vq.NEXT] = u64(advance(queue, i64(queue[vq.NEXT]), n))


@kernel
def reclaim(queue: Any) -> Any:
    """As virtqueue_driver.reclaim."""
    size = i64(queue[vq.SIZE])
    in_order = queue[vq.FEATURES] & u64(vq.IN_ORDER) != u64(0)
    position, room = i64(queue[vq.NEXT]), i64(queue[FREE])
    end = (i64(queue[TAKEN]) + room) & (size - 1)
    fault = i64(0)
    while room < size:
        word = _used(queue, position)
        if word == NONE:
            break
        last = word & 0xFFFF
        if last >= size or queue[FIFO + size + last] >> u64(COUNT_SHIFT) == u64(0):
            fault = i64(Fault.NUMBER)
            break
        number = i64(queue[FIFO + end]) if in_order else last
        while True:
            more = in_order and number != last
            count = i64(queue[FIFO + size + number] >> u64(COUNT_SHIFT))
            for _ in range(count):
                state = FIFO + size + number
                following = i64(queue[state] & u64(0xFFFF))
                queue[state] = u64(0)
                queue[FIFO + end] = u64(number)
                end = (end + 1) & (size - 1)
                number = following
            position = advance(queue, position, count)
            room += count
            if not more:
                break
            number = i64(queue[FIFO + end])
    queue[vq.NEXT] = u64(position)
    queue[FREE] = u64(room)
    return fault


@kernel
def ask_for_calls(queue: Any) -> None:
    """As virtqueue_driver.ask_for_calls."""
    wish = u64(ENABLE)
    if queue[vq.FEATURES] & u64(vq.EVENT_IDX):
        wish = queue[vq.NEXT] | u64(AT_DESCRIPTOR << 16)
    store_release32(i64(queue[vq.AVAIL]), wish)
    fence()


@kernel
def refuse_calls(queue: Any) -> None:
    """As virtqueue_driver.refuse_calls."""
    store_release32(i64(queue[vq.AVAIL]), u64(DISABLE << 16))
