# SPDX-License-Identifier: Apache-2.0
"""A hash of how the tables that survive a crash are laid out: of types and constants, not of sources.

A table of another hash is not taken over: what its words mean is not known. What is added to a table's
layout, or means something else from now on, has to be among the facts here.
"""

from __future__ import annotations

import hashlib
from typing import Any

from vforward.control.publish import DROPS
from vforward.graph import control as c
from vforward.memory.arena import HEADER
from vforward.rings import spsc
from vforward.tables import (
    adjacency,
    bridge,
    flow_home,
    mac,
    nat,
    policer,
    policy,
    session,
    session_life,
)

REVISION = 1
"""Another number when the same types and constants mean something else: a hash function, for one."""


def facts() -> list[Any]:
    """All that the meaning of the words in those tables hangs on."""
    t = session
    return [
        REVISION,
        HEADER.descr,
        ("session", t.SESSION.descr, t.COLD.descr, t.STATES, t.KINDS, t.HEADER, t.WAYS, t.LISTS),
        (t.SLOTS, t.LIMITS_MAX, t.SOURCE_COUNT, t.SIX, t.NAT, t.TREATED, t.SOURCED, t.LOOSE),
        (t.CAPACITY, t.BITS, t.BUCKET_MASK, t.N_SOURCES, t.HOT_AT, t.LIMITS_AT, t.UNUSED, t.NOW),
        (t.SEED, t.COUNTERS, t.HOME_SEED, t.TIMEOUTS, t.words_for(1023)),
        (session_life.FIRST_EMBRYONIC, int(flow_home._ONE), int(flow_home._OTHER)),
        ("kills", spsc.HEADER),
        ("mac", mac.WAYS, mac.PROBES, mac.PER_AGE, mac.TICKS, mac.TICK_AT, mac.PORT_AT, mac.TAG_AT),
        (mac.STATIC, mac.MULTIPLIER, bridge.DOMAIN.descr),
        ("adjacency", adjacency.ADJACENCY.descr, [(way.name, way.value) for way in adjacency.Way]),
        ("counted", c.STATS, c.CONTROL_WORDS, c.ROUNDS, c.BUSY_ROUNDS, c.SLEEPS, c.STARTED, c.NOW),
        (c.ROUND_CLOCKS, c.ROUND_TIMES, c.ROUND_BUCKETS, c.ROUND_SHORTEST, DROPS),
        ("firewall", policy.HITS_MAX, nat.NAT_POOL.descr, policer.POLICER.descr),
    ]


def layout_hash() -> int:
    """The hash, 64 bits; never 0."""
    digest = hashlib.sha256(repr(facts()).encode()).digest()
    return int.from_bytes(digest[:8], "little") | 1
