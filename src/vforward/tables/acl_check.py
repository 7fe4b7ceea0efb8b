# SPDX-License-Identifier: Apache-2.0
"""Look at an image of rows (tables.acl) from outside: all ways through it, and whether they are right.

For tests, and for whoever wants to know what the worst packets are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import NIL
from vforward.tables.acl_effort import effort, slowly
from vforward.tables.acl_image import (
    COUNT,
    LENGTH,
    MAGIC,
    NODES_MOST,
    PORTS,
    ROOT,
    ROW_MASK,
    ROWS_MOST,
    SLOTS_AT,
    SURE,
    TREE,
    TREE_WORDS,
    TREES,
    WORDS,
    plain,
    points,
)  # fmt: skip


class Paths(NamedTuple):
    """Every leaf of a tree, one for each way that leads to it from a slot of its own."""

    leaves: NDArray[np.uint64]
    values: NDArray[np.uint32]
    """[leaf, words]: the bits of a packet's fields that lead there; of all others ..."""
    masks: NDArray[np.uint32]
    """... the bit is 0 here."""
    depths: NDArray[np.int64]


@kernel
def _expand(image: Any, words: Any, regions: Any, depths: Any, seen: Any) -> Any:
    """Everything below words[0], in order of depth. Returns how many, or -1 - where it goes wrong."""
    n = i64(1)
    k = i64(0)
    wide = regions.shape[1] >> 1
    first = i64(image[SLOTS_AT])
    while k < n:
        word = words[k]
        k += 1
        if i64(word) < 0:
            continue
        base, mask = i64(word >> u64(32)), i64(word >> u64(16) & u64(0xFFFF))
        field, shift = i64(word >> u64(8) & u64(0xFF)), i64(word & u64(0xFF))
        if base < first or base + mask >= image.shape[0] or field >= wide or shift > 31:
            return -k
        if seen[base - first]:
            return -k
        seen[base - first] = 1
        for way in range(mask + 1):
            child = image[base + way]
            known = False
            for other in range(way):
                known = known or image[base + other] == child
            if known and i64(child) >= 0:
                continue
            if n == words.shape[0]:
                return -k
            for j in range(2 * wide):
                regions[n, j] = regions[k - 1, j]
            regions[n, field] |= np.uint32(way << shift)
            regions[n, wide + field] |= np.uint32(mask << shift)
            words[n] = child
            depths[n] = depths[k - 1] + 1
            n += 1
    return n


def paths(image: NDArray[np.uint64], tree: int) -> Paths:
    """The leaves of a tree. Asserts that it is one."""
    size = len(image) - int(image[SLOTS_AT]) + 1
    words, wide = np.zeros(size, np.uint64), int(image[WORDS])
    regions, depths = np.zeros((size, 2 * wide), np.uint32), np.zeros(size, np.int64)
    words[0] = image[TREE + tree * TREE_WORDS + ROOT]
    n = _expand(image, words, regions, depths, np.zeros(size, np.uint8))
    assert n > 0, f"tree {tree}: node {-n} is none"
    leaf = np.flatnonzero(words[:n] >> np.uint64(63))
    return Paths(words[leaf], regions[leaf, :wide], regions[leaf, wide:], depths[leaf])


def entries(image: NDArray[np.uint64], leaf: int) -> list[int]:
    """All entries of a leaf."""
    small = image.view(np.uint32)
    listed, at = [leaf >> 32 & 0x7FFFFFFF], leaf & 0xFFFFFFFF
    while not listed[-1] & SURE:
        listed.append(int(small[at]))
        at += 1
    return listed


def check(image: NDArray[np.uint64], rows: NDArray[Any], seed: int = 0) -> None:
    """Assert all invariants of an image of these rows.

    That every row is found where it should is tried: with random packets of each row, and of each
    leaf.
    """
    n = len(rows)
    assert int(image[0]) == MAGIC
    assert int(image[COUNT]) == n
    assert int(image[LENGTH]) == len(image)
    assert int(image[WORDS]) * 8 == rows.dtype.itemsize
    rng = np.random.default_rng(seed)
    tried = [points(rows, rng)]
    for tree in range(int(image[TREES])):
        found = paths(image, tree)
        at = TREE + tree * TREE_WORDS
        assert found.depths.max() <= int(image[at + NODES_MOST]), "a longer way than was said"
        for leaf in np.unique(found.leaves).tolist():
            _check_leaf(image, leaf, int(image[at + ROWS_MOST]))
        tried.append(anywhere(found, rng))
    fields = np.concatenate(tried)
    fast, visits = np.zeros(len(fields), np.uint32), np.zeros(2, np.uint32)
    slowly(image, fields, fast, visits)
    assert (fast == walk(rows, fields)).all(), "another row than the first one"


