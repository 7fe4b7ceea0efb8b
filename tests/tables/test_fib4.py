# SPDX-License-Identifier: Apache-2.0
"""The IPv4 table against the list of all routes, while it changes, and while others read it."""

import itertools
import os
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from oracles.lpm import Table, mask
from vforward.jit.atomics import load_acquire64, store_release64
from vforward.jit.kernel import kernel
from vforward.memory.arena import Arena
from vforward.tables import TableFull
from vforward.tables.fib4 import OP, UNFINISHED, VALUE_MAX, Fib4, begin, finish, lookup

TOP = 0xFFFFFFFF
numbers = itertools.count()


@pytest.fixture
def arena():
    with Arena.create(f"fib4-{os.getpid()}-{next(numbers)}") as made:
        yield made


def ip(a, b=0, c=0, d=0):
    return a << 24 | b << 16 | c << 8 | d


def ops(changes):
    """An array of OP from (add, prefix, length, value)."""
    out = np.zeros(len(changes), OP)
    for i, (add, prefix, length, value) in enumerate(changes):
        out[i] = (prefix, value, length, add, 0)
    return out


# Few bits differ, so prefixes nest and adjoin; lengths lie where the trie changes its level.
lengths = st.sampled_from([0, 1, 7, 8, 9, 15, 16, 17, 18, 23, 24, 25, 26, 31, 32]) | st.integers(
    0, 32
)
ends = st.sampled_from([0, ip(10), ip(10, 1, 1, 1), ip(128), ip(10, 0, 255, 255), TOP])
flips = st.sampled_from([0, 1, 2, 1 << 7, 1 << 8, 1 << 9, 1 << 15, 1 << 16, 1 << 17, 1 << 31])
addresses = st.builds(lambda end, flip: end ^ flip, ends, flips)
values = st.sampled_from([0, 1, VALUE_MAX]) | st.integers(0, VALUE_MAX)
changes = st.tuples(st.booleans(), addresses, lengths, values)


class Changes(RuleBasedStateMachine):
    """Any sequence of changes, in a table with so few blocks that they run out."""

    blocks = 9

    def __init__(self):
        super().__init__()
        self.arena = Arena.create(f"fib4-{os.getpid()}-{next(numbers)}")
        self.fib = Fib4(self.arena, max_blocks=self.blocks)
        self.empty = self.fib.memory()
        self.oracle = Table()

    def teardown(self):
        del self.fib
        self.arena.close()

    def routes(self):
        return sorted(self.oracle.routes)

    def full(self):
        """Fewer than two blocks are free."""
        return self.fib.memory() > self.empty + (self.blocks - 2) * 1024

    @rule(prefix=addresses, length=lengths, value=values)
    def add(self, prefix, length, value):
        try:
            self.fib.add(prefix, length, value)
        except TableFull:
            assert self.full()
        else:
            self.oracle.add(prefix, length, value)

    @rule(prefix=addresses, length=lengths)
    def delete(self, prefix, length):
        if self.oracle.delete(prefix, length):
            self.fib.delete(prefix, length)
        else:
            with pytest.raises(KeyError):
                self.fib.delete(prefix, length)

    @precondition(lambda self: self.oracle.routes)
    @rule(data=st.data())
    def delete_one_of_ours(self, data):
        prefix, length, _ = data.draw(st.sampled_from(self.routes()))
        assert self.oracle.delete(prefix, length)
        self.fib.delete(prefix, length)

    @rule(batch=st.lists(changes, max_size=20))
    def apply(self, batch):
        done = len(batch)
        try:
            absent = self.fib.apply(ops(batch))
        except TableFull as error:
            assert self.full()
            done, absent = error.done, None
        not_there = 0
        for add, prefix, length, value in batch[:done]:
            if add:
                self.oracle.add(prefix, length, value)
            else:
                not_there += not self.oracle.delete(prefix, length)
        assert absent in (None, not_there)

    @rule(data=st.data())
    def reclaim(self, data):
        n = data.draw(st.none() | st.integers(0, self.fib.retired))
        before = self.fib.retired
        self.fib.reclaim(n)
        assert self.fib.retired == (0 if n is None else before - n)

    @rule()
    def delete_all(self):
        self.fib.apply(ops([(0, prefix, length, 0) for prefix, length, _ in self.routes()]))
        self.oracle.routes.clear()
        self.fib.reclaim()
        assert self.fib.memory() == self.empty

    @invariant()
    def right(self):
        self.fib.check()
        assert list(self.fib.items()) == self.routes()
        assert len(self.fib) == len(self.oracle.routes)
        asked = {0, ip(10), TOP}
        for prefix, length, _ in self.oracle.routes:
            last = prefix | ~mask(length) & TOP
            asked |= {prefix, last, max(prefix - 1, 0), min(last + 1, TOP)}
        for address in asked:
            assert self.fib.lookup(address) == (self.oracle.lookup(address) or 0), hex(address)


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_every_length_nested_in_the_one_before(arena):
    fib = Fib4(arena, max_blocks=8)
    address = ip(10, 129, 129, 129)
    for length in range(33):
        fib.add(address & mask(length), length, length + 1)
        assert fib.lookup(address) == length + 1
        if length:
            assert fib.lookup(address ^ 1 << 32 - length) == length
    fib.check()
    for length in range(32, -1, -1):
        fib.delete(address, length)
        assert fib.lookup(address) == length
        fib.check()
    assert len(fib) == 0
    assert fib.retired == 2


