# SPDX-License-Identifier: Apache-2.0
"""One graph takes another's place: what of the old one's goes where, worked out before anybody has to wait.

    counters     by the names of nodes, edges and counters: stats, taken, counts
    queues       by the names of nodes: the rows that wait in them
    control      both graphs have the same words

What the new graph has no place for is gone: the counters of nodes that are no more; their queues' rows are
dropped, and counted by the last node. The exchange itself is graph.exchange's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vforward.graph import control as c
from vforward.graph import exchange as x
from vforward.graph.build import Graph, Member
from vforward.graph.node import Kind
from vforward.graph.scheduler import Plan

Run = tuple[int, int, int]
"""Words of an array that are another's: to, from, how many."""
COUNTED = ("stats", "taken", "counts")
EDGES = 256


def runs(old: Graph, new: Graph) -> dict[str, list[Run]]:
    """By segment, which words of the old graph's are which of the new one's."""
    both = [(old.members[m.name], m) for m in new.order if m.name in old.members]
    return {
        "stats": _joined((b.number * c.STATS, a.number * c.STATS, c.STATS) for a, b in both),
        "taken": _joined(
            (b.number * EDGES + to, a.number * EDGES + edge, 1)
            for a, b in both
            for to, edge in _edges(old, a, new, b)
        ),
        "counts": _joined(_counts(old, new, both)),
    }


def moves(runs_: Iterable[Run], to: NDArray[np.uint64], from_: NDArray[np.uint64]) -> list[Run]:
    """Runs of words as the addresses that exchange.move takes."""
    there, here = to.ctypes.data, from_.ctypes.data
    return [(there + 8 * a, here + 8 * b, n) for a, b, n in runs_]


def counters(graph: Graph, worker: int) -> dict[str, NDArray[np.uint64]]:
    """A worker's counters, by segment."""
    plan = graph.plans[worker]
    return {"stats": plan.stats, "taken": plan.taken, "counts": graph.counts[worker]}


def queues(old: Graph, new: Graph) -> list[tuple[int, int]]:
    """The old graph's queues, and the new one's of the same names."""
    found = []
    for member in old.order:
        if member.node.kind is Kind.QUEUE:
            there = new.members.get(member.name)
            same = there is not None and there.node.kind is Kind.QUEUE
            found.append((member.number, there.number if there and same else x.GONE))
    return found


class Exchange:
    """What one worker needs to know: arrays that live until it is done.

    more: what else is to be stored while it stands, as exchange.move takes it.
    """

    def __init__(
        self, old: Graph, new: Graph, worker: int, plan: Plan, more: Sequence[Run]
    ) -> None:
        before, after = (counters(g, worker) for g in (old, new))
        wanted = runs(old, new)
        self._generation = np.array([new.generation], np.uint64)
        word = plan.control[c.GENERATION :]
        more = [*more, *moves([(0, 0, 1)], word, self._generation)]
        listed = [one for name in COUNTED for one in moves(wanted[name], after[name], before[name])]
        self.plan = plan
        self.descriptors: list[int] = []
        """What the plan polls."""
        self.plan_words = plan.words()
        self._moves = np.array([*listed, *more], np.int64).reshape(-1)
        self._queues = np.array(queues(old, new), np.int64).reshape(-1)
        self.words = np.zeros(x.WORDS, np.int64)
        self._turn = np.zeros(1, np.uint64)
        self.words[[x.PLAN, x.MOVES, x.N_MOVES, x.QUEUES, x.N_QUEUES]] = (
            *(self.plan_words.ctypes.data, self._moves.ctypes.data, self._moves.size // 3),
            *(self._queues.ctypes.data, self._queues.size // 2),
        )
        self._kept: tuple[Graph, ...] = (old, new)

    def begin(self, turn: NDArray[np.uint64], go: int, back: int) -> None:
        """Say by which turn it is done, and what the worker does afterwards."""
        self._turn = turn  # lives as long as this
        self.words[[x.TURN, x.GO, x.BACK]] = turn.ctypes.data, go, back

    def settle(self) -> None:
        """It was done: of the old graph nothing is looked at any more."""
        self._kept = self._kept[1:]

    @property
    def done(self) -> bool:
        """Whether the worker has changed over."""
        return bool(self.words[x.WENT])

    @property
    def stood(self) -> int:
        """For how many clocks of the time stamp counter the worker ran no node; 0: it was not running."""
        return int(self.words[x.WENT] - self.words[x.CAME]) if self.words[x.CAME] else 0


def _edges(old: Graph, a: Member, new: Graph, b: Member) -> list[tuple[int, int]]:
    """Edges of the new node, and of the old one by the same name; what has no name keeps its number."""
    named = {label: edge for edge, (label, _) in old.ways(a).items()}
    known = {edge: label for edge, (label, _) in new.ways(b).items()}
    bare = set(range(EDGES)) - set(named.values()) - set(known)
    pairs = [(edge, named[label]) for edge, label in known.items() if label in named]
    return sorted([*pairs, *((edge, edge) for edge in bare)])


def _counts(old: Graph, new: Graph, both: Iterable[tuple[Member, Member]]) -> Iterable[Run]:
    before, after = _places(old), _places(new)
    for a, b in both:
        there = a.node.counter_labels
        for i, label in enumerate(b.node.counter_labels):
            if label in there:
                yield after[b.name] + i, before[a.name] + there.index(label), 1


def _places(graph: Graph) -> dict[str, int]:
    """Where each node's counters begin in the segment."""
    at, places = 0, {}
    for member in graph.order:
        places[member.name] = at
        at += len(member.node.counter_labels)
    return places


def _joined(found: Iterable[Run]) -> list[Run]:
    """Runs that go on from each other, as one."""
    joined: list[Run] = []
    for to, from_, n in sorted(found):
        if joined:
            a, b, m = joined[-1]
            if (a + m, b + m) == (to, from_):
                joined[-1] = (a, b, m + n)
                continue
        joined.append((to, from_, n))
    return joined
