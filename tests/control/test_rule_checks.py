# SPDX-License-Identifier: Apache-2.0
"""Checks for files and programs alike; their messages are in test_config_checks_firewall."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nodes.network import Heap
from vforward.control import rule_checks as checks
from vforward.control.flow_words import Range
from vforward.control.rule_rows import ROWS_MAX, Sets
from vforward.control.rules import BURST_MAX, RATE_MAX, Masquerade, Policer, Rule, SourceNat
from vforward.control.wording import Problem
from vforward.tables.policer import Policers

RATES = st.one_of(st.sampled_from((8, 9, 1000, 10**6, RATE_MAX)), st.integers(8, RATE_MAX))
BURSTS = st.one_of(st.sampled_from((64, 65, BURST_MAX)), st.integers(64, BURST_MAX))
CLOCKS = st.sampled_from((10**8, 24_000_000, 2_100_000_000, 2_600_000_001, 10**10))
MANY = {"many": tuple(Range(4, 2 * n, 2 * n) for n in range(400))}


def world(addresses=None):
    return checks.World(Sets(addresses or {}, {}), [], lambda *_: iter(()), {}, set())


def test_rows_of_a_family_are_bounded():
    fits = Rule(action="permit", from_="@many", to=[f"0.0.0.{2 * n}" for n in range(125)])
    assert ROWS_MAX == 2 * 400 * 125
    rules = dict(enumerate([fits, fits, Rule(action="deny"), fits]))
    assert list(checks.check_rules(rules, world(MANY))) == [
        Problem(
            ("rules", 2),
            "brings the rules to 100001 rows of IPv4",
            "at most 100000: a row for each pair of addresses, of ports, and so on",
        )
    ]


def test_rows_of_nat_are_bounded():
    wide = Masquerade(out="b", from_="@many", to="@many")
    (found,) = checks.check_nat({0: wide}, world(MANY))
    assert (found.path, found.what) == (("nat", 0), "brings NAT to 160000 rows")


def test_a_set_that_is_wrong_by_itself_brings_no_other_problem():
    rule = Rule(action="permit", from_="@bad")
    assert list(checks.check_rules({0: rule}, world({"bad": None}))) == []
    assert (
        list(checks.check_nat({0: Masquerade(out="b", from_="@bad")}, world({"bad": None}))) == []
    )


def test_pools_are_bounded():
    nat = {n: SourceNat(pool=f"10.0.0.{n // 2}", out="b") for n in range(2 * checks.POOLS_MAX)}
    assert list(checks.check_nat(nat, world())) == []
    nat[len(nat)] = Masquerade(out="b", ports="1-2")
    (found,) = checks.check_nat(nat, world())
    assert (found.path, found.what) == (("nat", 126), "has pool number 64")


def test_policers_are_bounded():
    policers = {f"p{n}": Policer(rate=8, burst=64) for n in range(checks.POLICERS_MAX + 1)}
    (found,) = checks.check_policers(policers)
    assert (found.path, found.what) == (("policers", "p1023"), "is policer number 1024")


def test_policers_of_a_program():
    def problems(**more):
        found = checks.check_policers({"x": Policer(rate=8, burst=64, **more)})
        return [(problem.path[-1], problem.what) for problem in found]

    assert problems(peak_rate=8) == [("peak_burst", "goes with peak_rate")]
    assert problems(peak_burst=64) == [("peak_burst", "goes with peak_rate")]
    assert problems(peak_rate=8, peak_burst=64, excess_burst=64) == [
        ("excess_burst", "is for single-rate policers")
    ]


def test_a_burst_is_no_more_than_a_day():
    def problems(**given):
        found = checks.check_policers({"x": Policer(**given)})
        return [(problem.path, problem.what, problem.allowed) for problem in found]

    day = 1000 * 24 * 3600 // 8
    assert problems(rate=1000, burst=day, excess_burst=day) == []
    assert problems(rate=1000, burst=day + 1, excess_burst=day + 2) == [
        (
            ("policers", "x", key),
            "is more bytes than rate makes in a day",
            f"at most {day}, or a higher rate",
        )
        for key in ("burst", "excess_burst")
    ]
    assert problems(rate=500, burst=64, peak_rate=1000, peak_burst=day) == []
    assert problems(rate=500, burst=64, peak_rate=1000, peak_burst=day + 1) == [
        (
            ("policers", "x", "peak_burst"),
            "is more bytes than peak_rate makes in a day",
            f"at most {day}, or a higher peak_rate",
        )
    ]


@settings(deadline=None, max_examples=300)
@given(RATES, BURSTS, st.none() | BURSTS, st.none() | st.tuples(RATES, BURSTS), CLOCKS)
@example(8, 24 * 3600, 64, None, 10**10)
@example(8, 64, 24 * 3600, None, 10**10)
def test_what_is_right_can_be_put_in_force(rate, burst, excess, peak, hz):
    """Whatever the clock: so nothing is refused when half of a change is in force."""
    peak_rate, peak_burst = peak or (None, None)
    given_ = {"peak_rate": peak_rate, "peak_burst": peak_burst} if peak else {}
    one = Policer(rate=rate, burst=burst, excess_burst=None if peak else excess, **given_)
    if not list(checks.check_policers({"x": one})):
        more = one.peak_burst or one.excess_burst or 0
        made = Policers(Heap(), hz, 2)
        made.define(1, one.rate, one.burst, excess_burst=more, peak_rate=one.peak_rate or 0)
        assert made.table[1]["kind"]


def test_what_nat_matches():
    (only,) = checks.matches_of(Masquerade(out="b", from_="10.0.0.0/8"))
    assert only == ("source", Rule(action="permit", family=4, from_="10.0.0.0/8", out="b"))
    assert checks.pool_of(Masquerade(out="b")) == (0, 0, 1024, 65535)
    assert checks.pool_of(SourceNat(pool="0.0.0.1-0.0.0.2", ports=7)) == (1, 2, 7, 7)
