# SPDX-License-Identifier: Apache-2.0
"""A second trie of one VRF (tables.trie), to be changed aside and then put in place of the first.

The two share no node, so whatever is done to the one no reader of the other sees. Both lie in the same
lines; the one that is given up is walked once more, and its nodes are free.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, inline, kernel
from vforward.memory.mapping import own_pages
from vforward.tables.trie import CHILD, DENSE, LINE, ROOT_BITS, WORDS
from vforward.tables.trie_change import (
    DENSE_LINES,
    TOP,
    USED,
    allocate,
    end_of,
    first_of,
    free,
    lines_of,
    runs_of,
)


@inline
def _copy(nodes: Any, state: Any, entry: Any) -> Any:
    """The entry of a copy of a node, whose children are still the node's own. 0: there is no room."""
    line = entry & LINE
    n = i64(DENSE_LINES)
    if not entry & DENSE:
        n = lines_of(runs_of(nodes, line))
    to = allocate(nodes, state, n)
    if to == 0:
        return i64(0)
    for word in range(n * WORDS):
        nodes[to * WORDS + word] = nodes[line * WORDS + word]
    return CHILD | entry & DENSE | to


@kernel
def copy_trie(root: Any, to: Any, nodes: Any, stack: Any, state: Any) -> bool:
    """Copy a VRF's entries, root, to another place, with all nodes below them.

    False: there is no room, and what was copied is lost: who calls it sees to it that there is.
    """
    for i in range(root.size):
        entry = i64(root[i])
        if entry & CHILD:
            entry = _copy(nodes, state, entry)
            if entry == 0:
                return False
            depth = 0
            at, end = first_of(entry), end_of(nodes, entry)
            while True:
                while at < end:
                    child = i64(nodes[at])
                    if child & CHILD:
                        child = _copy(nodes, state, child)
                        if child == 0:
                            return False
                        nodes[at] = child
                        stack[2 * depth], stack[2 * depth + 1] = at + 1, end
                        depth += 1
                        at, end = first_of(child), end_of(nodes, child)
                    else:
                        at += 1
                if depth == 0:
                    break
                depth -= 1
                at, end = stack[2 * depth], stack[2 * depth + 1]
        to[i] = entry
    return True


@kernel
def free_trie(root: Any, nodes: Any, stack: Any, state: Any) -> None:
    """Free all nodes below a VRF's entries, which no reader has anymore."""
    for i in range(root.size):
        entry = i64(root[i])
        if not entry & CHILD:
            continue
        depth = 0
        stack[0], stack[1], stack[2] = entry, first_of(entry), end_of(nodes, entry)
        while depth >= 0:
            at, end = stack[3 * depth + 1], stack[3 * depth + 2]
            while at < end and not i64(nodes[at]) & CHILD:
                at += 1
            if at < end:
                stack[3 * depth + 1] = at + 1
                child = i64(nodes[at])
                depth += 1
                stack[3 * depth] = child
                stack[3 * depth + 1], stack[3 * depth + 2] = first_of(child), end_of(nodes, child)
            else:
                free(nodes, state, stack[3 * depth])
                depth -= 1


class Aside:
    """The tries of VRFs that are changed aside: ``root`` is in the place of the table's root.

    The writer's; stack: i64[3 * LEVELS] of room.
    """

    def __init__(
        self,
        live: NDArray[np.uint32],
        nodes: NDArray[np.uint32],
        stack: NDArray[np.int64],
        state: NDArray[np.int64],
    ) -> None:
        self.root = np.frombuffer(own_pages(live.nbytes), np.uint32)
        self._live, self._nodes, self._stack, self._state = live, nodes, stack, state
        self._before: dict[int, NDArray[np.uint32]] = {}
        self._in_force = False

    def copy(self, vrfs: Iterable[int]) -> bool:
        """Have copies of these VRFs' tries. False: there is no room, and nothing has changed."""
        for vrf in vrfs:
            if vrf in self._before:
                continue
            before = self._live[_of(vrf)].copy()
            if int(self._state[TOP] + self._state[USED]) * WORDS > self._nodes.size:
                return False
            copied = copy_trie(before, self.root[_of(vrf)], self._nodes, self._stack, self._state)
            assert copied, "there was room for all of it"
            self._before[vrf] = before
        return True

    def put_in_force(self) -> None:
        """Let readers see what was changed, while all of them stand: 256 KiB for each VRF."""
        for vrf in self._before:
            self._live[_of(vrf)] = self.root[_of(vrf)]
        self._in_force = True

    def take_back(self) -> None:
        """Undo put_in_force, while they still stand."""
        for vrf, before in self._before.items():
            self._live[_of(vrf)] = before
        self._in_force = False

    def discard(self) -> None:
        """Free the nodes of the tries that are not in force: readers have passed a quiet point since."""
        for vrf, before in self._before.items():
            unused = before if self._in_force else self.root[_of(vrf)]
            free_trie(unused, self._nodes, self._stack, self._state)
        self._before = {}


def _of(vrf: int) -> slice:
    return slice(vrf << ROOT_BITS, (vrf + 1) << ROOT_BITS)
