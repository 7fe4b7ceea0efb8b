# SPDX-License-Identifier: Apache-2.0
"""Build an image of rows (tables.acl): the trees, and the lists at their leaves.

A node is cut (tables.acl_cut) while it has more than LEAF_ROWS rows, a cut is worth it, and memory
is left; large nodes first, so that when memory ends the lists that are left are short. Rows that no
packet of a node can come to, because an earlier row has them all, are left out. Children with
the same rows are one node, whose region is what the regions of both have in common.

Memory      The trees take at most BUDGET bytes per row, and BUDGET_LEAST.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import NIL
from vforward.tables import acl_cut as cut
from vforward.tables.acl_cut import CLOSED, CUT, DEPTH, NODES, NODES_END, POOL, POOL_END, SIZE, SLOTS, SLOTS_END, START, WORD
from vforward.tables.acl_effort import effort
from vforward.tables.acl_image import (
    COUNT,
    HEADER,
    LEAF,
    LENGTH,
    MAGIC,
    NODES_MOST,
    PORTS,
    ROOT,
    ROWS_AT,
    ROWS_MAX,
    ROWS_MOST,
    RULES_AT,
    SLOTS_AT,
    SURE,
    TREE,
    TREE_WORDS,
    TREES,
    TREES_MAX,
    WORDS,
    plain,
    points,
)  # fmt: skip

LEAF_ROWS = 4
DEPTH_MAX = 12
PRUNED = 48
"""Lists up to so long have every row held against every one before it."""
NODES_EACH, NODES_LEAST = 8, 1 << 14
TREE_NODES = 24
SLOTS_EACH, SLOTS_LEAST = 32, 1 << 16
POOL_EACH, POOL_LEAST = 256, 1 << 18
"""Children and list entries of all nodes, per row and besides."""
ALONE = 2000
"""So many rows may be one tree."""
LARGE = 20_000
"""More rows than that are three or four."""
NARROW = 4096
LEAST_BITS = {8: 9, 16: 25}
"""An address of which so many bits are fixed tells rows apart."""
TRIALS = 4096
"""Packets by which ways to divide rows are compared."""
PER_NODE, PER_ROW, PER_TREE = 2.5, 6.0, 4.0
"""Clocks, about."""
WORST = 0.1
"""How much the worst packet counts, of which there may be none."""


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
def _prune(plan: Any, node: Any, start: Any, n: Any, to: Any) -> Any:
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
    kept, closed = _prune(plan, node, start, n, plan.state[POOL])
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
    everywhere = cut.tally(plan, node, word, shift, bits, 1)
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
                others = _child(plan, node, word, 0, 0, end, everywhere)
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


@kernel
def move(plan: Any, distance: Any) -> None:
    """All children lie so many words further on in the image."""
    for node in range(plan.state[NODES]):
        if plan.nodes[node, CUT] == 1:
            plan.nodes[node, WORD] += distance << 32


@kernel
def _entry(plan: Any, node: Any, k: Any) -> Any:
    """Entry number k of a node's list."""
    n = plan.nodes[node, SIZE]
    if k == n:
        return i64(plan.rows.shape[0] - 1 | SURE)
    row = i64(plan.pool[plan.nodes[node, START] + k])
    return row | SURE if k == n - 1 and plan.nodes[node, CLOSED] else row


@kernel
def _listed(plan: Any, node: Any, lists: Any, used: Any, known: Any) -> Any:
    """Where the entries behind a node's first are in lists, and how many words of it are used.

    Equal ones are there once: known i64[2**k] tells where, plus 1.
    """
    last = plan.nodes[node, SIZE] - plan.nodes[node, CLOSED]
    mixed = u64(0)
    for k in range(1, last + 1):
        entry = _entry(plan, node, k)
        lists[used + k - 1] = entry
        mixed = (mixed ^ u64(entry)) * u64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> u64(29)
    at = i64(mixed & u64(known.shape[0] - 1))
    while known[at]:
        place = known[at] - 1
        k = 0
        while k < last and lists[place + k] == lists[used + k]:
            k += 1
        if k == last:
            return place, used
        at = (at + 1) & (known.shape[0] - 1)
    known[at] = used + 1
    return used, used + last


