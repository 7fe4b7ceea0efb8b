# SPDX-License-Identifier: Apache-2.0
"""Bridge domains: ``DOMAIN[256]``, their members, and what a bridge knows of a port.

    domains DOMAIN[256]               one cache line each
    members u16[256 * MEMBERS_MAX]    ports that a flood goes to, a list for each domain
    relay   u32[n_ports]              bit 31 BVI   bits 16..23 domain, 0: none   bits 0..15 horizon

A frame goes from one port to another if their domains are the same and their horizons are not: a
horizon is a split-horizon group, or (OWN | port number) when the port is in none. So one exclusive
or of two words decides, and a port changes its domain by one store.

Record 0 is none: it holds what all domains share, ``now`` (the tick of tables.mac) and ``rewriting``.
members[domain * MEMBERS_MAX : ... + domains[domain].n] are the ports that a flood goes to; 0 is a
gap that a port has left. Who leaves is replaced by 0, who comes fills a gap or is written behind the
others before n says so: each store leaves a right list, so a flood meanwhile needs no lock.

Owner   The control plane writes; workers add to ``moves``, and both to ``count``, atomically.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import address
from vforward.jit.kernel import i64, inline, u64
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
        (
            "rewriting",
            np.uint8,
        ),  # in record 0: 1 when a bridged port takes tags off or puts some on
        ("spare", np.uint8, 37),
    ]
)
assert DOMAIN.itemsize == 64

OWN = 0x8000
"""In a horizon: of this port alone."""
IS_BVI = 1 << 31

Domains = Annotated[NDArray[Any], ArrayOf(DOMAIN)]
Members = Annotated[NDArray[np.uint16], ArrayOf(np.uint16)]
Relay = Annotated[NDArray[np.uint32], ArrayOf(np.uint32)]


@inline
def count_address(domains: Any, domain: Any) -> Any:
    """Where the count of a domain lies, for atomic additions: it is the record's first word."""
    return address(domains) + 64 * domain


@inline
def moves_address(domains: Any, domain: Any) -> Any:
    """The same of its moves, the second word."""
    return count_address(domains, domain) + 8


@inline
def domain_of(word: Any) -> Any:
    """The domain that a word of relay names, i64."""
    return i64(word) >> 16 & 0xFF


@inline
def refuses(rx: Any, tx: Any) -> Any:
    """Whether a frame that came by rx does not go out by tx: their words of relay. tx: not a BVI."""
    differs = (i64(rx) & ~IS_BVI) ^ i64(tx)  # in the horizon, and there alone
    return u64(differs - 1) >= u64(0xFFFF)


def relay_word(port: int, domain: int, group: int = 0, *, bvi: bool = False) -> int:
    """A port's word of relay."""
    return bvi << 31 | domain << 16 | (group or OWN | port)


def make_tables(arena: Arena, n_ports: int) -> dict[str, NDArray[Any]]:
    """The arrays, by parameter name."""
    return {
        "domains": arena.make("domains", DOMAINS, DOMAIN),
        "members": arena.make("members", DOMAINS * MEMBERS_MAX, np.uint16),
        "relay": arena.make("relay", n_ports, np.uint32),
    }


def members_of(domains: NDArray[Any], members: NDArray[np.uint16], domain: int) -> Iterator[int]:
    """The ports of a domain, in the order of a flood."""
    first = domain * MEMBERS_MAX
    for port in members[first : first + int(domains[domain]["n"])].tolist():
        if port:
            yield port


def add_member(domains: NDArray[Any], members: NDArray[np.uint16], domain: int, port: int) -> None:
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
