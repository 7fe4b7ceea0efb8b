"""The tables against a dict of ipaddress networks, while they change, and while others read them."""

import ipaddress
import itertools
import os
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from oracles.lpm import Table, mask
from vforward.errors import ArenaError
from vforward.jit.atomics import load_acquire64, store_release64
from vforward.jit.intrinsics import address as address_of
from vforward.jit.kernel import kernel
from vforward.memory.arena import Arena
from vforward.tables import TableFull, trie
from vforward.tables.fib import OP, Fib4, Fib6
from vforward.tables.trie_change import TOP

numbers = itertools.count()
VRFS = 3
NETWORK = {32: ipaddress.IPv4Network, 128: ipaddress.IPv6Network}
CLASS = {32: Fib4, 128: Fib6}


def new_arena():
    return Arena.create(f"fib-{os.getpid()}-{next(numbers)}")


@pytest.fixture
def arena():
    with new_arena() as made:
        yield made


def ip(a, b=0, c=0, d=0):
    return a << 24 | b << 16 | c << 8 | d


def ops(changes, bits=32):
    """An array of OP from (add, prefix, length, value, vrf)."""
    out = np.zeros(len(changes), OP)
    for i, (add, prefix, length, value, vrf) in enumerate(changes):
        whole = prefix << 128 - bits
        out[i] = (whole >> 64, whole & (1 << 64) - 1, value, vrf, length, add)
    return out


def strategies(bits):
    """Few bits differ, so prefixes nest and adjoin; lengths lie where the trie changes its level."""
    top = (1 << bits) - 1
    edges = {0, 1, 8, 15, 16, 17, 23, 24, 25, 31, 32, 48, 63, 64, 65, 72, 127, 128}
    lengths = st.sampled_from(sorted(n for n in edges if n <= bits)) | st.integers(0, bits)
    left = bits - 32
    ends = st.sampled_from([0, ip(10) << left, ip(10, 0, 255, 255) << left, top])
    flips = st.sampled_from([0, *(1 << n for n in range(0, bits, 7)), 1 << bits - 16])
    addresses = st.builds(lambda end, flip: end ^ flip, ends, flips)
    values = st.sampled_from([0, 1, trie.VALUE_MAX]) | st.integers(1, 3)
    vrfs = st.integers(0, VRFS - 1)
    return st.tuples(st.booleans(), addresses, lengths, values, vrfs)


class Changes(RuleBasedStateMachine):
    """Any sequence of changes, in a table with so few lines that they run out."""

    bits = 32
    lines = 600

    def __init__(self):
        super().__init__()
        self.arena = new_arena()
        self.fib = CLASS[self.bits](self.arena, n_vrfs=VRFS, max_lines=self.lines)
        self.routes = {}  # (vrf, network) -> value
        self.asked = {0, (1 << self.bits) - 1}

    def teardown(self):
        del self.fib
        self.arena.close()

    def network(self, prefix, length):
        return NETWORK[self.bits]((prefix & mask(length, self.bits), length))

    def full(self):
        """So little room is left that a change of many nodes may not find it."""
        top = int(self.fib._state[2])
        return top > self.lines - 300

    @rule(data=st.data())
    def change(self, data):
        add, prefix, length, value, vrf = data.draw(strategies(self.bits))
        key = vrf, self.network(prefix, length)
        try:
            if add:
                self.fib.add(prefix, length, value, vrf)
                self.routes[key] = value
            elif key in self.routes:
                self.fib.delete(prefix, length, vrf)
                del self.routes[key]
            else:
                with pytest.raises(KeyError):
                    self.fib.delete(prefix, length, vrf)
        except TableFull:
            assert self.full()

    @precondition(lambda self: self.routes)
    @rule(data=st.data())
    def delete_one_of_ours(self, data):
        vrf, network = data.draw(st.sampled_from(sorted(self.routes)))
        try:
            self.fib.delete(int(network.network_address), network.prefixlen, vrf)
        except TableFull:
            assert self.full()
        else:
            del self.routes[vrf, network]

    @rule(data=st.data())
    def apply(self, data):
        batch = data.draw(st.lists(strategies(self.bits), max_size=20))
        done, absent = len(batch), None
        try:
            absent = self.fib.apply(ops(batch, self.bits))
        except TableFull as error:
            assert self.full()
            done = error.done
        not_there = 0
        for add, prefix, length, value, vrf in batch[:done]:
            key = vrf, self.network(prefix, length)
            if add:
                self.routes[key] = value
            else:
                not_there += self.routes.pop(key, None) is None
        assert absent in (None, not_there)

    @rule(data=st.data())
    def reclaim(self, data):
        n = data.draw(st.none() | st.integers(0, self.fib.retired))
        before = self.fib.retired
        self.fib.reclaim(n)
        assert self.fib.retired == (0 if n is None else before - n)

    @rule()
    def delete_all(self):
        self.fib.reclaim()
        for vrf, network in list(self.routes):
            self.fib.delete(int(network.network_address), network.prefixlen, vrf)
            del self.routes[vrf, network]
            self.fib.reclaim()
        assert not self.fib.root.any()

    @invariant()
    def right(self):
        self.fib.check()
        assert len(self.fib) == len(self.routes)
        for vrf in range(VRFS):
            mine = {network: v for (of, network), v in self.routes.items() if of == vrf}
            listed = [(int(n.network_address), n.prefixlen, v) for n, v in sorted(mine.items())]
            assert list(self.fib.items(vrf)) == listed
            asked = {0, (1 << self.bits) - 1}
            for network in mine:
                ends = int(network.network_address), int(network.broadcast_address)
                asked |= {*ends, max(ends[0] - 1, 0), min(ends[1] + 1, (1 << self.bits) - 1)}
            for address in asked:
                covers = [
                    n for n in mine if int(n.network_address) <= address <= int(n.broadcast_address)
                ]
                best = max(covers, key=lambda n: n.prefixlen, default=None)
                wanted = mine[best] if best is not None else 0
                assert self.fib.lookup(address, vrf) == wanted, hex(address)


