# SPDX-License-Identifier: Apache-2.0
"""Changes of the trie (tables.trie): its one writer's kernels.

The trie is a function of the map from addresses to their longest prefixes alone: runs are as long as
they can be, and a node of one run is a leaf in its parent. So ``change`` knows nothing of routes:

    add P/l      every address in P whose leaf is no longer than l gets the new leaf
    delete P/l   the same, with the leaf of the route that covers P

Those are slots of one node, whose runs change: it is made anew. Nodes below it that they name lie
wholly in P. There the one leaf that is not longer than the node's own depth is replaced in place.

    state i64[]         counters, and for each size of node the first free one (whose word 0 names the next)
    retired u32[lines]  nodes out of use (their entries), oldest first: a reader may still be in them
    work u32[]          a node's 256 slots, the way down, the nodes made by this change

Nothing is published before all new nodes are there, so a change for which there is no room is none.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.atomics import load_acquire32, store_release32
from vforward.jit.intrinsics import address as address_of
from vforward.jit.intrinsics import popcount
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.tables.trie import (
    CHILD,
    DENSE,
    ENTRIES,
    LARGE,
    LENGTH,
    LINE,
    LINES_MAX,
    RANKS,
    ROOT_BITS,
    SLOTS,
    WORDS,
    place,
)  # fmt: skip

# state
ROUTES, RETIRED, TOP, USED, ABSENT = range(5)  # TOP: lines from here on were never used
MADE = 5  # nodes that the change at hand has made
FREE = 6  # and on: first free node of each number of lines
STATE_WORDS = FREE + LINES_MAX + 1

LEVELS = 15
"""Of nodes: IPv6 has 112 bits below the root; and one for the root's entry."""
DENSE_LINES = SLOTS // WORDS
RUNS_MAX = 200
"""Nodes of more runs are dense."""
# work
MADE_AT = SLOTS
SLOT_AT = MADE_AT + LEVELS
WORK_WORDS = SLOT_AT + LEVELS


@inline
def runs_of(nodes: Any, line: Any) -> Any:
    """How many runs a node has."""
    at = line * WORDS
    last = u64(nodes[at + 6]) | u64(nodes[at + 7]) << u64(32)
    return (i64(nodes[at + RANKS]) >> 24 & 0xFF) + popcount(last)


@inline
def lines_of(runs: Any) -> Any:
    """How many lines a node of so many runs takes."""
    return (ENTRIES + runs + WORDS - 1) // WORDS


@inline
def _push(nodes: Any, state: Any, line: Any, n: Any) -> None:
    nodes[line * WORDS] = state[FREE + n]
    state[FREE + n] = line


@inline
def _pop(nodes: Any, state: Any, n: Any) -> Any:
    line = state[FREE + n]
    state[FREE + n] = i64(nodes[line * WORDS])
    return line


@inline
def allocate(nodes: Any, state: Any, n: Any) -> Any:
    """n lines: free ones, the rest of larger free ones, or new ones. 0: there are none."""
    for size in range(n, LINES_MAX + 1):
        if state[FREE + size]:
            line = _pop(nodes, state, size)
            if size > n:
                _push(nodes, state, line + n, size - n)
            state[USED] += n
            return line
    line = state[TOP]
    if (line + n) * WORDS > nodes.size:
        return i64(0)
    state[TOP] += n
    state[USED] += n
    return line


@inline
def free(nodes: Any, state: Any, node: Any) -> None:
    """Let a node's lines be used anew. node: its entry; what is above LINE and DENSE does not matter."""
    line = node & LINE
    n = i64(DENSE_LINES)
    if not node & DENSE:
        n = lines_of(runs_of(nodes, line))
    state[USED] -= n
    _push(nodes, state, line, n)


@inline
def _retire(retired: Any, state: Any, node: Any) -> None:
    retired[state[RETIRED]] = node
    state[RETIRED] += 1


