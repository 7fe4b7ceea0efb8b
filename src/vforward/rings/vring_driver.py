# SPDX-License-Identifier: Apache-2.0
"""A driver's queue of either layout, split (rings.virtqueue_driver) or packed (rings.packed_driver), for
who moves packets.

As with rings.vring, loops take the layout as an argument and are called with a constant. To send:

    reclaim(queue, packed)                    then queue[FREE] descriptors are free
    add(queue, k, at, length, packed)         or add_chain: k, at: buffers and descriptors since publish
    publish(queue, k, at, packed)
    gone(queue, at)                           they are no longer free

To receive; each buffer is one descriptor:

    n = waiting(queue, packed)                at most; or -Fault
    number, length, batch = returned(queue, k, n, batch, packed)      for each k, until vring.NONE
    offer(queue, k, number, packed)           lend it again: k counts from 0 after each publish
    publish(queue, k, k, packed)
    took(queue, k, packed)
"""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import inline, kernel
from vforward.rings import packed_driver as pk
from vforward.rings import virtqueue_driver as vd
from vforward.rings.vring import is_packed


@kernel
def begin(queue: Any, receives: Any) -> None:
    """Lay out a queue in memory that is all zeros (virtqueue_driver.begin)."""
    if is_packed(queue):
        pk.begin(queue, receives)
    else:
        vd.begin(queue, receives)


@inline
def add(queue: Any, k: Any, at: Any, length: Any, packed: Any) -> None:
    """The k-th buffer since the last that were published is the at-th free descriptor since then, of
    length bytes to read.
    """
    if packed:
        pk.add(queue, k, at, length)
    else:
        vd.add(queue, k, at, length)


@inline
def add_chain(queue: Any, k: Any, at: Any, pieces: Any, n: Any, packed: Any) -> None:
    """It is n free descriptors, from the at-th on; pieces[p, 1]: how many bytes the p-th has."""
    if packed:
        pk.add_chain(queue, k, at, pieces, n)
    else:
        vd.add_chain(queue, k, at, pieces, n)


@inline
def offer(queue: Any, k: Any, number: Any, packed: Any) -> None:
    """The k-th buffer since the last that were published is one to write to, of this number."""
    if packed:
        pk.offer(queue, k, number)
    else:
        vd.offer(queue, k, number)


@inline
def publish(queue: Any, n: Any, descriptors: Any, packed: Any) -> None:
    """Make the n buffers available that were added or offered, in so many descriptors."""
    if packed:
        pk.publish(queue, descriptors)
    else:
        vd.publish(queue, n)


@inline
def waiting(queue: Any, packed: Any) -> Any:
    """How many buffers were given back, or -Fault.INDEX. Of a packed queue: 0, or at least that many."""
    return pk.waiting(queue) if packed else vd.waiting(queue)


@inline
def returned(queue: Any, k: Any, n: Any, batch: Any, packed: Any) -> Any:
    """The k-th buffer given back (virtqueue_driver.returned). The number is vring.NONE if there is none."""
    return pk.returned(queue, k, n, batch) if packed else vd.returned(queue, k, n, batch)


@inline
def took(queue: Any, n: Any, packed: Any) -> None:
    """The n buffers that were given back are not looked at again."""
    if packed:
        pk.took(queue, n)
    else:
        vd.took(queue, n)


@inline
def reclaim(queue: Any, packed: Any) -> Any:
    """Free the descriptors of all buffers that were given back. Returns 0 or a Fault."""
    return pk.reclaim(queue) if packed else vd.reclaim(queue)


@inline
def wants_kick(queue: Any, since: Any, packed: Any) -> bool:
    """Whether the device is to be kicked for what was published since ADDED was that."""
    return pk.wants_kick(queue, since) if packed else vd.wants_kick(queue, since)


@kernel
def ask_for_calls(queue: Any) -> None:
    """Have the device write the call eventfd when it gives a buffer back from now on.

    One that it gave back just before is seen by who then looks at waiting.
    """
    if is_packed(queue):
        pk.ask_for_calls(queue)
    else:
        vd.ask_for_calls(queue)


@kernel
def refuse_calls(queue: Any) -> None:
    """Tell the device that the queue is polled. It may call all the same."""
    if is_packed(queue):
        pk.refuse_calls(queue)
    else:
        vd.refuse_calls(queue)
