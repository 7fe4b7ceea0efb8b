# SPDX-License-Identifier: Apache-2.0
"""A split virtqueue as its driver sees it: buffers of ours, lent to a device and taken back.

Virtual I/O Device (VIRTIO) 1.2, section 2.7; the parts are those of rings.virtqueue. Buffer i of
STRIDE bytes is descriptor i's for ever: only lengths and chains change. A word of desc and avail that
is right already is not written, since the device would have to fetch its line again: a device that
uses buffers in order leaves these lines alone. The other layout is in rings.packed_driver; what both
have in common is here, and rings.vring_driver is who uses either.

    queue   u64[words_for(size)], private to this process
            STATE, SIZE, DESC, AVAIL, USED, FEATURES, CALL, FAULT, IDLE, MOVED as in rings.virtqueue;
            CALL is the eventfd that the device is kicked by
            NEXT     buffers ever taken back, modulo 2**16
            ADDED    buffers ever made available, modulo 2**16
            FREE     descriptors that the device does not have
            TAKEN    where the next free one's number is in the FIFO
            BUFFERS  address here of buffer 0
            WHERE    the same as the device knows it
            BATCH    what is left of a batch that the device has given back as one (see returned)
            then     FIFO of the numbers of free descriptors, size words;
                     of each descriptor the device has: those of its buffer if it is the first, and
                     the next one's number (COUNT_SHIFT), size words

The device is not trusted: it may write anything into all of it but queue. A word of used is read once
and bounded. What breaks a rule is a Fault. What it does to desc, avail and buffers is its own loss:
nothing there is believed.

With IN_ORDER (section 2.7.9) the FIFO never changes: descriptors go and come in their order.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import fence, load_acquire16, load_once16, load_once64, store_release16
from vforward.jit.intrinsics import view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings.virtqueue import (
    AVAIL,
    DESC,
    DESCRIPTOR,
    EVENT_IDX,
    F_NEXT,
    F_WRITE,
    FEATURES,
    IN_ORDER,
    NEXT,
    NO_NOTIFY,
    SIZE,
    USED,
)

# Words of a queue, behind those of rings.virtqueue.
ADDED, FREE, TAKEN, BUFFERS, WHERE, BATCH = range(32, 38)
FIFO = 40
COUNT_SHIFT = 16

STRIDE = 2112
"""Bytes of a buffer: an odd number of cache lines, so that many of them do not meet in one set."""


class Fault(IntEnum):
    """Why a queue is BROKEN."""

    INDEX = 1
    NUMBER = 2
    LENGTH = 3
    MERGED = 4


FAULTS = {
    Fault.INDEX: "more buffers used than were available",
    Fault.NUMBER: "a used buffer that was not available",
    Fault.LENGTH: "a used buffer with fewer bytes than a header, or more than it has",
    Fault.MERGED: "a frame in no buffer, or in more than any frame needs",
}


def words_for(size: int) -> int:
    """Words of a queue with so many descriptors, a power of two of at most SIZE_MAX."""
    return FIFO + 2 * size


def new(size: int) -> NDArray[np.uint64]:
    """A queue that is OFF."""
    queue = np.zeros(words_for(size), np.uint64)
    queue[SIZE] = size
    return queue


@inline
def words_at(where: Any) -> Any:
    """How many words the queue at an address has."""
    return FIFO + 2 * i64(view(where, FIFO, np.uint64)[SIZE])


@inline
def _slot(queue: Any, position: Any) -> Any:
    return i64(position) & (i64(queue[SIZE]) - 1)


@inline
def buffer(queue: Any, number: Any) -> Any:
    """Address here of a descriptor's buffer."""
    return i64(queue[BUFFERS]) + STRIDE * number


@inline
def begin_buffers(queue: Any, receives: Any) -> None:
    """All descriptors are free or, receives, about to be lent."""
    size = i64(queue[SIZE])
    for number in range(size):
        queue[FIFO + number] = u64(number)
        queue[FIFO + size + number] = u64(0)
    queue[TAKEN] = queue[BATCH] = u64(0)
    queue[FREE] = u64(0 if receives else size)


