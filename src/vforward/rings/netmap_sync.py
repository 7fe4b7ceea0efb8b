# SPDX-License-Identifier: Apache-2.0
"""What netmap's kernel does at the begin and the end of a sync, and the sync of VALE ports.

A *kring* is the kernel's side of a ring, in memory of the process that syncs and nowhere else; all
distances are modulo the number of slots, which need not be a power of two:

    first ......... last      the slots that the user owned after the last sync: [first, last)
    head              tail    what the ring says now; good if first <= head <= cur <= last

A ring that says anything else is *reinitialised*: head and cur go back to first, indices that are no
buffer's and lengths beyond a buffer become 0 in the user's slots, and the sync fails. A tail that was
overwritten is no violation: it is written anew by each sync.

The link of a VALE ring (as nm_csb_atok and nm_csb_ktoa, one cache line each):

    bytes 0-15   head, cur, the port wants a wakeup, sync flags   (p) port     (s) loaded once, checked
    bytes 64-75  hwcur, hwtail, the switch sleeps                 (s) switch   (p) loaded once, checked

The port stores cur, then head; the switch loads head, then cur.

Sources: net/netmap.h (netmap_ring, nm_csb_atok, nm_csb_ktoa), netmap(4); shared memory's rules:
ISO C11 section 7.17.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.atomics import fence
from vforward.jit.intrinsics import view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings.netmap_layout import (
    CUR,
    FIRST_BUF,
    FLAGS,
    HEAD,
    NR_TIMESTAMP,
    SLOTS,
    TAIL,
    THEIRS,
    load,
    store,
)

KRING = np.dtype(
    [
        ("ring", "i8"),  # address of the netmap_ring
        ("peer", "i8"),  # pipes: address of the ring at the other end
        ("link", "i8"),  # address of the link
        ("n", "i8"),  # slots
        ("bufs", "i8"),  # buffers in the region
        ("data", "i8"),  # pipes: address of buffer 0
        ("buf_size", "i8"),
        ("first", "i8"),
        ("last", "i8"),
        ("ours", "i8"),  # pipes: what this side has published last
        ("reinits", "i8"),
    ]
)

OK, WAKE, STAMP = 0, 1, 2
"""What a sync answers, bits: wake the other side; the user wants a time stamp."""
VIOLATION = -1
"""What a sync answers when the ring was reinitialised."""

PORT_CUR, PORT_WAITS, SYNC_FLAGS = 4, 8, 12
SWITCH_CUR, SWITCH_TAIL, SWITCH_SLEEPS = THEIRS, THEIRS + 4, THEIRS + 8
"""Bytes from a VALE link's beginning. (The port's head is at 0.)"""


@inline
def distance(n: Any, here: Any, there: Any) -> Any:
    """Slots from here on to there, both below n."""
    return there - here if there >= here else there - here + n


@inline
def following(n: Any, slot: Any) -> Any:
    """The slot after this one."""
    return slot + 1 if slot + 1 < n else i64(0)


@inline
def before(n: Any, slot: Any) -> Any:
    """The slot before this one."""
    return slot - 1 if slot > 0 else n - 1


@kernel
def checked_head(k: Any) -> Any:
    """The ring's head as the user has set it, or VIOLATION (see the module)."""
    head, cur = load(k.ring + HEAD), load(k.ring + CUR)
    if head >= k.n or cur >= k.n:
        return i64(VIOLATION)
    owned = distance(k.n, k.first, k.last)
    ahead = distance(k.n, k.first, head)
    if ahead > owned or distance(k.n, head, cur) > owned - ahead:
        return i64(VIOLATION)
    return i64(head)


@inline
def is_slot(k: Any, word: Any) -> Any:
    """Whether a slot's first word names a buffer and a length that fits it."""
    buf = i64(word & u64(0xFFFFFFFF))
    return FIRST_BUF <= buf < k.bufs and i64(word >> u64(32)) & 0xFFFF <= k.buf_size


@kernel
def reinit(k: Any) -> Any:
    """Reinitialise the ring (see the module). Returns VIOLATION."""
    words = view(k.ring + SLOTS, 2 * k.n, np.uint64)
    at = k.first
    while at != k.last:
        word = words[2 * at]
        buf, size = i64(word & u64(0xFFFFFFFF)), i64(word >> u64(32)) & 0xFFFF
        if not FIRST_BUF <= buf < k.bufs:
            words[2 * at] = word >> u64(48) << u64(48)
        elif size > k.buf_size:
            words[2 * at] = word & u64(0xFFFF0000FFFFFFFF)
        at = following(k.n, at)
    store(k.ring + HEAD, k.first)
    store(k.ring + CUR, k.first)
    store(k.ring + TAIL, k.last)
    k.reinits += 1
    return i64(VIOLATION)


@kernel
def finish(k: Any, last: Any) -> Any:
    """End a sync: the user's slots now end at last, if the other side can mean that. Returns STAMP."""
    most = before(k.n, k.first)
    if last < k.n and distance(k.n, k.last, last) <= distance(k.n, k.last, most):
        k.last = last
    store(k.ring + TAIL, k.last)
    return i64(STAMP) if load(k.ring + FLAGS) & NR_TIMESTAMP else i64(OK)


@kernel
def port_sync(krings: Any, which: Any) -> Any:
    """NIOCTXSYNC or NIOCRXSYNC of a VALE port. Returns VIOLATION, or WAKE and STAMP.

    It tells the switch, and takes what the switch has done until now: it does not wait for it.
    """
    k = krings[which]
    head = checked_head(k)
    if head < 0:
        return reinit(k)
    answer = i64(OK)
    if head != k.first:
        k.first = head
        store(k.link + PORT_CUR, load(k.ring + CUR))
        store(k.link, head)
        fence()
        if load(k.link + SWITCH_SLEEPS):
            answer = i64(WAKE)
    return answer | finish(k, load(k.link + SWITCH_TAIL))


@kernel
def port_waits(krings: Any, which: Any, wanted: Any) -> None:
    """Ask the switch for a wakeup when it moves the ring's tail, or for none."""
    store(krings[which].link + PORT_WAITS, i64(wanted))
    fence()


@kernel
def port_begin(krings: Any, which: Any) -> None:
    """Take up a ring that the switch has just made."""
    k = krings[which]
    k.first, k.last = i64(0), load(k.link + SWITCH_TAIL) % k.n
    start(k)


@kernel
def start(k: Any) -> None:
    """Set the ring's words as after a sync."""
    store(k.ring + HEAD, k.first)
    store(k.ring + CUR, k.first)
    store(k.ring + TAIL, k.last)
