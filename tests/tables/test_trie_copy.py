"""Tries that are changed aside: readers see the old one until all of it is in force, then the new one."""

import itertools
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.memory.arena import Arena
from vforward.tables import TableFull
from vforward.tables.fib import Fib4, Fib6
from vforward.tables.trie_change import USED

numbers = itertools.count()
FIBS = {32: Fib4, 128: Fib6}


def new_arena():
    return Arena.create(f"aside-{os.getpid()}-{next(numbers)}")


def changes(bits):
    """(add, prefix, length, value, vrf): prefixes that nest, of lengths at which the trie branches."""
    lengths = st.sampled_from([n for n in (0, 8, 16, 17, 24, 25, 32, 48, 64, 128) if n <= bits])
    base = 10 << bits - 8
    flips = st.sampled_from([0, 1, *(1 << n for n in range(0, bits - 8, 7))])
    return st.tuples(
        st.booleans(),
        flips.map(lambda flip: base ^ flip),
        lengths,
        st.integers(1, 3),
        st.integers(0, 1),
    )


def put(fib, routes, change, bits):
    add, address, length, value, vrf = change
    prefix = address >> bits - length << bits - length
    key = vrf, prefix, length
    if add:
        fib.add(prefix, length, value, vrf)
        routes[key] = value
    elif key in routes:
        fib.delete(prefix, length, vrf)
        del routes[key]


def found(fib, addresses, vrfs=(0, 1)):
    return [fib.lookup(address, vrf) for vrf in vrfs for address in addresses]


def as_told(routes, addresses, bits):
    def best(vrf, address):
        covering = [
            (length, value)
            for (of, prefix, length), value in routes.items()
            if of == vrf and address >> bits - length << bits - length == prefix
        ]
        return max(covering, default=(0, 0))[1]

    return [best(vrf, address) for vrf in (0, 1) for address in addresses]


@pytest.mark.parametrize("bits", [32, 128])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_old_until_in_force_then_new_and_nothing_is_lost(bits, data):
    before = data.draw(st.lists(changes(bits), max_size=20))
    aside = data.draw(st.lists(changes(bits), max_size=20))
    after = data.draw(st.lists(changes(bits), max_size=6))
    addresses = [0, (1 << bits) - 1, *{change[1] for change in (*before, *aside, *after)}]
    with new_arena() as arena:
        fib, routes = FIBS[bits](arena, n_vrfs=2, max_lines=4096), {}
        for change in before:
            put(fib, routes, change, bits)
        fib.reclaim()
        old = as_told(routes, addresses, bits)
        staged = fib.stage()
        for change in aside:
            put(fib, routes, change, bits)
            assert found(fib, addresses) == old
        staged.put_in_force()
        assert found(fib, addresses) == as_told(routes, addresses, bits)
        fib.unstage()
        fib.check()
        for change in after:
            put(fib, routes, change, bits)
        fib.reclaim()
        assert found(fib, addresses) == as_told(routes, addresses, bits)
        fib.check()
        del staged, fib


@pytest.mark.parametrize("bits", [32, 128])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_what_is_undone_leaves_no_line_behind(bits, data):
    before = data.draw(st.lists(changes(bits), max_size=20))
    aside = data.draw(st.lists(changes(bits), max_size=20))
    taken_back = data.draw(st.booleans())
    addresses = [0, *{change[1] for change in (*before, *aside)}]
    with new_arena() as arena:
        fib, routes = FIBS[bits](arena, n_vrfs=2, max_lines=4096), {}
        for change in before:
            put(fib, routes, change, bits)
        fib.reclaim()
        used, old = int(fib._state[USED]), found(fib, addresses)
        told = dict(routes)
        staged = fib.stage()
        for change in aside:
            put(fib, routes, change, bits)
        if taken_back:
            staged.put_in_force()
            staged.take_back()
        for vrf, prefix, length in routes.keys() - told.keys():
            fib.delete(prefix, length, vrf)
        for (vrf, prefix, length), value in told.items():
            fib.add(prefix, length, value, vrf)
        fib.unstage()
        assert found(fib, addresses) == old
        assert int(fib._state[USED]) == used
        fib.check()
        del staged, fib


def test_without_room_for_a_second_one_nothing_changes():
    with new_arena() as arena:
        fib = Fib4(arena, n_vrfs=1, max_lines=64)
        for k in range(3):
            fib.add(10 << 24 | k << 16, 24, 1)
        fib.reclaim()
        fib.stage()
        with pytest.raises(TableFull, match="no room for a second trie"):
            fib.add(10 << 24, 25, 2)
        fib.unstage()
        assert fib.lookup(10 << 24) == 1
        fib.check()
        del fib
