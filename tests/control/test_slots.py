# SPDX-License-Identifier: Apache-2.0
"""Numbers that stay with their things."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.control.slots import Slots, keyed
from vforward.errors import ConfigError


def test_a_number_stays_while_others_come_and_go():
    slots = Slots(8, "things")
    assert slots.keep("abc") == [1, 2, 3]
    assert slots.keep("xcay") == [4, 5]
    assert dict(slots.items()) == {"a": 1, "c": 3, "x": 4, "y": 5}


def test_a_number_that_becomes_free_rests_until_the_next_change():
    slots = Slots(5, "things")
    slots.keep("abc")
    assert slots.keep("bx") == [4], "1 and 3 are asked for by what is in force still"
    assert slots.keep("bxyz") == [1, 3]
    assert slots.keep("byzv") == [4], "rather than none"


def test_numbers_do_not_grow_with_changes():
    slots = Slots(1000, "things")
    used = {n for k in range(500) for n in slots.keep([(k, i) for i in range(10)])}
    assert max(used) == 20


def test_a_number_that_is_still_counted_under_is_passed_over():
    busy = {1}
    slots = Slots(3, "things", lambda number: number not in busy)
    slots.keep("a")
    slots.keep("b")
    slots.keep("")
    assert slots.keep("c") == [2]
    assert slots.keep("cd") == [1], "rather than none"


def test_too_many_change_nothing():
    slots = Slots(3, "things")
    slots.keep("a")
    with pytest.raises(ConfigError, match="3 things: there can be 2"):
        slots.keep("xyz")
    assert dict(slots.items()) == {"a": 1}


def test_equal_things_have_keys_of_their_own():
    assert keyed("aba") == [("a", 0), ("b", 0), ("a", 1)]


@given(st.lists(st.sets(st.integers(0, 9), max_size=6), max_size=12))
def test_no_number_is_used_twice(rounds):
    slots = Slots(7, "things")
    known = {}
    for keys in rounds:
        new = slots.keep(sorted(keys))
        now = dict(slots.items())
        assert now.keys() == keys
        assert len(set(now.values())) == len(now)
        assert all(1 <= number < 7 for number in now.values())
        assert all(now[key] == known[key] for key in keys & known.keys())
        assert set(new) == {now[key] for key in keys - known.keys()}
        known = now
