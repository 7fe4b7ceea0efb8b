# SPDX-License-Identifier: Apache-2.0
"""Rows are handed on by their edges, in order, whole frames and sorted ones alike."""

import numpy as np
import pytest

from graph.kernels import KEEP, SAME, Rig
from vforward.graph import control as c
from vforward.layout import EDGE_MAX


@pytest.mark.parametrize("vector", [1, 2, 3, 64, 255, 256])
@pytest.mark.parametrize("spread", [1, 2, 190])
def test_rows_stay_in_order_by_edge(vector, spread):
    """256 rows by up to 190 edges; each edge's rows are in the order they came in."""
    rig = Rig(buffers=1024)
    ways = np.random.default_rng(spread).permutation(np.arange(256) % spread)
    names = [f"k{k}" for k in range(spread)]
    kept = [np.zeros(600, np.uint32) for _ in names]
    rig.source(512, ["split"])
    rig.branch("split", names, ways)
    for name, rows in zip(names, kept, strict=True):
        rig.add(KEEP, name, kept=rows)
    rig.build(vector).run()
    for k, rows in enumerate(kept):
        numbers = rig.pool.meta["hash"][rows[1 : 1 + rows[0]]]
        assert numbers.tolist() == [i for i in range(512) if ways[i % 256] == k]
    assert sum(rig.taken("split").values()) == 512
    rig.check(held=[row for rows in kept for row in rows[1 : 1 + rows[0]]])


def test_every_edge_that_a_node_may_have():
    rig = Rig()
    rig.source(2 * EDGE_MAX, ["split"])
    rig.branch("split", ["sink"] * EDGE_MAX, np.arange(EDGE_MAX))
    rig.sink()
    rig.build().run().check()
    assert rig.taken("split") == dict.fromkeys(range(EDGE_MAX), 2)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 130])
def test_whole_frames_and_sorted_ones_arrive_alike(n):
    """The same packets once by one edge (handed on whole) and once by two to the same node."""
    results = []
    for to, ways in ((["a"], [0]), (["a", "a"], [0, 1, 1])):
        rig = Rig()
        kept = np.zeros(400, np.uint32)
        rig.source(n, ["split"])
        rig.branch("split", to, ways)
        rig.add(SAME, "a", ["keep"])
        rig.add(KEEP, "keep", kept=kept)
        rig.build().run()
        numbers = rig.pool.meta["hash"][kept[1 : 1 + kept[0]]]
        assert sorted(numbers) == list(range(n))
        results.append(rig.stats("a")[c.CALLS])
        rig.check(held=kept[1 : 1 + kept[0]])
    assert results == [1, 1]
