# SPDX-License-Identifier: Apache-2.0
"""The trie (tables.trie) held against one made anew from the routes, in plain Python. For tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vforward.tables import trie
from vforward.tables.trie_change import FREE, TOP, USED

Routes = dict[int, list[tuple[int, int, int]]]  # VRF -> (prefix, length, value)


def check(root: Any, nodes: Any, state: Any, retired: Any, routes: Routes, bits: int) -> None:
    """Assert that the trie is the one of these routes, and every line in one place."""
    seen: dict[int, int] = {}  # first line of a linked node -> its lines
    for vrf, of_vrf in routes.items():
        words = root[vrf << trie.ROOT_BITS : vrf + 1 << trie.ROOT_BITS]
        top = np.zeros(1 << trie.ROOT_BITS, np.int64)
        for slot, n, leaf in _painted(of_vrf, 0, trie.ROOT_BITS, bits):
            top[slot : slot + n] = leaf
        below: dict[int, list[tuple[int, int, int]]] = {}
        for route in of_vrf:
            if route[1] > trie.ROOT_BITS:
                below.setdefault(route[0] >> bits - trie.ROOT_BITS, []).append(route)
        plain = np.ones(1 << trie.ROOT_BITS, bool)
        plain[list(below)] = False
        assert (words == top)[plain].all(), f"VRF {vrf}: the root is wrong"
        for index, inner in below.items():
            wanted = _node(inner, trie.ROOT_BITS, bits, int(top[index]))
            _same(nodes, int(words[index]), wanted, seen)
    lines = [line for first, n in seen.items() for line in range(first, first + n)]
    used = len(lines)
    for node in retired.tolist():
        first = node & trie.LINE
        n = _lines(nodes, node)
        used += n
        lines += range(first, first + n)
    assert used == state[USED] == nodes[0], f"{used} lines in use, counted as {state[USED]}"
    for n in range(1, trie.LINES_MAX + 1):
        first = int(state[FREE + n])
        while first:
            lines += range(first, first + n)
            first = int(nodes[first * trie.WORDS])
    assert sorted(lines) == list(range(1, state[TOP])), "a line is lost, or in two places"


def _painted(
    routes: list[tuple[int, int, int]], depth: int, n: int, bits: int
) -> Iterator[tuple[int, int, int]]:
    """(first slot, how many, leaf) of routes that end in depth to depth + n bits, shortest first."""
    for prefix, length, value in sorted(routes, key=lambda route: route[1]):
        if length <= depth + n:
            slot = prefix >> bits - depth - n & (1 << n) - 1
            yield slot, 1 << depth + n - length, length + 1 << trie.LENGTH | value


def _node(routes: list[tuple[int, int, int]], depth: int, bits: int, leaf: int) -> Any:
    """What a slot should be: a leaf, or the list of 256 of them. All routes lie in the slot."""
    if not routes:
        return leaf
    slots: list[Any] = [leaf] * trie.SLOTS
    for slot, n, painted in _painted(routes, depth, 8, bits):
        slots[slot : slot + n] = [painted] * n
    below: dict[int, list[tuple[int, int, int]]] = {}
    for route in routes:
        if route[1] > depth + 8:
            below.setdefault(route[0] >> bits - depth - 8 & 0xFF, []).append(route)
    for i, inner in below.items():
        slots[i] = _node(inner, depth + 8, bits, slots[i])
    same = all(slot == slots[0] for slot in slots) and not isinstance(slots[0], list)
    return slots[0] if same else slots


def _entries(nodes: Any, line: int) -> tuple[list[int], list[int]]:
    """A node's slots where runs begin, and their entries."""
    at = line * trie.WORDS
    starts = [b for b in range(trie.SLOTS) if int(nodes[at + b // 32]) >> b % 32 & 1]
    ranks = [sum(s < 64 * k for s in starts) for k in range(4)]
    there = [int(nodes[at + trie.RANKS]) >> 8 * k & 0xFF for k in range(4)]
    assert there == ranks, f"node {line}: ranks {there}, not {ranks}"
    first = at + trie.ENTRIES
    return starts, nodes[first : first + len(starts)].tolist()


def _lines(nodes: Any, node: int) -> int:
    """How many lines a node takes."""
    if node & trie.DENSE:
        return trie.SLOTS // trie.WORDS
    return -(-(trie.ENTRIES + len(_entries(nodes, node & trie.LINE)[1])) // trie.WORDS)


def _same(nodes: Any, entry: int, wanted: Any, seen: dict[int, int]) -> None:
    if not isinstance(wanted, list):
        assert entry == wanted, f"entry {entry:#x}, not {wanted:#x}"
        return
    assert entry & trie.CHILD, f"leaf {entry:#x} where a node should be"
    line = entry & trie.LINE
    assert line not in seen, f"node {line} is linked twice"
    seen[line] = _lines(nodes, entry)
    if entry & trie.DENSE:
        at = line * trie.WORDS
        starts, entries = list(range(trie.SLOTS)), nodes[at : at + trie.SLOTS].tolist()
    else:
        starts, entries = _entries(nodes, line)
        should = [i for i in range(trie.SLOTS) if _begins(wanted, i)]
        assert starts == should, f"node {line}: runs at {starts}, not {should}"
    for start, inner in zip(starts, entries, strict=True):
        _same(nodes, inner, wanted[start], seen)


def _begins(wanted: list[Any], i: int) -> bool:
    """Whether slot i differs from the one before it; two nodes always do."""
    return i == 0 or isinstance(wanted[i], list) or wanted[i] != wanted[i - 1]
