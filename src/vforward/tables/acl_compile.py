# SPDX-License-Identifier: Apache-2.0
"""Compile rows to an image (tables.acl_image): trees of groups of rows, and the lists at their leaves.

Rows are divided by which addresses they fix, since a row that fixes none would be in every child of a
node that cuts one. Several ways to divide them are tried, and the image is kept that promises least
work: for packets at random in rows, and a little for the worst packet there can be.

Memory      At most, for each row: the row (64 or 128 bytes, and 4), SLOTS_EACH children (8 bytes),
            POOL_EACH list entries (4 bytes, equal lists once); of 1 000 to 100 000 rows of
            benchmarks.rule_sets 200 to 1 100 bytes in all. While it is built up to 3 KiB besides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import NIL
from vforward.tables import acl_cut as cut
from vforward.tables.acl_build import grow, prune
from vforward.tables.acl_cut import (
    CLOSED,
    CUT,
    DEPTH,
    NODES,
    NODES_END,
    POOL,
    SIZE,
    SLOTS,
    START,
    WORD,
)  # fmt: skip
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

NODES_EACH, NODES_LEAST = 8, 1 << 15
SLOTS_EACH, SLOTS_LEAST = 32, 1 << 16
POOL_EACH, POOL_LEAST = 256, 1 << 18
"""Room for nodes, children, and list entries (while building), per row and besides."""
TREE_NODES = 24
"""Nodes of a tree per row of its own, at most."""
ALONE = 2_000
"""So many rows may be one tree."""
LARGE = 20_000
"""More rows than that are four."""
LEAST_BITS = {8: 9, 16: 25}
"""An address of which so many bits are fixed tells rows apart; by words of fields."""
NARROW = 4_096
"""So does a range of fewer ports."""
TRIALS = 4_096
"""Packets by which ways to divide rows are compared."""
PER_NODE, PER_ROW, PER_TREE = 2.5, 6.0, 4.0
"""Clocks, about."""
WORST = 0.1
"""How much the worst packet counts, of which there may be none."""


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
        entry = _entry(plan, node, i64(k))
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
        if not _entry(plan, node, i64(0)) & SURE:
            place, used = _listed(plan, node, lists, used, known)
        row[WORD] = i64(
            u64(LEAF) | u64(_entry(plan, node, i64(0))) << u64(32) | u64(lists_at + place)
        )
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


def new_plan(rows: NDArray[np.uint32]) -> cut.Plan:
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
    plan = new_plan(rows)
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
    sizes = len(plan.nodes) - TREES_MAX, len(plan.slots), len(plan.pool) - len(plan.rows)
    room = (share * (np.array(sizes) - used)).astype(np.int64)
    room[NODES] = min(int(room[NODES]), NODES_LEAST + TREE_NODES * len(rows))
    plan.state[NODES_END:] = used + room
    root, start = int(used[NODES]), int(used[POOL])
    plan.pool[start : start + len(rows)] = rows
    plan.regions[root] = 0
    plan.nodes[root] = 0
    plan.nodes[root, START] = start
    kept, closed = prune(plan, root, start, len(rows), start)
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


def _once(rows: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which rows are not there before already (by a hash: some that are may be overlooked)."""
    factors = np.random.default_rng(2).integers(0, 1 << 63, rows.shape[1], np.uint64)
    mixed = (rows * factors).sum(axis=1, dtype=np.uint64)
    _, first, each = np.unique(mixed, return_index=True, return_inverse=True)
    made: NDArray[np.bool_] = first[each] == np.arange(len(rows))
    return made | (rows != rows[first[each]]).any(axis=1)


def ways(rows: NDArray[np.uint32]) -> list[list[NDArray[np.int64]]]:
    """Ways to divide rows: by which addresses they fix. None for few; by source; by both. Each once."""
    words = rows.shape[1] // 2
    each = 1 if words == 8 else 4
    bits = np.bitwise_count(rows[:, words:]).astype(np.int64)
    src, dst = bits[:, :each].sum(axis=1), bits[:, each : 2 * each].sum(axis=1)
    by_src, by_dst = (fixed >= LEAST_BITS[words] for fixed in (src, dst))
    low, high = (rows[:, at] >> 16 for at in (PORTS[words], words + PORTS[words]))
    by_sport = high - low < NARROW
    neither = ~by_src & ~by_dst
    made = [
        [by_src, ~by_src],
        [by_src, ~by_src & by_dst, neither],
        [by_src, ~by_src & by_dst, neither & by_sport, neither & ~by_sport],
    ]
    if len(rows) <= ALONE:
        made.insert(0, [np.full(len(rows), fill_value=True)])
    if len(rows) > LARGE:
        del made[:2]
    once = _once(rows)
    found = [[np.flatnonzero(part & once) for part in parts] for parts in made]
    divided = [[group for group in groups if len(group)] for groups in found]
    return list({tuple(map(bytes, groups)): groups for groups in divided}.values())


def with_default(given: NDArray[Any]) -> NDArray[np.uint32]:
    """Rows as words, and one more that matches everything."""
    rows = plain(np.concatenate([given, np.zeros(1, given.dtype)]))
    words = rows.shape[1] // 2
    rows[-1, words + PORTS[words]] = 0xFFFFFFFF
    return rows


def build(given: NDArray[Any], kind: np.dtype[Any]) -> NDArray[np.uint64]:
    """The image of given rows, by the way to divide them that promises least work."""
    if given.dtype != kind or len(given) >= ROWS_MAX:
        msg = f"rows are of another kind, or {ROWS_MAX} and more"
        raise ValueError(msg)
    rows = with_default(given)
    rules = np.append(given["rule"], np.uint32(NIL))
    if not len(given):
        return _assemble(new_plan(rows), [], rules)
    rng = np.random.default_rng(1)
    fields = points(given[rng.integers(0, len(given), TRIALS)], rng)
    images = [_assemble(*_forest(rows, groups), rules) for groups in ways(rows[:-1])]
    return min(images, key=lambda image: _cost(image, fields))


def _cost(image: NDArray[np.uint64], fields: NDArray[np.uint32]) -> float:
    """About the clocks of a packet."""
    visits = np.zeros((len(fields), 2), np.uint32)
    effort(image, fields, visits)
    nodes, rows = visits.mean(axis=0)
    at = [TREE + tree * TREE_WORDS for tree in range(int(image[TREES]))]
    worst = sum(PER_NODE * image[k + NODES_MOST] + PER_ROW * image[k + ROWS_MOST] for k in at)
    return float(PER_NODE * nodes + PER_ROW * rows + PER_TREE * len(at) + WORST * worst)
