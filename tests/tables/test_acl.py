# SPDX-License-Identifier: Apache-2.0
"""Compiled rule lists against a walk through the list."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import rules
from tables.rule_lists import as_fields, as_rows, compiled, found, packet, row
from vforward.tables import acl, acl_check

FAMILIES = pytest.mark.parametrize("family", [4, 6])
SEEDS = st.integers(0, 1 << 32)


def agree(listed, packets, family, size=256):
    fields = as_fields(packets, family)
    said = found(compiled(as_rows(listed, family)), fields, size)
    assert said == [rules.classify(listed, one) for one in packets]


@FAMILIES
@settings(max_examples=150)
@given(SEEDS, st.integers(0, 8), st.integers(1, 40))
def test_short_lists(family, seed, n, size):
    chance = random.Random(seed)
    listed = [row(chance, family) for _ in range(n)]
    agree(listed, [packet(chance, family, listed) for _ in range(40)], family, size)


@FAMILIES
@settings(max_examples=20)
@given(SEEDS, st.integers(9, 300), st.integers(1, 256))
def test_long_lists(family, seed, n, size):
    chance = random.Random(seed)
    listed = [row(chance, family) for _ in range(n)]
    agree(listed, [packet(chance, family, listed) for _ in range(200)], family, size)


@FAMILIES
@settings(max_examples=20)
@given(SEEDS, st.integers(1, 5), st.integers(2, 120))
def test_rows_that_come_again(family, seed, n, times):
    """Duplicates, and rows that earlier ones hide."""
    chance = random.Random(seed)
    few = [row(chance, family) for _ in range(n)]
    listed = [chance.choice(few) for _ in range(times)]
    agree(listed, [packet(chance, family, listed) for _ in range(60)], family)


@FAMILIES
def test_rows_that_match_everything(family):
    listed = [{}] * 40
    agree(listed, [packet(random.Random(1), family, listed) for _ in range(20)], family)


@FAMILIES
def test_no_rows(family):
    packets = [packet(random.Random(1), family, []) for _ in range(3)]
    agree([], packets, family)
    assert found(np.zeros(0, np.uint64), as_fields(packets, family)) == [rules.NONE] * 3


@FAMILIES
def test_ranges_that_defeat_cutting(family):
    """Stairs in both ports: each packet matches many rows."""
    stairs = [
        {"sport": (k * 150, 65535 - (200 - k) * 150), "dport": ((200 - k) * 150, 65535 - k * 150)}
        for k in range(200)
    ]
    chance = random.Random(2)
    agree(stairs, [packet(chance, family, stairs) for _ in range(300)], family)


@FAMILIES
def test_many_rows(family):
    chance = random.Random(3)
    listed = [row(chance, family) for _ in range(3000)]
    for one in listed[::2]:  # so that not all lie at the same five addresses
        width = 32 if family == 4 else 128
        one["dst"] = (chance.getrandbits(width), (1 << width) - 1)
    rows = as_rows(listed, family)
    fields = as_fields([packet(chance, family, listed) for _ in range(1000)], family)
    assert found(compiled(rows), fields) == acl_check.walk(rows, fields).tolist()


@FAMILIES
def test_every_size_of_vector(family):
    chance = random.Random(4)
    listed = [row(chance, family) for _ in range(50)]
    rows = as_rows(listed, family)
    image = compiled(rows)
    fields = as_fields([packet(chance, family, listed) for _ in range(256)], family)
    expected = acl_check.walk(rows, fields).tolist()
    for n in range(1, 257):
        assert found(image, fields[:n]) == expected[:n]


def test_an_image_may_be_anywhere():
    chance = random.Random(5)
    listed = [row(chance, 4) for _ in range(60)]
    image = compiled(as_rows(listed, 4))
    bundle = np.full(len(image) + 10, 0xFFFFFFFFFFFFFFFF, np.uint64)
    bundle[3 : 3 + len(image)] = image
    fields = as_fields([packet(chance, 4, listed) for _ in range(100)], 4)
    assert found(bundle[3 : 3 + len(image)], fields) == found(image, fields)


def test_rules_of_many_rows():
    rows = acl.wildcards(3)
    rows["dport_low"], rows["dport_high"] = [80, 443, 80], [80, 443, 90]
    rows["rule"] = [7, 7, 1]
    fields = np.zeros((4, 8), np.uint32)
    fields[:, 2] = [80, 443, 85, 91]
    assert found(compiled(rows), fields) == [7, 7, 1, rules.NONE]


def test_bounds():
    chance = random.Random(6)
    image = compiled(as_rows([row(chance, 4) for _ in range(100)], 4))
    bounds = acl.bounds(image)
    assert bounds.bytes == image.nbytes
    assert bounds.trees <= 3
    assert 0 < bounds.rows <= 100


def test_other_rows_are_refused():
    with pytest.raises(ValueError, match="of another kind"):
        acl.compile6(acl.wildcards(1, 4))
