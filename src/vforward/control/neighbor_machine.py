# SPDX-License-Identifier: Apache-2.0
"""What is known of neighbors, and when it changes: states and deadlines, without threads or rings.

RFC 826 (update what is known, add who speaks to us), RFC 1122 sections 2.3.2.1 (time out, poll by
unicast, a second between requests) and 2.3.2.2.

      resolve          learn            60 s        5 s        3 polls
    --------> incomplete --> reachable --> stale --> probe --------> forgotten
                  | 3 requests   ^__________|__________|   learn
                  v
                failed --> forgotten, 5 s later

Packets for a next hop that is incomplete wait in the worker's table; when it is reachable or failed
they are released.
"""

from __future__ import annotations

import heapq
import logging
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from vforward.errors import VforwardError

log = logging.getLogger(__name__)


class State(Enum):
    """What is known of a neighbor."""

    INCOMPLETE = "incomplete"
    REACHABLE = "reachable"
    STALE = "stale"
    PROBE = "probe"
    FAILED = "failed"
    STATIC = "static"


KNOWN = (State.REACHABLE, State.STALE, State.PROBE, State.STATIC)
"""States with a MAC."""


@dataclass(frozen=True)
class Times:
    """Seconds, and how often."""

    retry_s: float = 1.0
    tries: int = 3
    reachable_s: float = 60.0
    stale_s: float = 5.0
    failed_s: float = 5.0


class Routing(Protocol):
    """Who uses neighbors.

    neighbor_up may come again for what is up, with the same or another MAC, and raise
    VforwardError where there is no room: the neighbor then counts as failed.
    """

    def neighbor_up(self, port_number: int, ip: int, mac: bytes, /) -> None:
        """Packets for this next hop may be sent to this MAC from now on."""

    def neighbor_down(self, port_number: int, ip: int, /) -> None:
        """Packets for this next hop must be held from now on."""


class Output(Protocol):
    """What the machine does besides."""

    def request(self, port: int, ip: int, mac: bytes | None) -> bool:
        """Ask who has ip: everybody, or the station mac. False: there is no address to ask from."""

    def release(self, port: int, ip: int, forward: bool) -> None:
        """Let the packets go that wait for a next hop: forward, or as undeliverable."""


@dataclass
class Entry:
    """A neighbor. since: when the state began."""

    port: int
    ip: int
    mac: bytes | None = None
    state: State = State.INCOMPLETE
    since: float = 0.0
    tries: int = 0
    due: float | None = None  # when the state ends; None: never
    armed: float | None = None  # the earliest time at which the heap has it


