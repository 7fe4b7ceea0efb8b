# SPDX-License-Identifier: Apache-2.0
"""session_follow: what a packet of a known session does to it, and the session to the packet."""

from __future__ import annotations

from typing import Any

from vforward.jit.be import load16
from vforward.jit.kernel import i64, inline
from vforward.packet import ip4
from vforward.packet.translate import translate4
from vforward.tables import session as t
from vforward.tables import session_life as life
from vforward.tables import session_tcp as tcp
from vforward.tables.session_index import ends4


@inline
def belongs(s: Any, found: Any) -> Any:
    """Whether what find4 found is the packet's own: with NAT, each direction has endpoints of its own."""
    return (s.hot[found >> 2].flags & t.NAT == 0) | ((found >> 1 ^ found) & 1 == 1)


@inline
def new_ends4(s: Any, found: Any) -> Any:
    """Source and destination that a packet of a session with NAT is given, by what find4 found."""
    initiator, responder = ends4(s, found >> 2, 1 - (found >> 1 & 1))
    if found & 1:
        return initiator, responder
    return responder, initiator


@inline
def follow(
    s: Any, data: Any, meta: Any, row: Any, l4: Any, whole: Any, number: Any, direction: Any
) -> Any:
    """A packet of a session, in direction 0 (the initiator's) or 1. Returns tcp.PASS, or why not.

    l4: where its transport header is, -1 in a fragment without it. whole: 1 if it is no fragment.
    """
    record = s.hot[number]
    if record.protocol == t.TCP:
        if l4 >= 0:
            verdict = tcp.advance(s, number, direction, data, meta, row, l4, whole)
            if verdict != tcp.PASS:
                return verdict
    elif record.state == t.UNREPLIED and direction == 1:
        life.set_state(s, number, t.REPLIED)
    if record.seen != i64(s.head[t.NOW]) & 0xFFFF:
        life.touch(s, number)
    if record.flags & t.TREATED:
        meta[row].treatment = s.cold[number].treatment
    return i64(tcp.PASS)


@inline
def translated4(s: Any, number: Any, direction: Any) -> Any:
    """Source and destination that a packet of a direction of a session with NAT is given."""
    at = number * 8 + 2 - 2 * direction
    k0, k1 = s.words[at], s.words[at + 1]
    return t.destination4(k0, k1), t.source4(k0, k1)


@inline
def follow4(s: Any, data: Any, meta: Any, row: Any, l3: Any, l4: Any, mine: Any) -> Any:
    """follow, for an IPv4 packet and what mine4 found for it; translates what passes."""
    number, direction = mine >> 1, mine & 1
    fragment = load16(data, row, l3 + ip4.FRAGMENT) & (ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK)
    at = i64(-1) if fragment & ip4.OFFSET_MASK else i64(l4)
    verdict = follow(s, data, meta, row, at, i64(fragment == 0), number, direction)
    if verdict == tcp.PASS and s.hot[number].flags & t.NAT:
        src, dst = translated4(s, number, direction)
        if not translate4(data, meta, row, l3, at, i64(s.hot[number].protocol), src, dst):
            return i64(tcp.SHORT)
    return verdict