@kernel
def begin(queue: Any, receives: Any) -> None:
    """Lay out a queue in memory that is all zeros; SIZE, FEATURES and all addresses are set.

    receives: all buffers are made available.
    """
    size, where = i64(queue[SIZE]), i64(queue[WHERE])
    begin_buffers(queue, receives)
    for number in range(size):
        words = view(i64(queue[DESC]) + DESCRIPTOR * number, 2, np.uint64)
        words[0] = u64(where + STRIDE * number)
        words[1] = u64(STRIDE | (F_WRITE if receives else 0) << 32)
        view(i64(queue[AVAIL]) + 4, size, np.uint16)[number] = number
    queue[NEXT] = queue[ADDED] = u64(0)
    refuse_calls(queue)
    if receives:
        publish(queue, size)


# To the device.


@inline
def free(queue: Any, k: Any) -> Any:
    """The number of the k-th free descriptor."""
    return i64(queue[FIFO + _slot(queue, i64(queue[TAKEN]) + k)])


@inline
def _describe(queue: Any, number: Any, length: Any, following: Any) -> None:
    """Descriptor number has length bytes to read; following: the next one of its chain, or -1."""
    word = u64(length)
    if following >= 0:
        word |= u64(F_NEXT << 32) | u64(following) << u64(48)
    where = i64(queue[DESC]) + DESCRIPTOR * number + 8
    if load_once64(where) != word:
        view(where, 1, np.uint64)[0] = word


@inline
def lend(queue: Any, k: Any, count: Any) -> Any:
    """Note that count free descriptors from the k-th on are a buffer's. Returns the first's number."""
    size, head = i64(queue[SIZE]), free(queue, k)
    number = head
    for j in range(1, count):
        following = free(queue, k + j)
        queue[FIFO + size + number] = u64(following)
        number = following
    at = FIFO + size + head
    queue[at] = u64(count << COUNT_SHIFT) | (queue[at] & u64(0xFFFF) if count > 1 else u64(0))
    return head


@inline
def offer(queue: Any, k: Any, number: Any) -> None:
    """The k-th buffer that will be made available begins with descriptor number."""
    where = i64(queue[AVAIL]) + 4 + 2 * _slot(queue, i64(queue[ADDED]) + k)
    if i64(load_once16(where)) != number:
        view(where, 1, np.uint16)[0] = number


@inline
def add(queue: Any, k: Any, at: Any, length: Any) -> None:
    """The k-th buffer that will be made available is the at-th free descriptor, of length bytes."""
    _describe(queue, free(queue, at), length, -1)
    offer(queue, k, lend(queue, at, 1))


@inline
def add_chain(queue: Any, k: Any, at: Any, pieces: Any, n: Any) -> None:
    """It is n free descriptors, from the at-th on; pieces[p, 1]: how many bytes the p-th has."""
    for p in range(n):
        following = free(queue, at + p + 1) if p + 1 < n else i64(-1)
        _describe(queue, free(queue, at + p), pieces[p, 1], following)
    offer(queue, k, lend(queue, at, n))


@inline
def publish(queue: Any, n: Any) -> None:
    """Make the n buffers available that were offered."""
    following = (i64(queue[ADDED]) + n) & 0xFFFF
    queue[ADDED] = u64(following)
    store_release16(i64(queue[AVAIL]) + 2, u64(following))


@inline
def gone(queue: Any, descriptors: Any) -> None:
    """So many free descriptors were lent."""
    queue[TAKEN] = u64((i64(queue[TAKEN]) + descriptors) & 0xFFFF)
    queue[FREE] = u64(i64(queue[FREE]) - descriptors)


@inline
def wants_kick(queue: Any, since: Any) -> bool:
    """Whether the device is to be kicked for what was published since ADDED was that (2.7.10)."""
    fence()  # avail.idx is out before the device's wish is read: it does the same the other way round
    used = i64(queue[USED])
    if not queue[FEATURES] & u64(EVENT_IDX):
        return load_once16(used) & u64(NO_NOTIFY) == u64(0)
    event = i64(load_once16(used + 4 + 8 * i64(queue[SIZE])))
    return (i64(queue[ADDED]) - event - 1) & 0xFFFF < (i64(queue[ADDED]) - since) & 0xFFFF


