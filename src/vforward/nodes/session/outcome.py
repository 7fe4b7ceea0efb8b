# SPDX-License-Identifier: Apache-2.0
"""outcome: what ip4-session and ip6-session have in common: their ways out, reasons, and conclusions."""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import SELF_MADE
from vforward.tables import related
from vforward.tables import session as t
from vforward.tables import session_life as life
from vforward.tables import session_tcp as machine


class Edge(Labels):
    """Ways out, besides those of the arc."""

    DROP = 0, "see the counters"


class Count(Labels):
    """Reasons, numbered as session_tcp's verdicts."""

    REOPENED = 0, "a new connection with the endpoints of one that is over", INFO
    OUTSIDE = 1, "TCP: sequence or acknowledgment number outside of the window"
    BAD_FLAGS = 2, "TCP: flags that do not go together"
    BAD_STATE = 3, "TCP: not what its connection's state allows"
    SHORT = 4, "cut off in its transport header, or that says so of itself"
    LAND = 5, "its source is its destination"
    UNBELIEVED = (
        6,
        "an ICMP error about a session that cannot have caused it, or damaged on its way",
    )


assert (Count.OUTSIDE, Count.BAD_FLAGS, Count.BAD_STATE, Count.SHORT) == (
    machine.OUTSIDE,
    machine.BAD_FLAGS,
    machine.BAD_STATE,
    machine.SHORT,
)


@kernel
def drop(meta: Any, row: Any, count: Any, reason: Any) -> Any:
    """Count a packet that is refused. Returns its edge."""
    count[reason] += u64(1)
    meta[row].reason = reason
    return i64(Edge.DROP)


@inline
def conclude(meta: Any, row: Any, count: Any, s: Any, skips: Any, mine: Any, verdict: Any) -> Any:
    """The edge of a packet of a session (as mine4 says it), by what follow has said.

    skips: which features of the arc a packet goes past: without a treatment, and with one.
    """
    if verdict == machine.AGAIN:
        count[Count.REOPENED] += u64(1)
        life.close(s, mine >> 1)
        s.head[t.REOPENED] += u64(1)
        return arcs.proceed(meta, row)
    if verdict != machine.PASS:
        return drop(meta, row, count, verdict)
    treated = i64(s.hot[mine >> 1].flags & t.TREATED != 0)
    return arcs.proceed_past(meta, row, skips[treated])


@kernel
def after_error(meta: Any, row: Any, count: Any, skips: Any, said: Any) -> Any:
    """The edge of an ICMP error, by what related4 or related6 has said.

    One that names no session is for the rules; one that names a session that has not caused it is
    nobody's (RFC 5508 section 4.2, REQ-3; RFC 5927 section 4).
    """
    if said >= 0:
        return arcs.proceed_past(meta, row, skips[0])
    reason = ~said
    made_up = (
        (reason == related.BAD_CHECKSUM)
        | (reason == related.MISDIRECTED)
        | (reason == related.IMPLAUSIBLE)
    )
    if made_up and not meta[row].flags & SELF_MADE:
        return drop(meta, row, count, i64(Count.UNBELIEVED))
    return arcs.proceed(meta, row)
