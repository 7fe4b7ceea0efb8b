"""The check finds a trie that is not the one of its routes."""

import os

import pytest

from vforward.memory.arena import Arena
from vforward.tables import trie
from vforward.tables.fib import Fib4


@pytest.fixture
def fib():
    with Arena.create(f"check-{os.getpid()}") as arena:
        made = Fib4(arena, n_vrfs=2)
        for i in range(50):  # some nodes dense, some not
            made.add(10 << 24 | i << 16 | 7 << 8, 24, 1 + i)
        made.check()
        yield made
        del made


@pytest.mark.parametrize("where", [0x0A00, 0x0B00, 0x1_0A00])
def test_a_wrong_root_entry(fib, where):
    fib.root[where] ^= 1
    with pytest.raises(AssertionError):
        fib.check()


@pytest.mark.parametrize("which", [0, 49])
def test_a_wrong_word_of_a_node(fib, which):
    entry = int(fib.root[0x0A00 + which])
    assert bool(entry & trie.DENSE) == (which == 0)
    for word in (0, 8, 9, 10):
        at = (entry & trie.LINE) * trie.WORDS + word
        fib.nodes[at] ^= 2
        with pytest.raises(AssertionError):
            fib.check()
        fib.nodes[at] ^= 2
    fib.check()


def test_a_lost_line(fib):
    fib._state[2] += 1
    with pytest.raises(AssertionError, match="lost"):
        fib.check()
