# SPDX-License-Identifier: Apache-2.0
"""A split virtqueue as the device sees it: buffers that a driver makes available, used one by one.

Virtual I/O Device (VIRTIO) 1.2, section 2.7. Little-endian, as are the machines this runs on.

    desc    16 bytes each: address u64, length u32, flags u16, next u16                  (driver)
    avail   flags u16, idx u16, heads u16[size], used_event u16                          (driver)
    used    flags u16, idx u16, {head u32, length u32}[size], avail_event u16            (device)

    queue   u64[QUEUE_WORDS], private to this process; a device has several: queues u64[n, QUEUE_WORDS]
            STATE   OFF or READY (control plane), BROKEN (worker): what the driver wrote cannot be right
            NEXT    buffers ever used, modulo 2**16: used.idx, and the next in avail
            MOVED   packets, by who uses several queues
            FIRST, LAST, REGION, COUNT    of packed queues (rings.packed)
            others  set by the control plane while STATE is not READY and no worker is in here

The driver is not trusted. A word of its memory is read once and bounded before it is used; every
address is found in the table of its regions (rings.guest_memory); a chain has an end. What breaks a
rule is a Fault, and the queue is not used again until the control plane says so.

Buffers are used in the order in which they were made available, so VIRTIO_F_IN_ORDER holds, and
used.idx alone says where the device is: what was not used when it died is there for the next.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import (
    fence,
    load_acquire16,
    load_acquire64,
    load_once16,
    load_once64,
    store_release16,
    store_release64,
)
from vforward.jit.intrinsics import address, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import ArrayOf
from vforward.rings.guest_memory import locate

# Words of a queue. DESC, AVAIL, USED: addresses here, of as many bytes as SIZE says.
STATE, SIZE, DESC, AVAIL, USED, NEXT, FEATURES, HEADER, CALL, FAULT, IDLE, MOVED = range(12)
FIRST, LAST, REGION, COUNT = range(12, 16)
QUEUE_WORDS = 16
OFF, READY, BROKEN = 0, 1, 2
Queues = Annotated[NDArray[np.uint64], ArrayOf(np.uint64, QUEUE_WORDS)]

# Bits of FEATURES, numbered as in section 6.
INDIRECT_DESC, EVENT_IDX, RING_PACKED, IN_ORDER = 1 << 28, 1 << 29, 1 << 34, 1 << 35

DESCRIPTOR = 16
F_NEXT, F_WRITE, F_INDIRECT = 1, 2, 4
SIZE_MAX = 32768
PIECES_MAX = 1024
"""Descriptors of the longest chain taken: what QEMU allows."""
IDLE_POLLS = 1024
NO_NOTIFY = 1  # flags of used; of avail: NO_INTERRUPT
EACH = {DESC: DESCRIPTOR, AVAIL: 2, USED: 8}
"""Parts of a queue: bytes for each descriptor."""


class Fault(IntEnum):
    """Why a queue is BROKEN."""

    INDEX = 1
    DESCRIPTOR = 2
    ADDRESS = 3
    DIRECTION = 4
    INDIRECT = 5
    LENGTH = 6
    MEMORY = 7


FAULTS = {
    Fault.INDEX: "more buffers made available than the queue has",
    Fault.DESCRIPTOR: "a descriptor's number outside of its table",
    Fault.ADDRESS: "an address outside of the memory that was shared",
    Fault.DIRECTION: "a buffer to write to where one to read was due, or the reverse",
    Fault.INDIRECT: "an indirect table in an indirect table, or of no table's length",
    Fault.LENGTH: "a chain without an end, or without room, or a piece of room without length",
    Fault.MEMORY: "memory taken away while it was in use",
}


def new(n: int) -> NDArray[np.uint64]:
    """u64[n, QUEUE_WORDS]: n queues that are OFF."""
    return np.zeros((n, QUEUE_WORDS), np.uint64)


def part_bytes(part: int, size: int, features: int) -> int:
    """How long DESC, AVAIL or USED of a queue is."""
    if part == DESC:
        return EACH[DESC] * size
    if features & RING_PACKED:
        return 4
    return 4 + EACH[part] * size + (2 if features & EVENT_IDX else 0)


@inline
def ready(queue: Any) -> bool:
    """Whether the queue may be used, until the next quiet point."""
    return load_acquire64(address(queue) + 8 * STATE) == u64(READY)


@kernel
def give_up(queue: Any, fault: Any) -> None:
    """The queue is BROKEN. By who uses it."""
    queue[FAULT] = u64(fault)
    store_release64(address(queue) + 8 * STATE, u64(BROKEN))


@inline
def is_idle(queue: Any) -> bool:
    """Note a poll that found nothing. Whether it is time to ask for notifications: once, at IDLE_POLLS."""
    polls = i64(queue[IDLE]) + 1
    queue[IDLE] = u64(polls)
    return polls == IDLE_POLLS


@inline
def was_idle(queue: Any) -> bool:
    """Note one that found something. Whether notifications had been asked for."""
    idle = i64(queue[IDLE]) >= IDLE_POLLS
    queue[IDLE] = u64(0)
    return idle


@inline
def waiting(queue: Any) -> Any:
    """How many buffers are available, or -Fault.INDEX."""
    n = (i64(load_acquire16(i64(queue[AVAIL]) + 2)) - i64(queue[NEXT])) & 0xFFFF
    return n if n <= i64(queue[SIZE]) else -i64(Fault.INDEX)


@inline
def head(queue: Any, k: Any) -> Any:
    """The number of the descriptor with which the k-th available buffer begins: anything < 2**16."""
    slot = (i64(queue[NEXT]) + k) & (i64(queue[SIZE]) - 1)
    return i64(load_once16(i64(queue[AVAIL]) + 4 + 2 * slot))


@inline
def descriptor(table: Any, number: Any) -> Any:
    """(address u64, length i64, flags i64, next i64) of a descriptor that is in the table."""
    at = table + DESCRIPTOR * number
    word = i64(load_once64(at + 8))
    return load_once64(at), word & 0xFFFFFFFF, word >> 32 & 0xFFFF, word >> 48 & 0xFFFF


@inline
def look(queue: Any, k: Any) -> Any:
    """The k-th available buffer: (head, address u64, length i64, flags i64), of its first descriptor but
    the head. flags is -1 if there is no such descriptor.
    """
    number = head(queue, k)
    if number >= i64(queue[SIZE]):
        return number, u64(0), i64(0), i64(-1)
    where, length, flags, _ = descriptor(i64(queue[DESC]), number)
    return number, where, length, flags


@inline
def add_piece(
    memory: Any, pieces: Any, used: Any, where: Any, length: Any, flags: Any, writable: Any
) -> Any:
    """Append what a descriptor says to pieces[used:]. Returns how many there are then, or -Fault."""
    if (flags & F_WRITE != 0) != writable:
        return -i64(Fault.DIRECTION)
    if length == 0:  # nothing to send; of room to receive so many would be looked at for nothing
        return -i64(Fault.LENGTH) if writable else i64(used)
    here = locate(memory, where, length)
    if here == 0:
        return -i64(Fault.ADDRESS)
    if used == PIECES_MAX:
        return -i64(Fault.LENGTH)
    pieces[used, 0], pieces[used, 1] = here, length
    return i64(used) + 1


@kernel
def read_chain(queue: Any, memory: Any, pieces: Any, used: Any, number: Any, writable: Any) -> Any:
    """Append the memory of the buffer that begins with descriptor number to pieces[used:].

    pieces i64[PIECES_MAX, 2]: address here, bytes (at least 1). writable: for the device to write to;
    else to read. Returns how many pieces there are then, or -Fault.
    """
    table, entries, indirect = i64(queue[DESC]), i64(queue[SIZE]), False
    for _ in range(PIECES_MAX):
        if number >= entries:
            return -i64(Fault.DESCRIPTOR)
        where, length, flags, following = descriptor(table, number)
        if flags & F_INDIRECT:
            if indirect or flags & F_NEXT or length == 0 or length % DESCRIPTOR:
                return -i64(Fault.INDIRECT)
            table, entries, indirect = locate(memory, where, length), length // DESCRIPTOR, True
            if table == 0:
                return -i64(Fault.ADDRESS)
            number = 0
            continue
        used = add_piece(memory, pieces, used, where, length, flags, writable)
        if used < 0 or not flags & F_NEXT:
            return i64(used)
        number = following
    return -i64(Fault.LENGTH)


@inline
def put_used(queue: Any, k: Any, number: Any, length: Any) -> None:
    """The k-th available buffer, that of descriptor number, has length bytes written.

    What stands there already, as it does lap after lap where buffers come back in order, is not written:
    the driver would have to fetch the line again.
    """
    slot = (i64(queue[NEXT]) + k) & (i64(queue[SIZE]) - 1)
    element = view(i64(queue[USED]) + 4 + 8 * slot, 2, np.uint32)
    if element[0] != number:
        element[0] = number
    if element[1] != length:
        element[1] = length


@inline
def publish(queue: Any, n: Any) -> None:
    """Give back the n buffers that were put."""
    following = (i64(queue[NEXT]) + n) & 0xFFFF
    queue[NEXT] = u64(following)
    store_release16(i64(queue[USED]) + 2, u64(following))


@inline
def wants_call(queue: Any, since: Any) -> bool:
    """Whether the driver is to be interrupted for what was published since NEXT was that (2.7.7)."""
    fence()  # used.idx is out before the driver's wish is read: it does the same the other way round
    avail = i64(queue[AVAIL])
    if not queue[FEATURES] & u64(EVENT_IDX):
        return load_once16(avail) & u64(1) == u64(0)
    event = i64(load_once16(avail + 4 + 2 * i64(queue[SIZE])))
    return (i64(queue[NEXT]) - event - 1) & 0xFFFF < (i64(queue[NEXT]) - since) & 0xFFFF


@kernel
def ask_for_kicks(queue: Any) -> None:
    """Have the driver write the kick eventfd when it makes a buffer available from now on.

    One that it made available just before is seen by who then looks at waiting.
    """
    used = i64(queue[USED])
    if queue[FEATURES] & u64(EVENT_IDX):
        store_release16(used + 4 + 8 * i64(queue[SIZE]), queue[NEXT])
    else:
        store_release16(used, u64(0))
    fence()


@kernel
def refuse_kicks(queue: Any) -> None:
    """Tell the driver that the queue is polled. It may kick all the same.

    With EVENT_IDX avail_event stays behind, and that says it.
    """
    event_idx = queue[FEATURES] & u64(EVENT_IDX) != u64(0)
    store_release16(i64(queue[USED]), u64(0) if event_idx else u64(NO_NOTIFY))


@kernel
def resume(queue: Any) -> None:
    """Go on where the queue was left, by this device or another: at used.idx in memory."""
    queue[NEXT] = load_acquire16(i64(queue[USED]) + 2)
    queue[IDLE] = u64(0)
    queue[FAULT] = u64(0)
    refuse_kicks(queue)


@kernel
def start(queue: Any) -> None:
    """The queue may be used from now on: what was set before is seen by who finds it READY."""
    store_release64(address(queue) + 8 * STATE, u64(READY))
