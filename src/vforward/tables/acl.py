# SPDX-License-Identifier: Apache-2.0
"""acl: the first of many rows that a packet matches (a rule list, compiled). See tables.acl_image.

The rows are divided into a few groups, by which addresses they fix; each group is a tree that cuts
the space of packets by a few bits of one field at each node, until few rows are left; those are
compared, first to last. A vector of packets goes down together, level by level: so memory answers
many at once, and there is no branch that depends on a packet. What still has to go on is kept as
a list of packets.

Complexity  A packet visits at most ``bounds(image)`` nodes and rows, whatever it carries: a tree has
            no more levels, and no longer lists, than was known when it was built.
Memory      See tables.acl_compile: 210 to 800 bytes per row.
Owner       An image never changes. Control makes another one aside, without the GIL, and publishes it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import prefetch
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.jit.vector import differs
from vforward.layout import VECTOR_MAX
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
LARGE = 1 << 16
"""Words of an image from which on rows are asked for before they are compared."""


@inline
def _child(image: Any, fields: Any, at: Any, node: Any) -> Any:
    """The node or leaf below a node, for the packet whose fields begin at ``at``."""
    field = u64(fields[at + (i64(node >> u64(8)) & 15)])
    way = field >> (node & u64(63)) & (node >> u64(16) & u64(0xFFFF))
    return image[i64(node >> u64(32)) + i64(way)]


@inline
def _row(state: Any) -> Any:
    return i64(state >> u64(32)) & ROW_MASK


@inline
def _is_sure(state: Any) -> Any:
    return i64(state >> u64(62)) & 1


@inline
def _walk(image: Any, root: Any, fields: Any, work: Any, n: Any, words: Any) -> None:
    """work[i]: the leaf of each packet."""
    left = 0
    if i64(root) < 0:
        for i in range(n):
            work[i] = root
    else:
        for i in range(n):
            node = _child(image, fields, i * words, root)
            work[i] = node
            work[VECTOR_MAX + left] = u64(i)
            left += 1 - i64(node >> u64(63))
    while left:
        m, left = left, 0
        for j in range(m):
            i = i64(work[VECTOR_MAX + j])
            node = _child(image, fields, i * words, work[i])
            work[i] = node
            work[VECTOR_MAX + left] = u64(i)
            left += 1 - i64(node >> u64(63))


@inline
def _ask(image: Any, work: Any, n: Any, words: Any) -> None:
    """Ask for the first row of each packet's leaf, and for its list."""
    rows = i64(image[ROWS_AT])
    for i in range(n):
        at = rows + _row(work[i]) * words
        prefetch(image, at)
        if words > 8:
            prefetch(image, at + 8)
        prefetch(image, i64(work[i] & u64(0xFFFFFFFF)) >> 1)


@inline
def _is_other(image: Any, at: Any, fields: Any, where: Any, words: Any) -> Any:
    """1 when the packet whose fields begin at ``where`` does not match the row at ``at``."""
    if words == 8:
        return differs(image, at, 4, fields, where, PORTS4)
    low = differs(image, at, 8, fields, where, -1)
    return low | differs(image, at + 4, 8, fields, where + 8, PORTS6 - 8)


@inline
def _compare(image: Any, fields: Any, work: Any, found: Any, n: Any, words: Any) -> None:
    """found[i]: the first row, of those it had and of those of its leaf."""
    lists = image.view(np.uint32)
    rows = i64(image[ROWS_AT])
    left = 0
    for i in range(n):
        work[VECTOR_MAX + left] = u64(i)
        left += (1 - _is_sure(work[i])) & i64(_row(work[i]) < i64(found[i]))
    while left:
        m, left = left, 0
        for j in range(m):
            i = i64(work[VECTOR_MAX + j])
            state = work[i]
            other = _is_other(image, rows + _row(state) * words, fields, i * words, words)
            at = state & u64(0xFFFFFFFF)
            after = u64(lists[i64(at)]) << u64(32) | at + u64(1)
            work[i] = after if other else state
            work[VECTOR_MAX + left] = u64(i)
            left += other & (1 - _is_sure(after)) & i64(_row(after) < i64(found[i]))
    for i in range(n):
        found[i] = min(_row(work[i]), i64(found[i]))


@inline
def _classify(image: Any, fields: Any, found: Any, work: Any, n: Any, words: Any) -> None:
    rules = image.view(np.uint32)[i64(image[RULES_AT]) :]
    for i in range(n):
        found[i] = image[COUNT]
    for tree in range(i64(image[TREES])):
        _walk(image, image[TREE + tree * TREE_WORDS + ROOT], fields, work, n, words)
        if image.size > LARGE:
            _ask(image, work, n, words)
        _compare(image, fields, work, found, n, words)
    for i in range(n):
        found[i] = rules[i64(found[i])]


@kernel
def classify4(image: Any, fields: Any, found: Any, work: Any, n: Any) -> None:
    """The rule of each of n <= 256 IPv4 packets, or NIL.

    fields u32[8 * n] (see tables.policy), found u32[n], work u64[WORK]: scratch.
    """
    _classify(image, fields, found, work, n, 8)


@kernel
def classify6(image: Any, fields: Any, found: Any, work: Any, n: Any) -> None:
    """The same for IPv6: fields u32[16 * n]."""
    _classify(image, fields, found, work, n, 16)


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
