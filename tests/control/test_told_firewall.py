# SPDX-License-Identifier: Apache-2.0
"""What a firewall was told is told again part by part: what cannot be any more costs only itself."""

import json

import pytest

from restore_worlds import NAT, POLICERS, RULES, router
from vforward.control import rules as r
from vforward.control import told_firewall as module

DENY = r.Rule(action="deny", name="unrelated", protocol="icmp")
PORTS = ("lan", "wan", "vm1")


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def told(made):
    """What the next process is told, by part."""
    entries = json.loads(json.dumps(made.told.entries))
    assert {name.split(" ")[0] for name in entries} == {"firewall"}
    return {name.split(" ")[1]: entry for name, entry in entries.items()}


def said(part, things):
    wanted = module.Wanted(r.FirewallSettings(default="deny"), **{part: things})
    return {part: {"new": False, "is": module.part_of(part, wanted)}}


def test_all_parts_there_and_back():
    settings = r.FirewallSettings(default="permit", sessions=1023, timeouts={"udp": 7})
    with router() as made:
        made.set_rules(
            [DENY, r.Rule(action="permit", from_="@a", protocol="tcp", to_ports="@p")],
            address_sets={"a": ["10.6.0.0/16"]},
            port_sets={"p": [80, "8000-8080"]},
        )
        made.set_nat([])
        made.add_policer("silver", r.Policer(rate=64, burst=64))
        made.set_firewall(settings)
        again, wanted = told(made), made.firewall.wanted
    assert set(again) == {"settings", *module.LISTS, *module.NAMED}
    with router() as made:
        assert made.firewall.wanted != wanted
        assert module.repeat_firewall(made, again) == (6, 0)
        assert made.firewall.wanted == wanted


def test_a_rule_at_a_port_that_is_gone_costs_only_itself(caplog):
    """And so does NAT; a rule that names other ports, too, is in force there."""
    with router(ports=PORTS) as made:
        made.add_policer("silver", r.Policer(rate=64, burst=64))
        made.set_rules(
            [
                r.Rule(action="permit", name="to-vm", out="vm1"),
                DENY,
                r.Rule(action="permit", name="both", in_=["vm1", "lan"], out=["self", "vm1"]),
                r.Rule(action="permit", name="own", in_="vm1", out="self"),
                r.Rule(action="permit", name="vm", in_="lan", out="vm1", police="silver"),
            ],
            address_sets={"a": ["10.6.0.0/16"]},
        )
        made.set_nat(
            [
                r.Masquerade(out="vm1"),
                r.StaticNat(inside="10.0.1.9", outside="203.0.113.7", port=["wan", "vm1"]),
            ]
        )
        made.set_firewall(r.FirewallSettings(default="reject", sessions=1023))
        again = told(made)
    with router() as made:
        assert module.repeat_firewall(made, again) == (5, 4)
        wanted = made.firewall.wanted
        assert wanted.rules == (
            DENY,
            r.Rule(action="permit", name="both", in_="lan", out="self"),
        )
        assert wanted.nat == (r.StaticNat(inside="10.0.1.9", outside="203.0.113.7", port="wan"),)
        assert set(wanted.policers) == {"gold", "silver"}
        assert set(wanted.sets.addresses) == {"a"}
        assert wanted.settings.default == "reject"
        for what in ("rules[0] 'to-vm' at 'vm1'", "rules[3] 'own' at 'vm1'", "nat[0] at 'vm1'"):
            assert (
                f"firewall {what} was told at run time, and cannot be in force any more"
                in caplog.text
            )
        assert "unrelated" not in caplog.text


def test_a_rule_at_a_port_that_is_not_routed_any_more():
    rules = [DENY, r.Rule(action="permit", in_="one")]  # in a bridge
    with router() as made:
        assert module.repeat_firewall(made, said("rules", rules)) == (1, 1)
        assert made.firewall.wanted.rules == (DENY,)


def test_a_part_that_cannot_be_costs_only_what_needs_it(caplog):
    """Rules go with their sets and settings, whatever is wrong: a mix would mean what nobody said."""
    bad = {
        "settings": {"is": {"default": "permit", "loose": False, "per_source": 0, "timeouts": {}}}
    }
    bad |= said("rules", [r.Rule(action="deny", from_="@nowhere")])
    bad |= said("policers", {**POLICERS, "silver": r.Policer(rate=64, burst=64)})
    bad |= said("nat", [])
    bad |= {"address_sets": {"is": {"a": ["10.6.0.0/16"]}}}
    with router() as made:
        before = made.firewall.wanted
        assert module.repeat_firewall(made, bad) == (2, 3)
        wanted = made.firewall.wanted
        assert (wanted.rules, wanted.sets, wanted.settings) == (
            before.rules,
            before.sets,
            before.settings,
        )
        assert wanted.nat == ()
        assert set(wanted.policers) == {"gold", "silver"}
        assert "firewall rules, address_sets was told at run time" in caplog.text
        assert "names a set that does not exist" in caplog.text
        assert "firewall settings was told at run time" in caplog.text


def test_nat_that_cannot_be_costs_no_rules():
    bad = said("rules", [DENY]) | said("nat", [r.Masquerade(out="wan", from_="@nowhere")])
    with router() as made:
        assert module.repeat_firewall(made, bad) == (1, 1)
        assert made.firewall.wanted.rules == (DENY,)
        assert list(made.firewall.wanted.nat) == NAT


@pytest.mark.parametrize("damage", [{}, {"is": 7}, {"is": {"a": 7}}, {"is": {"a": ["x"]}}])
def test_rules_are_not_in_force_with_other_sets_than_theirs(damage, caplog):
    bad = said("rules", [r.Rule(action="deny", from_="10.0.0.0/8")]) | {"address_sets": damage}
    with router() as made:
        assert module.repeat_firewall(made, bad) == (0, 2)
        assert list(made.firewall.wanted.rules) == RULES
        assert "cannot be in force any more" in caplog.text


def test_nothing_told_nothing_done(caplog):
    with router() as made:
        changes = made.firewall.changes
        assert module.repeat_firewall(made, {}) == (0, 0)
        assert made.firewall.changes == changes
        assert caplog.text == ""


def test_a_firewall_that_is_off_by_now(caplog):
    again = said("rules", [DENY]) | {"settings": {"is": dict.fromkeys(module.SETTINGS, 0)}}
    with router(rules=None) as made:
        assert module.repeat_firewall(made, again) == (0, 2)
        assert not made.firewall.on
        assert "the firewall is off" in caplog.text
