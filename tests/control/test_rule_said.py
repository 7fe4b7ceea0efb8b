# SPDX-License-Identifier: Apache-2.0
"""Rules as data and back are the same rules."""

import json

import pytest
from hypothesis import given

from rule_worlds import rules as any_rules
from vforward.control import rules as r
from vforward.control.config_firewall import Rule, as_object
from vforward.control.flow_words import Range, SetName, Span
from vforward.control.rule_said import meant, plain, said
from vforward.errors import ConfigError

THINGS = [
    r.Rule(action="deny"),
    r.Rule(
        action="permit", name="all", from_=["10.0.0.0/8", "@a", "::1-::5"], to="2001:db8::/32",
        protocol=["tcp", "udp"], from_ports="1024-65535", to_ports=["@web", 80], tcp_flags="syn,!ack",
        dscp="ef", vlan=7, in_=["lan", "dmz"], out="self", fragments=False, family=6, stateful=False,
        mark=0, police="gold", sessions=10, per_source=2,
    ),
    r.Rule(action="reject", protocol="icmp", icmp=["unreachable/4", 8, "3/1"]),
    r.Policer(rate="10M", burst=1500),
    r.Policer(rate="2.5G", burst=64, peak_rate=8, peak_burst=99, yellow="af11", red="pass"),
    r.Policer(rate=64, burst=1500, excess_burst=3000, yellow=3),
    r.Masquerade(out="wan"),
    r.Masquerade(out="wan", name="m", from_="10.0.0.0/8", protocol=17, ports="5000-5999"),
    r.SourceNat(pool="203.0.113.10-203.0.113.20", out=["wan", "b"]),
    r.DestinationNat(to="203.0.113.1", new="10.0.0.1", protocol="tcp", to_ports=80, new_port=8080),
    r.DestinationNat(to="203.0.113.1", new="10.0.0.1", in_="wan"),
    r.StaticNat(inside="10.0.0.0/28", outside="203.0.113.0/28", port="wan", name="s"),
]  # fmt: skip


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: type(thing).__name__)
def test_there_and_back(thing):
    text = json.dumps(said(thing))
    assert meant(json.loads(text)) == thing
    assert type(meant(json.loads(text))) is type(thing)


@given(any_rules())
def test_any_rule(table):
    rule = as_object(Rule.model_validate(table))
    assert meant(json.loads(json.dumps(said(rule)))) == rule


def test_what_is_usual_is_not_said():
    assert said(r.Rule(action="deny")) == {"kind": "Rule", "action": "deny"}


def test_sets():
    items = (Range(4, 1, 1), Span(1, 2), SetName("x"))
    assert plain({"a": 1}) == {"a": 1}
    assert plain(items) == ["0.0.0.1", "1-2", "@x"]


@pytest.mark.parametrize(
    "given",
    [
        None, 7, "Rule", [], {}, {"kind": "os"}, {"kind": "Rule"}, {"kind": ["Rule"]},
        {"kind": "Rule", "action": "deny", "nonsense": 1}, {"kind": "Rule", "action": "deny", "to": {}},
        {"kind": "Rule", "action": 7}, {"kind": "Policer", "rate": "x", "burst": 64},
    ],
)  # fmt: skip
def test_what_is_none_is_refused(given):
    with pytest.raises((ConfigError, TypeError)):
        meant(given)
