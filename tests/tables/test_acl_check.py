# SPDX-License-Identifier: Apache-2.0
"""The checks find what is wrong; the worst packets are worse than others."""

import random

import numpy as np
import pytest

from tables.rule_lists import as_rows, compiled, row
from vforward.tables import acl, acl_check, acl_effort
from vforward.tables.acl_image import NODES_MOST, ROOT, ROWS_MOST, SLOTS_AT, TREE


@pytest.fixture(scope="module")
def rows():
    chance = random.Random(1)
    return as_rows([row(chance, 4) for _ in range(150)], 4)


@pytest.fixture
def image(rows):
    return compiled(rows).copy()


@pytest.mark.parametrize("word", [TREE + NODES_MOST, TREE + ROWS_MOST])
def test_a_bound_that_is_too_low_is_found(image, rows, word):
    image[word] = 0
    with pytest.raises(AssertionError, match="longer"):
        acl_check.check(image, rows)


def test_a_circle_is_found(image, rows):
    image[int(image[SLOTS_AT])] = image[TREE + ROOT]
    with pytest.raises(AssertionError, match="is none"):
        acl_check.check(image, rows)


def test_a_node_outside_is_found(image, rows):
    image[TREE + ROOT] = np.uint64(len(image) << 32)
    with pytest.raises(AssertionError, match="is none"):
        acl_check.check(image, rows)


def test_a_rule_that_is_not_the_first_is_found(image, rows):
    other = rows.copy()
    other["rule"] = other["rule"][::-1]
    with pytest.raises(AssertionError, match="another row"):
        acl_check.check(image, other)


def test_a_list_out_of_order_is_found(image, rows):
    leaves = acl_check.paths(image, 0).leaves.tolist()
    longest = max(leaves, key=lambda leaf: len(acl_check.entries(image, leaf)))
    at = longest & 0xFFFFFFFF
    image.view(np.uint32)[at] = 0
    with pytest.raises(AssertionError, match="not in order"):
        acl_check.check(image, rows)


def test_the_worst_packets_cost_more(image, rows):
    def cost(nodes, compared):
        return 1.0 * nodes + 2.0 * compared

    def mean(fields):
        visits = np.zeros((len(fields), 2), np.uint32)
        acl_effort.effort(image, fields, visits)
        return cost(visits[:, 0], visits[:, 1]).mean()

    worst = acl_check.worst(image, 20, cost)
    assert len(np.unique(worst, axis=0)) == len(worst) > 10
    assert mean(worst) > mean(acl.points(rows, np.random.default_rng(1)))
