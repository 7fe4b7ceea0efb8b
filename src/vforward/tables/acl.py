# SPDX-License-Identifier: Apache-2.0
"""acl: the first of many rows that a packet matches (a rule list, compiled). See tables.acl_image.

The rows are divided into a few groups, by which addresses they fix; each group is a tree that cuts
the space of packets by a few bits of one field at each node, until few rows are left; those are
compared, first to last. A vector of packets goes down together, level by level: so memory answers
many at once, and there is no branch that depends on a packet. What still has to go on is kept as
a list of packets.

Complexity  A packet visits at most ``bounds(image)`` nodes and rows, whatever it carries: a tree has
            no more levels, and no longer lists, than was known when it was built.
Memory      See tables.acl_compile: 200 to 1 100 bytes per row.
Owner       An image never changes. Control makes another one aside, without the GIL, and publishes it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import prefetch
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.jit.vector import differs
from vforward.layout import NIL, VECTOR_MAX
from vforward.tables.acl_compile import build
from vforward.tables.acl_image import (
    COUNT,
    LENGTH,
    NODES_MOST,
    PORTS4,
    PORTS6,
    ROOT,
    ROW4,
    ROW6,
    ROW_MASK,
    ROWS_AT,
    ROWS_MOST,
    RULES_AT,
    TREE,
    TREE_WORDS,
    TREES,
    points,
    wildcards,
)  # fmt: skip

__all__ = [
    "ROW4",
    "ROW6",
    "Bounds",
    "bounds",
    "classify4",
    "classify6",
    "compile4",
    "compile6",
    "points",
    "wildcards",
]

WORK = 2 * VECTOR_MAX
"""Words of scratch that a look-up needs: where each packet is in the tree; who goes on."""
GOING = u64(VECTOR_MAX)
"""Where in it the packets are that go on. (An unsigned index costs less: it is never below 0.)"""
LARGE = 1 << 16
"""Words of an image from which on rows are asked for before they are compared."""


@inline
def _child(image: Any, fields: Any, at: Any, node: Any) -> Any:
    """The node or leaf below a node, for the packet whose fields begin at ``at``."""
    field = u64(fields[at + (node >> u64(8) & u64(15))])
    return image[(node >> u64(32)) + (field >> (node & u64(63)) & (node >> u64(16) & u64(0xFFFF)))]


@inline
def _row(state: Any) -> Any:
    return state >> u64(32) & u64(ROW_MASK)


@inline
def _is_sure(state: Any) -> Any:
    return state >> u64(62) & u64(1)


@inline
def _walk(image: Any, root: Any, fields: Any, work: Any, n: Any, words: Any) -> None:
    """work[i]: the leaf of each packet."""
    left = u64(0)
    if root >> u64(63):
        for i in range(n):
            work[i] = root
    else:
        for i in range(n):
            node = _child(image, fields, i * words, root)
            work[i] = node
            work[GOING + left] = i
            left += node >> u64(63) ^ u64(1)
    while left:
        m, left = left, u64(0)
        for j in range(m):
            i = work[GOING + j]
            node = _child(image, fields, i * words, work[i])
            work[i] = node
            work[GOING + left] = i
            left += node >> u64(63) ^ u64(1)


@inline
def _ask(image: Any, work: Any, n: Any, words: Any) -> None:
    """Ask for the first row of each packet's leaf, and for its list."""
    rows = image[ROWS_AT]
    for i in range(n):
        at = rows + _row(work[i]) * words
        prefetch(image, i64(at))
        if words > u64(8):
            prefetch(image, i64(at + u64(8)))
        prefetch(image, i64(work[i] & u64(0xFFFFFFFF)) >> 1)


@inline
def _is_other(image: Any, at: Any, fields: Any, where: Any, words: Any) -> Any:
    """1 when the packet whose fields begin at ``where`` does not match the row at ``at``."""
    at, where = i64(at), i64(where)
    if words == u64(8):
        return u64(differs(image, at, 4, fields, where, PORTS4))
    low = differs(image, at, 8, fields, where, -1)
    return u64(low | differs(image, at + 4, 8, fields, where + 8, PORTS6 - 8))


