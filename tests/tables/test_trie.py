"""Readers of the trie: passes and single look-ups agree. Right or wrong: test_fib.py."""

import os

import numpy as np

from vforward.jit.kernel import i64, kernel
from vforward.memory.arena import Arena
from vforward.tables import trie
from vforward.tables.fib import Fib4


@kernel
def one_by_one(root, nodes, asked, found):
    for i in range(asked.size):
        found[i] = trie.lookup4(root, nodes, 0, asked[i])
    return trie.is_large(nodes), trie.has_vrfs(nodes)


@kernel
def in_passes(root, nodes, asked, found):
    for i in range(asked.size):
        found[i] = trie.first(root, 0, i64(asked[i]) >> 16)
        trie.fetch(nodes, i64(found[i]))
    for shift in (8, 0):
        for i in range(asked.size):
            if found[i] & trie.CHILD:
                word = trie.place(nodes, i64(found[i]), i64(asked[i]) >> shift & 0xFF)
                found[i] = trie.at(nodes, word)
    for i in range(asked.size):
        found[i] = trie.value(i64(found[i]))


def test_passes_and_single_look_ups_agree():
    rng = np.random.default_rng(1)
    with Arena.create(f"trie-{os.getpid()}") as arena:
        fib = Fib4(arena)
        for n, large in ((3, False), (3000, True)):
            lengths = rng.integers(1, 33, n)
            fib.add_many(rng.integers(0, 1 << 32, n), lengths, 1 + np.arange(n))
            asked = rng.integers(0, 1 << 32, 5000).astype(np.uint32)
            single, passes = np.zeros((2, asked.size), np.uint32)
            assert one_by_one(fib.root, fib.nodes, asked, single) == (large, False)
            in_passes(fib.root, fib.nodes, asked, passes)
            assert (single == passes).all()
        assert single.any()
        del fib
