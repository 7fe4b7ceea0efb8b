# SPDX-License-Identifier: Apache-2.0
"""Cuts: which children rows go to, and which bits are chosen."""

import random

import numpy as np
import pytest

from tables.rule_lists import as_rows, row
from vforward.jit.kernel import i64, kernel
from vforward.tables import acl, acl_cut
from vforward.tables.acl_compile import new_plan, with_default
from vforward.tables.acl_image import PORTS, points


@kernel
def _children(plan, node, row, word, shift, mask, out):
    first, varying, number = acl_cut.reach(
        plan, i64(node), i64(row), i64(word), i64(shift), i64(mask)
    )
    way = i64(0)
    for k in range(number):
        out[k] = (first + way) & mask
        way = acl_cut.after(way, varying)
    return number


def planned(rows):
    """A plan whose node 0 has all rows."""
    plan = new_plan(with_default(rows))
    plan.regions[0] = 0
    plan.nodes[0] = 0
    plan.nodes[0, acl_cut.SIZE] = len(rows)
    plan.pool[: len(rows)] = np.arange(len(rows))
    plan.state[acl_cut.NODES] = 1
    return plan


@pytest.mark.parametrize("family", [4, 6])
def test_a_row_goes_to_the_children_of_its_packets(family):
    chance = random.Random(1)
    rows = as_rows([row(chance, family) for _ in range(60)], family)
    rows = rows[
        (rows["sport_low"] <= rows["sport_high"]) & (rows["dport_low"] <= rows["dport_high"])
    ]
    plan = planned(rows)
    words = plan.rows.shape[1] // 2
    out = np.zeros(64, np.int64)
    for word in range(PORTS[words] + 4):
        for shift, bits in ((0, 4), (5, 6), (16, 3), (26, 6), (31, 1)):
            mask = (1 << bits) - 1
            for at in range(len(rows)):
                n = _children(plan, 0, at, word, shift, mask, out)
                children = out[:n].tolist()
                assert len(set(children)) == n
                packets = points(np.repeat(rows[at : at + 1], 40), np.random.default_rng(at))
                seen = set((packets[:, word] >> shift & mask).tolist())
                assert seen <= set(children), (word, shift, at)


def test_the_bits_that_tell_rows_apart_are_chosen():
    rows = acl.wildcards(8)
    rows["dst"], rows["dst_mask"] = 0x0A000000 | np.arange(8) << 13, 0xFFFFFF00
    word, shift, bits = acl_cut.choose(planned(rows), 0)
    assert (word, shift, bits) == (1, 13, 3)


def test_ports_are_cut_within_one_port():
    rows = acl.wildcards(40)
    rows["dport_low"] = rows["dport_high"] = np.arange(40) * 1500
    word, shift, bits = acl_cut.choose(planned(rows), 0)
    assert word == PORTS[8]
    assert shift + bits <= 16
    assert bits >= 4


def test_rows_that_are_alike_are_not_cut():
    assert acl_cut.choose(planned(acl.wildcards(10)), 0)[2] == 0


def test_a_cut_takes_no_more_than_it_may():
    rows = acl.wildcards(100)
    rows["src"], rows["src_mask"] = np.arange(100) << 20, 0xFFFFFFFF
    plan = planned(rows)
    word, shift, bits = acl_cut.choose(plan, 0)
    assert acl_cut.judge(plan, 0, word, shift, bits)[1] <= acl_cut.SPEND
