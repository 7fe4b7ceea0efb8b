# SPDX-License-Identifier: Apache-2.0
"""policer: how much of a kind of traffic may pass, by token buckets. Colour-blind meters.

RFC 2697 section 3 (srTCM: one rate, bytes of the committed burst, then of the excess burst; with no
excess burst it has two colours), RFC 2698 section 3 (trTCM: two rates with a burst each).

    policers  POLICER[n]   record 0 and those with kind OFF let all pass and count nothing

    line 1  then      clock (TSC) up to which the buckets are filled                          (worker)
            buckets   two: committed; excess (RFC 2697) or peak (RFC 2698)
                      tokens   in units of 2**-shift bytes                                    (worker)
                      fill     clocks in which it fills from empty; what is longer fills it
                      rate     tokens per clock
                      burst    bytes that it holds
            kind, shifts, actions (by colour)
    line 2  packets, bytes by colour                                                          (worker)
            lock      1: a worker is deciding; in record 0, 1: there are several workers

Each bucket has the finest unit in which both its burst and its rate have room: rates are right to
WORST at least, most to 2**-20. Time that passes is multiplied, nothing is divided; a clock that goes
back is one that stands still.

Owner       A worker, as marked; where there are several, whoever has the record's lock, for the
            time of one packet. Who does not get it in SPINS tries goes on without: a packet's tokens
            may be lost then, and nobody waits for a thread that is off its CPU. The control plane
            writes the rest with kind OFF, kind last.
Complexity  one cache line to decide, one to count.
Limits      POLICERS_MAX; bursts below 2**32 bytes.
"""

from __future__ import annotations

from enum import IntEnum
from fractions import Fraction
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ConfigError
from vforward.jit.atomics import compare_swap64, load_acquire64, store_release64
from vforward.jit.intrinsics import address, relax
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import ArrayOf
from vforward.memory.arena import Arena

POLICERS_MAX = 1024
OFF, ONE_RATE, TWO_RATES = 0, 1, 2
"""Kinds."""
GREEN, YELLOW, RED = 0, 1, 2
COMMITTED, EXCESS = 0, 1

PASS, DROP = 64, 65
"""Actions; 0 to 63: pass with this DSCP."""

TOKEN_BITS, RATE_BITS, SHIFT_MAX = 61, 32, 44
WORST = Fraction(1, 1000)
"""The largest error of a rate."""

BUCKET = np.dtype(
    [("tokens", np.int64), ("fill", np.int64), ("rate", np.uint32), ("burst", np.uint32)]
)
POLICER = np.dtype(
    [
        ("then", np.uint64),
        ("committed", BUCKET),
        ("excess", BUCKET),
        ("kind", np.uint8),
        ("committed_shift", np.uint8),
        ("excess_shift", np.uint8),
        ("actions", np.uint8, 3),
        ("spare", np.uint8, 2),
        ("packets", np.uint64, 3),
        ("bytes", np.uint64, 3),
        ("lock", np.uint64),
        ("spare2", np.uint64),
    ]
)
assert BUCKET.itemsize == 24
POLICER_BYTES, LOCK_AT = 128, 112
assert POLICER.itemsize == POLICER_BYTES, "two cache lines"
assert POLICER.fields is not None
assert POLICER.fields["lock"][1] == LOCK_AT
SPINS = 1000

PolicerTable = Annotated[NDArray[Any], ArrayOf(POLICER)]


class Action(IntEnum):
    """What becomes of a colour, besides a DSCP of 0 to 63."""

    PASS = PASS
    DROP = DROP


class Statistics(NamedTuple):
    """Packets and bytes of a policer by colour: green, yellow, red."""

    packets: tuple[int, int, int]
    bytes: tuple[int, int, int]


@kernel
def _fill(record: Any, passed: Any) -> Any:
    """The tokens of both buckets after so many clocks."""
    committed, excess = record.committed, record.excess
    full = i64(committed.burst) << i64(record.committed_shift)
    more = i64(excess.burst) << i64(record.excess_shift)
    tokens, others = i64(committed.tokens), i64(excess.tokens)
    if record.kind == TWO_RATES:
        if passed < committed.fill:
            full = min(tokens + passed * i64(committed.rate), full)
        if passed < excess.fill:
            more = min(others + passed * i64(excess.rate), more)
    elif passed < committed.fill + excess.fill:  # what the committed bucket cannot hold runs over
        tokens += passed * i64(committed.rate)
        more = min(others + max(tokens - full, 0), more)
        full = min(tokens, full)
    return full, more


@kernel
def _colour(record: Any, n: Any, now: Any) -> Any:
    """The colour of n bytes at a time; takes their tokens."""
    tokens, others = _fill(record, max(i64(now - record.then), 0))
    record.then = max(record.then, now)
    needed = n << i64(record.committed_shift)
    also = n << i64(record.excess_shift)
    both = record.kind == TWO_RATES  # a green packet is below the peak rate too
    colour = i64(RED)
    if tokens >= needed and (others >= also or not both):
        colour = i64(GREEN)
        tokens -= needed
    elif others >= also:
        colour = i64(YELLOW)
    if others >= also and (both or colour == YELLOW):
        others -= also
    record.committed.tokens = tokens
    record.excess.tokens = others
    return colour


