# SPDX-License-Identifier: Apache-2.0
"""A policy: all rule lists of a forwarder and what they say, published as one, by one store.

    policy  u64[POLICY_WORDS]   word 0: address of the bundle in force, 0: none yet   (control, by release)
    bundle  u64[...]            private memory of the forwarder; it does not change once published

            words 0..15   of each part: where it begins, in words from the bundle's start, and its length
            FILTER4, FILTER6, SOURCE4, DESTINATION4   images of tables.acl, 0 words: no rules
            ACTIONS       ACTION[n]: what a rule of the filters says; action 0 is the default's
            REWRITES      REWRITE[n]: what a rule of the NAT lists says

A worker reads word 0 once for each vector, so a packet is never handled by a mix of two policies. The
old bundle is freed after a quiet point.

    rule_hits  u64[2 * HITS_MAX]   packets and bytes that a rule was found for; a rule keeps its place
                                   when rules are changed around it                (worker)
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import load_acquire64
from vforward.jit.intrinsics import address, prefetch, prefetch_write, view
from vforward.jit.kernel import i64, inline, u64
from vforward.layout import NIL, ArrayOf
from vforward.tables.session import Grant

POLICY_WORDS = 8
HITS_MAX = 1 << 17
FILTER4, FILTER6, SOURCE4, DESTINATION4, ACTIONS, REWRITES = range(6)
"""Parts of a bundle; word 2 * part is where it begins, word 2 * part + 1 its length in words."""
HEAD = 16
"""Words before the first part."""
FLAGS = 15
"""Word of the bundle: see below."""
USES_OUT = 1
"""A rule names the port that packets leave by, so their route has to be looked up first."""

PERMIT, DENY, REJECT = 1, 2, 3
"""What an action does. REJECT: TCP is reset, of all else ICMP tells that it is prohibited."""
STATELESS = 1
"""In an action's flags: packets are let through without a session."""

ACTION = np.dtype(
    [
        ("kind", np.uint8),
        ("flags", np.uint8),
        ("treatment", np.uint16),  # see tables.treatment; 0: none
        ("hits", np.uint32),  # its place in rule_hits
        ("limit", np.uint32),  # its place in the shard's limits, 0: none
        ("sessions", np.uint32),  # most sessions at a time, with limit
        ("per_source", np.uint32),  # most sessions of a source at a time, 0: no limit
        ("spare", np.uint32, 3),
    ]
)
assert ACTION.itemsize == 32

MASQUERADE, POOL, STATIC = 1, 2, 3
"""What a rewrite does. MASQUERADE: source becomes the address of the port that the packet leaves by.
POOL: source becomes one of a pool's. STATIC: bits of the address outside ``keep`` become ``address``'s,
and the port, where one is given, moves by ``port - first``."""

REWRITE = np.dtype(
    [
        ("kind", np.uint8),
        ("spare", np.uint8),
        ("pool", np.uint16),  # in nat_pools: POOL, and MASQUERADE's range of ports
        ("hits", np.uint32),
        ("address", np.uint32),
        ("keep", np.uint32),  # mask of the bits that stay as they are
        ("first", np.uint16),  # first port of the rule's range
        ("port", np.uint16),  # what the first port becomes, 0: ports stay
        ("spare2", np.uint32, 3),
    ]
)
assert REWRITE.itemsize == 32
RECORD_WORDS = 4
"""Words of an ACTION, and of a REWRITE."""

Policy = Annotated[NDArray[np.uint64], ArrayOf(np.uint64)]


@inline
def in_force(policy: Any) -> Any:
    """Address of the bundle in force, i64; 0: none. Asked once per vector."""
    return i64(load_acquire64(address(policy)))


@inline
def place(bundle: Any, part: Any) -> Any:
    """Where a part of the bundle at an address lies, and how many words it has: what view takes.

    An image of 0 words has no rules. ACTIONS and REWRITES are RECORD_WORDS words each.
    """
    head = view(bundle, HEAD, np.uint64)
    return bundle + 8 * i64(head[2 * part]), i64(head[2 * part + 1])


@inline
def uses_out(bundle: Any) -> Any:
    """Whether packets' routes have to be looked up."""
    return view(bundle, HEAD, np.uint64)[FLAGS] & u64(USES_OUT) != u64(0)


@inline
def count_hit(rule_hits: Any, place: Any, length: Any) -> None:
    """A packet of length bytes was found for the rule whose hits are at a place."""
    rule_hits[2 * place] += u64(1)
    rule_hits[2 * place + 1] += u64(length)


@inline
def settle(actions: Any, found: Any, rule_hits: Any, n: Any) -> None:
    """found[i]: the action of each of n packets, and no more the rule of the filter or NIL.

    Asks for the actions and then for their counters: there are as many as rules, and in a vector few
    packets find the same.
    """
    for i in range(n):
        found[i] = 0 if found[i] == NIL else found[i]
        prefetch(actions, i64(found[i]))
    for i in range(n):
        prefetch_write(rule_hits, 2 * i64(actions[found[i]].hits))


@inline
def grant(action: Any, own: Any, place: Any) -> Any:
    """What a session gets of the action that let its first packet through; of the router's own, nothing.

    place: the word of the packet's fields that has the port it leaves by.
    """
    mine = i64(not own)
    return Grant(
        i64(action.hits) * mine,
        i64(action.treatment) * mine,
        i64(action.limit) * mine,
        i64(action.sessions) * mine,
        i64(action.per_source) * mine,
        i64(place) & 0xFFFF,
    )
