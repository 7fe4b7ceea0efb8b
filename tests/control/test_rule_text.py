# SPDX-License-Identifier: Apache-2.0
"""Rules, policers and NAT in the words of the configuration."""

import pytest

from vforward.control import rule_text
from vforward.control import rules as r


@pytest.mark.parametrize(
    ("given", "match", "then"),
    [
        ({}, "all", ""),
        (
            {"from_": ["10.0.0.0/8", "@x"], "protocol": ["tcp", 99], "to_ports": [80, "90-91"]},
            "from 10.0.0.0/8,@x protocol tcp,99 to_ports 80,90-91",
            "",
        ),
        (
            {"in_": "lan", "out": ["wan", "self"], "dscp": 0, "fragments": False, "vlan": 7},
            "in lan out wan,self dscp be vlan 7 fragments false",
            "",
        ),
        ({"protocol": "icmp", "icmp": "3/4", "family": 4}, "protocol icmp icmp 3/4 family 4", ""),
        ({"protocol": "tcp", "tcp_flags": "!ack,syn"}, "protocol tcp tcp_flags syn,!ack", ""),
        (
            {"mark": 0, "police": "gold", "sessions": 3, "per_source": 4},
            "all",
            "mark be police gold sessions 3 per_source 4",
        ),
        ({"stateful": False, "mark": "ef"}, "all", "mark ef stateless"),
    ],
)
def test_rules(given, match, then):
    rule = r.Rule(action="permit", **given)
    assert (rule_text.match_text(rule), rule_text.then_text(rule)) == (match, then)


@pytest.mark.parametrize(
    ("one", "match", "new"),
    [
        (r.Masquerade(out="wan"), "out wan", "address of wan, ports 1024-65535"),
        (
            r.SourceNat(pool="192.0.2.0/30", from_="10.0.0.0/8", ports=7),
            "from 10.0.0.0/8",
            "192.0.2.0/30, ports 7",
        ),
        (
            r.DestinationNat(
                to="192.0.2.1", new="10.0.0.1", protocol="tcp", to_ports=80, new_port=81
            ),
            "protocol tcp to 192.0.2.1 to_ports 80",
            "10.0.0.1, ports from 81",
        ),
        (
            r.DestinationNat(to="192.0.2.1", new="10.0.0.1", in_="b"),
            "in b to 192.0.2.1",
            "10.0.0.1",
        ),
        (
            r.StaticNat(inside="10.0.0.0/30", outside="192.0.2.0/30", port="wan"),
            "port wan inside 10.0.0.0/30",
            "192.0.2.0/30",
        ),
    ],
)
def test_nat(one, match, new):
    assert rule_text.nat_text(one) == (match, new)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rate": "10M", "burst": 1500}, "10M burst 1500 red drop"),
        (
            {"rate": "1.5G", "burst": 64, "excess_burst": 99, "yellow": "af12"},
            "1.5G burst 64 excess 99 yellow af12 red drop",
        ),
        (
            {"rate": 1001, "burst": 64, "peak_rate": 2048, "peak_burst": 65, "red": 5},
            "1.001k burst 64 peak 2.048k burst 65 yellow pass red 5",
        ),
    ],
)
def test_policers(given, text):
    assert rule_text.policer_text(r.Policer(**given)) == text


@pytest.mark.parametrize("bits", [8, 999, 1000, 1001, 64_000, 10**6 + 1, 1_500_000_000, 10**12])
def test_a_rate_is_read_as_it_is_written(bits):
    assert r.rate(rule_text.bits(bits)) == bits