@kernel
def _enter(lock: Any) -> None:
    """Take a lock, or give up."""
    for _ in range(SPINS):
        if load_acquire64(lock) == u64(0) and compare_swap64(lock, u64(0), u64(1)):
            return
        relax()


@kernel
def police(policers: Any, number: Any, n: Any, now: Any) -> Any:
    """What is to become of a packet of n bytes (below 2**18) at a time (u64, clocks): its action, i64.

    Counts it by its colour.
    """
    if number >= policers.size or policers[number].kind == OFF:
        return i64(PASS)
    record = policers[number]
    shared, lock = policers[0].lock != 0, address(policers) + POLICER_BYTES * number + LOCK_AT
    if shared:
        _enter(lock)
    colour = _colour(record, n, now)
    record.packets[colour] += u64(1)
    record.bytes[colour] += u64(n)
    if shared:
        store_release64(lock, u64(0))
    return i64(record.actions[colour])


class Policers:
    """The policers of a forwarder, numbered from 1. hz: clocks per second. shared: by several workers."""

    def __init__(
        self, arena: Arena, hz: int, n: int = POLICERS_MAX, *, shared: bool = False
    ) -> None:
        self.table: NDArray[Any] = arena.make("policers", n, POLICER)
        self.table[0]["lock"] = shared
        self._cleared = arena.make("policers-cleared", n, POLICER)  # readers subtract it
        self.hz = hz

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """What nodes take."""
        return {"policers": self.table}

    def define(
        self,
        number: int,
        rate: int,
        burst: int,
        *,
        excess_burst: int = 0,
        peak_rate: int = 0,
        actions: tuple[int, int, int] = (PASS, PASS, DROP),
        bits: bool = True,
    ) -> None:
        """Set a policer, all its buckets full. A worker may be running; counters go on.

        rate, peak_rate: bits (or bytes) per second; burst, excess_burst: bytes. With peak_rate it is
        RFC 2698's, and excess_burst is the burst at peak rate; without, RFC 2697's. actions of green,
        yellow, red: a DSCP of 0 to 63, PASS or DROP. Raises ConfigError.
        """
        self._check_number(number)
        if peak_rate and peak_rate < rate:
            raise ConfigError(f"policer {number}: the peak rate is below the rate; RFC 2698")
        if not all(0 <= action <= DROP for action in actions):
            raise ConfigError(f"policer {number}: a DSCP is 0 to 63")
        per_second = Fraction(1, 8) if bits else Fraction(1)
        committed, shift = _bucket(number, rate * per_second / self.hz, burst)
        excess, excess_shift = np.zeros((), BUCKET), shift
        if peak_rate:
            excess, excess_shift = _bucket(number, peak_rate * per_second / self.hz, excess_burst)
        elif excess_burst:  # same rate, so the same unit: that of the longer burst
            shift = _shift(rate * per_second / self.hz, max(burst, excess_burst))
            excess_shift = shift
            committed, _ = _bucket(number, rate * per_second / self.hz, burst, shift)
            excess, _ = _bucket(number, rate * per_second / self.hz, excess_burst, shift)
        record = self.table[number]
        record["kind"] = OFF
        record["committed"], record["excess"] = committed, excess
        record["committed_shift"], record["excess_shift"] = shift, excess_shift
        record["actions"] = actions
        record["kind"] = TWO_RATES if peak_rate else ONE_RATE

    def clear(self, number: int) -> None:
        """Let all pass that the policer is asked about, and forget its counters."""
        self._check_number(number)
        self.table[number]["kind"] = OFF
        for records in (self.table, self._cleared):
            records[number]["packets"] = records[number]["bytes"] = 0

    def statistics(self, number: int) -> Statistics:
        """What a policer has counted."""
        record = self.table[number]
        return Statistics(tuple(record["packets"].tolist()), tuple(record["bytes"].tolist()))

    def _check_number(self, number: int) -> None:
        if not 1 <= number < self.table.size:
            raise ConfigError(f"policer {number}: numbers are 1 to {self.table.size - 1}")


def _shift(rate: Fraction, burst: int) -> int:
    """The largest shift at which a burst of bytes and a rate of bytes per clock have room."""
    shift = min(TOKEN_BITS - burst.bit_length(), SHIFT_MAX)
    while shift and round(rate * (1 << shift)) >> RATE_BITS:
        shift -= 1
    return shift


def _bucket(number: int, rate: Fraction, burst: int, shift: int = -1) -> tuple[NDArray[Any], int]:
    """A full bucket of a rate in bytes per clock, and its shift. Raises ConfigError."""
    if rate <= 0 or not 1 <= burst < 1 << 32:
        raise ConfigError(f"policer {number}: a rate is above 0, a burst 1 to 2**32 - 1 bytes")
    shift = _shift(rate, burst) if shift < 0 else shift
    units = round(rate * (1 << shift))
    if units >> RATE_BITS or abs(units - rate * (1 << shift)) > WORST * rate * (1 << shift):
        raise ConfigError(
            f"policer {number}: a burst of {burst} bytes is too long for so slow a rate, or the rate "
            "too high; choose a shorter burst"
        )
    bucket = np.zeros((), BUCKET)
    bucket["tokens"], bucket["burst"], bucket["rate"] = burst << shift, burst, units
    bucket["fill"] = -(-(burst << shift) // units)
    return bucket, shift