class Changes6(Changes):
    """The same for IPv6."""

    bits = 128
    lines = 800


TestChanges4 = Changes.TestCase
TestChanges4.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestChanges6 = Changes6.TestCase
TestChanges6.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("bits", [32, 128])
def test_every_length_nested_in_the_one_before(arena, bits):
    fib = CLASS[bits](arena, n_vrfs=1, max_lines=4096)
    address = (0x2A818181 << 96 | 0x8181 << 60 | 0x81) >> 128 - bits
    for length in range(bits + 1):
        fib.add(address & mask(length, bits), length, length + 1)
        assert fib.lookup(address) == length + 1
        if length:
            assert fib.lookup(address ^ 1 << bits - length) == length
    fib.check()
    for length in range(bits, -1, -1):
        fib.delete(address, length)
        assert fib.lookup(address) == length
        fib.check()
    assert len(fib) == 0
    assert not fib.root.any()


def test_adding_in_any_order_gives_the_same_table(arena):
    routes = [(ip(10, 1, 2, 3) & mask(n), n, n + 1) for n in (0, 8, 16, 17, 24, 25, 32)]
    for i, order in enumerate(itertools.islice(itertools.permutations(routes), 0, 5040, 97)):
        fib = Fib4(arena, f"t{i}", n_vrfs=1, max_lines=1024)
        for route in order:
            fib.add(*route)
        fib.check()
        assert fib.lookup(ip(10, 1, 2, 3)) == 33
        assert fib.lookup(ip(10, 1, 2, 2)) == 26


def test_host_bits_do_not_matter(arena):
    fib = Fib4(arena)
    fib.add(ip(10, 9, 9, 9), 8, 5)
    assert list(fib.items()) == [(ip(10), 8, 5)]
    fib.delete(ip(10, 7, 7, 7), 8)
    assert len(fib) == 0


@pytest.mark.parametrize(
    ("prefix", "length", "value", "vrf"),
    [
        *[(-1, 8, 1, 0), (1 << 32, 8, 1, 0), (0, 33, 1, 0), (0, -1, 1, 0)],
        *[(0, 8, trie.VALUE_MAX + 1, 0), (0, 8, -1, 0), (0, 8, 1, 64), (0, 8, 1, -1)],
    ],
)
def test_what_is_no_route_is_refused(arena, prefix, length, value, vrf):
    fib = Fib4(arena)
    with pytest.raises(ValueError, match="fib4"):
        fib.add(prefix, length, value, vrf)
    assert len(fib) == 0


def test_batches_with_a_bad_operation_are_refused_whole(arena):
    fib = Fib4(arena)
    for bad in ((1, 0, 33, 1, 0), (1, 0, 8, trie.VALUE_MAX + 1, 0), (1, 0, 8, 1, 64)):
        with pytest.raises(ValueError, match="fib4"):
            fib.apply(ops([(1, 0, 8, 1, 0), bad]))
    assert len(fib) == 0


