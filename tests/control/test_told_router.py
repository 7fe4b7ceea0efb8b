# SPDX-License-Identifier: Apache-2.0
"""What a forwarder is told is noted by what it is about, and can be told again."""

import json
from ipaddress import ip_address, ip_network

import pytest

from restore_worlds import CLIENT, RULES, SERVER, router
from vforward.control import rules as r
from vforward.control import told_router as module
from vforward.control.rule_said import meant, said
from vforward.control.told import read
from vforward.control.told_firewall import SETTINGS

MAC = bytes.fromhex("020000000077")


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def kept(made):
    """What the next process would read."""
    entries, damaged = read((made.arena.path / "told").read_bytes())
    assert damaged == 0
    assert entries == json.loads(json.dumps(made.told.entries))
    return entries


def test_what_the_configuration_says_is_not_told():
    with router() as made:
        assert kept(made) == {}


def test_routes():
    with router() as made:
        made.add_route("10.5.0.0/16", via=SERVER)
        made.add_route("10.5.0.0/16", paths=[(SERVER, None, 2), ("192.0.2.8", "wan", 1)], metric=3)
        made.add_route("2001:db8::/32", kind="unreachable", vrf="red")
        assert set(kept(made)) == {
            "route default 10.5.0.0/16 0", "route default 10.5.0.0/16 3", "route red 2001:db8::/32 0",
        }  # fmt: skip
        made.delete_route("10.5.0.0/16")  # the lowest metric
        assert set(kept(made)) == {"route default 10.5.0.0/16 3", "route red 2001:db8::/32 0"}
        with pytest.raises(KeyError):
            made.delete_route("10.77.0.0/16")
        assert len(kept(made)) == 2


def test_a_route_of_the_configuration_that_is_deleted_is_noted_as_gone():
    with router() as made:
        made.told.on = False
        made.add_route("10.5.0.0/16", via=SERVER)  # as if from the file
        made.told.on = True
        made.delete_route("10.5.0.0/16")
        assert kept(made)["route default 10.5.0.0/16 0"]["gone"]
        made.add_route("10.5.0.0/16", kind="blackhole")
        made.delete_route("10.5.0.0/16")
        assert kept(made)["route default 10.5.0.0/16 0"]["gone"]


def test_neighbors():
    with router() as made:
        made.add_neighbor("192.0.2.77", MAC, "wan")
        made.delete_neighbor(CLIENT, "lan")
        assert kept(made) == {
            "neighbor wan 192.0.2.77": {
                "new": True,
                "port": "wan",
                "address": "192.0.2.77",
                "mac": MAC.hex(),
            },
            f"neighbor lan {CLIENT}": {
                "new": False,
                "gone": True,
                "port": "lan",
                "address": CLIENT,
            },
        }
        made.delete_neighbor("192.0.2.77", "wan")
        assert list(kept(made)) == [f"neighbor lan {CLIENT}"]


def test_parts_of_the_firewall():
    with router() as made:
        made.set_rules(
            [*RULES, r.Rule(action="deny", from_="@bad")], address_sets={"bad": ["10.6.0.0/16"]}
        )
        made.set_firewall(r.FirewallSettings(default="permit", sessions=1023, timeouts={"udp": 7}))
        found = kept(made)
        assert set(found) == {"firewall rules", "firewall address_sets", "firewall settings"}
        assert found["firewall address_sets"]["is"] == {"bad": ["10.6.0.0/16"]}
        assert found["firewall settings"]["is"]["timeouts"] == {"udp": 7}
        assert len(found["firewall rules"]["is"]) == 3


def test_told_again_it_is_all_in_force():
    with router() as made:
        made.add_route("10.5.0.0/16", via=SERVER)
        made.add_neighbor("192.0.2.77", MAC, "wan")
        made.set_rules([r.Rule(action="deny", from_="@bad")], address_sets={"bad": ["10.6.0.0/16"]})
        made.set_firewall(r.FirewallSettings(default="permit", sessions=1023, timeouts={"udp": 7}))
        entries, wanted = kept(made), made.firewall.wanted
    with router() as made:
        made.told.close()
        made.told.entries.clear()
        assert made.told.repeat(entries, made) == (5, 0)
        assert made.firewall.wanted == wanted
        assert made.told.entries == entries
        assert made.routing.metrics(ip_network("10.5.0.0/16")) == [0]
        assert made.neighbors.is_static(2, int(ip_address("::ffff:192.0.2.77")))


def test_what_an_applied_configuration_says_is_not_told_any_more():
    with router() as made:
        made.add_route("10.5.0.0/16", via=SERVER)
        made.add_route("10.6.0.0/16", kind="blackhole", metric=7, vrf="red")
        made.add_neighbor("192.0.2.77", MAC, "wan")
        made.set_rules([*RULES], address_sets={"bad": ["10.6.0.0/16"]})
        made.set_firewall(r.FirewallSettings(default="permit", sessions=1023))
        keys = made.told.keys()
        assert keys == [
            ("routes", "default", "10.5.0.0/16", "0"), ("routes", "red", "10.6.0.0/16", "7"),
            ("neighbors", "wan", "192.0.2.77"), ("rules",), ("address_sets", "bad"),
            *(("firewall", name) for name in SETTINGS),
        ]  # fmt: skip
        made.told.applied(keys, made.firewall)
        assert made.told.keys() == keys
        some = [("routes", "red", "10.6.0.0/16", "7"), ("rules",), ("ports", "x")]
        made.told.applied(some, made.firewall)
        assert set(kept(made)) == {"route red 10.6.0.0/16 7", "firewall rules"}
        made.told.applied([], made.firewall)
        assert kept(made) == {}


