# SPDX-License-Identifier: Apache-2.0
"""A packed virtqueue as the device sees it. rings.vring has what it shares with the split kind.

Virtual I/O Device (VIRTIO) 1.2, section 2.8. Little-endian, as are the machines this runs on.

    DESC    16 bytes each: address u64, length u32, buffer id u16, flags u16     (driver, then device)
    AVAIL   driver event suppression: position u16, wish u16                     (driver)
    USED    device event suppression: the same                                   (device)

A descriptor is available when its flag AVAIL is the wrap counter and USED is not, and used when both are;
the counter is 1 in the first lap and changes with each. A position is a descriptor's number and, in
bit 15, the wrap counter there. NEXT is the position of the next buffer that nobody knows to be used;
LAST the one behind all that were put; COUNT how many descriptors were ever used, modulo 2**16.

A token says where a buffer is and what of it the driver can no longer change:

    bits 0-15 its id, echoed    16-31 how many descriptors of the ring it has    32-47 its position

Buffers are used in order, each by the descriptor with which it began. Of several that are published
together the first one's is written last, and until then is in the private word FIRST: the driver looks
no further. A word with id, length and flags is read or written as a whole. Where in the ring a device
is cannot be seen in it: what it leaves of chains looks available. So who goes on is told (position),
or finds it in a region for this (rings.inflight).
"""

from __future__ import annotations

from typing import Any

from vforward.jit.atomics import (
    fence,
    load_acquire32,
    load_acquire64,
    load_once64,
    store_release32,
    store_release64,
)
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings import inflight
from vforward.rings import virtqueue as vq
from vforward.rings.guest_memory import locate
from vforward.rings.position import (
    F_LAPS,
    NUMBER,
    advance,
    available_flags,
    between,
    used_flags,
)
from vforward.rings.virtqueue import F_INDIRECT, F_NEXT, F_WRITE, Fault

ENABLE, DISABLE, AT_DESCRIPTOR = 0, 1, 2  # what is wished of notifications (section 2.8.10)
NONE = -99
"""No token: nothing is available there."""


@inline
def slot(queue: Any, position: Any) -> Any:
    """Where the descriptor at a position lies here."""
    return i64(queue[vq.DESC]) + vq.DESCRIPTOR * (position & NUMBER)


@inline
def look(queue: Any, position: Any) -> Any:
    """The buffer there: (token, address u64, length i64, flags i64), of its first descriptor but the token.

    The token is NONE or -Fault if there is no buffer, or none that can be right; flags is then -1.
    """
    at = slot(queue, position)
    word = i64(
        load_acquire64(at + 8)
    )  # if its flags are the driver's new ones, so is what they guard
    flags = word >> 48 & 0xFFFF
    if flags & F_LAPS != available_flags(position):
        return i64(NONE), u64(0), i64(0), i64(-1)
    token = word >> 32 & 0xFFFF | 1 << 16
    if flags & F_NEXT:
        token = _end(queue, position)
        if token < 0:
            return token, u64(0), i64(0), i64(-1)
    return token | position << 32, load_once64(at), word & 0xFFFFFFFF, flags & ~F_LAPS


@kernel
def _end(queue: Any, position: Any) -> Any:
    """Of a chain that begins there: id, as its last descriptor says, and how many. Or -Fault."""
    for n in range(2, min(i64(queue[vq.SIZE]), vq.PIECES_MAX) + 1):
        position = advance(queue, position, 1)
        word = i64(load_once64(slot(queue, position) + 8))
        if not word >> 48 & F_NEXT:
            return word >> 32 & 0xFFFF | n << 16
    return -i64(Fault.LENGTH)


@inline
def following(queue: Any, token: Any) -> Any:
    """The position behind a buffer."""
    return advance(queue, token >> 32 & 0xFFFF, token >> 16 & 0xFFFF)


@inline
def waiting(queue: Any) -> Any:
    """0 when no buffer is available, else no less than there are."""
    flags = i64(load_acquire64(slot(queue, i64(queue[vq.NEXT])) + 8)) >> 48
    some = flags & F_LAPS == available_flags(i64(queue[vq.NEXT]))
    return i64(queue[vq.SIZE]) if some else i64(0)


