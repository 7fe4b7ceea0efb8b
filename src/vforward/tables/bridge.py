# SPDX-License-Identifier: Apache-2.0
"""Bridge domains: ``DOMAIN[256]``, one cache line each, and ``members u16[256 * MEMBERS_MAX]``.

Record 0 is none: it holds what all domains share, ``now`` (the tick of tables.mac) and ``rewriting``.
members[domain * MEMBERS_MAX : ... + domains[domain].n] are the ports that a flood goes to; 0 is a
gap that a port has left. Who leaves is replaced by 0, who comes fills a gap or is written behind the
others before n says so: each store leaves a right list, so a flood meanwhile needs no lock.

Owner   The control plane writes; the worker writes ``moves``; both add to ``count``, atomically.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import address
from vforward.jit.kernel import inline
from vforward.layout import ArrayOf
from vforward.memory.arena import Arena
from vforward.tables import TableFull

DOMAINS = 256
MEMBERS_MAX = 1024

LEARN, FLOOD_UNKNOWN, FLOOD_BROADCAST, FLOOD_MULTICAST, FORWARD_RESERVED = 1, 2, 4, 8, 16
"""Bits of ``flags``."""

NO_LIMIT = 0xFFFFFFFF

DOMAIN = np.dtype(
    [
        ("count", np.uint64),  # learned MACs: static ones are not among them
        ("moves", np.uint64),  # a MAC was heard at another port than before
        ("limit", np.uint32),  # of count
        ("n", np.uint16),  # length of its list of members
        ("bvi", np.uint16),  # port number of its routed interface, 0: none
        ("flags", np.uint8),
        ("now", np.uint8),  # in record 0: the tick, 0 to 31
        ("rewriting", np.uint8),  # in record 0: 1 when a bridged port takes tags off or puts some on
        ("spare", np.uint8, 37),
    ]
)
assert DOMAIN.itemsize == 64

Domains = Annotated[NDArray[Any], ArrayOf(DOMAIN)]
Members = Annotated[NDArray[np.uint16], ArrayOf(np.uint16)]


@inline
def count_address(domains: Any, domain: Any) -> Any:
    """Where the count of a domain lies, for atomic additions: it is the record's first word."""
    return address(domains) + 64 * domain


def make_tables(arena: Arena) -> dict[str, NDArray[Any]]:
    """The arrays, by parameter name."""
    members = arena.make("members", DOMAINS * MEMBERS_MAX, np.uint16)
    return {"domains": arena.make("domains", DOMAINS, DOMAIN), "members": members}


def members_of(domains: NDArray[Any], members: NDArray[np.uint16], domain: int) -> Iterator[int]:
    """The ports of a domain, in the order of a flood."""
    first = domain * MEMBERS_MAX
    for port in members[first : first + int(domains[domain]["n"])].tolist():
        if port:
            yield port


def add_member(
    domains: NDArray[Any], members: NDArray[np.uint16], domain: int, port: int
) -> None:
    """Put a port on a domain's list. Raises TableFull."""
    ours = members[domain * MEMBERS_MAX :][:MEMBERS_MAX]
    n = int(domains[domain]["n"])
    gaps = np.flatnonzero(ours[:n] == 0)
    if not gaps.size and n == MEMBERS_MAX:
        msg = f"bridge domain {domain}: {n} members, and no room for another"
        raise TableFull(msg, 0)
    at = int(gaps[0]) if gaps.size else n
    ours[at] = port
    domains[domain]["n"] = max(n, at + 1)


def delete_member(
    domains: NDArray[Any], members: NDArray[np.uint16], domain: int, port: int
) -> None:
    """Take a port off a domain's list. Raises KeyError when it is not on it."""
    n = int(domains[domain]["n"])
    ours = members[domain * MEMBERS_MAX :][:n]
    where = np.flatnonzero(ours == port)
    if not where.size:
        raise KeyError((domain, port))
    ours[where] = 0
    used = np.flatnonzero(ours)
    domains[domain]["n"] = int(used[-1]) + 1 if used.size else 0
