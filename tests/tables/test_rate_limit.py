"""Token buckets with a virtual clock, against the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.rate_limit import Limits
from vforward.tables import rate_limit

HZ = 1000
START = 1 << 40
YEARS = 100 * 365 * 24 * 3600 * 4_000_000_000
"""Cycles of a hundred years at 4 GHz."""


def table(destinations=16, hz=HZ, **rates):
    made = np.zeros(rate_limit.items_for(destinations), np.uint64)
    return rate_limit.prepare(made, hz, **rates)


def allow(limits, key, now):
    return rate_limit.allow(limits, np.uint64(key), np.uint64(now))


def oracle(rate, burst, each_rate, each_burst):
    def step(r):
        return max(1, HZ // r) if r else 0

    return Limits(step(rate), burst, step(each_rate), each_burst)


rates = st.sampled_from((0, 1, 3, 100, 1000, 5000))
bursts = st.sampled_from((1, 2, 6, 50))
gaps = st.one_of(
    st.sampled_from((0, 0, 0, 1, 9, 10, 11, 332, 333, 334, 999, 1000, 1001, 10**9, YEARS)),
    st.integers(0, 3000),
)


@settings(deadline=None, max_examples=300)
@given(
    rates, bursts, rates, bursts,
    st.lists(st.tuples(gaps, st.sampled_from((0, 1, 2**32, 2**64 - 1))), max_size=60),
)  # fmt: skip
def test_against_the_oracle(rate, burst, each_rate, each_burst, steps):
    """Four destinations: as many as a window has, so none is pushed out."""
    limits = table(rate=rate, burst=burst, each_rate=each_rate, each_burst=each_burst)
    wanted = oracle(rate, burst, each_rate, each_burst)
    now = START
    for gap, key in steps:
        now = min(now + gap, 1 << 63)
        assert allow(limits, key, now) == wanted.allow(key, now)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=300), st.integers(0, 40))
def test_many_destinations_never_get_more_than_their_own(keys, gap):
    """Pushed out, an address inherits a debt: less may be allowed, never more."""
    limits = table(rate=0, each_rate=10, each_burst=3)
    wanted = oracle(0, 1, 10, 3)
    now = START
    for key in keys:
        now += gap
        if allow(limits, key, now):
            assert wanted.allow(key, now)
        assert not limits[rate_limit.HEADER :][1::2].max() > now + 3 * 100


def test_a_flood_to_one_leaves_room_for_others():
    """What its own bucket refuses is not taken from the bucket of all."""
    limits = table(rate=100, burst=20, each_rate=10, each_burst=5)
    assert [allow(limits, 7, START) for _ in range(1000)] == [True] * 5 + [False] * 995
    assert [allow(limits, 8, START) for _ in range(6)] == [True] * 5 + [False]


def test_a_flood_to_all_is_bounded_by_the_bucket_of_all():
    limits = table(4096, rate=100, burst=20, each_rate=10, each_burst=5)
    assert sum(allow(limits, key, START) for key in range(5000)) == 20
    before = limits.copy()
    assert not allow(limits, 9999, START)
    assert (limits == before).all()  # and what is refused takes no destination's place
    assert sum(allow(limits, key, START + HZ) for key in range(5000)) == 20


def test_one_of_many_addresses_of_a_flooder_does_not_refill_its_bucket():
    limits = table(rate_limit.WINDOW, rate=0, each_rate=10, each_burst=2)
    assert sum(allow(limits, key, START) for key in range(1000)) == 2 * rate_limit.WINDOW


def test_nothing_set_is_no_limit():
    limits = np.zeros(rate_limit.items_for(1), np.uint64)
    assert all(allow(limits, key % 3, START + key // 50) for key in range(1000))


@pytest.mark.parametrize("hz", [1000, 10**9, 4 * 10**9])
def test_the_usual_rates(hz):
    limits = table(hz=hz)
    now = 10 * hz
    assert sum(allow(limits, 5, now) for _ in range(100)) == rate_limit.EACH_BURST
    assert sum(allow(limits, 5, now + hz) for _ in range(100)) == rate_limit.EACH_RATE


def test_a_rate_above_the_clock_is_one_error_per_cycle():
    limits = table(hz=10, rate=0, each_rate=1000, each_burst=1)
    assert [allow(limits, 5, START + n // 2) for n in range(4)] == [True, False, True, False]


def test_rates_change_while_it_is_in_use():
    limits = table(each_rate=1, each_burst=2)
    salt = limits[rate_limit.SALT]
    assert [allow(limits, 5, START) for _ in range(3)] == [True, True, False]
    rate_limit.prepare(limits, HZ, each_rate=0, rate=0)
    assert limits[rate_limit.SALT] == salt
    assert salt & np.uint64(1)
    assert all(allow(limits, 5, START) for _ in range(100))


def test_sizes():
    sizes = [(rate_limit.items_for(n) - rate_limit.HEADER) // 2 for n in (0, 1, 4, 5, 1000)]
    assert sizes == [4, 4, 4, 8, 1024]
    assert (rate_limit.items_for() - rate_limit.HEADER) // 2 == rate_limit.DESTINATIONS


def test_keys():
    """IPv4 addresses have keys of their own; halves do not change places."""
    assert rate_limit.key_of(np.uint64(0), np.uint64(0xFFFF_0A00_0001)) == 0xFFFF_0A00_0001
    one = rate_limit.key_of(np.uint64(1), np.uint64(2))
    assert one != rate_limit.key_of(np.uint64(2), np.uint64(1))