def test_full_says_how_many_were_done_and_nothing_retired_is_reused_before_reclaim(arena):
    fib = Fib4(arena, max_lines=33)  # two nodes of 256 entries
    with pytest.raises(TableFull, match=r"all 32 lines .* after 2 of 3") as caught:
        fib.apply(ops([(1, ip(n), 24, n, 0) for n in (1, 2, 3)]))
    assert caught.value.done == 2
    fib.delete(ip(1), 24)
    with pytest.raises(TableFull, match="1 nodes retired"):
        fib.add(ip(3), 24, 3)
    fib.check()
    assert [fib.lookup(ip(n)) for n in (1, 2, 3)] == [0, 2, 0]
    with pytest.raises(ValueError, match="retired"):
        fib.reclaim(2)
    fib.reclaim(1)
    fib.add(ip(3), 24, 3)
    fib.check()


def test_vrfs_do_not_see_each_other(arena):
    fib = Fib6(arena)
    assert fib.nodes[1] == 0
    fib.add(0, 0, 1)
    fib.add(1 << 127, 128, 2, vrf=63)
    assert fib.nodes[1] == 1  # readers are to look at ports' VRFs now
    assert [fib.lookup(1 << 127, vrf) for vrf in (0, 1, 63)] == [1, 0, 2]
    with pytest.raises(KeyError):
        fib.delete(0, 0, vrf=63)


def test_readers_are_told_that_a_port_is_in_a_vrf(arena):
    fib = Fib4(arena)
    fib.use_vrf(0)
    assert fib.nodes[1] == 0
    fib.use_vrf(5)
    assert fib.nodes[1] == 1
    with pytest.raises(ValueError, match="VRF 64"):
        fib.use_vrf(64)


def test_readers_in_other_processes_find_the_arrays_by_name(arena):
    fib = Fib4(arena)
    fib.add(ip(10), 24, 77)
    assert fib.tables == {"fib4_root": fib.root, "fib4_nodes": fib.nodes}
    other = Arena.attach(arena.name)
    root, nodes = other.open("fib4.root"), other.open("fib4.nodes")
    assert nodes[(int(root[ip(10) >> 16]) & trie.LINE) * trie.WORDS] & trie.VALUE_MAX == 77
    other.close()


@pytest.mark.parametrize("bits", [32, 128])
def test_bulk(arena, bits):
    """Half of the routes anywhere, half of them close together and long; then none."""
    rng = np.random.default_rng(4)
    n, left = 15_000, bits - 32
    few = [int(x) << left for x in rng.integers(0, 1 << 32, n)]
    near = [ip(10, 16) << left | int(x) << left >> 16 for x in rng.integers(0, 1 << 28, n)]
    sizes = [*rng.integers(6, 25, n).tolist(), *rng.integers(16, min(bits, 64) + 1, n).tolist()]
    prefixes = [p & mask(s, bits) for p, s in zip(few + near, sizes, strict=True)]
    values = rng.integers(1, trie.VALUE_MAX, 2 * n).tolist()
    last = {(p, s): v for p, s, v in zip(prefixes, sizes, values, strict=True)}
    oracle = Table(bits)
    oracle.routes = [(p, s, v) for (p, s), v in last.items()]
    fib = CLASS[bits](arena, n_vrfs=1)
    called = []

    def between(done):
        called.append(done)
        fib.reclaim()

    fib.add_many(prefixes, sizes, values, between=between)
    assert called[-1] == 2 * n
    fib.check()
    assert list(fib.items()) == sorted(oracle.routes)
    picked = rng.choice(2 * n, 40).tolist()
    for i in picked:
        host = int(rng.integers(0, 1 << 32)) & (1 << bits - sizes[i]) - 1
        asked = prefixes[i] | host
        assert fib.lookup(asked) == (oracle.lookup(asked) or 0)
    gone = ops([(0, p, s, 0, 0) for p, s in last], bits)
    rng.shuffle(gone)
    half = len(gone) // 2
    assert fib.apply(gone[:half]) == 0
    fib.check()
    assert fib.apply(gone) == half
    fib.reclaim()
    fib.check()
    assert not fib.root.any()


@kernel
def watch(root, nodes, wanted, allowed, shared, wrong):
    """Look up in rounds until shared[0] is set; shared[1] counts rounds, each a quiet point.

    Bit v of allowed[i] says that value v is right for wanted[i]. wrong[0] counts, wrong[1:] show.
    """
    where = address_of(shared)
    rounds = np.uint64(0)
    while load_acquire64(where) == np.uint64(0):
        for i in range(wanted.size):
            value = trie.lookup4(root, nodes, 0, wanted[i])
            if value >= 64 or allowed[i] >> np.uint64(value) & np.uint64(1) == 0:
                wrong[0] += 1
                wrong[1], wrong[2] = wanted[i], value
        rounds += np.uint64(1)
        store_release64(where + 8, rounds)