@kernel
def available(queue: Any) -> Any:
    """How many descriptors are available, from NEXT on: they are side by side, so halves are tried."""
    low, high = i64(0), i64(queue[vq.SIZE])
    while low < high:
        middle = (low + high) // 2
        position = advance(queue, i64(queue[vq.NEXT]), middle)
        flags = i64(load_acquire64(slot(queue, position) + 8)) >> 48
        if flags & F_LAPS == available_flags(position):
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def read_chain(queue: Any, memory: Any, pieces: Any, used: Any, token: Any, writable: Any) -> Any:
    """As virtqueue.read_chain."""
    table, entries = i64(queue[vq.DESC]), i64(queue[vq.SIZE])
    at, left, indirect = token >> 32 & NUMBER, token >> 16 & 0xFFFF, False
    for _ in range(vq.PIECES_MAX):
        where = load_once64(table + vq.DESCRIPTOR * at)
        word = i64(load_once64(table + vq.DESCRIPTOR * at + 8))
        length, flags = word & 0xFFFFFFFF, word >> 48 & 0xFFFF
        if flags & F_INDIRECT and not indirect:  # in a table only F_WRITE means something (2.8.19)
            if left != 1 or flags & F_NEXT or length == 0 or length % vq.DESCRIPTOR:
                return -i64(Fault.INDIRECT)
            table, indirect = locate(memory, where, length), True
            if table == 0:
                return -i64(Fault.ADDRESS)
            at, left = i64(0), length // vq.DESCRIPTOR
            entries = left
            continue
        if indirect and not writable:
            flags = i64(
                0
            )  # DPDK 22.11 leaves F_WRITE in the header's entry, of what we are to read
        used = vq.add_piece(memory, pieces, used, where, length, flags, writable)
        left -= 1
        if used < 0 or left == 0:
            return i64(used)
        at = at + 1 if at + 1 < entries else i64(0)
    return -i64(Fault.LENGTH)


@inline
def put_used(queue: Any, k: Any, token: Any, length: Any) -> None:
    """Mark the buffer used, the k-th since the last were published."""
    position = token >> 32 & 0xFFFF
    flags = used_flags(position) | (F_WRITE if length else 0)
    word = u64(length) | u64(token & 0xFFFF) << u64(32) | u64(flags) << u64(48)
    if k == 0:
        queue[vq.FIRST] = word
    else:
        at = slot(queue, position)
        if queue[vq.REGION]:
            inflight.keep(i64(queue[vq.REGION]), position & NUMBER, at)
        store_release64(at + 8, word)
    queue[vq.LAST] = u64(following(queue, token))


@inline
def publish(queue: Any, n: Any) -> None:
    """Give back the n buffers that were put."""
    if n:
        before, region = i64(queue[vq.NEXT]), i64(queue[vq.REGION])
        after = i64(queue[vq.LAST])
        if region:
            inflight.begin(region, before, after)
        store_release64(slot(queue, before) + 8, queue[vq.FIRST])
        if region:
            inflight.end(queue, before, after)
        queue[vq.NEXT] = u64(after)
        queue[vq.COUNT] = u64((i64(queue[vq.COUNT]) + between(queue, before, after)) & 0xFFFF)


@inline
def wants_call(queue: Any, since: Any) -> bool:
    """Whether the driver is to be interrupted for what was published from position since on."""
    fence()  # the descriptors are out before the driver's wish is read: it does it the other way round
    event = i64(load_acquire32(i64(queue[vq.AVAIL])))
    wish = event >> 16 & 3
    if wish != AT_DESCRIPTOR:
        return wish != DISABLE
    return between(queue, since, event & 0xFFFF) < between(queue, since, i64(queue[vq.NEXT]))


@kernel
def ask_for_kicks(queue: Any) -> None:
    """As virtqueue.ask_for_kicks."""
    wish = u64(ENABLE)
    if queue[vq.FEATURES] & u64(vq.EVENT_IDX):
        wish = queue[vq.NEXT] | u64(AT_DESCRIPTOR << 16)
    store_release32(i64(queue[vq.USED]), wish)
    fence()


@kernel
def refuse_kicks(queue: Any) -> None:
    """As virtqueue.refuse_kicks."""
    store_release32(i64(queue[vq.USED]), u64(DISABLE << 16))


@kernel
def resume(queue: Any, position: Any) -> None:
    """Go on at a position, whose number is one of a descriptor."""
    queue[vq.NEXT] = queue[vq.LAST] = u64(position)
    queue[vq.IDLE] = u64(0)
    queue[vq.FAULT] = u64(0)
    refuse_kicks(queue)
