# SPDX-License-Identifier: Apache-2.0
"""The sessions of a forwarder as an operator asks for them: filtered, listed, counted, ended.

Works on the arrays of tables.session, of this process or of another, while a worker changes them. A
session that begins or ends meanwhile may be missing; one whose record was given to another while it was
copied is left out. Nothing is written but the ring by which the worker is told to end sessions.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.control import flow_words as words
from vforward.control.wording import listed, nearest
from vforward.errors import ArenaError, ConfigError
from vforward.rings.spsc import Ring
from vforward.tables import session as t
from vforward.tables.session_table import Ends, ends

SESSIONS, KILLS = "sessions-{}", "session-kills-{}"
"""Segments of the arena, by worker."""
CHUNK = 1 << 15
"""Records that are copied at a time."""
PATIENCE_S = 5.0


@dataclass(frozen=True)
class Filter:
    """Which sessions: all that is given holds. Texts are as in rules.

    from_, to: an address, a prefix or a range, of the initiator and of the responder as the initiator
    knows it. port: of either. state: a name of tables.session.STATES, or its beginning. vrf, port_in,
    port_out: names.
    """

    from_: str = ""
    to: str = ""
    port: int | str = ""
    protocol: int | str = ""
    state: str = ""
    vrf: str = ""

    def parsed(self) -> _Parsed:
        """What it means. Raises ConfigError."""
        try:
            return _Parsed(
                _plain(words.addresses(self.from_)) if self.from_ else None,
                _plain(words.addresses(self.to)) if self.to else None,
                _plain(words.ports(self.port)) if self.port != "" else None,
                _protocol(self.protocol) if self.protocol != "" else None,
                _states(self.state) if self.state else None,
            )
        except ValueError as error:
            raise ConfigError(f"sessions: {error}") from None


class _Parsed(NamedTuple):
    from_: Any
    to: Any
    port: Any
    protocol: int | None
    states: list[int] | None


def _plain(found: object) -> object:
    if isinstance(found, words.SetName):
        raise words.wrong("a set is not known here: give its addresses or ports")
    return found


def _protocol(value: int | str) -> int:
    return words.protocol(int(value) if str(value).isdigit() else value)


def _states(text: str) -> list[int]:
    found = [i for i, name in enumerate(t.STATES) if i != t.FREE and name.startswith(text)]
    if not found:
        raise ValueError(
            f"no state {text!r}{nearest(text, t.STATES[1:])}; there are: {listed(t.STATES[1:])}"
        )
    return found


class _Chunk(NamedTuple):
    numbers: NDArray[np.int64]
    hot: NDArray[Any]
    cold: NDArray[Any]


@dataclass(frozen=True)
class Names:
    """What numbers in sessions are called."""

    ports: Mapping[int, str] = field(default_factory=dict)
    vrfs: Mapping[int, str] = field(default_factory=dict)
    rules: Mapping[int, str] = field(default_factory=dict)  # by their place in rule_hits


class SessionList:
    """The sessions in arrays of tables.session, one for each worker."""

    def __init__(self, arrays: Sequence[NDArray[np.uint64]], names: Names | None = None) -> None:
        self._shards = [t.arrays(array) for array in arrays]
        self._names = names or Names()

    def count(self, wanted: Filter | None = None) -> int:
        """How many there are that a filter lets through."""
        return sum(chunk.numbers.size for _, chunk in self._all(wanted or Filter()))

    def by_state(self, wanted: Filter | None = None) -> dict[str, int]:
        """How many of them are in each state, without those that none is in."""
        counts = np.zeros(len(t.STATES), np.int64)
        for _, chunk in self._all(wanted or Filter()):
            counts += np.bincount(chunk.hot["state"], minlength=counts.size)[: counts.size]
        return {t.STATES[i]: int(n) for i, n in enumerate(counts) if n}

    def rows(self, wanted: Filter | None = None, most: int | None = None) -> list[dict[str, Any]]:
        """The sessions that a filter lets through, in no order, at most so many."""
        found: list[dict[str, Any]] = []
        for shard, chunk in self._all(wanted or Filter()):
            left = chunk.numbers.size if most is None else most - len(found)
            found += self._described(shard, _Chunk(*(part[:left] for part in chunk)))
            if most is not None and len(found) >= most:
                break
        return found

    def keys(self, wanted: Filter | None = None) -> list[NDArray[np.uint64]]:
        """By worker, what names each of them to it: generation << 32 | number."""
        return [
            np.concatenate(
                [
                    np.zeros(0, np.uint64),
                    *(
                        chunk.cold["generation"].astype(np.uint64) << np.uint64(32)
                        | chunk.numbers.astype(np.uint64)
                        for chunk in self._chunks(shard, wanted or Filter())
                    ),
                ]
            )
            for shard in self._shards
        ]

    def _all(self, wanted: Filter) -> Iterator[tuple[t.Shard, _Chunk]]:
        for shard in self._shards:
            for chunk in self._chunks(shard, wanted):
                yield shard, chunk

    def _chunks(self, shard: t.Shard, wanted: Filter) -> Iterator[_Chunk]:
        parsed = wanted.parsed()
        zone = None
        if wanted.vrf:
            zone = next((n for n, name in self._names.vrfs.items() if name == wanted.vrf), None)
            if zone is None:
                known = list(self._names.vrfs.values())
                near = nearest(wanted.vrf, known)
                raise ConfigError(
                    f"sessions: no VRF {wanted.vrf!r}{near}; there are: {listed(known)}"
                )
        hot, cold = shard.hot, shard.cold
        used = min(int(shard.head[t.UNUSED]), hot.size)
        for first in range(1, used, CHUNK):
            last = min(first + CHUNK, used)
            before = cold["generation"][first:last].copy()
            copy = _Chunk(np.arange(first, last), hot[first:last].copy(), cold[first:last].copy())
            steady = cold["generation"][first:last] == before
            open_ = steady & (before & 1 == 1) & (copy.hot["state"] != t.FREE)
            keep = np.flatnonzero(open_ & matches(copy.hot, parsed, zone))
            if keep.size:
                yield _Chunk(*(part[keep] for part in copy))

    def _described(self, shard: t.Shard, chunk: _Chunk) -> Iterator[dict[str, Any]]:
        now = int(shard.head[t.NOW])
        original, reply = ends(chunk.hot), ends(chunk.hot, reply=True)
        names = self._names
        for i, (hot, cold) in enumerate(zip(chunk.hot, chunk.cold, strict=True)):
            six = bool(hot["flags"] & t.SIX)
            row = {
                "protocol": words.name_of(int(hot["protocol"]), words.PROTOCOLS),
                "from": _text(original[0], i, six),
                "to": _text(original[1], i, six),
                "nat_from": "",
                "nat_to": "",
                "state": t.STATES[hot["state"] % len(t.STATES)],
                "age": max(0, now - int(cold["created"])),
                "idle": (now - int(hot["seen"])) & 0xFFFF,
                "in": names.ports.get(int(cold["in_port"]), ""),
                "out": names.ports.get(int(cold["out_port"]), ""),
                "rule": names.rules.get(int(cold["hits"]), ""),
                "vrf": names.vrfs.get(int(hot["zone"]), str(hot["zone"])),
            }
            if hot["flags"] & t.NAT and not six:
                others = _text(reply[0], i, six), _text(reply[1], i, six)
                for key, other in zip(("from", "to"), others, strict=True):
                    row[f"nat_{key}"] = other if other != row[key] else ""
            yield row


def matches(hot: NDArray[Any], wanted: _Parsed, zone: int | None) -> NDArray[np.bool_]:
    """Which records a filter lets through."""
    found = np.ones(hot.size, np.bool_)
    if wanted.protocol is not None:
        found &= hot["protocol"] == wanted.protocol
    if wanted.states is not None:
        found &= np.isin(hot["state"], wanted.states)
    if zone is not None:
        found &= hot["zone"] == zone
    if wanted.from_ is None and wanted.to is None and wanted.port is None:
        return found
    initiator, responder = ends(hot)
    six = (hot["flags"] & t.SIX) != 0
    for end, addresses in ((initiator, wanted.from_), (responder, wanted.to)):
        if addresses is not None:
            found &= (six == (addresses.version == 6)) & _within(end, addresses)
    if wanted.port is not None:
        first, last = wanted.port
        found &= np.logical_or.reduce(
            [(end.port >= first) & (end.port <= last) for end in (initiator, responder)]
        )
    return found


def _within(end: Ends, addresses: words.Range) -> NDArray[np.bool_]:
    (high, low), (last_high, last_low) = (
        (np.uint64(n >> 64), np.uint64(n & (1 << 64) - 1)) for n in addresses[1:]
    )
    above = (end.high > high) | ((end.high == high) & (end.low >= low))
    below = (end.high < last_high) | ((end.high == last_high) & (end.low <= last_low))
    return above & below


def _text(end: Ends, i: int, six: bool) -> str:
    port = int(end.port[i])
    if six:
        return f"[{IPv6Address(int(end.high[i]) << 64 | int(end.low[i]))}]:{port}"
    return f"{IPv4Address(int(end.low[i]))}:{port}"


def end_sessions(ring: NDArray[np.uint64], path: Path, keys: NDArray[np.uint64]) -> int:
    """Tell the worker to end sessions. Returns how many that were.

    path: the ring's file, on which whoever writes to it holds a lock. A worker that sleeps looks at the
    ring when it wakes, within scheduler.POLL_NS, and sleeps no more until all is done. Raises ArenaError
    when it takes none of them any more.
    """
    to = Ring(ring)
    done = 0
    deadline = time.monotonic() + PATIENCE_S
    with _alone(path):
        while done < keys.size:
            n = to.push(keys[done:])
            done += n
            if n:
                deadline = time.monotonic() + PATIENCE_S
            elif time.monotonic() > deadline:
                raise ArenaError(f"the worker ends no sessions: {done} of {keys.size} were told")
            else:
                time.sleep(0.001)
    return done


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
