"""Policers with a virtual clock, against the oracle in fractions."""

import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import Heap
from oracles import policer as oracle
from vforward.errors import ConfigError
from vforward.jit.kernel import i64, kernel, u64
from vforward.tables import policer as table
from vforward.tables.policer import DROP, PASS, Policers

HZ = 2_600_000_000
YEARS = 100 * 365 * 24 * 3600 * HZ
ACTIONS = (10, 20, 30)
COLOURS = {10: "green", 20: "yellow", 30: "red"}


def policers(hz=HZ):
    return Policers(Heap(), hz, 8)


def police(made, size, now, number=1):
    return int(table.police(made.table, number, size, np.uint64(now)))


def rate_of(bucket, shift):
    """Bytes per clock, as the table has it."""
    return Fraction(int(bucket["rate"]), 1 << int(shift))


def oracle_of(made, number=1):
    """An oracle with the very rates of a record whose buckets are full."""
    record = made.table[number]
    rate = rate_of(record["committed"], record["committed_shift"])
    bursts = int(record["committed"]["burst"]), int(record["excess"]["burst"])
    if record["kind"] == table.ONE_RATE:
        return oracle.OneRate(rate, *bursts, 0)
    peak = rate_of(record["excess"], record["excess_shift"])
    return oracle.TwoRates(rate, bursts[0], peak, bursts[1], 0)


rates = st.one_of(
    st.sampled_from((8_000, 64_000, 10**6, 10**9, 10**11, 33_333)), st.integers(8_000, 10**11)
)
bursts = st.one_of(st.sampled_from((1, 64, 1500, 1501, 65536, 10**6)), st.integers(1, 10**8))
sizes = st.one_of(st.sampled_from((20, 64, 1499, 1500, 1501, 65535, 131071)), st.integers(20, 9000))
gaps = st.one_of(
    st.sampled_from((0, 0, 0, 1, -1, HZ, HZ // 1000, YEARS)),
    st.integers(0, HZ // 1000),
    st.integers(0, 10 * HZ),
)


@settings(deadline=None, max_examples=300)
@given(
    rates, bursts, st.one_of(st.just(0), bursts), st.sampled_from((0, 0, 1, 2, 100)),
    st.lists(st.tuples(gaps, sizes), max_size=60),
)  # fmt: skip
def test_against_the_oracle(rate, burst, excess, times, packets):
    made = policers()
    made.define(
        1,
        rate,
        burst,
        excess_burst=max(excess, bool(times)),
        peak_rate=rate * times,
        actions=ACTIONS,
    )
    wanted = oracle_of(made)
    now, seen = 1, []
    for gap, size in packets:
        now = min(max(now + gap, 0), 1 << 62)
        colour = wanted.colour(size, now)
        assert COLOURS[police(made, size, now)] == colour
        seen.append((colour, size))
    found = made.statistics(1)
    for i, colour in enumerate(COLOURS.values()):
        its = [size for c, size in seen if c == colour]
        assert (found.packets[i], found.bytes[i]) == (len(its), sum(its))


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 10**11), bursts, st.sampled_from((1000, 10**9, HZ, 5 * 10**9)))
def test_rates_are_right(rate, burst, hz):
    made = policers(hz)
    try:
        made.define(1, rate, burst, bits=False)
    except ConfigError:
        assert rate >= 10**6 * hz or rate * 10**9 < hz * burst  # out of all proportion
        return
    record = made.table[1]
    found = rate_of(record["committed"], record["committed_shift"])
    assert abs(found - Fraction(rate, hz)) <= table.WORST * Fraction(rate, hz)


def test_what_passes_in_a_second_is_the_rate():
    made = policers()
    made.define(1, 8_000_000, 10_000)
    passed = sum(1000 for k in range(20_000) if police(made, 1000, k * HZ // 10_000) == PASS)
    assert abs(passed - (10_000 + 2 * 10**6)) <= 1000


def test_bits_and_bytes():
    made = policers()
    made.define(1, 8_000_000, 10_000)
    made.define(2, 1_000_000, 10_000, bits=False)
    assert made.table[1] == made.table[2]


def test_who_is_not_defined_lets_all_pass():
    made = policers()
    for number in (0, 1, 7, 8, 65535):
        assert police(made, 1500, 1, number) == PASS
    assert made.statistics(1) == ((0, 0, 0), (0, 0, 0))


def test_a_policer_can_be_changed_and_cleared():
    made = policers()
    made.define(1, 8000, 1000)
    assert [police(made, 1000, 5) for _ in range(2)] == [PASS, DROP]
    made.define(1, 8000, 3000, actions=(7, PASS, 0))
    assert [police(made, 1000, 5) for _ in range(4)] == [7, 7, 7, 0]
    assert made.statistics(1) == ((4, 0, 2), (4000, 0, 2000))
    made._cleared[1] = made.table[1]  # as `vforward clear` does
    made.clear(1)
    assert made._cleared[1]["packets"].tolist() == [0, 0, 0], "nothing is taken from the next one's"
    assert police(made, 1000, 5) == PASS
    assert made.statistics(1) == ((0, 0, 0), (0, 0, 0))


def test_what_is_refused():
    made = policers()
    for number, rate, burst, more in (
        (0, 8000, 1000, {}),
        (8, 8000, 1000, {}),
        (1, 0, 1000, {}),
        (1, 8000, 0, {}),
        (1, 8000, 1 << 32, {}),
        (1, 1, 1 << 31, {}),
        (1, 8000, 1000, {"peak_rate": 7999, "excess_burst": 1000}),
        (1, 8000, 1000, {"peak_rate": 8000}),
        (1, 8000, 1000, {"actions": (PASS, PASS, 66)}),
        (1, 8000, 1000, {"actions": (PASS, -1, 0)}),
    ):
        with pytest.raises(ConfigError):
            made.define(number, rate, burst, **more)
    assert not made.table["kind"].any()


def test_tables():
    made = policers()
    assert made.tables == {"policers": made.table}


@kernel
def _many(policers, packets):
    passed = 0
    for _ in range(packets):
        passed += table.police(policers, 1, 1, u64(0)) == i64(PASS)
    return passed


def test_several_workers_share_a_policer():
    """Its tokens are handed out once, but for the packets of who did not wait for a thread off its CPU."""
    made = Policers(Heap(), HZ, 8, shared=True)
    made.define(1, 1_000_000, 50_000)
    _many(made.table, 0)
    passed = []
    threads = [
        threading.Thread(target=lambda: passed.append(int(_many(made.table, 40_000))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 50_000 <= sum(passed) < 52_000
    counted = made.statistics(1).packets
    assert 117_000 < sum(counted) <= 120_000
    assert counted[0] <= sum(passed)
    assert int(made.table[1]["lock"]) == 0
