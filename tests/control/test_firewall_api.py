# SPDX-License-Identifier: Apache-2.0
"""What a program may say to the firewall: all at once or nothing, and only where there is one."""

import pytest

import vforward
from vforward.control import rules as r
from vforward.control.firewall import Firewall
from vforward.control.firewall_api import FirewallApi
from vforward.control.interfaces import Interfaces
from vforward.errors import ConfigError
from vforward.memory.arena import Arena


class Small(FirewallApi):
    """A forwarder that has nothing else."""

    def __init__(self, arena):
        self.firewall = Firewall(arena, Interfaces(arena), 10**9, 4096)


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Arena.create("lab") as arena:
        yield Small(arena)


def test_sets_stay_when_rules_change(small):
    small.set_firewall(r.FirewallSettings(default="deny", sessions=1023))
    rule = r.Rule(action="permit", to="@x")
    small.set_rules([rule], address_sets={"x": "10.0.0.1"})
    small.set_rules([rule, rule])
    small.set_nat([r.SourceNat(pool="192.0.2.1", from_="@x")])
    wanted = small.firewall.wanted
    assert (len(wanted.rules), len(wanted.nat), list(wanted.sets.addresses)) == (2, 1, ["x"])
    with pytest.raises(ConfigError, match="names a set that does not exist"):
        small.set_rules([rule], address_sets={})
    assert small.firewall.wanted is wanted


def test_policers_are_added_and_set_anew(small):
    small.set_firewall(r.FirewallSettings(default="deny", sessions=1023))
    one, other = (r.Policer(rate=rate, burst=64) for rate in (8, 9))
    small.add_policer("a", one)
    small.add_policer("b", one)
    small.add_policer("a", other)
    assert small.firewall.wanted.policers == {"a": other, "b": one}
    with pytest.raises(ConfigError, match=r"policers.c.peak_rate: is below rate"):
        small.add_policer("c", r.Policer(rate=9, burst=64, peak_rate=8, peak_burst=64))


def test_rules_are_added_and_deleted_one_by_one(small):
    with pytest.raises(ConfigError, match="the firewall is off"):
        small.add_rule(r.Rule(action="deny"))
    small.set_firewall(r.FirewallSettings(default="deny", sessions=1023))
    first, named, last = (
        r.Rule(action="deny", vlan=n, name=name) for n, name in ((1, ""), (2, "7"), (3, ""))
    )
    assert small.add_rule(named) == 0
    assert small.add_rule(last) == 1
    assert small.add_rule(first, before="7") == 0  # a name comes before a number
    assert small.firewall.wanted.rules == (first, named, last)
    for which in (3, "3", -1, "-1", "", "x", 10**30, "0000000009"):
        with pytest.raises(KeyError, match="no rule"):
            small.delete_rule(which)
    small.delete_rule("7")
    small.delete_rule(1)
    assert small.firewall.wanted.rules == (first,)
    with pytest.raises(ConfigError, match="names a policer that does not exist"):
        small.add_rule(r.Rule(action="permit", police="gold"))
    assert small.firewall.wanted.rules == (first,)


def test_a_policer_that_a_rule_names_stays(small):
    small.set_firewall(r.FirewallSettings(default="deny", sessions=1023))
    small.add_policer("gold", r.Policer(rate=8, burst=64))
    small.add_rule(r.Rule(action="permit", police="gold"))
    with pytest.raises(ConfigError, match="names a policer that does not exist"):
        small.delete_policer("gold")
    small.delete_rule(0)
    small.delete_policer("gold")
    with pytest.raises(KeyError, match="no policer gold; there are: none"):
        small.delete_policer("gold")


def test_sessions(small):
    small.set_firewall(r.FirewallSettings(default="deny", sessions=1023))
    small.firewall.prepare()
    assert small.sessions(5, protocol="tcp") == []
    assert small.count_sessions(from_="10.0.0.0/8") == 0
    assert small.kill_sessions() == 0
    with pytest.raises(ConfigError, match="sessions: is not a protocol"):
        small.sessions(protocol="x")


def test_all_of_it_needs_a_firewall(small):
    for call in (
        lambda: small.set_rules([]),
        lambda: small.set_nat([]),
        lambda: small.add_policer("a", r.Policer(rate=8, burst=64)),
        small.sessions,
        small.count_sessions,
        small.kill_sessions,
    ):
        with pytest.raises(ConfigError, match="the firewall is off"):
            call()


def test_the_words_are_the_librarys():
    for name in ("Rule", "FirewallSettings", "Policer", "Masquerade", "StaticNat"):
        assert getattr(vforward, name) is getattr(r, name)