def _check_leaf(image: NDArray[np.uint64], leaf: int, most: int) -> None:
    listed = entries(image, leaf)
    order = [entry & ROW_MASK for entry in listed]
    assert order == sorted(set(order)), f"not in order: {order}"
    assert order[-1] <= int(image[COUNT]), f"no such row: {order[-1]}"
    assert len(listed) - 1 <= most, f"longer than {most}: {order}"


def anywhere(found: Paths, rng: np.random.Generator) -> NDArray[np.uint32]:
    """A random packet at each leaf."""
    fields = rng.integers(0, 1 << 32, found.values.shape, np.uint32) & ~found.masks | found.values
    fields[:, PORTS[fields.shape[1]] + 4 :] = 0
    return fields


def walk(rows: NDArray[Any], fields: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The rule of each packet, by trying all rows."""
    words = fields.shape[1]
    made, ports = plain(rows), PORTS[words]
    rest = np.ones(words, bool)
    rest[ports] = False
    values, masks = made[:, :words], made[:, words:]
    found = np.full(len(fields), NIL, np.uint32)
    for i, packet in enumerate(fields):
        fits = (((values ^ packet) & masks)[:, rest] == 0).all(axis=1)
        for half in (0, 16):
            port = packet[ports] >> half & 0xFFFF
            fits &= (values[:, ports] >> half & 0xFFFF <= port) & (
                port <= masks[:, ports] >> half & 0xFFFF
            )
        if fits.any():
            found[i] = rows["rule"][fits.argmax()]
    return found


def worst(image: NDArray[np.uint64], n: int, cost: Any, seed: int = 0) -> NDArray[np.uint32]:
    """The fields of n packets that cost most, by cost(nodes, rows) of each, as an attacker finds them
    who has the image: packets at the costliest leaves of each tree, and at those of two at a time.
    """
    rng = np.random.default_rng(seed)
    best = [_costly(image, paths(image, tree), n, cost, rng) for tree in range(int(image[TREES]))]
    tried = [anywhere(found, rng) for found in best for _ in range(4)]
    for one in best:
        for other in best:
            if one is not other:
                tried.append(_both(one, other, 16 * n, rng))
    fields = np.unique(np.concatenate(tried), axis=0)
    visits = np.zeros((len(fields), 2), np.uint32)
    effort(image, fields, visits)
    order = np.argsort(-cost(visits[:, 0], visits[:, 1]), kind="stable")
    return np.ascontiguousarray(fields[order[:n]])


def _costly(
    image: NDArray[np.uint64], found: Paths, n: int, cost: Any, rng: np.random.Generator
) -> Paths:
    """The n leaves that cost most."""
    lengths = {leaf: len(entries(image, leaf)) for leaf in np.unique(found.leaves).tolist()}
    rows = np.array([lengths[leaf] for leaf in found.leaves.tolist()])
    order = np.argsort(-cost(found.depths, rows) + rng.random(len(rows)), kind="stable")[:n]
    return Paths(found.leaves[order], found.values[order], found.masks[order], found.depths[order])


def _both(one: Paths, other: Paths, n: int, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Packets that come to a leaf of each, of n pairs at random those that can."""
    i, j = rng.integers(0, len(one.leaves), n), rng.integers(0, len(other.leaves), n)
    clash = (one.values[i] ^ other.values[j]) & one.masks[i] & other.masks[j]
    i, j = (pick[~clash.any(axis=1)] for pick in (i, j))
    both = Paths(
        one.leaves[i],
        one.values[i] | other.values[j],
        one.masks[i] | other.masks[j],
        one.depths[i],
    )
    return anywhere(both, rng)
