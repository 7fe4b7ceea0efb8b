# SPDX-License-Identifier: Apache-2.0
"""What the ARP nodes tell the control plane, and what that tells them: words in rings.

    events  u64[BELL_WORDS + ring]  from one worker to the control plane
            word 0  address of write(2), 0: nobody is to be woken     word 1  the eventfd
            word 2  1, which is written there                         words 4, 5  the worker's
            words BELL_WORDS..  an rings.spsc ring; two words to an event:
                kind << 48 | port << 32 | IPv4 address,  MAC (48 bits; 0 in RESOLVE)

    releases  an rings.spsc ring of u64 from the control plane to the worker; one word to a release:
                outcome << 48 | port << 32 | IPv4 address

An event is pushed whole or not at all, so an even number of words waits at any time.
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

LEARN = 1
"""A neighbor said where it is, to another station."""
LEARN_TARGET = 2
"""The same, in a message whose target is an address of the port: worth an entry of its own."""
RESOLVE = 3
"""A first packet waits for this next hop."""

FORWARD, UNREACHABLE = 0, 1
"""Outcomes; the edges of arp-release."""

BELL_WORDS = 16
WRITE, EVENTFD, ONE, STAGE = 0, 1, 2, 4


@kernel
def post(events: Any, kind: Any, port: Any, ip: Any, mac: Any) -> bool:
    """Push an event. Returns whether there was room."""
    ring = events[BELL_WORDS:]
    if spsc.free_slots(ring) < 2:
        return False
    events[STAGE] = np.uint64(np.int64(kind) << 48 | np.int64(port) << 32 | np.int64(ip))
    events[STAGE + 1] = np.uint64(mac)
    spsc.push(ring, events[STAGE : STAGE + 2], 2)
    return True


@kernel
def wake(events: Any) -> None:
    """Wake the control plane, once for the events of a call."""
    if events[WRITE]:
        call3(np.int64(events[WRITE]), np.int64(events[EVENTFD]), address(events) + 8 * ONE, 8)


@dataclass(frozen=True)
class Event:
    """An event as the control plane reads it."""

    kind: int
    port: int
    ip: int
    mac: int


def items_for(n_events: int) -> int:
    """Length of the array ``events`` for at least so many."""
    return BELL_WORDS + spsc.items_for(2 * n_events, np.uint64)


def set_bell(events: NDArray[np.uint64], write: int, eventfd: int) -> None:
    """Say how to wake the control plane: before the worker runs. 0: do not."""
    events[EVENTFD], events[ONE] = max(eventfd, 0), 1
    events[WRITE] = write


def drain(events: NDArray[np.uint64], most: int = 1024) -> Iterator[Event]:
    """Pop the events that wait, most of them at a time."""
    words = spsc.Ring(events[BELL_WORDS:]).pop(2 * most).tolist()
    for word, mac in zip(words[::2], words[1::2], strict=True):
        yield Event(word >> 48, word >> 32 & 0xFFFF, word & 0xFFFFFFFF, mac)


def waiting(events: NDArray[np.uint64]) -> int:
    """Events that wait."""
    return spsc.Ring(events[BELL_WORDS:]).used_slots() // 2


def release_word(port: int, ip: int, outcome: int) -> int:
    """A release as the ring carries it."""
    return outcome << 48 | port << 32 | ip
