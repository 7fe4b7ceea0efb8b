"""The routes' hash table against a dict."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.lpm import mask
from vforward.jit.kernel import i64, kernel
from vforward.tables import rib
from vforward.tables.trie import LENGTH


@kernel
def put(table, vrf, high, low, length, value):
    at = rib.find(table, vrf, high, low, length)
    rib.put(table, at, vrf, high, low, length + 1 << LENGTH | value)


@kernel
def remove(table, vrf, high, low, length):
    at = rib.find(table, vrf, high, low, length)
    there = table[at].leaf != 0
    if there:
        rib.remove(table, at)
    return there


@kernel
def cover(table, counts, vrf, high, low, length):
    return rib.cover(table, counts, vrf, high, low, length)


@kernel
def masks(length, out):
    out[0], out[1] = rib.upper_mask(length), rib.lower_mask(length)


def halves(prefix):
    return np.uint64(prefix >> 64), np.uint64(prefix & (1 << 64) - 1)


keys = st.tuples(
    st.integers(0, 2),
    st.integers(0, 127).map(lambda n: 1 << n),
    st.sampled_from([0, 1, 64, 65, 128]),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), keys, st.integers(0, 9)), max_size=60))
def test_as_a_dict(changes):
    table, routes = rib.empty(128), {}
    for add, (vrf, prefix, length), value in changes:
        prefix &= mask(length, 128)
        if add:
            put(table, vrf, *halves(prefix), length, value)
            routes[vrf, prefix, length] = value
        else:
            there = remove(table, vrf, *halves(prefix), length)
            assert there == (routes.pop((vrf, prefix, length), None) is not None)
    for copy in (table, rib.copied(table, 256)):
        assert (copy["leaf"] != 0).sum() == len(routes)
        for (vrf, prefix, length), value in routes.items():
            at = rib.find_one(copy, vrf, *halves(prefix), length)
            assert copy[at]["leaf"] == length + 1 << LENGTH | value
    counts = np.zeros((3, rib.LENGTHS), np.int64)
    for vrf, _, length in routes:
        counts[vrf, length] += 1
    for vrf, prefix, length in routes:
        shorter = [
            n + 1 << LENGTH | value
            for (of, p, n), value in routes.items()
            if of == vrf and n < length and (p ^ prefix) & mask(n, 128) == 0
        ]
        found = cover(table, counts, vrf, *halves(prefix), length)
        assert found == max(shorter, default=0)


def test_masks():
    out = np.zeros(2, np.uint64)
    for length in range(129):
        masks(i64(length), out)
        assert int(out[0]) << 64 | int(out[1]) == mask(length, 128)
