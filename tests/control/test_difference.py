"""The difference of two configurations: applied to the first it gives the second, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from configs import A, B, bridge, bvi, crosses, neighbors, port, routes, tap, vlan
from vforward.control.config import parse
from vforward.control.difference import (
    NOTHING,
    Change,
    applied,
    difference,
    needs,
    parts,
    plan,
)

LAN = port("lan", 'address = "10.0.1.1/24"')
WAN = port("wan", 'address = "10.0.2.1/24"')
OFFICE = port("x") + port("y") + bridge("office", '"x", {port = "y", group = 1}', "learn = false")
STATIC = (
    port("x")
    + port("y")
    + bridge("office", '"x", "y"', 'static = [{mac = "02:00:00:00:00:09", port = "y"}]')
)
# Pieces that stand by themselves; of each group one or none is in a configuration.
GROUPS = [
    [
        LAN + WAN,
        LAN + WAN + routes('prefix = "10.9.0.0/16", via = "10.0.2.2"'),
        LAN + WAN + routes('prefix = "10.9.0.0/16", via = "10.0.1.2"'),
        LAN
        + WAN
        + routes(
            'prefix = "10.9.0.0/16", via = "10.0.1.2", metric = 7',
            'prefix = "10.8.0.0/16", type = "blackhole"',
        ),
        LAN + WAN + neighbors('address = "10.0.1.9", port = "lan"'),
        LAN + port("wan", 'address = ["10.0.2.1/24", "2001:db8::1/64"], urpf = "loose"'),
        LAN + port("wan", 'address = "10.0.2.1/24"', "null"),
    ],
    ["", OFFICE, STATIC, STATIC + bvi("inside", "office", 'address = "10.5.0.1/24"')],
    ["", vlan("seven", "vlan = 7", "lan"), vlan("seven", "vlan = 8, inner = 2", "lan")],
    ["", port("p") + port("q") + crosses('"p", "q"')],
    [
        "",
        'firewall = {default = "deny"}\n',
        'firewall = {default = "permit", loose = true}\n'
        'address_sets.us = "10.0.0.0/8"\nport_sets.web = [80, 443]\n'
        'policers.slow = {type = "single-rate", rate = "1M", burst = 1500}\n'
        'rules = [{action = "permit", from = "@us", to_ports = "@web", protocol = "tcp", '
        'police = "slow"}]\n',
        'firewall = {default = "permit"}\naddress_sets.us = ["10.0.0.0/8", "192.0.2.1"]\n'
        'rules = [{action = "deny", from = "@us"}, {action = "permit"}]\n'
        'nat = [{type = "masquerade", out = "wan"}]\n',
    ],
    ["", 'log = {level = "info"}\n', "forwarder = {vector = 7}\n", 'forwarder = {idle = "spin"}\n'],
]
configurations = st.tuples(*map(st.sampled_from, GROUPS)).map(
    lambda pieces: parse("".join(pieces), "r.toml")
)


@given(configurations, configurations)
def test_the_difference_applied_to_the_first_gives_the_second(one, other):
    before, after = parts(one), parts(other)
    assert applied(before, difference(before, after)) == after


@given(configurations)
def test_of_one_and_the_same_there_is_none(one):
    assert difference(parts(one), parts(one)) == []


@given(configurations, configurations)
def test_no_part_is_named_twice(one, other):
    keys = [change.key for change in difference(parts(one), parts(other))]
    assert len(keys) == len(set(keys))


@given(configurations, configurations)
def test_a_plan_never_lacks_what_a_part_needs(one, other):
    before, after = parts(one), parts(other)
    planned = plan(before, after)
    there = dict(before)
    for key in planned.gone:
        del there[key]
        used = {of for of, value in there.items() if key in needs(of, value)}
        # what is set anew afterwards, and cannot go and come, is allowed to wait
        assert used <= set(planned.changed), f"{key} goes before what needs it"
    for key in planned.changed:
        there[key] = after[key]
    for key in planned.come:
        assert key not in there
        assert all(of in there for of in needs(key, after[key])), (
            f"{key} comes before what it needs"
        )
        there[key] = after[key]
    assert there == after


def of(one, other):
    return difference(parts(parse(one, "r.toml")), parts(parse(other, "r.toml")))


def test_a_change_has_both_sides():
    assert of(A, A + B) == [Change(("ports", "b"), NOTHING, parse(A + B, "r.toml").ports["b"])]
    (change,) = of(A + 'log = {level = "info"}\n', A + 'log = {level = "debug"}\n')
    assert (change.key, change.before, change.after, change.kind) == (
        ("log", "level"), "info", "debug", "changed",
    )  # fmt: skip


def test_a_route_whose_next_hop_is_at_another_port_now_differs():
    route = routes('prefix = "10.9.0.0/16", via = "10.0.1.2"')
    moved = port("a") + port("b", 'address = "10.0.1.1/24"') + route
    changed = {change.key for change in of(A + B + route, moved)}
    assert ("routes", "default", "10.9.0.0/16", "0") in changed


def test_what_stands_on_a_port_that_is_made_anew_is_made_anew():
    one = A + vlan("a7", "vlan = 7") + neighbors('address = "10.0.1.9", port = "a"')
    before, after = (
        parts(parse(one, "r.toml")),
        parts(parse(one.replace("memory", "null", 1), "r.toml")),
    )
    planned = plan(before, after)
    assert planned.gone == [("ports", "a7"), ("ports", "a")]
    assert planned.come == [("ports", "a"), ("ports", "a7")]
    assert planned.changed == [("neighbors", "a", "10.0.1.9")]


def test_an_address_is_changed_in_place_and_the_host_is_given_it_anew():
    one = A + tap("host", "a")
    before, after = (
        parts(parse(text, "r.toml")) for text in (one, one.replace("1.1/24", "1.7/24"))
    )
    planned = plan(before, after)
    assert planned.changed == [("ports", "a")]
    assert planned.gone == planned.come == [("ports", "host")]


def test_what_needs_a_restart_says_why():
    assert {
        change.key[1]: change.restart
        for change in of(A, A + "forwarder = {buffers = 2048, vector = 9}\n")
    } == {"buffers": "the pool is made at the start", "vector": ""}
    on = of(A, A + 'firewall = {default = "deny"}\n')
    assert any("switched on and off at the start" in change.restart for change in on)
