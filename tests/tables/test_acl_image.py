# SPDX-License-Identifier: Apache-2.0
"""Rows: what their words are, and random packets in them."""

import random

import numpy as np
import pytest

from oracles import rules
from tables.rule_lists import as_rows, row
from vforward.tables import acl_image


@pytest.mark.parametrize("family", [4, 6])
def test_random_packets_match_their_rows(family):
    chance = random.Random(1)
    listed = [row(chance, family) for _ in range(200)]
    listed = [one for one in listed if one.get("dport") != (9, 7) and one.get("sport") != (9, 7)]
    each = 1 if family == 4 else 4
    for one, words in zip(
        listed, acl_image.points(as_rows(listed, family), np.random.default_rng(1))
    ):
        src, dst = (
            sum(int(word) << 32 * (each - 1 - k) for k, word in enumerate(part))
            for part in (words[:each], words[each : 2 * each])
        )
        ports, kind, place, vlan, *rest = words[2 * each :].tolist()
        packet = {"src": src, "dst": dst, "sport": ports >> 16, "dport": ports & 0xFFFF}
        packet |= {"kind": kind, "place": place, "vlan": vlan}
        assert rules.matches(one, packet)
        assert not any(rest)


def test_bits_that_do_not_count_are_no_part_of_a_row():
    rows = acl_image.wildcards(1)
    rows["src"], rows["src_mask"] = 0x0A0000FF, 0xFFFFFF00
    rows["spare"] = rows["spare_mask"] = 5
    words = acl_image.plain(rows)[0]
    assert words[0] == 0x0A000000
    assert words[[2, 10]].tolist() == [0, 0xFFFFFFFF]
    assert not words[[6, 7, 14, 15]].any()
