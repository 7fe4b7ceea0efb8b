# SPDX-License-Identifier: Apache-2.0
"""The firewall object: what it refuses, what it puts in force, and that off it is next to nothing."""

import numpy as np
import pytest

from vforward.control import rules as r
from vforward.control.firewall import FEATURES, Firewall
from vforward.control.interfaces import Interfaces
from vforward.control.session_list import Filter
from vforward.errors import ConfigError
from vforward.memory.arena import Arena
from vforward.tables import acl, policy, session
from vforward.tables.policer import DROP, PASS

DENY = r.FirewallSettings(default="deny", sessions=1023)
SETS = {"address_sets": {"servers": ["10.9.0.0/16", "::1"]}, "port_sets": {"web": [80, 443]}}
WEB = r.Rule(action="permit", name="web", to="@servers", protocol="tcp", to_ports="@web")


@pytest.fixture
def firewall(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Arena.create("lab") as arena:
        interfaces = Interfaces(arena)
        for name, address in (("lan", "10.0.1.1/24"), ("wan", "192.0.2.1/24"), ("bridged", ())):
            made = interfaces.new(name, "memory", address)
            if address:
                interfaces.up(made, bytes([2, 0, 0, 0, 0, made.number]), 1500, made.number)
        yield Firewall(arena, interfaces, 10**9, 4096)


def on(firewall, settings=DENY, **given):
    firewall.set(settings)
    firewall.change(**given)
    firewall.prepare()
    return firewall


def part(firewall, number, kind=np.uint64):
    """A part of the bundle in force."""
    bundle = firewall._policy.bundle
    at, words = int(bundle[2 * number]), int(bundle[2 * number + 1])
    return bundle[at : at + words].view(kind)


def classified(firewall, src, dst, dport, protocol=6):
    """The rule's action of an IPv4 packet, by the image in force."""
    fields = np.array([src, dst, dport, protocol << 24, 1 << 16, 0, 0, 0], np.uint32)
    found = np.zeros(1, np.uint32)
    acl.classify4(part(firewall, policy.FILTER4), fields, found, np.zeros(acl.WORK, np.uint64), 1)
    return int(found[0])


def test_a_part_is_said_again_as_it_is_now(firewall):
    said = []
    firewall.on_change = lambda *what: said.append(what)
    firewall.say_again("rules")
    assert said == []
    on(firewall, rules=[WEB], **SETS)
    assert [part for part, _ in said] == ["settings", "rules", "address_sets", "port_sets"]
    firewall.say_again("rules")
    assert said[4:] == [("rules", firewall.wanted)]


def test_off_it_is_small_and_nowhere(firewall):
    firewall.prepare()
    assert not firewall.on
    assert firewall.ports() == []
    assert firewall.document() == {}
    tables = firewall.tables | firewall.own[0]
    assert sum(table.nbytes for table in tables.values()) < 150_000
    assert firewall.tables["policy_in_force"][0] == 0


@pytest.mark.parametrize("what", [{"rules": []}, {"nat": []}, {"policers": {}}])
def test_what_is_said_to_one_that_is_off(firewall, what):
    with pytest.raises(
        ConfigError, match=r"the firewall is off: \[firewall\] of its file, or set_firewall"
    ):
        firewall.change(**what)
    with pytest.raises(ConfigError, match=r"the firewall is off"):
        firewall.sessions()


def test_what_is_said_before_build_is_in_force_after_it(firewall):
    on(firewall, rules=[WEB, r.Rule(action="reject", in_="lan")], **SETS)
    assert classified(firewall, 1, 0x0A090001, 443) == 1
    assert classified(firewall, 1, 0x0A090001, 444) == 2
    actions = part(firewall, policy.ACTIONS, policy.ACTION)
    assert actions["kind"].tolist() == [policy.DENY, policy.PERMIT, policy.REJECT]
    assert part(firewall, policy.FILTER6).size


def test_rules_change_while_it_runs(firewall):
    on(firewall, rules=[WEB], **SETS)
    firewall.change(rules=[r.Rule(action="deny"), WEB])
    assert classified(firewall, 1, 0x0A090001, 443) == 1
    assert part(firewall, policy.ACTIONS, policy.ACTION)["hits"].tolist() == [0, 2, 1]
    firewall.change(port_sets={"web": 7}, rules=[WEB])
    assert classified(firewall, 1, 0x0A090001, 7) == 1
    assert classified(firewall, 1, 0x0A090001, 443) == 0xFFFFFFFF


def test_what_is_wrong_changes_nothing(firewall):
    on(firewall, rules=[WEB], **SETS)
    before, changes = firewall._policy.bundle, firewall.changes
    wrong = [
        r.Rule(action="permit", to="@server", in_="lam"),
        r.Rule(action="deny", out="bridged"),
        r.Rule(action="permit", police="gold"),
    ]
    with pytest.raises(ConfigError) as caught:
        firewall.change(rules=wrong)
    assert str(caught.value).split("\n") == [
        'rules[0].to[0]: names a set that does not exist; did you mean "@servers"?; allowed: "@servers"',
        "rules[0].in[0]: is 'lam', which is no port; did you mean \"lan\"?; allowed: "
        '"lan", "wan", "bridged"',
        "rules[1].out[0]: is 'bridged', which is not routed; allowed: a routed port",
        "rules[2].police: names a policer that does not exist; allowed: none, since there is none",
    ]
    with pytest.raises(ConfigError, match=r"nat\[0\].pool: lies in 192.0.2.0/24 of port"):
        firewall.change(nat=[r.SourceNat(pool="192.0.2.7")])
    with pytest.raises(ConfigError, match=r"address_sets.x: is not an address"):
        firewall.change(address_sets={"x": "y"})
    with pytest.raises(ConfigError, match=r"port_sets.x: is a set, and cannot be in another"):
        firewall.change(port_sets={"x": "@y"})
    assert firewall._policy.bundle is before
    assert firewall.changes == changes
    assert firewall.wanted.rules == (WEB,)


def test_a_counter_that_is_used_anew_begins_at_zero(firewall):
    on(firewall, rules=[r.Rule(action="deny")])
    firewall._places.hits._n = 2  # so that a place must be used again
    firewall.hits[0][2:4] = 7, 700
    firewall.change(rules=[])
    firewall.change(rules=[r.Rule(action="permit")])
    assert (firewall.hits[0][2:4] - firewall._hits_cleared[0][2:4]).tolist() == [0, 0]


def test_policers(firewall):
    gold = r.Policer(rate="8M", burst=1500, excess_burst=3000, yellow="af11")
    on(firewall, policers={"gold": gold, "plain": r.Policer(rate=8000, burst=64)})
    records = firewall.policers.table
    assert records[1]["actions"].tolist() == [PASS, 10, DROP]
    assert records[2]["actions"].tolist() == [PASS, PASS, DROP]
    firewall.change(rules=[r.Rule(action="permit", police="plain", mark="ef")])
    (_, action) = part(firewall, policy.ACTIONS, policy.ACTION)
    treatment = firewall.treatments.table[action["treatment"]]
    assert (treatment["dscp"], treatment["policer"]) == (46, 2)
    then = records[1].copy()
    new = r.Policer(rate=8, burst=64, peak_rate=16, peak_burst=99)
    firewall.change(policers={**firewall.wanted.policers, "plain": new})
    assert records[2]["excess"]["burst"] == 99
    assert records[1] == then, "the other is left alone"
    records[2]["packets"] = 7
    firewall.change(rules=[], policers={"gold": gold})
    firewall._policer_numbers._n = 3  # so that a number must be used again
    firewall.change(policers={"gold": gold, "other": new})
    assert records[2]["packets"].tolist() == [0, 0, 0]


PLAIN = r.Policer(rate=8000, burst=64)


def numbers(firewall):
    return {str(name): number for name, number in firewall._policer_numbers.items()}


def few_policers(firewall):
    """Three, and no number more."""
    on(firewall, policers=dict.fromkeys("abc", PLAIN))
    firewall._policer_numbers._n = 4


def test_a_policers_number_rests_until_no_worker_knows_it(firewall):
    """An older policy may name it: packets that it lets through would be policed by the next one."""
    few_policers(firewall)
    firewall.quiesce = lambda: False
    firewall.change(policers=dict.fromkeys("bc", PLAIN))
    assert not firewall._is_idle(1)
    firewall.quiesce = lambda: True
    firewall.change(rules=[])
    assert firewall._is_idle(1)
    firewall.change(policers=dict.fromkeys("bcd", PLAIN))
    assert numbers(firewall) == {"b": 2, "c": 3, "d": 1}


def test_a_number_that_is_given_up_is_not_taken_in_the_same_change(firewall):
    few_policers(firewall)
    firewall.change(policers=dict.fromkeys("bc", PLAIN))
    firewall.change(policers=dict.fromkeys("bd", PLAIN))
    assert numbers(firewall) == {"b": 2, "d": 1}, "and not 3, which is given up now"


def test_a_policers_number_rests_while_sessions_are_policed_by_it(firewall):
    """They keep their treatment: another policer of that number would be theirs."""
    few_policers(firewall)
    parts, array = firewall.shards[0].parts, firewall.shards[0].array
    array[session.UNUSED] = 3
    parts.hot["state"][1:3] = session.UNREPLIED, session.FREE
    parts.cold["treatment"][1:3] = [firewall.treatments.number(policer=n) for n in (1, 2)]
    for left in ("bc", "c"):
        firewall.change(policers=dict.fromkeys(left, PLAIN))
    firewall.change(policers=dict.fromkeys("cd", PLAIN))
    assert numbers(firewall) == {"c": 3, "d": 2}


def test_a_pool_is_deleted_when_no_worker_knows_it(firewall):
    on(firewall, nat=[r.SourceNat(pool="203.0.113.1")])
    firewall.quiesce = lambda: False
    firewall.change(nat=[])
    assert [pool.number for pool in firewall.pools.statistics()] == [0, 1]
    firewall.quiesce = lambda: True
    firewall.change(nat=[r.SourceNat(pool="203.0.113.2")])
    assert [pool.number for pool in firewall.pools.statistics()] == [0, 2]


def test_pools(firewall):
    on(firewall, nat=[r.SourceNat(pool="203.0.113.1", ports="2000-2999"), r.Masquerade(out="wan")])
    rewrites = part(firewall, policy.REWRITES, policy.REWRITE)
    (number, usual) = rewrites["pool"].tolist()
    assert usual == 0
    assert firewall.pools.table[number]["low"] == 2000
    firewall.change(nat=[])
    assert [pool.number for pool in firewall.pools.statistics()] == [0]


def test_settings(firewall):
    on(firewall, r.FirewallSettings(default="deny", loose=True, timeouts={"udp": 9}))
    head = firewall.shards[0].array
    assert head[session.SETTINGS_LOOSE] == 1
    assert head[session.TIMEOUTS + session.KINDS.index("udp")] == 9
    firewall.set(r.FirewallSettings(default="permit"))
    assert head[session.SETTINGS_LOOSE] == 0
    assert head[session.TIMEOUTS + session.KINDS.index("udp")] == 300
    assert part(firewall, policy.ACTIONS, policy.ACTION)["kind"].tolist() == [policy.PERMIT]
    for fixed in ({"sessions": 2047}, {"ports": "lan"}):
        with pytest.raises(ConfigError, match=r"sessions and ports are set before build"):
            firewall.set(r.FirewallSettings(default="permit", **fixed))


def test_there_are_no_sessions_before_build(firewall):
    firewall.set(DENY)
    with pytest.raises(ConfigError, match=r"build comes first"):
        firewall.sessions()


def test_it_cannot_be_switched_on_once_it_is_built(firewall):
    firewall.prepare()
    with pytest.raises(ConfigError, match=r"before build"):
        firewall.set(DENY)


@pytest.mark.parametrize(("ports", "numbers"), [((), [1, 2]), (("wan",), [2])])
def test_where_it_is_on(firewall, ports, numbers):
    on(firewall, r.FirewallSettings(default="deny", ports=ports))
    features = {i.number: firewall.features_of(i) for i in firewall._interfaces}
    assert [number for number, listed in features.items() if listed == [*FEATURES]] == numbers
    assert all(features[number] == [] for number in features.keys() - {*numbers})


def test_it_cannot_be_on_at_a_port_that_is_not_there(firewall):
    with pytest.raises(ConfigError, match=r"firewall.ports: is 'x', which is no port"):
        firewall.set(r.FirewallSettings(default="deny", ports="x"))


def test_sessions(firewall):
    on(firewall, rules=[WEB], **SETS)
    assert firewall.sessions().rows() == []
    assert firewall.kill(Filter()) == 0


def test_the_document(firewall):
    on(
        firewall,
        rules=[WEB],
        nat=[r.Masquerade(out="wan", name="out")],
        policers={"gold": r.Policer(rate="1M", burst=1500)},
        **SETS,
    )
    found = firewall.document()
    assert found["rules"] == [
        {
            "name": "web",
            "action": "permit",
            "match": "protocol tcp to @servers to_ports @web",
            "then": "",
            "hits": 1,
        }
    ]
    (nat,) = found["nat"]
    assert (nat["name"], nat["type"], nat["hits"], nat["pool"]) == ("out", "masquerade", 2, 0)
    assert found["policers"] == [{"name": "gold", "number": 1, "what": "1M burst 1500 red drop"}]
    assert (found["default"], found["default_hits"], found["count"]) == ("deny", 0, 1)


def test_a_policer_that_comes_again_polices_by_its_new_number(firewall):
    """Sessions keep its old number busy: what comes then is not to be policed by whoever has that."""
    gold = r.Policer(rate=1000, burst=1500)
    one = r.Rule(action="permit", police="gold", mark=10)
    on(firewall, rules=[one], policers={"gold": gold})
    firewall._policer_numbers._idle = lambda _: False
    treated = part(firewall, policy.ACTIONS, policy.ACTION)["treatment"][1]
    assert firewall.treatments.table[treated]["policer"] == 1
    firewall.change(rules=[], policers={})
    firewall.change(rules=[one], policers={"gold": gold})
    number = firewall._policer_numbers["gold"]
    assert number != 1
    treated = part(firewall, policy.ACTIONS, policy.ACTION)["treatment"][1]
    assert firewall.treatments.table[treated]["policer"] == number
    assert {(dscp, name) for _, dscp, name in firewall.numbers()["treatments"]} == {(10, "gold")}
    assert len(firewall.numbers()["treatments"]) == 2, (
        "sessions that began by the old one have that"
    )
