# SPDX-License-Identifier: Apache-2.0
"""What is known of neighbors, and when it changes: states and deadlines, without threads or rings.

RFC 4861 sections 7.2.5, 7.3 and appendix C, for ARP too: RFC 826 says who is worth an entry, RFC 1122
section 2.3.2.1 asks for the time-out and the unicast poll. An address is 128 bits (tables.addresses).

              answer            30 s (*)         used          5 s          3 polls
    incomplete ---> reachable ---------> stale ------> delay ------> probe ---------> forgotten
        | 3 requests    ^                  | 60 s not used: forgotten   |
        v               |__________________|_________|__________________|  answer
      failed --> forgotten, 5 s later

(*) 0.5 to 1.5 times that (section 6.3.2). A MAC that nobody asked for makes a neighbor stale. 60 s is
Linux's gc_staletime; "failed", not of the RFC, is Linux's too: who did not answer is not asked again at
once. A failed one that multipath routes do without is asked each 5 s, and not forgotten: forgotten it
would have its share of the packets again, and they would wait in vain. Packets for a next hop that is
incomplete wait in the worker's table; when it has a MAC or has failed they are released. RFC 6583 asks
for limits: of a port's incomplete neighbors, which a scan of its prefix makes, and of neighbors that
come without our asking, which leave room for the others.

A neighbor whose MAC was right before we were away is *doubted*: all of its link are asked for it, up to 3
times, since another station may be there by now, and the old one would not say so. As in RFC 7048 section 3
(UNREACHABLE) its MAC is used until an answer says otherwise. Its state is not touched: who is used while
stale comes to delay and probe as always, and who does not answer is forgotten by these.
"""

from __future__ import annotations

import heapq
import logging
import random
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from vforward.errors import VforwardError
from vforward.nodes.neighbor.events import ADD, OVERRIDE, SOLICITED

log = logging.getLogger(__name__)


class State(Enum):
    """What is known of a neighbor."""

    INCOMPLETE = "incomplete"
    REACHABLE = "reachable"
    STALE = "stale"
    DELAY = "delay"
    PROBE = "probe"
    FAILED = "failed"
    STATIC = "static"


AT_ONCE = 512
"""Neighbors whose state ends in one call of advance, in which others wait for what it holds."""
KNOWN = (State.REACHABLE, State.STALE, State.DELAY, State.PROBE, State.STATIC)
"""States with a MAC."""
UNSURE = (State.STALE, State.DELAY, State.PROBE)
"""Those in which nobody has said of late that it is right."""

DOUBTED = 8
"""Of doubted neighbors so many are asked for at once: the ring ``inject`` has room for them, however small.

Then the next ones have to wait for PACE_S. All stations of a link have to look at each request.
"""
PACE_S = 0.008


@dataclass(frozen=True)
class Times:
    """Seconds, and how often: RFC 4861 section 10."""

    retry_s: float = 1.0
    tries: int = 3
    reachable_s: float = 30.0
    delay_s: float = 5.0
    stale_s: float = 60.0
    failed_s: float = 5.0


@dataclass(frozen=True)
class Limits:
    """How many neighbors there may be, and how many of a port may be incomplete.

    Those that we did not ask for leave an eighth of the room.
    """

    neighbors: int = 16384
    incomplete: int = 512


class Routing(Protocol):
    """Who uses neighbors.

    neighbor_up may come again for what is up, with the same or another MAC, and raise
    VforwardError where there is no room: the neighbor then counts as failed.
    """

    def neighbor_up(self, port_number: int, ip: int, mac: bytes, /) -> None:
        """Packets for this next hop may be sent to this MAC from now on, and nobody is told."""

    def neighbor_stale(self, port_number: int, ip: int, /) -> None:
        """The next hop, which is up, stays so, but it is to be told when packets go there."""

    def neighbor_failed(self, port_number: int, ip: int, /) -> bool:
        """It does not answer: as neighbor_down, and other paths are better until it is up or down.

        Returns whether there are such paths, so that no packet would ask for it. May come again.
        """

    def neighbor_down(self, port_number: int, ip: int, /) -> None:
        """Packets for this next hop must be held from now on."""

    def together(self) -> AbstractContextManager[None]:
        """For many of these calls: inside, none waits for workers to let go of what was before."""


