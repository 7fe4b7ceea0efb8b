# SPDX-License-Identifier: Apache-2.0
"""Growing a tree: what is left out, what is made one, and that memory ends it."""

import numpy as np

from tables.test_acl_cut import planned
from vforward.tables import acl, acl_build
from vforward.tables.acl_cut import CLOSED, CUT, NODES, NODES_END, POOL, POOL_END, SIZE, SLOTS_END


def grown(rows, nodes=1000, slots=10_000, pool=10_000):
    plan = planned(rows)
    plan.state[POOL] = len(rows)
    plan.state[[NODES_END, SLOTS_END, POOL_END]] = nodes, slots, pool
    acl_build.grow(plan, 0)
    return plan


def nets(n):
    rows = acl.wildcards(n)
    rows["src"], rows["src_mask"] = np.arange(n) << 24, 0xFF000000
    return rows


def test_hidden_rows_are_left_out():
    rows = nets(4)
    rows["src"][:] = 0
    rows["src_mask"] = [0xFFFFFF00, 0xFFFF0000, 0xFFFFFF00, 0xFFFF0000]
    plan = planned(rows)
    kept, closed = acl_build.prune(plan, 0, 0, 4, 0)
    assert plan.pool[:kept].tolist() == [0, 1]
    assert not closed


def test_a_row_that_matches_everything_ends_a_list():
    rows = nets(5)
    rows["src_mask"][2] = rows["src"][2] = 0
    plan = planned(rows)
    kept, closed = acl_build.prune(plan, 0, 0, 5, 0)
    assert plan.pool[:kept].tolist() == [0, 1, 2]
    assert closed


def test_all_rows_are_told_apart():
    plan = grown(nets(256))
    leaves = plan.nodes[: plan.state[NODES]]
    leaves = leaves[leaves[:, CUT] != 1]
    assert leaves[:, SIZE].max() <= acl_build.LEAF_ROWS
    assert leaves[:, CLOSED].any()


def test_children_with_the_same_rows_are_one():
    """Of 256 children of 20 nets most have none."""
    plan = grown(nets(20))
    assert plan.state[NODES] <= 2 + 20


def test_without_memory_there_is_no_cut():
    for few in ({"nodes": 4}, {"slots": 3}, {"pool": 70}):
        plan = grown(nets(64), **few)
        assert plan.state[NODES] == 1
        assert plan.nodes[0, SIZE] == 64
