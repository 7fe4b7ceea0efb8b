"""Changes of the trie that test_fib.py meets by chance only: merging, in place, room."""

import os

import pytest

from vforward.memory.arena import Arena
from vforward.tables import TableFull, trie
from vforward.tables.fib import Fib4, Fib6
from vforward.tables.trie_change import USED


@pytest.fixture
def arena():
    with Arena.create(f"change-{os.getpid()}") as made:
        yield made


def test_equal_halves_are_a_leaf_and_part_again(arena):
    fib = Fib4(arena)
    fib.add(10 << 24, 17, 5)
    fib.add(10 << 24 | 1 << 15, 17, 5)
    assert not fib.root[0x0A00] & trie.CHILD  # the two together
    fib.check()
    fib.add(10 << 24, 16, 6)  # shorter: does not show
    assert fib.lookup(10 << 24) == 5
    fib.delete(10 << 24, 17)
    assert [fib.lookup(10 << 24 | half << 15) for half in (0, 1)] == [6, 5]
    fib.check()


def test_a_short_prefix_shows_in_nodes_below(arena):
    fib = Fib4(arena)
    for i in range(60):
        fib.add(10 << 24 | i << 16 | 7 << 8, 24, 9)
        fib.add(10 << 24 | i << 16 | 7 << 8 | 1, 32, 8)
    used = int(fib._state[USED]) - 0
    before = fib.retired
    fib.add(0, 0, 1)
    assert (fib.retired, int(fib._state[USED])) == (before, used)  # all in place
    assert {fib.lookup(10 << 24 | i << 16) for i in range(60)} == {1}
    assert {fib.lookup(10 << 24 | i << 16 | 7 << 8) for i in range(60)} == {9}
    fib.check()


def test_a_chain_without_room_is_taken_back(arena):
    fib = Fib6(arena, n_vrfs=1, max_lines=32 + 17)
    fib.add(1 << 120, 16, 1)
    used = int(fib._state[USED])
    with pytest.raises(TableFull):
        fib.add(1 << 120, 128, 2)  # fourteen nodes
    assert (int(fib._state[USED]), fib.retired, len(fib)) == (used, 0, 1)
    assert fib.lookup(1 << 120) == 1
    fib.check()
