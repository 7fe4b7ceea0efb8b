"""Treatments: their numbers, and what they say."""

import numpy as np
import pytest

from nodes.network import Heap
from vforward.tables import TableFull
from vforward.tables.policer import DROP, PASS, Policers
from vforward.tables.treatment import KEEP, Treatments, treat


def both():
    return Treatments(Heap(), 6), Policers(Heap(), 1 << 40, 8)


def say(treatments, policers, number, size=100):
    return int(treat(treatments.table, policers.table, number, size, np.uint64(1)))


def test_the_same_treatment_has_the_same_number():
    treatments, _ = both()
    assert treatments.number() == 0
    first = treatments.number(46)
    assert (first, treatments.number(46, 1), treatments.number(46)) == (1, 2, 1)
    assert [treatments.number(0), treatments.number(policer=1), treatments.number(5)] == [3, 4, 5]
    with pytest.raises(TableFull):
        treatments.number(6)
    assert treatments.tables == {"treatments": treatments.table}


def test_whom_treatments_ask():
    treatments, _ = both()
    numbers = [treatments.number(46), treatments.number(46, 3), treatments.number(policer=1)]
    assert treatments.policers_of(np.array([], np.uint16)) == set()
    assert treatments.policers_of(np.array(numbers[:2] * 3, np.uint16)) == {0, 3}
    assert treatments.policers_of(np.array([0, numbers[2]], np.uint16)) == {0, 1}


def test_a_mark_alone():
    treatments, policers = both()
    assert say(treatments, policers, treatments.number(46)) == 46
    assert say(treatments, policers, treatments.number(0)) == 0
    assert say(treatments, policers, 0) == KEEP
    assert say(treatments, policers, 65535) == KEEP


def test_what_the_policer_says_goes_before_the_mark():
    treatments, policers = both()
    policers.define(1, 8, 100, excess_burst=100, actions=(PASS, 10, DROP))
    number = treatments.number(46, 1)
    assert [say(treatments, policers, number) for _ in range(4)] == [46, 10, DROP, DROP]
    assert policers.statistics(1).packets == (1, 1, 2)


def test_a_policer_that_is_off():
    treatments, policers = both()
    assert say(treatments, policers, treatments.number(46, 7)) == 46
    assert say(treatments, policers, treatments.number(policer=700)) == KEEP
