# SPDX-License-Identifier: Apache-2.0
"""What of the firewall a configuration changes, beside what was changed at run time."""

from dataclasses import replace

import pytest

from vforward.control import config
from vforward.control import rules as r
from vforward.control.difference import difference, parts
from vforward.control.reload_firewall import FIREWALL, given_of, missing
from vforward.control.rule_policy import Wanted
from vforward.control.rule_rows import Sets

TEXT = """
ports.lan = {type = "memory", address = "10.0.1.1/24"}
firewall = {default = "deny", timeouts = {udp = 7}}
rules = [{action = "permit", name = "one", from = "@some", police = "a"}]
nat = [{type = "masquerade", out = "lan"}]
policers.a = {type = "single-rate", rate = "1M", burst = 1500}
policers.b = {type = "single-rate", rate = "2M", burst = 1500}
address_sets.some = ["10.1.0.0/16"]
port_sets.web = [80]
"""
MINE = r.Policer(rate="3M", burst=1500)
RUNNING = Wanted(r.FirewallSettings(default="deny"), policers={"mine": MINE, "b": MINE})


def made(text=TEXT):
    return parts(config.parse(text, "firewall.toml"))


def test_all_sections_are_known():
    assert {key[0] for key in made()} & set(FIREWALL) == set(FIREWALL)


def test_all_of_it_where_there_was_none():
    given = given_of(made(), made(), None)
    assert set(given) == {"settings", *FIREWALL[1:]}
    assert given["settings"].timeouts == {"udp": 7}
    assert [rule.name for rule in given["rules"]] == ["one"]
    assert given["nat"] == [r.Masquerade(out="lan")]
    assert given["policers"]["a"] == r.Policer(rate="1M", burst=1500)
    assert set(given["address_sets"]) == {"some"}
    assert set(given["port_sets"]) == {"web"}


def test_of_parts_with_names_only_what_has_changed():
    after = made(TEXT.replace('"1M"', '"5M"'))
    keys = [change.key for change in difference(made(), after)]
    assert keys == [("policers", "a")]
    given = given_of(keys, after, RUNNING)
    changed = r.Policer(rate="5M", burst=1500)
    assert given == {"policers": {"mine": MINE, "b": MINE, "a": changed}}
    gone = {key: value for key, value in made().items() if key != ("policers", "b")}
    assert given_of([("policers", "b")], gone, RUNNING) == {"policers": {"mine": MINE}}
    assert given_of([("routes", "default", "10.0.0.0/8", "0")], after, RUNNING) == {}


@pytest.mark.parametrize("changed", [("rules",), ("nat",)])
def test_what_rules_of_the_configuration_may_name_is_there_again(changed):
    running = replace(RUNNING, sets=Sets({}, {"web": ()}))
    touched = [
        ("policers", "a"), ("policers", "b"), ("policers", "mine"), ("policers", "gone"),
        ("address_sets", "some"), ("port_sets", "web"), ("routes", "default", "10.0.0.0/8", "0"),
    ]  # fmt: skip
    back = [("policers", "a"), ("address_sets", "some")]
    assert missing(touched, {changed}, made(), running) == back
    assert missing(touched, {("policers", "b")}, made(), running) == []
    assert missing(touched, {changed}, made(), None) == []
