# SPDX-License-Identifier: Apache-2.0
"""netmap's pipes: packets change hands by their slots, nothing is copied, nothing is dropped.

    A: tx ring  --- slots --->  B: rx ring       one direction; the other one is its mirror image
                <-- slots ----                   both rings have as many slots

    link: bytes 0-7    sent, sender waits          (s) sender     (r) loaded once, bounded
          bytes 64-71  returned, receiver waits    (r) receiver   (s) loaded once, bounded

    [returned, sent)       slots whose packets are the receiver's
    [sent, returned - 1)   slots that are the sender's, to fill; one is always empty

Slot i of both rings is the same place: a packet takes its buffer along. txsync copies the slots up to
head into the other end's ring and publishes *sent*, at the last packet that is complete
(NS_MOREFRAG). rxsync publishes *returned*. A receiver that has swapped a buffer says so by
NS_BUF_CHANGED: then its slot goes back, flag and all. What is not read stays, so a sender who is
not read from has no space.

Whoever waits sets its word to 1, then looks again; whoever publishes looks at it afterwards, with a
fence in between on both sides, and wakes and sets it to 0.

What a receiver returns it has written to: a word in each cache line of a packet and of the slots. A line
that both cores have only read is far dearer to the sender, who writes it next, than one that it takes from
a core that wrote it last (73 clocks to 8, on Zen 4 between two core complexes).

Ends of a pipe trust each other with their packets and buffers; neither can make the other's process
touch anything outside of the region.

The pair (sent, returned) is all that there is of a pipe's state, so an end whose process was killed is
taken up by the next where it was. `reclaim` gives it buffers for the slots that it left damaged.

Sources: netmap(4), section PIPES; net/netmap.h; see docs/adr/0017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import fence, load_once64, store_release64
from vforward.jit.intrinsics import view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings.netmap_layout import (
    BUF_SIZE,
    FIRST_BUF,
    NS_BUF_CHANGED,
    NS_MOREFRAG,
    OURS,
    SLOTS,
    THEIRS,
    Geometry,
    extra_list,
    link_at,
    load,
    slots_at,
    store,
)
from vforward.rings.netmap_sync import (
    OK,
    WAKE,
    before,
    checked_head,
    finish,
    following,
    is_slot,
    reinit,
    start,
)

LINE = 64
WAITS = 4
"""Bytes from a line's beginning to its owner's request for a wakeup."""
_CHANGED = NS_BUF_CHANGED << 48


@kernel
def _published(k: Any, line: Any, slot: Any) -> Any:
    """Publish a slot on our line; WAKE if the other side waits for it."""
    if slot == k.ours:
        return i64(OK)
    k.ours = slot
    store(k.link + line, slot)
    fence()
    other = THEIRS - line + WAITS
    if load(k.link + other) == 0:
        return i64(OK)
    store(k.link + other, i64(0))
    return i64(WAKE)


@kernel
def pipe_txsync(krings: Any) -> Any:
    """NIOCTXSYNC: send the slots up to head. Returns VIOLATION, or WAKE and STAMP."""
    k = krings[0]
    head = checked_head(k)
    if head < 0:
        return reinit(k)
    mine, theirs = (
        view(k.ring + SLOTS, 2 * k.n, np.uint64),
        view(k.peer + SLOTS, 2 * k.n, np.uint64),
    )
    at, complete, good = k.first, k.ours, True
    while at != head:
        word = mine[2 * at]
        if not is_slot(k, word):
            good = False
            break
        clean = word & ~u64(_CHANGED)
        theirs[2 * at], theirs[2 * at + 1] = clean, mine[2 * at + 1]
        if clean != word:
            mine[2 * at] = clean
        at = following(k.n, at)
        if not word & u64(NS_MOREFRAG << 48):
            complete = at
    k.first = at
    answer = _published(k, OURS, complete)
    if not good:
        return reinit(k)
    returned = load(k.link + THEIRS)
    return answer | finish(k, before(k.n, returned) if returned < k.n else k.n)


@inline
def _claim(k: Any, word: Any) -> None:
    """Write to each cache line of the packet in a slot, which is returned (see the module): what is there
    already, as programs count on their buffers being what they made of them.
    """
    where = k.data + i64(word & u64(0xFFFFFFFF)) * k.buf_size
    for off in range(0, max(i64(1), i64(word >> u64(32)) & 0xFFFF), LINE):
        store_release64(where + off, load_once64(where + off))


@kernel
def pipe_rxsync(krings: Any) -> Any:
    """NIOCRXSYNC: return the slots up to head, take what was sent. As pipe_txsync."""
    k = krings[1]
    head = checked_head(k)
    if head < 0:
        return reinit(k)
    mine, theirs = (
        view(k.ring + SLOTS, 2 * k.n, np.uint64),
        view(k.peer + SLOTS, 2 * k.n, np.uint64),
    )
    at, good = k.first, True
    while at != head:
        word = mine[2 * at]
        if word & u64(_CHANGED):
            if not is_slot(k, word):
                good = False
                break
            theirs[2 * at], theirs[2 * at + 1] = word, mine[2 * at + 1]
        if is_slot(k, word):
            _claim(k, word)
            mine[2 * at + 1] = u64(0)
        at = following(k.n, at)
    k.first = at
    answer = _published(k, THEIRS, at)
    if not good:
        return reinit(k)
    return answer | finish(k, load(k.link + OURS))


@kernel
def pipe_waits(krings: Any, which: Any, wanted: Any) -> None:
    """Ask the other end for a wakeup when it publishes, or for none."""
    k = krings[which]
    store(k.link + (OURS if which == 0 else THEIRS) + WAITS, i64(wanted))
    fence()


@kernel
def pipe_begin(krings: Any) -> None:
    """Take up both rings of an end where its last owner left them."""
    tx, rx = krings[0], krings[1]
    tx.first = tx.ours = load(tx.link + OURS) % tx.n
    tx.last = before(tx.n, load(tx.link + THEIRS) % tx.n)
    start(tx)
    rx.first = rx.ours = load(rx.link + THEIRS) % rx.n
    rx.last = load(rx.link + OURS) % rx.n
    start(rx)


def forget_waits(memory: NDArray[np.uint8], end: int) -> None:
    """Nobody is at this end any more to be woken."""
    for link, line in ((end, OURS), (1 - end, THEIRS)):
        at = link_at(link) + line + WAITS
        memory[at : at + 4] = 0


Owned = list[tuple[NDArray[Any], list[int]]]


def owned_slots(memory: NDArray[np.uint8], where: Geometry) -> tuple[Owned, Owned]:
    """What is each end's: of its tx and of its rx ring the slots, and the numbers of its own ones.

    Each word is read once. So every place is one end's, also while a living end sends and returns slots.
    """
    owned: tuple[Owned, Owned] = ([], [])
    for end in (0, 1):
        n, rings = where.slots[end][0], where.ends
        words = memory[link_at(end) : link_at(end) + 128].view(np.uint32)
        sent, returned = (int(words[i // 4]) % n for i in (OURS, THEIRS))
        to_fill = (returned - sent - 1) % n + 1  # the slot that stays empty has a buffer, too
        places = [(sent + i) % n for i in range(n)]
        owned[end].append((slots_at(memory, rings[end].tx, n), places[:to_fill]))
        owned[1 - end].append((slots_at(memory, rings[1 - end].rx, n), places[to_fill:]))
    return owned


def reclaim(memory: NDArray[np.uint8], where: Geometry, end: int, spare: list[int]) -> bool:
    """Repair what a dead end left: each of its slots gets a buffer that no other slot has.

    Its list of extra buffers goes to spare, from which damaged slots are served. Returns whether there
    were enough.

    The other end may be at work. What that sends or returns from now on is not looked at as the dead
    end's; where it was is still looked at as its own: a slot that was given away keeps its buffer's
    number, since nobody gives it back.
    """
    both = owned_slots(memory, where)
    mine, others = both[end], both[1 - end]
    seen = {int(slots["buf_idx"][i]) for slots, numbers in others for i in numbers} | set(spare)
    damaged = []
    for slots, numbers in mine:
        for i in numbers:
            buf = int(slots["buf_idx"][i])
            if FIRST_BUF <= buf < where.bufs and buf not in seen:
                seen.add(buf)
            else:
                damaged.append((slots, i))
            slots["len"][i] = min(int(slots["len"][i]), BUF_SIZE)
    spare += [buf for buf in extra_list(memory, where, end) if buf not in seen]
    for slots, i in damaged:
        if not spare:
            return False
        slots["buf_idx"][i] = spare.pop()
    return True
