# SPDX-License-Identifier: Apache-2.0
"""A VALE switch at work: its ports, and the thread that goes round them.

The thread is in compiled code while there are frames, and sleeps in poll(2) when there are none. Ports
come and go between two calls, under a lock, so that no memory is given back that a call looks at.

A port and the switch wake each other by a pair of sockets, and not by an eventfd: whoever shares one of
those can fill it and make it blocking, and so stop the other side.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vforward.errors import PortError, PortInUse
from vforward.jit.kernel import i64, kernel
from vforward.rings.netmap_layout import (
    BUF_SIZE,
    EXTRA_MOST,
    address_of,
    bounded_slots,
    give_extra,
    link_at,
    store,
)
from vforward.rings.netmap_message import Reply
from vforward.rings.netmap_names import Kind
from vforward.rings.netmap_region import Region
from vforward.rings.netmap_sync import SWITCH_TAIL
from vforward.rings.vale import BATCH, COUNTERS, PORT, PORTS_MAX, WORDS, forward, sleeps
from vforward.rings.vale_macs import PER_AGE, TICKS, age_out, forget, make_macs
from vforward.rings.wait import readable

MAX_AGE_S = 300.0
"""How long a MAC lives that is silent (IEEE 802.1Q-2018 table 8-3)."""
ROUNDS = 64
"""Rounds of one call, for as long as there are frames."""
IDLE_ROUNDS = 200
"""Rounds without a frame before the thread sleeps."""


@kernel
def _set_tail(link: int, tail: int) -> None:
    store(i64(link) + SWITCH_TAIL, i64(tail))


@dataclass
class _Member:
    """What a port has besides its PORT record."""

    name: str
    region: Region
    ours: socket.socket
    theirs: socket.socket

    def wake(self) -> None:
        """Wake the port. That its socket is full or gone does not matter: it has been woken."""
        with contextlib.suppress(OSError):
            self.ours.send(b"w", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def drain(self) -> None:
        """Read what has woken us."""
        with contextlib.suppress(OSError):
            self.ours.recv(65536, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Give back everything."""
        self.region.close()
        self.ours.close()
        self.theirs.close()


