# SPDX-License-Identifier: Apache-2.0
"""Neighbors: the slow path of ARP and ND, between the worker's rings and the machine that knows them.

worker  -- events ------------------> service   who is where; whose MAC is wanted
worker  <-- releases, inject (frames) service   what becomes of packets; requests to be sent
"""

from __future__ import annotations

import heapq
import logging
import os
import random
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control import neighbor_frames as frames
from vforward.control.neighbor_machine import Limits, Machine, Routing, State, Times
from vforward.graph.control import segment
from vforward.io.libc import libc_address
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.nodes.control.inject import Injector
from vforward.nodes.neighbor import events as ev
from vforward.rings.spsc import Ring, items_for
from vforward.tables import addresses as address_table
from vforward.tables import held as held_table

log = logging.getLogger(__name__)

RETRY_S = 0.05
"""When the ring of releases was full: the worker is paused."""
EVENTS = 2048
BATCH = 1024
"""Most events of one step."""
INJECTED = 1024


@dataclass(frozen=True)
class Neighbor:
    """A neighbor as users see it. ip: 128 bits. since: when the state began, the service's clock."""

    port: int
    ip: int
    mac: bytes | None
    state: State
    since: float

    @property
    def address(self) -> IPv4Address | IPv6Address:
        """The address in its family."""
        return frames.address_of(self.ip)


@dataclass(frozen=True)
class Step:
    """What a step did: whether the worker was given something; when the next is due, if ever."""

    moved: bool
    due: float | None