def churn(fib, dies, shared):
    """Add and delete 100 000 of these routes, and reclaim what no reader has. Returns how many lines."""
    rng = np.random.default_rng(7)
    waiting, since, changes, reused = 0, 0, 0, 0
    while changes < 100_000:
        picked = rng.integers(0, len(dies), 40)
        batch = ops([(rng.integers(2), *dies[i], 0) for i in picked])
        try:
            fib.apply(batch)
            changes += len(batch)
        except TableFull as error:
            changes += error.done
        if shared[1] >= since + 2:  # a whole round began and ended after these were retired
            fib.reclaim(waiting)
            reused += waiting
            waiting, since = fib.retired, int(shared[1])
    return reused


def test_readers_see_the_old_or_the_new_route_and_nothing_else(arena):
    """Two regions take nodes from each other, and have no value in common: 1..31 and 32..63."""
    fib = Fib4(arena, max_lines=900)
    lives, dies = [], []
    for region, first in ((ip(10), 1), (ip(11), 32)):
        lives.append((region, 8, first))
        shapes = [(16, 0), (17, 0), (17, 1 << 15), (23, 0), (24, 0), (24, 1 << 8), (25, 1 << 7)]
        shapes += [(32, 0), (32, 255), (31, 254), (24, 1 << 16), (32, 1 << 16), (15, 0), (12, 0)]
        dies += [(region | p, n, first + 1 + i) for i, (n, p) in enumerate(shapes)]
    for route in lives:
        fib.add(*route)
    for i in range(40):  # so that nodes are not dense anymore
        fib.add(ip(99, i), 24, 1)
    fib.reclaim()
    routes = lives + dies
    wanted = sorted({p + d for p, n, _ in dies for d in (0, 1, 127, 128, 254, 255, 256, 1 << 15)})
    allowed = [sum(1 << v for p, n, v in routes if (a ^ p) & mask(n) == 0) for a in wanted]
    shared, wrong = np.zeros(2, np.uint64), np.zeros(3, np.int64)
    arrays = np.array(wanted, np.uint32), np.array(allowed, np.uint64), shared, wrong
    reader = threading.Thread(target=watch, args=(fib.root, fib.nodes, *arrays))
    shared[0] = 1
    watch(fib.root, fib.nodes, *arrays)  # compiled here, so that all of the churn is watched
    shared[0] = 0
    reader.start()
    try:
        reused = churn(fib, dies, shared)
    finally:
        shared[0] = 1
        reader.join()
    fib.check()
    assert shared[1] > 100
    assert reused > 1000
    assert wrong[0] == 0, f"{wrong[0]} wrong: {wrong[1]:#x} gave {wrong[2]}"


@pytest.mark.parametrize("bits", [32, 128])
def test_memory_that_is_refused_is_an_error_and_not_a_signal(arena, monkeypatch, bits):
    """Where the file system is full no node is made, and what is there stays right; later there is room."""
    fib = CLASS[bits](arena)
    full = True

    def use(name, first, last):
        if full:
            raise ArenaError(f"segment {name!r}: No space left on device")
        return Arena.use(arena, name, first, last)

    monkeypatch.setattr(arena, "use", use)
    there, left = fib._there, bits - 32
    prefixes = [ip(10 + (n >> 16), n >> 8 & 255, n & 255, 128) << left for n in range(1 << 18)]
    with pytest.raises(TableFull, match="No space left on device") as caught:
        fib.add_many(halves(prefixes, bits), [25] * len(prefixes), [1] * len(prefixes))
    done = caught.value.done
    assert 1000 < done < len(prefixes)
    assert int(fib._state[TOP]) * trie.WORDS * 4 <= fib._there == there
    assert len(fib) == done
    assert fib.lookup(prefixes[0]) == fib.lookup(prefixes[done - 1]) == 1
    assert fib.lookup(prefixes[done]) == 0
    full = False
    fib.add(prefixes[done], 25, 2)
    assert fib.lookup(prefixes[done]) == 2
    assert fib._there > there


def halves(prefixes, bits):
    if bits == 32:
        return prefixes
    return np.array([(p >> 64, p & (1 << 64) - 1) for p in prefixes], np.uint64)
