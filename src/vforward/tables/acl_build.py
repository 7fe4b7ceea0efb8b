# SPDX-License-Identifier: Apache-2.0
"""Grow the trees of a rule list (tables.acl): cut nodes, and give their rows to children.

A node is cut (tables.acl_cut) while it has more than LEAF_ROWS rows, a cut is worth it, and memory
is left; large nodes first, so that when memory ends the lists that are left are short. Rows that no
packet of a node can come to, because an earlier row has them all, are left out. Children with
the same rows are one node, whose region is what the regions of both have in common.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.kernel import i64, kernel, u64
from vforward.tables import acl_cut as cut
from vforward.tables.acl_cut import (
    CLOSED,
    CUT,
    DEPTH,
    NODES,
    NODES_END,
    POOL,
    POOL_END,
    SIZE,
    SLOTS,
    SLOTS_END,
    START,
    WORD,
)  # fmt: skip

LEAF_ROWS = 4
DEPTH_MAX = 12
PRUNED = 48
"""Lists up to so long have every row held against every one before it."""


@kernel
def _is_hidden(plan: Any, node: Any, row: Any, earlier: Any) -> Any:
    """Whether all packets of a node's region that match row match the earlier one."""
    words = plan.rows.shape[1] >> 1
    for word in range(words):
        if cut.is_ports(plan, word):
            for half in range(0, 32, 16):
                low, high = cut.ends(plan, node, row, word, half)
                least = i64(plan.rows[earlier, word]) >> half & 0xFFFF
                most = i64(plan.rows[earlier, words + word]) >> half & 0xFFFF
                if low < least or high > most:
                    return False
            continue
        asked = i64(plan.rows[earlier, words + word])
        given = i64(plan.rows[row, words + word]) | i64(plan.regions[node, words + word])
        value = i64(plan.rows[row, word]) | i64(plan.regions[node, word])
        if asked & ~given or (value ^ i64(plan.rows[earlier, word])) & asked:
            return False
    return True


@kernel
def prune(plan: Any, node: Any, start: Any, n: Any, to: Any) -> Any:
    """Write the rows of a list that can be come to at pool[to]. Returns how many, and CLOSED."""
    kept = 0
    for k in range(start, start + n):
        row = i64(plan.pool[k])
        hidden = False
        if n <= PRUNED:
            for j in range(to, to + kept):
                hidden = hidden or _is_hidden(plan, node, row, i64(plan.pool[j]))
        if hidden:
            continue
        plan.pool[to + kept] = row
        kept += 1
        if _is_hidden(plan, node, plan.rows.shape[0] - 1, row):
            return kept, i64(1)
    return kept, i64(0)


@kernel
def _same(plan: Any, node: Any, other: Any) -> Any:
    """Whether two nodes have the same rows."""
    n = plan.nodes[node, SIZE]
    if n != plan.nodes[other, SIZE] or plan.nodes[node, CLOSED] != plan.nodes[other, CLOSED]:
        return False
    one, two = plan.nodes[node, START], plan.nodes[other, START]
    for k in range(n):
        if plan.pool[one + k] != plan.pool[two + k]:
            return False
    return True


@kernel
def _settle(plan: Any, parent: Any, node: Any, word: Any) -> Any:
    """Make the node last written one with an equal child of its parent. Returns which it is."""
    mixed = u64(plan.nodes[node, SIZE])
    start = plan.nodes[node, START]
    for k in range(start, start + plan.nodes[node, SIZE]):
        mixed = (mixed ^ u64(plan.pool[k])) * u64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> u64(29)
    at = i64(mixed & u64(plan.known.shape[0] - 1))
    while plan.known[at, 1] == parent + 1:
        other = plan.known[at, 0]
        if _same(plan, node, other):
            words = plan.rows.shape[1] >> 1
            mask = plan.regions[node, words + word] & plan.regions[other, words + word]
            mask &= ~(plan.regions[node, word] ^ plan.regions[other, word])
            plan.regions[other, words + word] = mask
            plan.regions[other, word] &= mask
            return other
        at = (at + 1) & (plan.known.shape[0] - 1)
    plan.known[at, 0] = node
    plan.known[at, 1] = parent + 1
    plan.state[NODES] += 1
    plan.state[POOL] += plan.nodes[node, SIZE]
    return node