@inline
def _next(
    image: Any, rows: Any, lists: Any, fields: Any, work: Any, found: Any, i: Any, words: Any
) -> Any:
    """Compare a packet with the row that it is at. Returns 1 if it is at another one then, to compare.

    A row that is sure, or no better than what was found, may be compared too: that changes nothing.
    What is chosen by ``other`` is chosen by arithmetic: LLVM makes branches of choices here, and
    whether a packet matches nobody can predict (12 clocks of 90 with 10 000 rules).
    """
    state = work[i]
    other = _is_other(image, rows + _row(state) * words, fields, i * words, words)
    at = state & u64(0xFFFFFFFF)
    after = u64(lists[at]) << u64(32) | at + u64(1)
    work[i] = state ^ ((state ^ after) & (u64(0) - other))
    return other & (_is_sure(after) ^ u64(1)) & u64(_row(after) < u64(found[i]))


@inline
def _compare(image: Any, fields: Any, work: Any, found: Any, n: Any, words: Any) -> None:
    """found[i]: the first row, of those it had and of those of its leaf."""
    lists = image.view(np.uint32)
    rows = image[ROWS_AT]
    left = u64(0)
    for i in range(n):
        work[GOING + left] = i
        left += _next(image, rows, lists, fields, work, found, i, words)
    while left:
        m, left = left, u64(0)
        for j in range(m):
            i = work[GOING + j]
            work[GOING + left] = i
            left += _next(image, rows, lists, fields, work, found, i, words)
    for i in range(n):
        found[i] = min(_row(work[i]), u64(found[i]))


@inline
def _classify(image: Any, fields: Any, found: Any, work: Any, n: Any, words: Any) -> None:
    if image.size == 0:
        for i in range(n):
            found[i] = NIL
        return
    rules = image.view(np.uint32)[i64(image[RULES_AT]) :]
    for i in range(n):
        found[i] = image[COUNT]
    for tree in range(image[TREES]):
        root = image[u64(TREE + ROOT) + tree * u64(TREE_WORDS)]
        _walk(image, root, fields, work, n, words)
        if image.size > LARGE:
            _ask(image, work, n, words)
        _compare(image, fields, work, found, n, words)
    for i in range(n):
        found[i] = rules[u64(found[i])]


@kernel
def classify4(image: Any, fields: Any, found: Any, work: Any, n: Any) -> None:
    """The rule of each of n <= 256 IPv4 packets, or NIL. An image of no words has no rules.

    fields u32[8 * n] (see tables.policy), found u32[n], work u64[WORK]: scratch.
    """
    _classify(image, fields, found, work, u64(n), u64(8))


@kernel
def classify6(image: Any, fields: Any, found: Any, work: Any, n: Any) -> None:
    """The same for IPv6: fields u32[16 * n]."""
    _classify(image, fields, found, work, u64(n), u64(16))


def compile4(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """An image of ROW4 rows, in order of priority."""
    return build(rows, ROW4)


def compile6(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """An image of ROW6 rows, in order of priority."""
    return build(rows, ROW6)


class Bounds(NamedTuple):
    """What a packet costs at most, and what the image takes."""

    trees: int
    nodes: int
    """Nodes that it visits, of all trees together."""
    rows: int
    """Rows that it is compared with."""
    bytes: int


def bounds(image: NDArray[np.uint64]) -> Bounds:
    """The worst case of an image, known since it was built."""
    trees = image[TREE : TREE + int(image[TREES]) * TREE_WORDS].reshape(-1, TREE_WORDS)
    most = [int(trees[:, column].sum()) for column in (NODES_MOST, ROWS_MOST)]
    return Bounds(len(trees), most[0], most[1], int(image[LENGTH]) * 8)
