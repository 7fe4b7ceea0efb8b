# SPDX-License-Identifier: Apache-2.0
"""A VALE switch, compiled: it learns, copies frames from port to port, and never waits for a port.

    port 0  tx ring ----+                       each port's region is its own: a frame is copied
    port 1  tx ring ----+--> look-up --> copy --> rx ring of one port, or of all others
            ...                                 no room there: dropped, counted, the others go on

A frame to a station that is known goes to its port, all others to all ports but their own; where
that is the port that it came from, or has less than 14 bytes, it is dropped. A frame of several slots
(NS_MOREFRAG, at most 64) goes whole or not at all, and not before its last slot is there. Receivers
find the number of slots in the flags' high byte.

A port's program is not trusted: of what it writes (head, slots) each word is loaded once, bounded, then
used; what makes no sense is counted and costs that port its own frame. The switch's part of all rings is
in its own memory. Frames may change while they are copied; nothing is read of them but the MACs, once.

Owner: one thread calls forward. Between two calls others may change PORT records.

Sources: vale(4), netmap(4); IEEE 802.1Q-2018 section 8.8 (learning, ageing).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.atomics import fence, load_acquire64, store_release64
from vforward.jit.intrinsics import ask_read, ask_write, copy
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings.netmap_layout import (
    BUF_SIZE,
    FIRST_BUF,
    MAX_FRAGS,
    NS_INDIRECT,
    NS_MOREFRAG,
    NS_NO_LEARN,
    SLOTS,
    load,
    store,
)
from vforward.rings.netmap_sync import (
    PORT_WAITS,
    SWITCH_CUR,
    SWITCH_SLEEPS,
    SWITCH_TAIL,
    before,
    distance,
    following,
)
from vforward.rings.vale_macs import NOBODY, find, learn

PORTS_MAX = 254
BATCH = 256
"""Slots of one port's that are looked at before the next port's."""
AHEAD = 8
"""Slots between asking for a buffer's first line and touching it."""
SHORTEST = 14
WORDS = MAX_FRAGS + 1
"""How long the array must be in which the slots of a frame are gathered."""

PORT = np.dtype(
    [
        ("alive", "i8"),
        ("tx", "i8"),  # addresses: of the rings, of their links, of buffer 0
        ("rx", "i8"),
        ("tx_link", "i8"),
        ("rx_link", "i8"),
        ("base", "i8"),
        ("bufs", "i8"),
        ("tx_n", "i8"),
        ("rx_n", "i8"),
        ("tx_cur", "i8"),  # tx slots from here on are still to be forwarded
        ("rx_head", "i8"),  # rx slots [rx_head, rx_tail) are the user's
        ("rx_tail", "i8"),
        ("rx_told", "i8"),  # the rx_tail that the port was told
        ("odd_head", "i8"),  # the last head that made no sense, not to be counted twice; -1: none
        ("wake", "i8"),  # the port is to be woken: for the caller, who sets it to 0
        ("received", "u8"),  # frames that came in by this port
        ("sent", "u8"),  # frames copied to it
        ("full", "u8"),  # dropped: it had no room
        ("same", "u8"),  # dropped: the station is where the frame came from
        ("bad", "u8"),  # dropped: short, long, without a buffer, indirect; heads that made no sense
    ]
)

COUNTERS = ("received", "sent", "full", "same", "bad")


@inline
def _word(ring: Any, slot: Any) -> Any:
    """A slot's buf_idx, len and flags, loaded once."""
    return load_acquire64(ring + SLOTS + 16 * slot)


@inline
def _buf(word: Any) -> Any:
    return i64(word & u64(0xFFFFFFFF))


@inline
def _len(word: Any) -> Any:
    return i64(word >> u64(32)) & 0xFFFF


@inline
def _ahead(n: Any, slot: Any) -> Any:
    """The slot AHEAD slots on, in a ring of n; in a shorter one, any."""
    soon = slot + AHEAD
    return soon if soon < n else (soon - n) % n


