# SPDX-License-Identifier: Apache-2.0
"""What a program says to the firewall: parsed when it is made, refused in words."""

import pytest

from vforward.control import rules as r
from vforward.control.flow_words import Flags, IcmpKind, Range, SetName, Span
from vforward.errors import ConfigError
from vforward.tables.session import KINDS


def test_a_rule_holds_what_its_words_mean():
    rule = r.Rule(
        action="permit",
        name="web",
        from_="10.0.0.0/24",
        to=["@servers", "::1"],
        protocol=["tcp", 17],
        to_ports=80,
        tcp_flags="syn",
        dscp="ef",
        in_="lan",
        mark=0,
    )
    assert rule.from_ == (Range(4, 10 << 24, (10 << 24) + 255),)
    assert rule.to == (SetName("servers"), Range(6, 1, 1))
    assert (rule.protocol, rule.to_ports, rule.dscp) == ((6, 17), (Span(80, 80),), 46)
    assert (rule.tcp_flags, rule.in_, rule.out, rule.mark) == (Flags(2, 2), ("lan",), (), 0)
    assert r.Rule(action="deny", icmp="3/4").icmp == (IcmpKind(3, 4),)


def test_equal_rules_are_equal_however_they_are_written():
    one = r.Rule(action="permit", from_="10.0.0.0-10.0.0.255", protocol="tcp")
    assert one == r.Rule(action="permit", from_=["10.0.0.0/24"], protocol=[6])
    assert len({one, r.Rule(action="permit", from_=("10.0.0.0/24",), protocol=(6,))}) == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"action": "drop"}, "Rule: action: is not one of 'permit', 'deny', 'reject' (got 'drop')"),
        (
            {"action": "deny", "name": "x", "from_": "10.0.0.1/8"},
            'Rule x: from: has host bits that are not zero; did you mean "10.0.0.0/8"? '
            "(got '10.0.0.1/8')",
        ),
        ({"action": "deny", "vlan": 0}, "Rule: vlan: is not a whole number from 1 to 4094 (got 0)"),
        ({"action": "deny", "stateful": 1}, "Rule: stateful: is not true or false (got 1)"),
        ({"action": "deny", "family": 5}, "Rule: family: is not one of 4, 6 (got 5)"),
        ({"action": "deny", "police": 7}, "Rule: police: has the wrong type (got 7)"),
        ({"action": "deny", "sessions": True}, "Rule: sessions: is not a whole number from 0 to "),
    ],
)
def test_a_wrong_value_is_refused(given, says):
    with pytest.raises(ConfigError) as caught:
        r.Rule(**given)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("given", "bits"),
    [(8, 8), ("64k", 64_000), ("2.5G", 2_500_000_000), ("1T", 10**12), ("0.064M", 64_000)],
)
def test_rate(given, bits):
    assert r.rate(given) == bits


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (7, "is too small"),
        ("1.1T", "is too large"),
        ("8.5", "is not a whole number of bits"),
        ("10m", "is not a rate"),
        ("", "is not a rate"),
        (1 << 99, "is not a rate"),
        (1.5, "has the wrong type"),
        (True, "has the wrong type"),
    ],
)
def test_what_is_no_rate(given, says):
    with pytest.raises(ValueError) as caught:
        r.rate(given)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("parse", "given", "says"),
    [
        (r.range4, "::1", "is not an IPv4 address, nor a range of them"),
        (r.range4, "@x", "is not an IPv4 address, nor a range of them"),
        (r.address4, "10.0.0.0/31", "is more than one address"),
        (r.prefix4, "10.0.0.1-10.0.0.2", "is not an address or a prefix"),
        (r.span, "@x", "is a set, and cannot be one here"),
        (r.new_ports, "0-9", "begins at 0, which is no port"),
        (r.remedy, "dorp", "is not a DSCP"),
    ],
)
def test_other_values_that_are_refused(parse, given, says):
    with pytest.raises(ValueError) as caught:
        parse(given)
    assert str(caught.value) == says


def test_what_a_policer_does():
    policer = r.Policer(rate="1M", burst=1500, yellow="af13", red="pass")
    assert (policer.rate, policer.yellow, policer.red) == (1_000_000, 14, "pass")
    assert policer.peak_rate is None


def test_nat():
    assert r.Masquerade(out="wan").ports == Span(1024, 65535)
    assert r.SourceNat(pool="192.0.2.0/30", out="wan").out == ("wan",)
    assert r.DestinationNat(to="192.0.2.1", new="10.0.0.1", to_ports=80).to_ports == Span(80, 80)
    assert r.StaticNat(inside="10.0.0.0/30", outside="192.0.2.0/30").inside.last & 3 == 3
    with pytest.raises(ConfigError, match="StaticNat: inside: is not an IPv4 address"):
        r.StaticNat(inside="::1", outside="192.0.2.0")


def test_settings():
    assert r.FirewallSettings(default="deny", timeouts={"udp": 30}).timeouts == {"udp": 30}
    with pytest.raises(
        ConfigError, match="FirewallSettings: timeouts: has 'upd', which is none of tcp_"
    ):
        r.FirewallSettings(default="deny", timeouts={"upd": 30})
    with pytest.raises(ConfigError, match="timeouts: is not a whole number from 1 to 60000"):
        r.FirewallSettings(default="deny", timeouts={"udp": 0})


def test_timeouts_are_those_of_the_sessions():
    assert [name.replace("_", "-") for name in r.TIMEOUTS] == list(KINDS)
