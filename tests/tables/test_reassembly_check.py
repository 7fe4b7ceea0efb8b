"""check finds what is wrong."""

import numpy as np
import pytest

from nodes.network import Heap
from vforward.layout import META
from vforward.tables import pieces
from vforward.tables import reassembly as table
from vforward.tables.reassembly_check import check

META_OF_ALL = np.zeros(64, META)


@pytest.fixture
def made():
    its = table.Reassembly(Heap(), 1, 8).ip4
    for n in range(4):
        key = tuple(map(np.uint64, (0, n, 0, 2, table.word_of(0, 17, n))))
        at = table.begin(its, key, np.uint64(1 + n))
        assert table.hold(its, META_OF_ALL, at, 10 + n)
    check(its, META_OF_ALL)
    return its


def lose_a_record(its):
    its[0]["head"] = 0


def free_one_in_use(its):
    its[2]["word"] = 0


def cut_the_order(its):
    its[2]["newer"] = 0


def cut_the_order_backwards(its):
    its[3]["older"] = 1


def come_before_an_older_one(its):
    its[3]["started"] = 1


def leave_the_chains(its):
    its["head"][1:] = 0


def change_the_name(its):
    its[1]["src"][1] = 77


def wait_for_what_is_known(its):
    its[1]["flags"] = table.PORTS


def be_whole(its):
    pieces.add(its[1], 0, 3, False)


def wait_twice(its):
    its[1]["rows"][0] = its[2]["rows"][0]


def miscount(its):
    its[0]["total_held"] += 1


def hold_too_much(its):
    its[0]["limit"] = 3


@pytest.mark.parametrize("harm", [
    lose_a_record, free_one_in_use, cut_the_order, cut_the_order_backwards, come_before_an_older_one,
    leave_the_chains, change_the_name, wait_for_what_is_known, be_whole, wait_twice,
    miscount, hold_too_much,
])  # fmt: skip
def test_harm_is_found(made, harm):
    harm(made)
    with pytest.raises(AssertionError):
        check(made, META_OF_ALL)