@kernel
def _expand(nodes: Any, node: Any, work: Any) -> None:
    """A node's entries by slot."""
    at = (node & LINE) * WORDS
    if node & DENSE:
        for i in range(SLOTS):
            work[i] = nodes[at + i]
        return
    entry = at + RANKS
    for w in range(8):
        bits = i64(nodes[at + w])
        for b in range(32):
            entry += bits >> b & 1
            work[w * 32 + b] = nodes[entry]


@kernel
def _build(nodes: Any, state: Any, work: Any) -> Any:
    """The entry for the 256 slots in work: a leaf when they are all one; a new node; -1: no room."""
    runs = 1
    for i in range(1, SLOTS):
        runs += work[i] != work[i - 1]
    if runs == 1:
        return i64(work[0])
    dense = i64(0)
    if runs > RUNS_MAX or state[USED] + DENSE_LINES <= LARGE:
        dense = i64(DENSE)
    line = allocate(nodes, state, DENSE_LINES if dense else lines_of(runs))
    if line == 0:
        return i64(-1)
    work[MADE_AT + state[MADE]] = dense | line
    state[MADE] += 1
    at = line * WORDS
    if dense:
        for i in range(SLOTS):
            nodes[at + i] = work[i]
        return CHILD | dense | line
    entry = at + ENTRIES
    nodes[entry] = work[0]
    ranks = i64(0)
    for w in range(8):
        if w & 1 == 0 and w:
            ranks |= entry - at - RANKS << 4 * w
        bits = i64(w == 0)
        for b in range(i64(w == 0), 32):
            i = w * 32 + b
            begins = i64(work[i] != work[i - 1])
            entry += begins
            nodes[entry] = work[i]
            bits |= begins << b
        nodes[at + w] = bits
    nodes[at + RANKS] = ranks
    return CHILD | line


@inline
def _where(nodes: Any, node: Any, slot: Any) -> Any:
    """The address of a slot's entry in a node."""
    return address_of(nodes) + 4 * place(nodes, node, slot)


@inline
def _alone(nodes: Any, node: Any, slot: Any) -> Any:
    """Whether no other slot has its entry from the same word."""
    if node & DENSE:
        return True
    after = slot + 1
    at = (node & LINE) * WORDS
    if i64(nodes[at + (slot >> 5)]) >> (slot & 31) & 1 == 0:
        return False
    return after == SLOTS or i64(nodes[at + (after >> 5)]) >> (after & 31) & 1 == 1


@inline
def first_of(node: Any) -> Any:
    """The first word of a node that is an entry."""
    return (node & LINE) * WORDS + (0 if node & DENSE else ENTRIES)


@inline
def end_of(nodes: Any, node: Any) -> Any:
    """The word behind a node's last entry."""
    if node & DENSE:
        return (node & LINE) * WORDS + SLOTS
    return (node & LINE) * WORDS + ENTRIES + runs_of(nodes, node & LINE)


@inline
def _load(where: Any) -> Any:
    return i64(load_acquire32(where))


@inline
def _publish(where: Any, entry: Any) -> None:
    store_release32(where, u64(entry))


@kernel
def _paint(nodes: Any, node: Any, below: Any, leaf: Any, stack: Any) -> None:
    """Put leaf over all entries less than below in a node and in those under it, in place."""
    base = address_of(nodes)
    depth = 0
    at, end = first_of(node), end_of(nodes, node)
    while True:
        while at < end:
            entry = i64(nodes[at])
            at += 1
            if entry < below:
                _publish(base + 4 * (at - 1), leaf)
            elif entry & CHILD:
                stack[2 * depth], stack[2 * depth + 1] = at, end
                depth += 1
                at, end = first_of(entry), end_of(nodes, entry)
        if depth == 0:
            return
        depth -= 1
        at, end = stack[2 * depth], stack[2 * depth + 1]


@inline
def byte(high: Any, low: Any, depth: Any) -> Any:
    """The 8 bits of an address behind the first depth ones."""
    if depth < 64:
        return i64(high >> u64(56 - depth)) & 0xFF
    return i64(low >> u64(120 - depth)) & 0xFF