def test_adding_in_any_order_gives_the_same_table(arena):
    routes = [(ip(10, 1, 2, 3) & mask(n), n, n + 1) for n in (0, 8, 16, 17, 24, 25, 32)]
    for i, order in enumerate(itertools.islice(itertools.permutations(routes), 0, 5040, 97)):
        fib = Fib4(arena, f"t{i}", max_blocks=4)
        for route in order:
            fib.add(*route)
        fib.check()
        assert fib.lookup(ip(10, 1, 2, 3)) == 33
        assert fib.lookup(ip(10, 1, 2, 2)) == 26


def test_host_bits_do_not_matter(arena):
    fib = Fib4(arena, max_blocks=2)
    fib.add(ip(10, 9, 9, 9), 8, 5)
    assert list(fib.items()) == [(ip(10), 8, 5)]
    fib.delete(ip(10, 7, 7, 7), 8)
    assert len(fib) == 0


@pytest.mark.parametrize(
    ("prefix", "length", "value"),
    [(-1, 8, 1), (1 << 32, 8, 1), (0, 33, 1), (0, -1, 1), (0, 8, VALUE_MAX + 1), (0, 8, -1)],
)
def test_what_is_no_route_is_refused(arena, prefix, length, value):
    fib = Fib4(arena, max_blocks=2)
    with pytest.raises(ValueError, match="fib4"):
        fib.add(prefix, length, value)
    assert len(fib) == 0


def test_batches_with_a_bad_length_or_value_are_refused_whole(arena):
    fib = Fib4(arena, max_blocks=2)
    for bad in ((1, 0, 33, 1), (1, 0, 8, VALUE_MAX + 1)):
        with pytest.raises(ValueError, match="fib4"):
            fib.apply(ops([(1, 0, 8, 1), bad]))
    assert len(fib) == 0


def test_full_says_how_many_were_done_and_retired_blocks_are_not_reused_before_reclaim(arena):
    fib = Fib4(arena, max_blocks=2)
    with pytest.raises(TableFull, match=r"all 2 blocks .* after 2 of 3") as caught:
        fib.apply(ops([(1, ip(n), 24, n) for n in (1, 2, 3)]))
    assert caught.value.done == 2
    fib.delete(ip(1), 24)
    with pytest.raises(TableFull, match="1 of them retired"):
        fib.add(ip(3), 24, 3)
    fib.check()
    with pytest.raises(ValueError, match="retired"):
        fib.reclaim(2)
    fib.reclaim(1)
    fib.add(ip(3), 24, 3)
    fib.check()


def test_a_route_that_needs_two_blocks_takes_none_when_one_is_free(arena):
    fib = Fib4(arena, max_blocks=3)
    fib.apply(ops([(1, ip(1), 24, 1), (1, ip(2), 24, 2)]))
    with pytest.raises(TableFull):
        fib.add(ip(3), 32, 3)
    fib.check()
    fib.add(ip(1), 32, 3)
    with pytest.raises(TableFull):
        fib.add(ip(2), 32, 3)
    fib.check()


def test_readers_in_other_processes_find_the_arrays_by_name(arena):
    fib = Fib4(arena, "fib4", max_blocks=2)
    fib.add(ip(10, 0, 0, 0), 24, 77)
    other = Arena.attach(arena.name)
    root, blocks = other.open("fib4.root"), other.open("fib4.blocks")
    assert blocks[(int(root[ip(10) >> 16]) & 0x7FFFFFFF) * 256] & VALUE_MAX == 77
    other.close()


@kernel
def lookup_all(root, blocks, wanted, found):
    for i in range(wanted.size):
        found[i] = begin(root, blocks, wanted[i])
    for i in range(wanted.size):
        found[i] = finish(blocks, found[i])
        if found[i] == UNFINISHED:
            found[i] = lookup(root, blocks, wanted[i])