def make_tables(
    arena: Arena, pool: Pool, worker: int, workers: int, slots: int = held_table.SLOTS
) -> dict[str, NDArray[Any]]:
    """The arrays shared with one worker's nodes of ARP, ND, neighbors and control-inject, by parameter.

    On all workers together at most an eighth of the pool may be held, and a sixteenth may wait to be
    injected: the first worker does that.
    """
    n_held = held_table.items_for(slots)
    held = arena.make(segment("held", worker), n_held, held_table.HELD)
    n_injected = 8 if worker else max(8, min(INJECTED, pool.size // 16))
    n_released = items_for(2 * ev.RELEASE_WORDS * n_held, np.uint64)
    return {
        "held": held_table.prepare(held, max(1, pool.size // 8 // workers)),
        "events": arena.make(segment("events", worker), ev.items_for(EVENTS), np.uint64),
        "releases": arena.make(segment("releases", worker), n_released, np.uint64),
        "inject": arena.make(segment("inject", worker), items_for(n_injected), np.uint32),
    }


@dataclass
class _Line:
    """To one worker and back: its events, and the releases that did not fit yet."""

    events: NDArray[np.uint64]
    releases: Ring
    unreleased: deque[tuple[int, int, int]]


class NeighborService:
    """All neighbors of one forwarder. Any thread may call any method.

    Either call step after events and by the time it returns, or start a thread that does. tables
    go to the graph, and own to its workers. ``wake`` is called after something was pushed for a
    worker; routing too is called with the service's lock held, and must not wait for a thread that
    calls the service.
    """

    def __init__(
        self,
        arena: Arena,
        pool: Pool,
        ports: NDArray[Any],
        routing: Routing,
        *,
        wake: Callable[[], None] = lambda: None,
        times: Times | None = None,
        clock: Callable[[], float] = time.monotonic,
        limits: Limits | None = None,
        seed: int | None = None,
        workers: int = 1,
    ) -> None:
        """limits: what goes beyond is not learned, and counts as unreachable.
        seed: of REACHABLE's random lengths, for tests.
        """
        self._addresses = arena.make(
            "addresses", address_table.ADDRESSES_MAX, address_table.ADDRESS
        )
        self.tables = {"addresses": self._addresses}
        self.own = [make_tables(arena, pool, worker, workers) for worker in range(workers)]
        self.wake = wake
        self._ports, self._clock = ports, clock
        self._lines = [_Line(own["events"], Ring(own["releases"]), deque()) for own in self.own]
        self._injector = Injector(pool, self.own[0]["inject"])
        chance = random.Random(seed).random
        self._machine = Machine(routing, self, times or Times(), limits or Limits(), chance)
        self._injected = False
        self.lock = threading.RLock()
        self._event = -1
        self._thread: threading.Thread | None = None
        self._stopping = False

    # What users do.

    def entries(self, most: int | None = None) -> list[Neighbor]:
        """The neighbors, by port and address; at most so many, the first of them."""
        with self.lock:
            keys = list(self._machine.entries)
        keys = sorted(keys) if most is None else heapq.nsmallest(most, keys)  # others may go on
        with self.lock:
            found = [e for e in map(self._machine.entries.get, keys) if e is not None]
            return [Neighbor(e.port, e.ip, e.mac, e.state, e.since) for e in found]

    def count(self) -> int:
        """How many neighbors there are."""
        return len(self._machine.entries)

    @property
    def refused(self) -> int:
        """How often a neighbor was not taken in, for the limits."""
        return self._machine.refused

    def add_address(self, port: int, address: IPv4Interface | IPv6Interface) -> None:
        """Answer requests for an address of a port, and ask from it. Raises TableFull.

        While the thread runs, all stations of the link are told.
        """
        with self.lock:
            length = address.network.prefixlen
            if address.version == 4:
                length += address_table.V4_BITS
            ip = frames.bits_of(address.ip)
            address_table.add(self._addresses, port, ip, length)
            if self._thread is not None:
                self._inject(port, frames.announcement(self._ports[port], ip))
                self._flush()

    def delete_address(self, port: int, address: IPv4Interface | IPv6Interface) -> None:
        """Take an address off a port, and forget the port's neighbors that no prefix covers now."""
        with self.lock:
            address_table.delete(self._addresses, port, frames.bits_of(address.ip))
            self._machine.forget_all(
                lambda one: (
                    one.port == port
                    and one.state is not State.STATIC
                    and not self._in_prefix(port, one.ip)
                )
            )
            self._flush()

    def add_static(self, port: int, ip: int, mac: bytes) -> None:
        """Set a neighbor's MAC for good. ip: 128 bits, as everywhere here.

        Raises ValueError for a MAC that is no station's, and what the routing raises.
        """
        if len(mac) != 6 or mac == bytes(6) or mac[0] & 1:
            msg = f"{mac.hex(':')} is no station's MAC"
            raise ValueError(msg)
        with self.lock:
            self._machine.set_static(port, ip, mac, self._clock())
            self._flush()

    def is_static(self, port: int, ip: int) -> bool:
        """Whether a neighbor is known, and was set."""
        entry = self._machine.entries.get((port, ip))
        return entry is not None and entry.state is State.STATIC

    def restore(self, port: int, ip: int, mac: bytes) -> bool:
        """Know a neighbor from what was known before the process was killed: it is stale, and of use.

        It is asked for soon, as another station may be there by now. Returns whether it is known now.
        """
        with self.lock:
            if (port, ip) not in self._machine.entries and self._in_prefix(port, ip):
                self._machine.learn(port, ip, mac, ev.ADD, self._clock())
                self._machine.doubt(port, ip)
                self._flush()
            return (port, ip) in self._machine.entries

    def delete(self, port: int, ip: int) -> bool:
        """Forget a neighbor, static or not. Returns whether it was known.

        Packets that wait for it are undeliverable.
        """
        with self.lock:
            entry = self._machine.entries.get((port, ip))
            if entry is not None:
                self._machine.forget(entry)
                self._flush()
            return entry is not None

    def delete_port(self, port: int) -> None:
        """Forget all neighbors of a port."""
        with self.lock:
            self._machine.forget_all(lambda one: one.port == port)
            self._flush()

    def forget_learned(self, port: int) -> None:
        """Forget the neighbors of a port that are not static: others may be there now."""
        with self.lock:
            self._machine.forget_all(lambda one: one.port == port and one.state is not State.STATIC)
            self._flush()

    def restorer(self) -> Callable[[], None]:
        """What brings neighbors back as they are now. The caller has the lock all the time."""
        before = self._machine.snapshot()

        def restore() -> None:
            self._machine.restore(before)
            self._flush()

        return restore

    # The thread.

    def start(self) -> None:
        """Run step in a thread of its own until stop. First called before the worker is started."""
        if self._thread is not None:
            return
        if self._event < 0:
            self._event = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            for line in self._lines:
                ev.set_bell(line.events, libc_address("write"), self._event)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="neighbors", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. What is known stays known; start and step go on from there."""
        if self._thread is None:
            return
        self._stopping = True
        os.eventfd_write(self._event, 1)
        self._thread.join()
        self._thread = None

    def close(self) -> None:
        """Stop, and give back the buffers of requests not sent: after the worker has stopped."""
        self.stop()
        self._injector.close()
        if self._event >= 0:
            for line in self._lines:
                ev.set_bell(line.events, 0, 0)
            os.close(self._event)
            self._event = -1

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        due: float | None = None
        while not self._stopping:
            # Rounded up, so that what is due is due when poll returns.
            wait_ms = None if due is None else max(0, int((due - self._clock()) * 1000) + 1)
            if poll.poll(wait_ms):
                os.eventfd_read(self._event)
            try:
                due = self.step(self._clock()).due
            except Exception:  # of wake's or the routing's: it must not end the service
                log.exception("neighbors: a step failed")
                due = self._clock() + RETRY_S

    # What it does.

    def step(self, now: float) -> Step:
        """Do what events and deadlines call for."""
        with self.lock:
            moved = False
            try:
                for line in self._lines:
                    for event in ev.drain(line.events, BATCH):
                        try:
                            self._on_event(event, now)
                        except Exception:  # a fault of the routing's: the others must not suffer
                            log.exception("neighbors: %s", event)
                self._machine.advance(now)
            finally:
                moved = self._flush()
            due = self._machine.due()
            if any(line.unreleased for line in self._lines):
                due = now + RETRY_S if due is None else min(due, now + RETRY_S)
            waiting = any(ev.waiting(line.events) for line in self._lines)
            return Step(moved, now if waiting else due)

    def _on_event(self, event: ev.Event, now: float) -> None:
        if event.kind == ev.RESOLVE:
            self._machine.resolve(event.port, event.ip, now)
        elif event.kind == ev.USED:
            self._machine.used(event.port, event.ip, now)
        else:
            mac = event.mac.to_bytes(6, "big") if event.mac else None
            self._machine.learn(event.port, event.ip, mac, event.flags, now)

    def request(self, port: int, ip: int, mac: bytes | None) -> bool:
        """Inject an ARP request or a neighbor solicitation (for the machine)."""
        source = frames.source_for(self._addresses, port, ip)
        if source is None:
            return False
        self._inject(port, frames.request(self._ports[port], source, ip, mac))
        return True

    def release(self, port: int, ip: int, forward: bool) -> None:
        """Queue a release (for the machine), for all workers: any of them may hold packets for it."""
        outcome = ev.FORWARD if forward else ev.UNREACHABLE
        for line in self._lines:
            line.unreleased.append(ev.release_words(port, ip, outcome))

    def _inject(self, port: int, frame: bytes) -> None:
        self._injected |= self._injector.send(port, frame)

    def _in_prefix(self, port: int, ip: int) -> bool:
        return frames.own_in_prefix(self._addresses, port, ip) is not None

    def _flush(self) -> bool:
        """Push the releases that fit, in order; wake the worker if there is anything for it."""
        moved, self._injected = self._injected, False
        for line in self._lines:
            n = min(len(line.unreleased), line.releases.free_slots() // ev.RELEASE_WORDS)
            if n:
                line.releases.push([w for _ in range(n) for w in line.unreleased.popleft()])
                moved = True
        if moved:
            self.wake()
        if self._thread is not None and threading.current_thread() is not self._thread:
            os.eventfd_write(self._event, 1)  # deadlines have changed
        return moved
