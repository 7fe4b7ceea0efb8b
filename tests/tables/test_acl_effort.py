# SPDX-License-Identifier: Apache-2.0
"""The slow look-up against the fast one, and what it counts against what was promised."""

import random

import numpy as np
import pytest

from tables.rule_lists import as_fields, as_rows, compiled, found, packet, row
from vforward.tables import acl, acl_effort


@pytest.mark.parametrize("family", [4, 6])
def test_same_rules_within_the_bounds(family):
    chance = random.Random(1)
    listed = [row(chance, family) for _ in range(200)]
    image = compiled(as_rows(listed, family))
    fields = as_fields([packet(chance, family, listed) for _ in range(500)], family)
    slow, total = np.zeros(500, np.uint32), np.zeros(2, np.uint32)
    acl_effort.slowly(image, fields, slow, total)
    assert slow.tolist() == found(image, fields)
    visits = np.zeros((500, 2), np.uint32)
    acl_effort.effort(image, fields, visits)
    assert (visits.sum(axis=0) == total).all()
    bounds = acl.bounds(image)
    assert visits[:, 0].max() <= bounds.nodes
    assert visits[:, 1].max() <= bounds.rows
