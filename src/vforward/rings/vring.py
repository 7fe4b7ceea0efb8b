# SPDX-License-Identifier: Apache-2.0
"""A virtqueue of either layout, split (rings.virtqueue) or packed (rings.packed), for who moves packets.

Loops over buffers take the layout as an argument, and are called with a constant and merged into who
calls them: so each layout has machine code of its own. Buffers are used in order:

    n = waiting(queue, packed)              at most; or -Fault
    cursor = begin(queue, packed)           look(queue, cursor, packed) at the first, then, after
    cursor = following(queue, cursor, token, packed), at the next, until n or NONE
    put_used(queue, k, token, length, packed)    in the same order; k counts from 0 after each
    publish(queue, n, packed)

A token stands for a buffer: >= 0; NONE: there is none; else -Fault, and there is nothing after it.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings import packed as pk
from vforward.rings import virtqueue as vq

NONE = pk.NONE


@inline
def is_packed(queue: Any) -> bool:
    """Its layout, while it is not OFF."""
    return queue[vq.FEATURES] & u64(vq.RING_PACKED) != u64(0)


@inline
def waiting(queue: Any, packed: Any) -> Any:
    """How many buffers are available, or -Fault.INDEX. Of a packed queue: 0, or at least that many."""
    return pk.waiting(queue) if packed else vq.waiting(queue)


@inline
def begin(queue: Any, packed: Any) -> Any:
    """The cursor of the next buffer that was not published, of those that were waited for."""
    return i64(queue[vq.NEXT]) if packed else i64(0)


@inline
def after_put(queue: Any, k: Any, packed: Any) -> Any:
    """The cursor behind k buffers that were put and not published."""
    return i64(queue[vq.LAST]) if packed else i64(k)


@inline
def look(queue: Any, cursor: Any, packed: Any) -> Any:
    """(token, address u64, length i64, flags i64): all but the token are its first descriptor's.

    flags is -1 if there is no such descriptor.
    """
    return pk.look(queue, cursor) if packed else vq.look(queue, cursor)


@inline
def following(queue: Any, cursor: Any, token: Any, packed: Any) -> Any:
    """The cursor behind the buffer."""
    return pk.following(queue, token) if packed else i64(cursor) + 1


@kernel
def read_chain(
    queue: Any, memory: Any, pieces: Any, used: Any, token: Any, writable: Any, packed: Any
) -> Any:
    """Append the buffer's memory to pieces[used:] (virtqueue.read_chain)."""
    if token < 0:
        return i64(token)
    if packed:
        return pk.read_chain(queue, memory, pieces, used, token, writable)
    return vq.read_chain(queue, memory, pieces, used, token, writable)


@inline
def put_used(queue: Any, k: Any, token: Any, length: Any, packed: Any) -> None:
    """The k-th buffer since the last that were published has length bytes written."""
    if packed:
        pk.put_used(queue, k, token, length)
    else:
        vq.put_used(queue, k, token, length)


@inline
def publish(queue: Any, n: Any, packed: Any) -> None:
    """Give back the n buffers that were put."""
    if packed:
        pk.publish(queue, n)
    else:
        vq.publish(queue, n)


@inline
def number(queue: Any) -> Any:
    """How many buffers (of a packed queue: descriptors) were ever used, modulo 2**16."""
    return queue[vq.COUNT] if is_packed(queue) else queue[vq.NEXT]


@kernel
def available(queue: Any) -> Any:
    """How many of those are available now."""
    return pk.available(queue) if is_packed(queue) else max(vq.waiting(queue), i64(0))


@inline
def taken_back(queue: Any) -> Any:
    """The number, modulo 2**16, of the buffer before which the driver has all back that were used.

    At least: of SIZE buffers those that it makes available again it has taken back before.
    """
    return (i64(number(queue)) + available(queue) - i64(queue[vq.SIZE])) & 0xFFFF


@inline
def wants_call(queue: Any, since: Any) -> bool:
    """Whether the driver is to be interrupted for what was published since NEXT was that."""
    return pk.wants_call(queue, since) if is_packed(queue) else vq.wants_call(queue, since)


@kernel
def ask_for_kicks(queue: Any) -> None:
    """Have the driver write the kick eventfd when it makes a buffer available from now on.

    One that it made available just before is seen by who then looks at waiting.
    """
    if is_packed(queue):
        pk.ask_for_kicks(queue)
    else:
        vq.ask_for_kicks(queue)


@kernel
def refuse_kicks(queue: Any) -> None:
    """Tell the driver that the queue is polled. It may kick all the same."""
    if is_packed(queue):
        pk.refuse_kicks(queue)
    else:
        vq.refuse_kicks(queue)