@inline
def _is_sent(port: Any, word: Any) -> Any:
    """Whether a tx slot can be copied from."""
    known = FIRST_BUF <= _buf(word) < port.bufs
    return known and _len(word) <= BUF_SIZE and not word & u64(NS_INDIRECT << 48)


@inline
def _copy(to: Any, source: Any, n: Any) -> None:
    """n bytes, exactly: what lies behind a frame is none of the receiver's business."""
    if 32 <= n <= 64:
        copy(to, source, 32)
        copy(to + n - 32, source + n - 32, 32)
    else:
        copy(to, source, n)


@inline
def _room(port: Any) -> Any:
    """Slots that are free in a port's rx ring."""
    return port.rx_n - 1 - distance(port.rx_n, port.rx_head, port.rx_tail)


@kernel
def _look_again(port: Any) -> Any:
    """The room after a look at what the user has returned."""
    head = load(port.rx_link)
    held = distance(port.rx_n, port.rx_head, port.rx_tail)
    if head < port.rx_n and distance(port.rx_n, port.rx_head, head) <= held:
        port.rx_head = head
        store(port.rx_link + SWITCH_CUR, head)
    return i64(_room(port))


@inline
def _one(source: Any, to: Any, word: Any, frags: Any, more: Any) -> Any:
    """Copy one slot into the next of a port's rx ring. Returns whether that has a buffer."""
    buf = _buf(_word(to.rx, to.rx_tail))
    if not FIRST_BUF <= buf < to.bufs:
        return False
    _copy(to.base + buf * BUF_SIZE, source.base + _buf(word) * BUF_SIZE, _len(word))
    made = buf | _len(word) << 32 | (frags << 8 | more) << 48
    store_release64(to.rx + SLOTS + 16 * to.rx_tail, u64(made))
    soon = _buf(_word(to.rx, _ahead(to.rx_n, to.rx_tail)))
    ask_write(to.base + (soon if soon < to.bufs else i64(0)) * BUF_SIZE)
    to.rx_tail = following(to.rx_n, to.rx_tail)
    return True


@inline
def _deliver(source: Any, to: Any, words: Any, frags: Any) -> None:
    """Copy a frame of one slot or several into a port's rx ring, or count why not."""
    if _room(to) < frags and _look_again(to) < frags:
        to.full += u64(1)
        return
    start = to.rx_tail
    for i in range(frags):
        if not _one(source, to, words[i], frags, NS_MOREFRAG if i + 1 < frags else 0):
            to.rx_tail = start
            to.bad += u64(1)
            return
    to.sent += u64(1)


@inline
def _destination(macs: Any, now: Any, p: Any, dst: Any, src: Any, learns: Any) -> Any:
    """Learn, and look up: a port, or NOBODY."""
    if learns:
        learn(macs, src, p, now)
    return i64(NOBODY) if dst & u64(1) else find(macs, dst)


@inline
def _send(ports: Any, p: Any, to: Any, words: Any, frags: Any) -> None:
    """Deliver a frame of port p to a port, or (NOBODY) to all others."""
    port = ports[p]
    if to == p:
        port.same += u64(1)
    elif 0 <= to < ports.size and ports[to].alive:
        _deliver(port, ports[to], words, frags)
    else:
        for q in range(ports.size):
            if q != p and ports[q].alive:
                _deliver(port, ports[q], words, frags)


@inline
def _gather(port: Any, words: Any, at: Any, head: Any) -> Any:
    """The words of the frame that begins at a slot: how many, 0 when the frame is not whole yet.

    Of one that is too long, MAX_FRAGS + 1.
    """
    n = i64(0)
    while at != head:
        words[n] = _word(port.tx, at)
        n += 1
        if not words[n - 1] & u64(NS_MOREFRAG << 48) or n > MAX_FRAGS:
            return n
        at = following(port.tx_n, at)
    return i64(0)