@kernel
def _child(plan: Any, parent: Any, word: Any, value: Any, mask: Any, start: Any, n: Any) -> Any:
    """A child with these rows, whose region has more bits than its parent's. Returns its number."""
    node = plan.state[NODES]
    words = plan.rows.shape[1] >> 1
    for k in range(2 * words):
        plan.regions[node, k] = plan.regions[parent, k]
    plan.regions[node, word] |= np.uint32(value)
    plan.regions[node, words + word] |= np.uint32(mask)
    kept, closed = prune(plan, node, start, n, plan.state[POOL])
    plan.nodes[node, START] = plan.state[POOL]
    plan.nodes[node, SIZE] = kept
    plan.nodes[node, CLOSED] = closed | plan.nodes[parent, CLOSED] & i64(kept > 0)
    plan.nodes[node, DEPTH] = plan.nodes[parent, DEPTH] + 1
    plan.nodes[node, WORD] = plan.nodes[node, CUT] = 0
    return _settle(plan, parent, node, word)


@kernel
def _deal(plan: Any, node: Any, word: Any, shift: Any, mask: Any, start: Any) -> Any:
    """Write the rows of each child, one child after another, behind start. Returns where they end.

    counts: how many there are, of children that have rows of their own; those of all go to each of
    them, and last to the child that stands for all others.
    """
    end = start
    for child in range(mask + 1):
        if plan.counts[child]:
            plan.fill[child] = end
            end += plan.counts[child]
    plan.fill[mask + 1] = end
    first = plan.nodes[node, START]
    for k in range(first, first + plan.nodes[node, SIZE]):
        row = i64(plan.pool[k])
        begin, varying, number = cut.reach(plan, node, row, word, shift, mask)
        way = i64(0)
        for _ in range(number):
            child = (begin + way) & mask
            if plan.counts[child]:
                plan.pool[plan.fill[child]] = row
                plan.fill[child] += 1
            way = cut.after(way, varying)
        if number > mask:
            plan.pool[plan.fill[mask + 1]] = row
            plan.fill[mask + 1] += 1
    return end


@kernel
def _cut(plan: Any, node: Any, word: Any, shift: Any, bits: Any) -> Any:
    """Give a node its children. Returns whether there was memory for it."""
    everywhere = cut.tally(plan, node, word, shift, bits, i64(1))
    mask = (i64(1) << bits) - 1
    total = everywhere
    for child in range(mask + 1):
        if plan.counts[child]:
            plan.counts[child] += everywhere
            total += plan.counts[child]
    base, start = plan.state[SLOTS], plan.state[POOL] + plan.nodes[node, SIZE]
    if (
        base + mask >= plan.state[SLOTS_END]
        or start + total > plan.state[POOL_END]
        or plan.state[NODES] + mask + 2 > plan.state[NODES_END]
    ):
        return False
    plan.state[SLOTS] += mask + 1
    end = _deal(plan, node, word, shift, mask, start)
    begin = start
    others = i64(-1)
    for child in range(mask + 1):
        n = plan.counts[child]
        if n:
            made = _child(plan, node, word, child << shift, mask << shift, begin, n)
            begin += n
        else:
            if others < 0:
                others = _child(plan, node, word, i64(0), i64(0), end, everywhere)
            made = others
        plan.slots[base + child] = made
    plan.nodes[node, WORD] = base << 32 | mask << 16 | word << 8 | shift
    plan.nodes[node, CUT] = 1
    return True


@kernel
def grow(plan: Any, root: Any) -> None:
    """Cut whatever is worth it in a tree whose nodes are the last ones, large nodes first."""
    limit = plan.nodes[root, SIZE]
    while limit > LEAF_ROWS:
        limit = max(limit >> 1, LEAF_ROWS)
        node = root
        while node < plan.state[NODES]:
            row = plan.nodes[node]
            if row[SIZE] > limit and not row[CUT] and row[DEPTH] < DEPTH_MAX:
                word, shift, bits = cut.choose(plan, node)
                row[CUT] = 2  # it was tried
                if bits:
                    _cut(plan, node, word, shift, bits)
            node += 1
