# SPDX-License-Identifier: Apache-2.0
"""Multipath groups: shares, which buckets change and which do not, ranges and uses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.network import Heap
from vforward.control.adjacencies import Adjacencies
from vforward.control.multipath import NOBODY, PATHS_MAX, SIZE_MAX, Groups, assign, size_for
from vforward.errors import ConfigError
from vforward.tables.adjacency import Way
from vforward.tables.ports import PORT

hops = st.tuples(st.integers(1, 3), st.integers(1, 30))
weights = st.dictionaries(
    hops, st.one_of(st.integers(1, 4), st.integers(1, 256)), min_size=1, max_size=PATHS_MAX
)
few = st.dictionaries(hops, st.integers(1, 5), min_size=1, max_size=6)
A, B, C, D = ((1, n) for n in range(1, 5))


def fresh(given_weights, n=0):
    return assign((NOBODY,) * (n or size_for(given_weights)), {}, given_weights)


def off(owners, of):
    """By how many buckets each hop's share is wrong."""
    total, n = sum(of.values()), len(owners)
    return {hop: owners.count(hop) - n * weight / total for hop, weight in of.items()}


@pytest.mark.parametrize(
    ("given_weights", "size"),
    [({A: 1, B: 1}, 64), ({A: 7, B: 7}, 64), ({A: 3, B: 2}, 128), ({A: 1, B: 256}, SIZE_MAX)],
)
def test_sizes(given_weights, size):
    assert size_for(given_weights) == size


@given(weights)
def test_shares_when_made(of):
    owners = fresh(of)
    assert set(owners) == set(of)
    tiny = any(len(owners) * w < sum(of.values()) for w in of.values())
    assert max(map(abs, off(owners, of).values())) <= (2 if tiny else 1)


def test_shares_of_simple_weights_are_exact():
    owners = fresh({A: 1, B: 2, C: 1})
    assert [owners.count(hop) for hop in (A, B, C)] == [16, 32, 16]


@given(weights, st.data())
def test_who_leaves_moves_only_its_own_buckets(of, data):
    owners = fresh(of)
    while len(of) > 1:
        gone = data.draw(st.sets(st.sampled_from(sorted(of)), min_size=1, max_size=len(of) - 1))
        left = {hop: weight for hop, weight in of.items() if hop not in gone}
        now = assign(owners, of, left)
        changed = {i for i in range(len(now)) if now[i] != owners[i]}
        assert changed == {i for i, hop in enumerate(owners) if hop in gone}
        assert set(now) == set(left)
        of, owners = left, now


@given(few, few)
def test_who_comes_takes_only_what_it_is_due(of, more):
    owners = fresh(of)
    now = assign(owners, of, more | of)
    changed = [i for i in range(len(now)) if now[i] != owners[i]]
    new = more.keys() - of.keys()
    assert {now[i] for i in changed} == new
    assert len(changed) == sum(now.count(hop) for hop in new)
    assert max(map(abs, off(now, more | of).values())) <= 2


@given(few, st.lists(few, max_size=6))
def test_any_change_keeps_all_who_stay_in_use(of, changes):
    owners = fresh(of, 256)
    for to in changes:
        now = assign(owners, of, to)
        assert set(now) == set(to)
        if to == of:
            assert now == owners
        if any(of.get(hop, weight) != weight for hop, weight in to.items()):
            assert max(map(abs, off(now, to).values())) <= 1
        of, owners = to, now


@given(few, st.lists(few, max_size=8))
def test_shares_after_comings_and_goings(of, changes):
    """The weight of a hop does not change here: the worst that leaving does to the others' shares."""
    owners, fixed = fresh(of, 256), dict(of)
    for to in changes:
        for hop, weight in to.items():
            fixed.setdefault(hop, weight)
        to = {hop: fixed[hop] for hop in to}
        owners = assign(owners, of, to)
        assert max(map(abs, off(owners, to).values())) <= 4
        of = to