@inline
def _is_frame(port: Any, words: Any, frags: Any) -> Any:
    """Whether a frame's slots are good, and its first one holds a header."""
    good = frags <= MAX_FRAGS and _len(words[0]) >= SHORTEST
    for i in range(frags):
        good = good and _is_sent(port, words[i])
    return good


@kernel
def _take(ports: Any, macs: Any, now: Any, p: Any, words: Any) -> Any:
    """Forward what a port has sent, up to BATCH slots and the end of a frame. Returns slots."""
    port = ports[p]
    head = load(port.tx_link)
    if head >= port.tx_n:
        if head != port.odd_head:
            port.odd_head, port.bad = head, port.bad + u64(1)
        return i64(0)
    port.odd_head = i64(-1)
    # As long as the same station sends to the same station, the table says what it said.
    done, to, last_src, last_dst = i64(0), i64(NOBODY), u64(0), u64(0)
    waiting = distance(port.tx_n, port.tx_cur, head)
    while done < BATCH and port.tx_cur != head:
        frags = _gather(port, words, port.tx_cur, head)
        if frags == 0:
            break
        if done + AHEAD < waiting:
            soon = _buf(_word(port.tx, _ahead(port.tx_n, port.tx_cur)))
            ask_read(port.base + (soon if soon < port.bufs else i64(0)) * BUF_SIZE)
        if _is_frame(port, words, frags):
            port.received += u64(1)
            frame = port.base + _buf(words[0]) * BUF_SIZE
            first, second = load_acquire64(frame), load_acquire64(frame + 8)
            dst = first & u64(0xFFFFFFFFFFFF)
            src = first >> u64(48) | (second & u64(0xFFFFFFFF)) << u64(16)
            learns = not src & u64(1) and not words[0] & u64(NS_NO_LEARN << 48)
            if not learns or src != last_src or dst != last_dst:
                to = _destination(macs, now, p, dst, src, learns)
                last_src, last_dst = (src, dst) if learns else (u64(0), u64(0))
            _send(ports, p, to, words, frags)
        else:
            port.bad += u64(1)
        done += frags
        ended = port.tx_cur + frags
        port.tx_cur = ended if ended < port.tx_n else ended - port.tx_n
    if done > 0:
        store(port.tx_link + SWITCH_CUR, port.tx_cur)
        store(port.tx_link + SWITCH_TAIL, before(port.tx_n, port.tx_cur))
        fence()
        _want(port, port.tx_link)
    return done


@inline
def _want(port: Any, link: Any) -> None:
    """After a tail was moved and a fence: note whether the port waits for it."""
    if load(link + PORT_WAITS):
        store(link + PORT_WAITS, i64(0))
        port.wake = i64(1)


@kernel
def _tell(ports: Any) -> None:
    """Tell the ports what they have received."""
    for p in range(ports.size):
        port = ports[p]
        if port.alive and port.rx_told != port.rx_tail:
            port.rx_told = port.rx_tail
            store(port.rx_link + SWITCH_TAIL, port.rx_tail)
            fence()
            _want(port, port.rx_link)


@kernel
def forward(ports: Any, macs: Any, now: Any, words: Any, rounds: Any) -> Any:
    """Go round all ports, up to so many times, and end as soon as a port is to be woken.

    Returns how many slots were forwarded; 0 when there was nothing in the last round.
    """
    total = i64(0)
    for _ in range(rounds):
        done, wake = i64(0), i64(0)
        for p in range(ports.size):
            if ports[p].alive:
                taken = _take(ports, macs, now, p, words)
                done += taken
                if taken > 0:
                    _tell(ports)
        for p in range(ports.size):
            wake |= ports[p].wake
        total += done
        if wake or done == 0:
            break
    return total


@kernel
def sleeps(ports: Any, asleep: Any) -> None:
    """Say to all ports that the switch wants to be woken, or that it is awake."""
    for p in range(ports.size):
        if ports[p].alive:
            store(ports[p].tx_link + SWITCH_SLEEPS, i64(asleep))
    fence()