# From the device.


@inline
def waiting(queue: Any) -> Any:
    """How many buffers the device has given back, or -Fault.INDEX."""
    n = (i64(load_acquire16(i64(queue[USED]) + 2)) - i64(queue[NEXT])) & 0xFFFF
    lent = (i64(queue[ADDED]) - i64(queue[NEXT])) & 0xFFFF
    return n if n <= lent else -i64(Fault.INDEX)


@inline
def used(queue: Any, k: Any) -> Any:
    """(number, bytes written) of the k-th buffer given back, as the device says: any u32 each."""
    word = load_once64(i64(queue[USED]) + 4 + 8 * _slot(queue, i64(queue[NEXT]) + k))
    return i64(word & u64(0xFFFFFFFF)), i64(word >> u64(32))


@inline
def returned(queue: Any, k: Any, n: Any, batch: Any) -> Any:
    """(number, bytes written, batch) of the k-th of n buffers given back to a queue that receives.

    With IN_ORDER a device may say of several at once only the last one's number, where the first's is
    due; those before it are full. batch: the buffers of such a batch still to come << 32 | the last
    one's length; what the call for k - 1 returned, or BATCH. A number below 0 is a wrong one.
    """
    size = i64(queue[SIZE])
    if not queue[FEATURES] & u64(IN_ORDER):
        number, length = used(queue, k)
        return number if number < size else i64(-1), length, i64(0)
    due = _slot(queue, i64(queue[NEXT]) + k)
    length, ahead = batch & 0xFFFFFFFF, (batch >> 32) - 1
    if ahead < 0:
        number, length = used(queue, k)
        ahead = (number - due) & (size - 1)
        if number >= size or k + ahead >= n:
            return i64(-1), i64(0), i64(0)
    if ahead > 0:
        return due, i64(STRIDE), ahead << 32 | length
    return due, length, i64(0)


@inline
def took(queue: Any, n: Any) -> None:
    """The n buffers that were given back are not looked at again."""
    queue[NEXT] = u64((i64(queue[NEXT]) + n) & 0xFFFF)


@kernel
def reclaim(queue: Any) -> Any:
    """Free the descriptors of all buffers that were given back. Returns 0 or a Fault."""
    n, size = waiting(queue), i64(queue[SIZE])
    in_order = queue[FEATURES] & u64(IN_ORDER) != u64(0)
    for k in range(n):
        end = _slot(queue, i64(queue[TAKEN]) + i64(queue[FREE]))
        if in_order:
            number = i64(queue[FIFO + end])
        else:
            number, _ = used(queue, k)
            if number >= size:
                return i64(Fault.NUMBER)
        count = i64(queue[FIFO + size + number] >> u64(COUNT_SHIFT))
        if count == 0:
            return i64(Fault.NUMBER)
        for _ in range(count):
            at = FIFO + size + number
            following = i64(queue[at] & u64(0xFFFF))
            queue[at] = u64(0)
            queue[FIFO + end] = u64(number)
            end = (end + 1) & (size - 1)
            number = following
        queue[FREE] += u64(count)
    took(queue, max(n, 0))
    return -min(n, i64(0))


@kernel
def ask_for_calls(queue: Any) -> None:
    """Have the device write the call eventfd when it gives a buffer back from now on.

    One that it gave back just before is seen by who then looks at waiting.
    """
    avail = i64(queue[AVAIL])
    if queue[FEATURES] & u64(EVENT_IDX):
        store_release16(avail + 4 + 2 * i64(queue[SIZE]), queue[NEXT])
    else:
        store_release16(avail, u64(0))
    fence()


@kernel
def refuse_calls(queue: Any) -> None:
    """Tell the device that the queue is polled. It may call all the same.

    With EVENT_IDX used_event stays behind, and that says it.
    """
    event_idx = queue[FEATURES] & u64(EVENT_IDX) != u64(0)
    store_release16(i64(queue[AVAIL]), u64(0) if event_idx else u64(NO_NOTIFY))
