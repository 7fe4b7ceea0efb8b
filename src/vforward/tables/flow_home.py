# SPDX-License-Identifier: Apache-2.0
"""flow_home: which worker has a flow (adr/0028). Asked of a shard of sessions (tables.session).

A flow's hash is the same in both directions: of its two ends, each an address and a port as
packet.ports has it, of protocol and zone, with a secret. Its upper half, spread over the workers, names
the flow's home. A direction that lies elsewhere, since NAT has changed an end, is a stray.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.intrinsics import fold_multiply, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.tables import session as t
from vforward.tables import strays

_ONE, _OTHER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)
"""Odd, bits at random: 2**64 / golden ratio, 2**64 / the plastic number squared, about."""


@inline
def alone(s: Any) -> Any:
    """Whether there is one worker only, who has all flows."""
    return s.head[t.WORKERS] <= u64(1)


@inline
def _both(s: Any, one: Any, other: Any, protocol: Any, zone: Any) -> Any:
    """The hash of two ends, in whichever order, which were mixed already."""
    what = u64(i64(protocol) << 8 | i64(zone)) ^ s.head[t.HOME_SEED + 1]
    return fold_multiply(one + other ^ what, _OTHER) * _ONE


@inline
def mixed4(s: Any, src: Any, dst: Any, protocol: Any, zone: Any) -> Any:
    """The hash of an IPv4 packet's flow, u64: of its endpoints (address << 16 | port)."""
    seed = s.head[t.HOME_SEED]
    one, other = fold_multiply(u64(src) ^ seed, _ONE), fold_multiply(u64(dst) ^ seed, _ONE)
    return _both(s, one, other, protocol, zone)


@inline
def _end6(s: Any, high: Any, low: Any, port: Any) -> Any:
    seed = s.head[t.HOME_SEED]
    return fold_multiply(fold_multiply(u64(high) ^ seed, _ONE) ^ u64(low), _OTHER ^ u64(port))


@inline
def mixed6(
    s: Any, src_high: Any, src_low: Any, dst_high: Any, dst_low: Any, both: Any, protocol: Any, zone: Any
) -> Any:  # fmt: skip
    """The same of an IPv6 packet. both: source port << 16 | destination port."""
    one = _end6(s, src_high, src_low, i64(both) >> 16)
    other = _end6(s, dst_high, dst_low, i64(both) & 0xFFFF)
    return _both(s, one, other, protocol, zone)


@inline
def home(s: Any, mixed: Any) -> Any:
    """The worker that a hash names."""
    return i64((mixed >> u64(32)) * s.head[t.WORKERS] >> u64(32))


@inline
def table(s: Any) -> Any:
    """The strays of all workers, alone in a tuple: Numba returns no view by itself."""
    return (view(i64(s.head[t.STRAYS_AT]), i64(s.head[t.STRAYS_WORDS]), np.uint64),)


@kernel
def worker_of(s: Any, mixed: Any) -> Any:
    """The worker that has a direction."""
    others = table(s)[0]
    if not strays.is_empty(others):
        found = strays.find(others, mixed)
        if found >= 0:
            return found
    return home(s, mixed)


@inline
def at_home4(s: Any, src: Any, dst: Any, protocol: Any, zone: Any) -> Any:
    """Whether a flow of such endpoints has its home with this shard's worker."""
    return alone(s) or u64(home(s, mixed4(s, src, dst, protocol, zone))) == s.head[t.WORKER]


@kernel
def _directions(s: Any, number: Any) -> Any:
    """The hashes of both directions of an IPv4 session that is not in its home, where it is not."""
    record = s.hot[number]
    protocol, zone = i64(record.protocol), i64(record.zone)
    one = mixed4(
        s, t.source4(record.k0, record.k1), t.destination4(record.k0, record.k1), protocol, zone
    )
    other = mixed4(
        s, t.source4(record.k2, record.k3), t.destination4(record.k2, record.k3), protocol, zone
    )
    return one, other


@kernel
def settle4(s: Any, number: Any) -> bool:
    """Make known which directions of a new session are strays. False: that cannot be; none is then.

    Its keys stand in its record. Notes in its flags that there are any.
    """
    one, other = _directions(s, number)
    me = i64(s.head[t.WORKER])
    first = home(s, one) != me
    second = other != one and home(s, other) != me
    if not first and not second:
        return True
    others = table(s)[0]
    if first and not strays.enter(others, one, me):
        return False
    if second and not strays.enter(others, other, me):
        if first:
            strays.leave(others, one, me)
        return False
    s.hot[number].flags = i64(s.hot[number].flags) | t.STRAY
    return True


@kernel
def forget4(s: Any, number: Any) -> None:
    """The strays of a session that ends are none any more."""
    one, other = _directions(s, number)
    me = i64(s.head[t.WORKER])
    if home(s, one) != me:
        strays.leave(table(s)[0], one, me)
    if other != one and home(s, other) != me:
        strays.leave(table(s)[0], other, me)
