# SPDX-License-Identifier: Apache-2.0
"""Images: groups of rows, lists, and how large they become."""

import random

import numpy as np
import pytest

from tables.rule_lists import as_rows, compiled, row
from vforward.tables import acl, acl_check, acl_compile
from vforward.tables.acl_image import COUNT, ROW_MASK, SURE, TREES


def test_every_row_is_in_one_group():
    chance = random.Random(1)
    listed = [row(chance, 4) for _ in range(100)]
    first = [k for k, one in enumerate(listed) if one not in listed[:k]]
    rows = acl_compile.with_default(as_rows(listed, 4))
    for groups in acl_compile.ways(rows[:-1]):
        assert sorted(np.concatenate(groups).tolist()) == first


def test_the_same_row_many_times_is_one():
    rows = acl.wildcards(500)
    rows["dport_low"] = rows["dport_high"] = np.arange(500) % 2
    assert acl.bounds(compiled(rows)).rows <= 2


@pytest.mark.parametrize("family", [4, 6])
def test_size_is_bounded(family):
    """Stairs: with two rows for each port, cutting would never end."""
    rows = acl.wildcards(2000, family)
    low = np.arange(2000) * 16
    rows["dport_low"], rows["dport_high"] = low, 65535 - low
    rows["sport_low"], rows["sport_high"] = low[::-1], 65535 - low[::-1]
    image = compiled(rows)
    assert image.nbytes < 2000 * 1500 + (2 << 20)
    assert acl.bounds(image).rows <= 2000


def test_equal_lists_are_there_once():
    chance = random.Random(2)
    image = compiled(as_rows([row(chance, 4) for _ in range(200)], 4))
    leaves = {
        leaf for tree in range(int(image[TREES])) for leaf in acl_check.paths(image, tree).leaves
    }
    lists = {}
    for leaf in map(int, leaves):
        entries = acl_check.entries(image, leaf)
        if len(entries) > 1:
            lists.setdefault(tuple(entries[1:]), set()).add(leaf & 0xFFFFFFFF)
    assert lists
    assert all(len(places) == 1 for places in lists.values())


def test_a_list_ends_with_a_row_that_matches_for_sure():
    chance = random.Random(3)
    rows = as_rows([*[row(chance, 4) for _ in range(50)], {}], 4)
    image = compiled(rows)
    for leaf in acl_check.paths(image, 0).leaves.tolist():
        *others, last = acl_check.entries(image, leaf)
        assert last & SURE
        assert not any(entry & SURE for entry in others)
        assert last & ROW_MASK <= int(image[COUNT])


def test_the_same_rows_give_the_same_image():
    chance = random.Random(4)
    rows = as_rows([row(chance, 6) for _ in range(80)], 6)
    assert (acl.compile6(rows) == acl.compile6(rows)).all()


def test_too_many_rows_are_refused(monkeypatch):
    monkeypatch.setattr(acl_compile, "ROWS_MAX", 10)
    with pytest.raises(ValueError, match="10 and more"):
        acl.compile4(acl.wildcards(10))