def test_bulk(arena):
    """Half of the routes anywhere, half of them close together and long; then none."""
    rng = np.random.default_rng(4)
    n = 50_000
    prefixes = np.concatenate(
        [rng.integers(0, 1 << 32, n), ip(10, 16) | rng.integers(0, 1 << 20, n)]
    )
    sizes = np.concatenate([rng.integers(6, 25, n), rng.integers(16, 33, n)])
    prefixes = prefixes >> (32 - sizes) << (32 - sizes)
    numbers = rng.integers(1, VALUE_MAX, 2 * n)
    last = {(p, s): v for p, s, v in zip(*(a.tolist() for a in (prefixes, sizes, numbers)))}
    oracle = Table()
    oracle.routes = [(p, s, v) for (p, s), v in last.items()]

    fib = Fib4(arena, max_blocks=1 << 16)
    empty = fib.memory()
    fib.add_many(prefixes.astype(np.uint32), sizes.astype(np.uint8), numbers.astype(np.uint32))
    fib.check()
    assert list(fib.items()) == sorted(oracle.routes)

    picked = rng.choice(2 * n, 40)
    inside = prefixes[picked] | rng.integers(0, 1 << 32, 40) & (1 << 32 - sizes[picked]) - 1
    wanted = np.concatenate([inside, rng.integers(0, 1 << 32, 20)]).astype(np.uint32)
    found = np.zeros(60, np.uint32)
    lookup_all(fib.root, fib.blocks, wanted, found)
    assert found.tolist() == [oracle.lookup(a) or 0 for a in wanted.tolist()]

    gone = ops([(0, p, s, 0) for p, s in last])
    rng.shuffle(gone)
    half = len(gone) // 2
    assert fib.apply(gone[:half]) == 0
    fib.check()
    assert fib.apply(gone) == half
    fib.reclaim()
    fib.check()
    assert not fib.root.any()
    assert fib.memory() == empty


@kernel
def watch(root, blocks, wanted, allowed, shared, wrong):
    """Look up in rounds until shared[0] is set; shared[1] counts rounds, each a quiet point.

    Bit v of allowed[i] says that value v is right for wanted[i]. wrong[0] counts, wrong[1:] show.
    """
    where = shared.ctypes.data
    rounds = np.uint64(0)
    while load_acquire64(where) == 0:
        for i in range(wanted.size):
            value = lookup(root, blocks, wanted[i])
            if value >= 64 or allowed[i] >> np.uint64(value) & np.uint64(1) == 0:
                wrong[0] += 1
                wrong[1], wrong[2] = wanted[i], value
        rounds += np.uint64(1)
        store_release64(where + 8, rounds)


def test_readers_see_the_old_or_the_new_route_and_nothing_else(arena):
    """Two regions take blocks from each other, and have no value in common: 1..31 and 32..63."""
    fib = Fib4(arena, max_blocks=24)
    lives, dies = [], []
    for region, first in ((ip(10), 1), (ip(11), 32)):
        lives.append((region, 8, first))
        shapes = [(16, 0), (17, 0), (17, 1 << 15), (23, 0), (24, 0), (24, 1 << 8), (25, 1 << 7)]
        shapes += [(32, 0), (32, 255), (31, 254), (24, 1 << 16), (32, 1 << 16), (15, 0), (12, 0)]
        dies += [(region | p, n, first + 1 + i) for i, (n, p) in enumerate(shapes)]
    for route in lives:
        fib.add(*route)
    oracle = Table()
    oracle.routes = lives + dies
    wanted = sorted({p + d for p, n, _ in dies for d in (0, 1, 127, 128, 254, 255, 256, 1 << 15)})
    allowed = [sum(1 << v for p, n, v in oracle.routes if (a ^ p) & mask(n) == 0) for a in wanted]
    shared, wrong = np.zeros(2, np.uint64), np.zeros(3, np.int64)
    arrays = np.array(wanted, np.uint32), np.array(allowed, np.uint64), shared, wrong
    reader = threading.Thread(target=watch, args=(fib.root, fib.blocks, *arrays))
    shared[0] = 1
    watch(fib.root, fib.blocks, *arrays)  # compiled here, so that all of the churn is watched
    shared[0] = 0
    reader.start()
    rng = np.random.default_rng(7)
    waiting, since, changes, reused = 0, 0, 0, 0
    while changes < 200_000:
        picked = rng.integers(0, len(dies), 40)
        batch = ops([(rng.integers(2), *dies[i]) for i in picked])
        try:
            fib.apply(batch)
            changes += len(batch)
        except TableFull as error:
            changes += error.done
        if shared[1] >= since + 2:  # a whole round began and ended after these were retired
            fib.reclaim(waiting)
            reused += waiting
            waiting, since = fib.retired, int(shared[1])
    shared[0] = 1
    reader.join()
    fib.check()
    assert shared[1] > 100
    assert reused > 1000
    assert wrong[0] == 0, f"{wrong[0]} wrong: {wrong[1]:#x} gave {wrong[2]}"
