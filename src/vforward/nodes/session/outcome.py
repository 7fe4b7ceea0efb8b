# SPDX-License-Identifier: Apache-2.0
"""outcome: what ip4-session and ip6-session have in common: their ways out, reasons, and conclusions."""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels
from vforward.jit.kernel import i64, kernel, u64
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


@kernel
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