@kernel
def _chain(
    nodes: Any, state: Any, work: Any, high: Any, low: Any, depth: Any, length: Any, old: Any, leaf: Any
) -> Any:  # fmt: skip
    """A node at depth, and those below it down to length, where old was the leaf; its entry, or -1."""
    at = depth + (length - depth - 1) // 8 * 8
    slot = byte(high, low, at)
    n = 1 << at + 8 - length
    entry = leaf
    while True:
        for i in range(SLOTS):
            work[i] = old
        for i in range(slot, slot + n):
            work[i] = entry
        entry = _build(nodes, state, work)
        if entry < 0 or at == depth:
            return entry
        at -= 8
        slot, n = byte(high, low, at), 1


@inline
def _undo(nodes: Any, state: Any, work: Any, retired: Any) -> None:
    """Take back what a change without room has made and retired."""
    for i in range(state[MADE]):
        free(nodes, state, i64(work[MADE_AT + i]))
    state[RETIRED] = retired


@kernel
def change(
    root: Any, nodes: Any, retired: Any, work: Any, stack: Any, state: Any,
    vrf: Any, high: Any, low: Any, length: Any, leaf: Any,
) -> bool:  # fmt: skip
    """Give the addresses of a prefix, as far as no longer one covers them, a leaf.

    False, and nothing changed, when there is no room.
    """
    below = length + 2 << LENGTH
    where = address_of(root) + 4 * (vrf << ROOT_BITS | i64(high >> u64(48)))
    if length <= ROOT_BITS:
        for at in range(where, where + (4 << ROOT_BITS - length), 4):
            entry = _load(at)
            if entry < below:
                _publish(at, leaf)
            elif entry & CHILD:
                _paint(nodes, entry, below, leaf, stack)
        return True
    # The way down: way[k] names the node at depth 16 + 8 * k, slot k is taken in it.
    way = stack
    state[MADE] = 0
    were = state[RETIRED]
    depth, k = ROOT_BITS, 0
    entry = _load(where)
    while entry & CHILD and length > depth + 8:
        way[k] = entry
        work[SLOT_AT + k] = byte(high, low, depth)
        entry = _load(_where(nodes, way[k], i64(work[SLOT_AT + k])))
        depth += 8
        k += 1
    node = i64(0)
    if entry & CHILD:
        node = entry
        _expand(nodes, node, work)
        slot = byte(high, low, depth)
        changed = False
        for i in range(slot, slot + (1 << depth + 8 - length)):
            if work[i] < below:
                changed |= work[i] != leaf
                work[i] = leaf
        if changed:
            entry = _build(nodes, state, work)
            _retire(retired, state, node)
    elif entry >= below or entry == leaf:
        return True
    else:
        changed = True
        entry = _chain(nodes, state, work, high, low, depth, length, entry, leaf)
    if changed:
        # Up, as long as the runs of the node above change with the entry.
        while entry >= 0 and k > 0:
            parent, slot = way[k - 1], i64(work[SLOT_AT + k - 1])
            if entry & CHILD and _alone(nodes, parent, slot):
                where = _where(nodes, parent, slot)
                break
            _expand(nodes, parent, work)
            work[slot] = entry
            entry = _build(nodes, state, work)
            _retire(retired, state, parent)
            k -= 1
        if entry < 0:
            _undo(nodes, state, work, were)
            return False
        _publish(where, entry)
    if node:
        slot = byte(high, low, depth)
        _paint_slots(nodes, node, slot, 1 << depth + 8 - length, below, leaf, stack)
    return True


@inline
def _paint_slots(
    nodes: Any, node: Any, slot: Any, n: Any, below: Any, leaf: Any, stack: Any
) -> None:
    """Paint the nodes that n slots of a node name."""
    if n == 1:
        entry = _load(_where(nodes, node, slot))
        if entry & CHILD:
            _paint(nodes, entry, below, leaf, stack)
        return
    for i in range(slot, slot + n):
        if _alone(nodes, node, i):
            entry = _load(_where(nodes, node, i))
            if entry & CHILD:
                _paint(nodes, entry, below, leaf, stack)