@kernel
def list_leaves(plan: Any, lists: Any, known: Any, lists_at: Any, slots_at: Any) -> Any:
    """Write the lists, and each node's word as it will be in the image. Returns their length."""
    used = i64(0)
    for node in range(plan.state[NODES]):
        row = plan.nodes[node]
        if row[CUT] == 1:
            row[WORD] += slots_at << 32
            continue
        place = i64(0)
        if not _entry(plan, node, 0) & SURE:
            place, used = _listed(plan, node, lists, used, known)
        row[WORD] = i64(u64(LEAF) | u64(_entry(plan, node, 0)) << u64(32) | u64(lists_at + place))
    return used


@kernel
def put_slots(plan: Any, image: Any) -> None:
    """image: the part of it where slots are. A slot becomes its node's word."""
    for slot in range(plan.state[SLOTS]):
        image[slot] = u64(plan.nodes[i64(plan.slots[slot]), WORD])


@kernel
def most(plan: Any, first: Any, last: Any) -> Any:
    """Nodes and rows that a packet visits at most, in the tree of nodes first to last."""
    nodes, rows = i64(0), i64(0)
    for node in range(first, last):
        if plan.nodes[node, CUT] != 1:
            nodes = max(nodes, plan.nodes[node, DEPTH])
            rows = max(rows, plan.nodes[node, SIZE] - plan.nodes[node, CLOSED])
    return nodes, rows


def _plan(rows: NDArray[np.uint32]) -> cut.Plan:
    """Room to build the trees of n rows (the last row matches everything)."""
    n, words = len(rows), rows.shape[1]
    nodes, slots = NODES_LEAST + n * NODES_EACH, SLOTS_LEAST + n * SLOTS_EACH
    pool = POOL_LEAST + n * POOL_EACH
    return cut.Plan(
        rows,
        np.empty((nodes + TREES_MAX, cut.NODE_WORDS), np.int64),
        np.empty((nodes + TREES_MAX, words), np.uint32),
        np.empty(slots, np.uint64),
        np.empty(pool + n, np.uint32),
        np.zeros(6, np.int64),
        np.empty(1 << cut.BITS_MAX, np.int64),
        np.empty((1 << cut.BITS_MAX) + 1, np.int64),
        np.empty(1 << cut.BITS_MAX, np.float64),
        np.log2(1 + np.arange(cut.LOGS)),
        np.zeros((2 << cut.BITS_MAX, 2), np.int64),
    )


def _forest(
    rows: NDArray[np.uint32], groups: list[NDArray[np.int64]]
) -> tuple[cut.Plan, list[tuple[int, int]]]:
    """Trees of groups of rows; the number of each one's first node, and of the one behind its last.

    The smallest is grown first, and may take half of the memory; so each has what it needs, mostly.
    """
    plan = _plan(rows)
    trees = {}
    order = sorted(range(len(groups)), key=lambda k: len(groups[k]))
    for k in order:
        share = 1.0 if k == order[-1] else 0.5
        root = int(plan.state[NODES])
        _plant(plan, groups[k], share)
        trees[k] = (root, int(plan.state[NODES]))
    return plan, [trees[k] for k in sorted(trees)]


def _plant(plan: cut.Plan, rows: NDArray[np.int64], share: float) -> None:
    """Grow a tree of some rows, with a share of the memory that is left."""
    used = plan.state[:NODES_END].copy()
    room = len(plan.nodes) - TREES_MAX, len(plan.slots), len(plan.pool) - len(plan.rows)
    room = used + (share * (np.array(room) - used)).astype(np.int64)
    plan.state[NODES_END:] = room
    plan.state[NODES_END] = min(int(room[NODES]), int(used[NODES]) + NODES_LEAST + TREE_NODES * len(rows))
    root, start = int(used[NODES]), int(used[POOL])
    plan.pool[start : start + len(rows)] = rows
    plan.regions[root] = 0
    plan.nodes[root] = 0
    plan.nodes[root, START] = start
    kept, closed = _prune(plan, root, start, len(rows), start)
    plan.nodes[root, SIZE], plan.nodes[root, CLOSED] = kept, closed
    plan.state[NODES] += 1
    plan.state[POOL] += kept
    grow(plan, root)