class Output(Protocol):
    """What the machine does besides."""

    def request(self, port: int, ip: int, mac: bytes | None) -> bool:
        """Ask who has ip: everybody, or the station mac. False: there is no address to ask from."""

    def release(self, port: int, ip: int, forward: bool) -> None:
        """Let the packets go that wait for a next hop: forward, or as undeliverable."""


@dataclass(frozen=True)
class _Doubt:
    """That a neighbor still has this MAC. tries: how often it was asked for; it is not before due."""

    port: int
    ip: int
    mac: bytes
    tries: int = 0
    due: float = 0.0


@dataclass
class Entry:
    """A neighbor. since: when the state began."""

    port: int
    ip: int
    mac: bytes | None = None
    state: State = State.FAILED
    since: float = 0.0
    tries: int = 0
    due: float | None = None  # when the state ends; None: never
    armed: float | None = None  # the earliest time at which the heap has it


class Machine:
    """All neighbors. Times are passed in, seconds of any clock. chance gives numbers from 0 to 1.

    refused: how often a neighbor was not taken in, for the limits.
    """

    def __init__(
        self,
        routing: Routing,
        output: Output,
        times: Times,
        limits: Limits,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.entries: dict[tuple[int, int], Entry] = {}
        self.refused = 0
        self._routing, self._output, self._times = routing, output, times
        self._limits, self._chance = limits, chance
        self._incomplete: Counter[int] = Counter()  # of each port
        self._heap: list[tuple[float, int, int]] = []
        self._doubts: deque[_Doubt] = deque()  # the first is due first
        self._pace = 0.0  # when the next of them may be asked for

    def due(self) -> float | None:
        """When advance is to be called again, at the latest."""
        dues = [self._heap[0][0]] if self._heap else []
        if self._doubts:
            dues.append(max(self._pace, self._doubts[0].due))
        return min(dues, default=None)

    def learn(self, port: int, ip: int, mac: bytes | None, flags: int, now: float) -> None:
        """A neighbor has said where it is, or (mac None) that it still is there.

        flags: of nodes.neighbor.events. Appendix C: what is not an advertisement overrides.
        """
        entry = self.entries.get((port, ip))
        if entry is None:
            if flags & ADD and mac is not None:
                self._add_told(port, ip, mac, now)
            return
        if entry.state is State.STATIC:
            return
        if entry.mac is None:
            if mac is not None:
                to = State.REACHABLE if flags & SOLICITED else State.STALE
                self._settle(entry, mac, to, now)
            return
        different = mac is not None and mac != entry.mac
        if different and not flags & OVERRIDE:
            if entry.state is State.REACHABLE:
                self._settle(entry, entry.mac, State.STALE, now)
        elif flags & SOLICITED:
            self._settle(entry, mac or entry.mac, State.REACHABLE, now)
        elif different and mac is not None:
            self._settle(entry, mac, State.STALE, now)

    def resolve(self, port: int, ip: int, now: float) -> None:
        """A first packet waits for this next hop."""
        entry = self.entries.get((port, ip))
        if entry is None:
            full = len(self.entries) >= self._limits.neighbors
            if full or self._incomplete[port] >= self._limits.incomplete:
                self.refused += 1
                self._output.release(port, ip, False)
                return
            entry = self._new(port, ip)
            self._change(entry, State.INCOMPLETE, None, now)
            self._ask(entry, now)
        elif entry.mac is not None:  # it became known while the event was on its way
            if self._tell(entry, entry.mac, now):
                if entry.state is State.STALE:
                    self._routing.neighbor_stale(port, ip)
                self._output.release(port, ip, True)
        elif entry.state is State.FAILED:
            self._output.release(port, ip, False)

    def used(self, port: int, ip: int, now: float) -> None:
        """Packets go to this neighbor, which was stale."""
        entry = self.entries.get((port, ip))
        if entry is None or entry.state is not State.STALE or entry.mac is None:
            return
        if self._tell(entry, entry.mac, now):
            self._change(entry, State.DELAY, now + self._times.delay_s, now)

    def set_static(self, port: int, ip: int, mac: bytes, now: float) -> None:
        """Know a neighbor for good. Raises what the routing raises, and then nothing is changed."""
        self._routing.neighbor_up(port, ip, mac)
        entry = self.entries.get((port, ip)) or self._new(port, ip)
        self._take(entry, mac, State.STATIC, None, now)

    def doubt(self, port: int, ip: int) -> None:
        """Ask all of the link, in its turn, where a neighbor is that is not known for sure."""
        entry = self.entries.get((port, ip))
        if entry is not None and entry.mac is not None and entry.state in UNSURE:
            self._doubts.append(_Doubt(port, ip, entry.mac))

    def forget(self, entry: Entry) -> None:
        """Delete a neighbor. Packets that wait for it are undeliverable."""
        del self.entries[entry.port, entry.ip]
        if entry.state in KNOWN or entry.state is State.FAILED:
            self._routing.neighbor_down(entry.port, entry.ip)
        elif entry.state is State.INCOMPLETE:
            self._incomplete[entry.port] -= 1
            self._output.release(entry.port, entry.ip, False)

    def forget_all(self, which: Callable[[Entry], bool]) -> None:
        """Delete those of whom that is true."""
        with self._routing.together():
            for entry in [*self.entries.values()]:
                if which(entry):
                    self.forget(entry)

    def snapshot(self) -> dict[tuple[int, int], Entry]:
        """All neighbors as they are now, for restore."""
        return {key: replace(entry) for key, entry in self.entries.items()}

    def restore(self, before: dict[tuple[int, int], Entry]) -> None:
        """Know what was known, where it was with a MAC. Raises what the routing raises."""
        for key, entry in list(self.entries.items()):
            was = before.get(key)
            if was is None or (was.mac, was.state) != (entry.mac, entry.state):
                self.forget(entry)
        for key, was in before.items():
            if was.mac is None or key in self.entries:
                continue
            self._routing.neighbor_up(was.port, was.ip, was.mac)
            if was.state is State.STALE:
                self._routing.neighbor_stale(was.port, was.ip)
            self.entries[key] = was
            was.armed = None
            self._arm(was, was.due)

    def advance(self, now: float) -> None:
        """End states whose time has come, AT_ONCE of them at most: more of them are due then."""
        if self._heap and self._heap[0][0] <= now:
            with self._routing.together():
                self._end_due(now)
        if now >= self._pace:
            self._ask_doubted(now)

    def _end_due(self, now: float) -> None:
        for _ in range(AT_ONCE):
            if not self._heap or self._heap[0][0] > now:
                return
            at, port, ip = heapq.heappop(self._heap)
            entry = self.entries.get((port, ip))
            if entry is not None and entry.armed == at:
                entry.armed = None
                self._end(entry, now)

    def _ask_doubted(self, now: float) -> None:
        """Ask for some of the doubted who have not said meanwhile where they are."""
        asked = 0
        while self._doubts and self._doubts[0].due <= now and asked < DOUBTED:
            doubt = self._doubts.popleft()
            entry = self.entries.get((doubt.port, doubt.ip))
            if entry is None or entry.mac != doubt.mac or entry.state not in UNSURE:
                continue
            if not self._output.request(doubt.port, doubt.ip, None):
                continue
            asked, self._pace = asked + 1, now + PACE_S
            if doubt.tries + 1 < self._times.tries:
                due = now + self._times.retry_s
                self._doubts.append(replace(doubt, tries=doubt.tries + 1, due=due))

    def _end(self, entry: Entry, now: float) -> None:
        if entry.due is None or entry.due > now:
            self._arm(entry, entry.due)
        elif entry.state is State.REACHABLE and entry.mac is not None:
            self._settle(entry, entry.mac, State.STALE, now)
        elif entry.state is State.FAILED and self._asked_anew(entry):
            self._arm(entry, now + self._times.failed_s)
        elif entry.state in (State.FAILED, State.STALE):
            self.forget(entry)
        else:
            if entry.state is State.DELAY:
                entry.tries = 0
                self._change(entry, State.PROBE, None, now)
            self._ask(entry, now)

    def _asked_anew(self, entry: Entry) -> bool:
        """Ask who has failed where packets go other ways until it answers, and would not ask."""
        diverted = self._routing.neighbor_failed(entry.port, entry.ip)
        return diverted and self._output.request(entry.port, entry.ip, None)

    def _ask(self, entry: Entry, now: float) -> None:
        """Send one more request, or give up."""
        more = entry.tries < self._times.tries
        if more and self._output.request(entry.port, entry.ip, entry.mac):
            entry.tries += 1
            self._arm(entry, now + self._times.retry_s)
        elif entry.state is State.PROBE:
            self.forget(entry)
        else:
            self._fail(entry, now)

    def _add_told(self, port: int, ip: int, mac: bytes, now: float) -> None:
        """An entry for a neighbor that we did not ask for."""
        limit = self._limits.neighbors
        if len(self.entries) < limit - limit // 8:
            self._settle(self._new(port, ip), mac, State.STALE, now)
        else:
            self.refused += 1

    def _settle(self, entry: Entry, mac: bytes, to: State, now: float) -> None:
        """The neighbor's MAC is known: it becomes REACHABLE or STALE."""
        quiet = entry.state in (State.REACHABLE, State.DELAY, State.PROBE)  # nobody is told of use
        if not (quiet and entry.mac == mac) and not self._tell(entry, mac, now):
            return
        if to is State.STALE:
            self._take(entry, mac, to, now + self._times.stale_s, now)
            self._routing.neighbor_stale(entry.port, entry.ip)
        else:
            lasts = self._times.reachable_s * (0.5 + self._chance())
            self._take(entry, mac, to, now + lasts, now)

    def _tell(self, entry: Entry, mac: bytes, now: float) -> bool:
        """Tell the routing where the neighbor is. False: it would not, so that failed."""
        try:
            self._routing.neighbor_up(entry.port, entry.ip, mac)
        except Exception as error:
            fault = not isinstance(error, VforwardError)  # else: no room
            log.warning("neighbors: port %d: %s", entry.port, error, exc_info=fault)
            self._fail(entry, now)
            return False
        return True

    def _take(self, entry: Entry, mac: bytes, state: State, due: float | None, now: float) -> None:
        """The neighbor has this MAC, and the routing has been told."""
        waited = entry.state is State.INCOMPLETE
        entry.mac = mac
        if entry.state is state:
            self._arm(entry, due)
        else:
            self._change(entry, state, due, now)
        if waited:
            self._output.release(entry.port, entry.ip, True)

    def _fail(self, entry: Entry, now: float) -> None:
        entry.mac = None
        self._change(entry, State.FAILED, now + self._times.failed_s, now)
        self._routing.neighbor_failed(entry.port, entry.ip)
        self._output.release(entry.port, entry.ip, False)

    def _new(self, port: int, ip: int) -> Entry:
        entry = self.entries[port, ip] = Entry(port, ip)
        return entry

    def _change(self, entry: Entry, state: State, due: float | None, now: float) -> None:
        self._incomplete[entry.port] += (state is State.INCOMPLETE) - (
            entry.state is State.INCOMPLETE
        )
        entry.state, entry.since = state, now
        self._arm(entry, due)

    def _arm(self, entry: Entry, due: float | None) -> None:
        """The state ends when due. A later end than the heap's is found when that comes."""
        entry.due = due
        if due is not None and (entry.armed is None or due < entry.armed):
            entry.armed = due
            heapq.heappush(self._heap, (due, entry.port, entry.ip))