def test_of_a_part_of_which_some_is_kept_the_rest_is_as_it_is_now():
    new, old = (r.Policer(rate=rate, burst=1500) for rate in ("9M", "1M"))
    with router() as made:
        made.add_policer("a", old)
        made.add_policer("b", old)
        wanted = {**made.firewall.wanted.policers, "a": new}
        with made.firewall.changing(policers=wanted) as change:  # as an applied configuration does
            change.put_in_force()
        assert kept(made)["firewall policers"]["is"]["a"] == said(old)
        made.told.applied([("policers", "b")], made.firewall)
        parts = kept(made)
        assert set(parts) == {"firewall policers"}
        assert {
            name: meant(one) for name, one in parts["firewall policers"]["is"].items()
        } == wanted


def test_what_is_not_in_a_part_that_was_told_was_deleted():
    configured = [("policers", "gold"), ("policers", "old"), ("address_sets", "a"), ("rules",)]
    with router() as made:
        assert made.told.keys(configured) == []
        made.add_policer("new", r.Policer(rate=64, burst=64))
        found = [("policers", name) for name in ("gold", "new", "old")]
        assert made.told.keys(configured) == found
        made.set_rules([], address_sets={})
        assert set(made.told.keys(configured)) == {*found, ("rules",), ("address_sets", "a")}


def test_many_routes_are_told_again_as_few_are(monkeypatch):
    with router() as made:
        for n in range(300):
            made.add_route(f"10.5.{n % 256}.{n // 256 * 128}/25", via=SERVER, metric=n % 2)
            made.add_route(f"2001:db8:{n:x}::/48", kind="blackhole", vrf="red")
        made.add_route("10.6.0.0/16", paths=[(SERVER, None, 2), ("192.0.2.8", "wan", 1)])
        entries, routes = kept(made), made.routing.routes()
    for many, odd in (
        (10**9, {}),
        (100, {}),
        (100, {"route default x 0": {"prefix": "10.7.0.0/99"}}),
    ):
        monkeypatch.setattr(module, "MANY", many)
        with router() as made:
            made.told.close()
            made.told.entries.clear()
            wrong = {
                name: {**entries["route default 10.6.0.0/16 0"], **one} for name, one in odd.items()
            }
            assert made.told.repeat(entries | wrong, made) == (601, len(odd))
            assert made.told.entries == entries
            assert made.routing.routes() == routes


def test_many_routes_of_a_vrf_that_no_port_is_in_any_more_are_lost_as_few_are(monkeypatch):
    with router() as made:
        made.add_route("10.5.0.0/16", via=SERVER)
        (entry,) = kept(made).values()
    prefixes = [f"10.5.{n}.0/24" for n in range(9)]
    entries = {f"route red {p} 0": {**entry, "vrf": "red", "prefix": p} for p in prefixes}
    for many in (10**9, 4):
        monkeypatch.setattr(module, "MANY", many)
        with router() as made:
            assert made.told.repeat(entries, made) == (0, 9)
            assert "red" not in made.interfaces.vrfs


@pytest.mark.parametrize(
    "entries",
    [
        {"route default 10.0.0.0/8 0": {}},
        {
            "route default 10.0.0.0/8 0": {
                "prefix": "x",
                "metric": 0,
                "vrf": "default",
                "paths": [],
                "kind": "",
            }
        },
        {
            "route": {
                "prefix": "10.0.0.0/8",
                "metric": -1,
                "vrf": "default",
                "paths": [],
                "kind": "blackhole",
            }
        },
        {
            "route": {
                "prefix": "10.0.0.0/8",
                "metric": 0,
                "vrf": [],
                "paths": 7,
                "kind": "blackhole",
            }
        },
        {
            "route": {
                "prefix": "10.0.0.0/8",
                "metric": 0,
                "vrf": "d",
                "paths": [["10.7.7.7", None, 1]],
                "kind": "",
            }
        },
        {"neighbor": {"address": "10.0.1.7", "port": "nowhere", "mac": "020000000001"}},
        {"neighbor": {"address": "10.0.1.7", "port": "lan", "mac": "zz"}},
        {"neighbor": {"address": "10.0.1.7", "port": "lan", "mac": "ffffffffffff"}},
        {"firewall rules": {"is": [7]}},
        {"firewall rules": {}},
        {"firewall nonsense": {"is": []}},
        {"firewall settings": {"is": {"default": "x"}}},
        {"nonsense": {}},
    ],
)
def test_what_cannot_be_is_left_out_and_logged(entries, caplog):
    with router() as made:
        wanted = made.firewall.wanted
        assert made.told.repeat(entries, made) == (0, 1)
        assert made.firewall.wanted == wanted
        assert "cannot be in force any more" in caplog.text or "nonsense" in entries