class Bench:
    def __init__(self, n_buckets=1024, n=100):
        ports = np.zeros(4, PORT)
        self.adjacencies = Adjacencies(Heap(), ports, n)
        self.groups = Groups(Heap(), self.adjacencies, n_buckets)
        self.before = self.adjacencies.free, n_buckets

    def free(self):
        return self.adjacencies.free, self.groups.free

    def owners(self, number):
        record = self.adjacencies.table[number]
        assert record["edge"] == Way.MULTIPATH
        first, n = int(record["first"]), int(record["mask"]) + 1
        led = self.adjacencies.table[self.groups.buckets[first : first + n]]
        return tuple((int(r["tx_port"]), int(r["next_hop"][1])) for r in led)


def test_same_weights_share_a_group():
    bench = Bench()
    one = bench.groups.use({A: 1, B: 2})
    assert bench.groups.use({B: 2, A: 1}) == one
    other = bench.groups.use({A: 2, B: 1})
    assert other != one
    for number in (one, one, other):
        assert bench.free() != bench.before
        bench.groups.release(number)
        bench.adjacencies.quiet()
    assert bench.free() == bench.before
    assert len(bench.groups) == 0


def test_a_group_in_place_and_one_that_others_use():
    bench = Bench()
    one = bench.groups.use({A: 1, B: 1, C: 1})
    was = bench.owners(one)
    again = bench.groups.use({A: 1, B: 1}, one, alone=True)
    assert again == one
    bench.groups.release(one)
    now = bench.owners(one)
    assert all(n == w for n, w in zip(now, was) if w != C)
    shared = bench.groups.use({A: 1, B: 1, D: 1}, one)
    assert shared != one
    assert bench.owners(one) == now
    assert all(n == w for n, w in zip(bench.owners(shared), now) if n != D)
    for number in (one, shared):
        bench.groups.release(number)
    bench.adjacencies.quiet()
    assert bench.free() == bench.before


def test_a_group_that_grows_moves_no_flow_by_that():
    bench = Bench()
    one = bench.groups.use({A: 1, B: 1})
    was = bench.owners(one)
    more = bench.groups.use({A: 1, B: 1, C: 3}, one, alone=True)
    now = bench.owners(more)
    assert len(now) == 128
    assert all(now[i] in (was[i % 64], C) for i in range(128))
    assert now.count(C) == pytest.approx(128 * 3 / 5, abs=1)


def test_failed_hops():
    bench = Bench()
    one, two = bench.groups.use({A: 1, B: 1, C: 2}), bench.groups.use({C: 1, D: 1})
    was = bench.owners(one)
    bench.groups.set_failed(C, failed=True)
    now = bench.owners(one)
    assert {i for i in range(64) if now[i] != was[i]} == {i for i in range(64) if was[i] == C}
    assert set(bench.owners(two)) == {D}
    bench.groups.set_failed(D, failed=True)
    assert set(bench.owners(two)) == {C, D}
    late = bench.groups.use({A: 1, C: 1})
    assert set(bench.owners(late)) == {A}
    bench.groups.set_failed(C, failed=False)
    bench.groups.set_failed(C, failed=False)
    assert set(bench.owners(two)) == {C}
    assert bench.owners(one).count(C) == bench.owners(late).count(C) == 32


def test_without_room_nothing_is_taken():
    bench = Bench(n_buckets=128)
    for n in (1, 2):
        bench.groups.use({A: 1, (2, n): 1})
    before = bench.free()
    with pytest.raises(ConfigError, match="buckets"):
        bench.groups.use({B: 1, C: 1})
    assert bench.adjacencies.quiet()
    assert bench.free() == before
    bench = Bench(n=8 + 4)
    before = bench.free()
    for n in (3, 4, 5):
        with pytest.raises(ConfigError, match="adjacencies"):
            bench.groups.use({(1, i): 1 for i in range(1, n + 2)})
        bench.adjacencies.quiet()
        assert bench.free() == before


def test_ranges_become_one_again():
    bench = Bench(n_buckets=1024)
    numbers = [bench.groups.use({A: 1, (2, n): 1}) for n in range(16)]
    for number in numbers[::2] + numbers[1::2]:
        bench.groups.release(number)
    assert bench.groups.free == 0  # workers may still read them
    whole = bench.groups.use({A: 1, B: 256})  # waits for a quiet point
    assert len(bench.owners(whole)) == 1024