def _assemble(
    plan: cut.Plan, trees: list[tuple[int, int]], rules: NDArray[np.uint32]
) -> NDArray[np.uint64]:
    """The image."""
    n, words = len(plan.rows) - 1, plan.rows.shape[1] // 2
    rules_at = HEADER + (n + 1) * words
    lists_at = 2 * rules_at + n + 1
    lists = np.empty(int(plan.state[POOL] + plan.state[NODES] + 1), np.uint32)
    known = np.zeros(1 << int(2 * plan.state[NODES]).bit_length(), np.int64)
    used = list_leaves(plan, lists, known, lists_at, _lines(lists_at + len(lists)))
    slots_at = _lines(lists_at + used)
    if slots_at != _lines(lists_at + len(lists)):
        move(plan, slots_at - _lines(lists_at + len(lists)))
    image = np.zeros(slots_at + int(plan.state[SLOTS]), np.uint64)
    image[[0, WORDS, COUNT, TREES, LENGTH]] = MAGIC, words, n, len(trees), len(image)
    image[[ROWS_AT, RULES_AT, SLOTS_AT]] = HEADER, 2 * rules_at, slots_at
    for tree, (root, end) in enumerate(trees):
        at = TREE + tree * TREE_WORDS
        image[at + ROOT] = plan.nodes[root, WORD].view(np.uint64)
        image[[at + NODES_MOST, at + ROWS_MOST]] = most(plan, root, end)
    image[HEADER:rules_at] = plan.rows.reshape(-1).view(np.uint64)
    words32 = image.view(np.uint32)
    words32[2 * rules_at : lists_at] = rules
    words32[lists_at : lists_at + used] = lists[:used]
    put_slots(plan, image[slots_at:])
    return image


def _lines(words32: int) -> int:
    """The u64 of the image, at a cache line, behind so many u32."""
    return (words32 + 15) // 16 * 8


def _groups(rows: NDArray[np.uint32]) -> list[list[NDArray[np.int64]]]:
    """Ways to divide rows: by which addresses they fix. None for few; by source; by both."""
    words = rows.shape[1] // 2
    each = 1 if words == 8 else 4
    bits = np.bitwise_count(rows[:, words:]).astype(np.int64)
    src, dst = bits[:, :each].sum(axis=1), bits[:, each : 2 * each].sum(axis=1)
    by_src, by_dst = (fixed >= LEAST_BITS[words] for fixed in (src, dst))
    low, high = (rows[:, at] >> 16 for at in (PORTS[words], words + PORTS[words]))
    by_sport = high - low < NARROW
    neither = ~by_src & ~by_dst
    ways = [
        [by_src, ~by_src],
        [by_src, ~by_src & by_dst, neither],
        [by_src, ~by_src & by_dst, neither & by_sport, neither & ~by_sport],
    ]
    if len(rows) <= ALONE:
        ways.insert(0, [np.ones(len(rows), bool)])
    if len(rows) > LARGE:
        del ways[:2]
    return [[np.flatnonzero(part) for part in parts if part.any()] for parts in ways]


def build(given: NDArray[Any], kind: np.dtype[Any]) -> NDArray[np.uint64]:
    """The image of given rows, by the way to divide them that promises least work."""
    if given.dtype != kind or len(given) >= ROWS_MAX:
        msg = f"rows are of another kind, or {ROWS_MAX} and more"
        raise ValueError(msg)
    words = kind.itemsize // 8
    rows = plain(np.concatenate([given, np.zeros(1, kind)]))
    rows[-1, words + PORTS[words]] = 0xFFFFFFFF
    rules = np.append(given["rule"], np.uint32(NIL))
    chosen, cost = None, float("inf")
    rng = np.random.default_rng(1)
    fields = points(given[rng.integers(0, len(given), TRIALS)], rng) if len(given) else None
    for groups in _groups(rows[:-1]):
        image = _assemble(*_forest(rows, groups), rules)
        if fields is None:
            return image
        its = _cost(image, fields)
        if its < cost:
            chosen, cost = image, its
    assert chosen is not None
    return chosen


def _cost(image: NDArray[np.uint64], fields: NDArray[np.uint32]) -> float:
    """About the clocks of a packet."""
    visits = np.zeros((len(fields), 2), np.uint32)
    effort(image, fields, visits)
    nodes, rows = visits.mean(axis=0)
    at = [TREE + tree * TREE_WORDS for tree in range(int(image[TREES]))]
    worst = sum(PER_NODE * image[k + NODES_MOST] + PER_ROW * image[k + ROWS_MOST] for k in at)
    return float(PER_NODE * nodes + PER_ROW * rows + PER_TREE * len(at) + WORST * worst)