class Machine:
    """All neighbors. Times are passed in, seconds of any clock. limit: neighbors at most."""

    def __init__(self, routing: Routing, output: Output, times: Times, limit: int) -> None:
        self.entries: dict[tuple[int, int], Entry] = {}
        self._routing, self._output, self._times = routing, output, times
        self._limit = limit
        self._heap: list[tuple[float, int, int]] = []

    def due(self) -> float | None:
        """When advance is to be called again, at the latest."""
        return self._heap[0][0] if self._heap else None

    def learn(self, port: int, ip: int, mac: bytes, add: bool, now: float) -> None:
        """A neighbor has said where it is. add: keep it also when it is new (RFC 826)."""
        entry = self.entries.get((port, ip))
        if entry is None and (not add or len(self.entries) >= self._limit):
            return
        entry = entry or self._new(port, ip)
        if entry.state is State.STATIC:
            return
        news = entry.state not in KNOWN or entry.mac != mac
        if not news or self._tell(entry, mac, now):
            self._settle(entry, mac, State.REACHABLE, now + self._times.reachable_s, now)

    def resolve(self, port: int, ip: int, now: float) -> None:
        """A first packet waits for this next hop."""
        entry = self.entries.get((port, ip))
        if entry is None and len(self.entries) >= self._limit:
            self._output.release(port, ip, False)
        elif entry is None:
            entry = self._new(port, ip)
            entry.since = now
            self._ask(entry, now)
        elif entry.state in KNOWN:  # it became known while the event was on its way
            assert entry.mac is not None
            if self._tell(entry, entry.mac, now):
                self._output.release(port, ip, True)
        elif entry.state is State.FAILED:
            self._output.release(port, ip, False)

    def set_static(self, port: int, ip: int, mac: bytes, now: float) -> None:
        """Know a neighbor for good. Raises what the routing raises, and then nothing is changed."""
        self._routing.neighbor_up(port, ip, mac)
        entry = self.entries.get((port, ip)) or self._new(port, ip)
        self._settle(entry, mac, State.STATIC, None, now)

    def forget(self, entry: Entry) -> None:
        """Delete a neighbor. Packets that wait for it are undeliverable."""
        del self.entries[entry.port, entry.ip]
        if entry.state in KNOWN:
            self._routing.neighbor_down(entry.port, entry.ip)
        elif entry.state is State.INCOMPLETE:
            self._output.release(entry.port, entry.ip, False)

    def advance(self, now: float) -> None:
        """End the states whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            at, port, ip = heapq.heappop(self._heap)
            entry = self.entries.get((port, ip))
            if entry is not None and entry.armed == at:
                entry.armed = None
                self._end(entry, now)

    def _end(self, entry: Entry, now: float) -> None:
        if entry.due is None or entry.due > now:
            self._arm(entry, entry.due)
        elif entry.state is State.REACHABLE:
            self._change(entry, State.STALE, now + self._times.stale_s, now)
        elif entry.state is State.FAILED:
            self.forget(entry)
        else:
            if entry.state is State.STALE:
                entry.tries = 0
                self._change(entry, State.PROBE, None, now)
            self._ask(entry, now)

    def _ask(self, entry: Entry, now: float) -> None:
        """Send one more request, or give up."""
        to = entry.mac if entry.state is State.PROBE else None
        more = entry.tries < self._times.tries
        if more and self._output.request(entry.port, entry.ip, to):
            entry.tries += 1
            self._arm(entry, now + self._times.retry_s)
        elif entry.state is State.PROBE:
            self.forget(entry)
        else:
            self._fail(entry, now)

    def _tell(self, entry: Entry, mac: bytes, now: float) -> bool:
        """Tell the routing where the neighbor is. False: it would not, so that failed."""
        try:
            self._routing.neighbor_up(entry.port, entry.ip, mac)
        except Exception as error:
            fault = not isinstance(error, VforwardError)  # else: no room
            log.warning("neighbors: port %d: %s", entry.port, error, exc_info=fault)
            known = entry.state in KNOWN
            self._fail(entry, now)
            if known:
                self._routing.neighbor_down(entry.port, entry.ip)
            return False
        return True

    def _settle(
        self, entry: Entry, mac: bytes, state: State, due: float | None, now: float
    ) -> None:
        """The neighbor's MAC is known, and the routing has been told."""
        if entry.state is State.INCOMPLETE and entry.tries:  # else nothing waits, or is told of yet
            self._output.release(entry.port, entry.ip, True)
        entry.mac = mac
        if entry.state is state:
            self._arm(entry, due)
        else:
            self._change(entry, state, due, now)

    def _fail(self, entry: Entry, now: float) -> None:
        entry.mac = None
        self._change(entry, State.FAILED, now + self._times.failed_s, now)
        self._output.release(entry.port, entry.ip, False)

    def _new(self, port: int, ip: int) -> Entry:
        entry = self.entries[port, ip] = Entry(port, ip)
        return entry

    def _change(self, entry: Entry, state: State, due: float | None, now: float) -> None:
        entry.state, entry.since = state, now
        self._arm(entry, due)

    def _arm(self, entry: Entry, due: float | None) -> None:
        """The state ends when due. A later end than the heap's is found when that comes."""
        entry.due = due
        if due is not None and (entry.armed is None or due < entry.armed):
            entry.armed = due
            heapq.heappush(self._heap, (due, entry.port, entry.ip))
