# SPDX-License-Identifier: Apache-2.0
"""What nodes tell the control plane of neighbors, and what that tells them: words in rings.

    events  u64[BELL_WORDS + ring]  from one worker to the control plane
            word 0  address of write(2), 0: nobody is to be woken     word 1  the eventfd
            word 2  1, which is written there                         words 4..7  the worker's
            words BELL_WORDS..  an rings.spsc ring; four words to an event:
                kind << 32 | flags << 16 | port,  address: high half,  low half (tables.addresses),
                MAC (48 bits; 0: not said)

    releases  an rings.spsc ring of u64 from the control plane to the worker; three words to a release:
                outcome << 32 | port,  address: high half,  low half

Both are pushed whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import address, call3
from vforward.jit.kernel import kernel
from vforward.rings import spsc
from vforward.tables.addresses import halves

LEARN = 1
"""A neighbor said where it is. Its flags:"""
SOLICITED, OVERRIDE = 1, 2
"""As in RFC 4861 section 4.4: it answers us; what was known before gives way."""
ADD = 4
"""Its message was for us: it is worth an entry of its own."""
RESOLVE = 2
"""A first packet waits for this next hop."""
USED = 3
"""Packets go to this neighbor, which is stale."""

FORWARD, UNREACHABLE = 0, 1
"""Outcomes of a release."""

BELL_WORDS = 16
WRITE, EVENTFD, ONE, STAGE = 0, 1, 2, 4
EVENT_WORDS, RELEASE_WORDS = 4, 3


@kernel
def post(events: Any, kind: Any, flags: Any, port: Any, high: Any, low: Any, mac: Any) -> bool:
    """Push an event. Returns whether there was room.

    USED, which comes again, gets half of the ring only: there is room for what comes once.
    """
    ring = events[BELL_WORDS:]
    least = EVENT_WORDS + (spsc.slots(ring) >> 1 if kind == USED else 0)
    if spsc.free_slots(ring) < least:
        return False
    events[STAGE] = np.uint64(np.int64(kind) << 32 | np.int64(flags) << 16 | np.int64(port))
    events[STAGE + 1] = high
    events[STAGE + 2] = low
    events[STAGE + 3] = np.uint64(mac)
    spsc.push(ring, events[STAGE : STAGE + EVENT_WORDS], EVENT_WORDS)
    return True


@kernel
def wake(events: Any) -> None:
    """Wake the control plane, once for the events of a call."""
    if events[WRITE]:
        call3(np.int64(events[WRITE]), np.int64(events[EVENTFD]), address(events) + 8 * ONE, 8)


@dataclass(frozen=True)
class Event:
    """An event as the control plane reads it. ip: 128 bits."""

    kind: int
    flags: int
    port: int
    ip: int
    mac: int


def items_for(n_events: int) -> int:
    """Length of the array ``events`` for at least so many."""
    return BELL_WORDS + spsc.items_for(EVENT_WORDS * n_events, np.uint64)


def set_bell(events: NDArray[np.uint64], write: int, eventfd: int) -> None:
    """Say how to wake the control plane: before the worker runs. 0: do not."""
    events[EVENTFD], events[ONE] = max(eventfd, 0), 1
    events[WRITE] = write


def drain(events: NDArray[np.uint64], most: int = 1024) -> Iterator[Event]:
    """Pop the events that wait, most of them at a time."""
    words = spsc.Ring(events[BELL_WORDS:]).pop(EVENT_WORDS * most).tolist()
    for at in range(0, len(words), EVENT_WORDS):
        word, high, low, mac = words[at : at + EVENT_WORDS]
        yield Event(word >> 32, word >> 16 & 0xFFFF, word & 0xFFFF, high << 64 | low, mac)


def waiting(events: NDArray[np.uint64]) -> int:
    """Events that wait."""
    return spsc.Ring(events[BELL_WORDS:]).used_slots() // EVENT_WORDS


def release_words(port: int, ip: int, outcome: int) -> tuple[int, int, int]:
    """A release as the ring carries it."""
    return outcome << 32 | port, *halves(ip)