class Switch:
    """A switch. Ports are numbered from 0; a number is used anew when its port has gone."""

    def __init__(self, name: str, max_age_s: float = MAX_AGE_S) -> None:
        self.name = name
        self.ports = np.zeros(PORTS_MAX, PORT)
        self.macs = make_macs()
        self.members: dict[int, _Member] = {}
        self.now = 0
        self._tick_s = max_age_s / PER_AGE
        self._next_tick = time.monotonic() + self._tick_s
        self._words = np.zeros(WORDS, np.uint64)
        self._lock = threading.Lock()
        self._wanted = False  # somebody waits for the lock: the thread lets him
        self._asleep = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stop = False
        self._thread: threading.Thread | None = None
        self._warm()

    def _warm(self) -> None:
        """Compile now, not when the first port closes and all others wait for it."""
        nobody = self.ports[:0]
        forward(nobody, self.macs, self.now, self._words, 1)
        sleeps(nobody, 0)
        forget(self.macs, 0)
        age_out(self.macs, self.now)

    def attach(self, name: str, tx: int, rx: int, extra: int) -> tuple[int, Reply, list[int]]:
        """Make a port: its number, where its rings are, its descriptors. Raises PortError."""
        what = f"vale{self.name}:{name}"
        if any(member.name == name for member in self.members.values()):
            raise PortInUse(f"netmap port {what} is in use")
        if len(self.members) == PORTS_MAX:
            raise PortError(f"netmap port {what}: the switch has {PORTS_MAX} ports already")
        slots = bounded_slots(tx, what), bounded_slots(rx, what)
        extra = min(extra, EXTRA_MOST)
        region = Region(what, (slots,), sum(slots) + extra)
        rings = region.where.ends[0]
        try:
            region.format(0, what)
            region.give(rings.tx, slots[0])
            region.give(rings.rx, slots[1])
            give_extra(region.memory, region.where, 0, region.free[:extra])
            member = _Member(name, region, *socket.socketpair())
        except BaseException:
            region.close()
            raise
        number = min(set(range(PORTS_MAX)) - set(self.members))
        with self._quiet():
            self._fill(number, region, slots)
            self.members[number] = member
        os.eventfd_write(self._asleep, 1)
        reply = Reply(
            kind=Kind.VALE.value, size=region.where.size, nifp=rings.nifp, tx=rings.tx,
            rx=rings.rx, tx_link=link_at(0), rx_link=link_at(1), bufs=region.where.bufs, buf_size=BUF_SIZE,
            tx_slots=slots[0], rx_slots=slots[1], extra=extra, mem_id=region.mem_id,
        )  # fmt: skip
        return number, reply, [region.descriptor, member.theirs.fileno()]

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """The time between two calls of forward."""
        self._wanted = True
        with self._lock:
            self._wanted = False
            yield

    def _fill(self, number: int, region: Region, slots: tuple[int, int]) -> None:
        base = address_of(region.memory)
        rings = region.where.ends[0]
        port = self.ports[number]
        port["tx"], port["rx"] = base + rings.tx, base + rings.rx
        port["tx_link"], port["rx_link"] = base + link_at(0), base + link_at(1)
        port["base"], port["bufs"] = base + region.where.bufs_at, region.where.bufs
        port["tx_n"], port["rx_n"] = slots
        port["odd_head"] = -1
        port["alive"] = 1
        _set_tail(base + link_at(0), slots[0] - 1)

    def detach(self, number: int) -> None:
        """Close a port. What it has sent is forwarded first, also if its program was killed."""
        with self._quiet():
            for _ in range(int(self.ports[number]["tx_n"]) // BATCH + 1):
                self._round(1)
            member = self.members.pop(number)
            self.ports[number] = np.zeros((), PORT)
            forget(self.macs, number)
            member.close()

    def statistics(self) -> dict[str, dict[str, int]]:
        """Counters by port and name."""
        with self._quiet():
            return {
                member.name: {c: int(self.ports[number][c]) for c in COUNTERS}
                for number, member in self.members.items()
            }

    def forward(self, rounds: int = 1) -> int:
        """Forward what waits now, and wake ports. Returns how many slots; for one thread."""
        with self._lock:
            self._tick()
            return self._round(rounds)

    def _round(self, rounds: int) -> int:
        ports = self.ports[: max(self.members, default=-1) + 1]
        done = int(forward(ports, self.macs, self.now, self._words, rounds))
        for number in np.flatnonzero(ports["wake"]).tolist():
            ports["wake"][number] = 0
            self.members[number].wake()
        return done

    def _tick(self) -> None:
        if time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + self._tick_s
            self.now = (self.now + 1) % TICKS
            age_out(self.macs, self.now)

    def start(self) -> None:
        """Forward from now on, in a thread."""
        thread = threading.Thread(target=self._run, name=f"vale{self.name}", daemon=True)
        thread.start()
        self._thread = thread

    def _run(self) -> None:
        idle = 0
        while not self._stop:
            idle = 0 if self.forward(ROUNDS) else idle + 1
            if idle >= IDLE_ROUNDS:
                self._sleep()
                idle = 0
            elif self._wanted:
                time.sleep(0.0001)

    def _sleep(self) -> None:
        """Wait until a port has sent something, or for a tick."""
        with self._quiet():
            sleeps(self.ports, 1)
        if not self.forward():
            with self._quiet():
                members = {member.ours.fileno(): member for member in self.members.values()}
            left = max(0.0, self._next_tick - time.monotonic())
            woken = readable([self._asleep, *members], left + 0.001)
            if self._asleep in woken:
                os.eventfd_read(self._asleep)
            with self._quiet():  # a descriptor may be another's by now: drain sockets, not numbers
                for descriptor in woken & set(members):
                    members[descriptor].drain()
        with self._quiet():
            sleeps(self.ports, 0)

    def close(self) -> None:
        """End the thread and close all ports."""
        self._stop = True
        os.eventfd_write(self._asleep, 1)
        if self._thread is not None:
            self._thread.join()
        for number in list(self.members):
            self.detach(number)
        os.close(self._asleep)
