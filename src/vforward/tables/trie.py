# SPDX-License-Identifier: Apache-2.0
"""Longest prefix match in a compressed multibit trie (RFC 4632 section 5.1), IPv4 and IPv6: the readers.

    address   aaaaaaaaaaaaaaaa bbbbbbbb cccccccc ...

    root   u32[n_vrfs << 16]    entry of VRF << 16 | a
    nodes  u32[n_lines * 16]    lines of 64 bytes; a node is 1 to 17 of them, and answers for 8 bits
                                more; line 0 is none: word 0 says how many are in use,
                                word 1 whether there are other VRFs than 0

    entry     0 llllllll vvvvvvvvvvvvvvvvvvvvvvv   leaf: prefix length + 1, and the route's value;
                                                   0: no route, value 0
              1 d nnnnnnnnnnnnnnnnnnnnnnnnnnnnnn  child: number of a node's first line; d: it is dense

    node      words 0..7    bit b is set where a run of equal entries begins at slot b; bit 0 always is
              word 8        byte k: how many runs begin before slot 64 * k
              words 9..     one entry for each run: seven of them in the node's first line
    dense     256 entries and nothing else: of nodes with runs for nearly all slots, and of all nodes
              while there are few, since it takes half of the instructions

A leaf is the longest prefix of every address that leads to it, so a lookup compares nothing: it
reads an entry, the node that it names, and the entry at the rank of the next 8 bits, and so on.
Degermark, Brodnik, Carlsson and Pink 1997 (runs and ranks); Asai and Ohara 2015 (with popcount).

Owner   One writer (tables.fib). Any number of readers. A node does not change once it is linked,
        but for entries, one release store each: every word that readers reach is right before and
        after. A change of a node's runs makes a new node, linked by one store; the old one is used
        anew when no reader can be in it anymore.

In a kernel, ``lookup4`` and ``lookup6``; or, where ``is_large`` says that nodes lie outside of the
first levels of cache, pass by pass over the vector: ``first`` and ``fetch``, then for each level
``place`` and a prefetch of that word, and ``at`` in the next pass; or ``step`` at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.atomics import load_acquire32, load_acquire64
from vforward.jit.intrinsics import address as address_of
from vforward.jit.intrinsics import popcount, prefetch
from vforward.jit.kernel import BOUNDSCHECK, i64, inline, u64

CHILD = 1 << 31
DENSE = 1 << 30
LINE = DENSE - 1
"""The bits of a child entry that name a line."""
LENGTH = 23
"""Where a leaf's length + 1 begins."""
VALUE_MAX = (1 << LENGTH) - 1
ROOT_BITS = 16
SLOTS = 256
WORDS = 16
"""Words of a line."""
RANKS, ENTRIES = 8, 9
"""Words of a node."""
LINES_MAX = (ENTRIES + SLOTS + WORDS - 1) // WORDS
LARGE = 512
"""Lines in use from which on passes pay: 32 KiB."""


@inline
def _check(words: Any, at: Any) -> None:
    if BOUNDSCHECK:
        if at < 0 or at >= words.size:
            raise IndexError


@inline
def is_large(nodes: Any) -> Any:
    """Whether passes are faster than one lookup after the other: asked once per vector."""
    return i64(load_acquire32(address_of(nodes))) > LARGE


@inline
def has_vrfs(nodes: Any) -> Any:
    """Whether ports are in other VRFs than 0: asked once per vector."""
    return i64(load_acquire32(address_of(nodes) + 4)) != 0


@inline
def first(root: Any, vrf: Any, index: Any) -> Any:
    """The root's entry for the first 16 bits of an address."""
    at = vrf << ROOT_BITS | index
    _check(root, at)
    return i64(load_acquire32(address_of(root) + 4 * at))


@inline
def fetch(nodes: Any, entry: Any) -> None:
    """Ask for the node that an entry names; for a leaf, for nothing that matters, but without a branch."""
    prefetch(nodes, ((entry & LINE) & -(entry >> 31)) * WORDS)


@inline
def place(nodes: Any, entry: Any, slot: Any) -> Any:
    """Which word of nodes is the entry of a slot of the node that a child entry names."""
    if entry & DENSE:
        return (entry - (CHILD | DENSE)) * WORDS + slot
    line = (entry - CHILD) * WORDS
    _check(nodes, line)
    node = address_of(nodes) + 4 * line
    part = slot >> 6 << 3
    begun = load_acquire64(node + part) << u64(~slot & 63)
    before = i64(load_acquire32(node + 4 * RANKS)) >> part & 0xFF
    return line + RANKS + before + popcount(begun)  # at least 1 begun: the run at slot 0


@inline
def at(nodes: Any, word: Any) -> Any:
    """The entry at a word that place gave."""
    _check(nodes, word)
    return i64(load_acquire32(address_of(nodes) + 4 * word))


@inline
def step(nodes: Any, entry: Any, slot: Any) -> Any:
    """The entry of a slot of the node that a child entry names."""
    return at(nodes, place(nodes, entry, slot))


@inline
def lookup4(root: Any, nodes: Any, vrf: Any, address: Any) -> Any:
    """The value of the longest prefix that covers an IPv4 address in a VRF; 0 when none does. u32."""
    a = i64(address) & 0xFFFFFFFF
    entry = first(root, i64(vrf), a >> 16)
    if entry >= CHILD | DENSE:  # the usual one where there are few routes
        entry = at(nodes, (entry - (CHILD | DENSE)) * WORDS + (a >> 8 & 0xFF))
    elif entry & CHILD:
        entry = step(nodes, entry, a >> 8 & 0xFF)
    if entry & CHILD:
        entry = step(nodes, entry, a & 0xFF)
    return value(entry)


@inline
def lookup6(root: Any, nodes: Any, vrf: Any, high: Any, low: Any) -> Any:
    """The same for an IPv6 address, given as two u64 halves in host order."""
    upper = u64(high)
    rest = u64(low)
    entry = first(root, i64(vrf), i64(upper >> u64(48)))
    upper = upper << u64(16) | rest >> u64(48)
    rest <<= u64(16)
    while entry & CHILD:
        entry = step(nodes, entry, i64(upper >> u64(56)))
        upper = upper << u64(8) | rest >> u64(56)
        rest <<= u64(8)
    return value(entry)


@inline
def value(entry: Any) -> Any:
    """The value of a leaf, u32."""
    return np.uint32(entry & VALUE_MAX)
