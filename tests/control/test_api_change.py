# SPDX-License-Identifier: Apache-2.0
"""Changes by the API, on a running forwarder: what packets do afterwards, and what is refused."""

import re
import time
from pathlib import Path

import pytest

import vforward
from http_calls import call
from vforward.control.config_routes import PATHS_MAX
from vforward.control.rules import FirewallSettings, Policer
from vforward.errors import ApiError, ConfigError
from vforward.io.memory import MemoryPort
from vforward.memory.place import API_SOCKET
from vforward.testing import packets as pk

HOST, NEXT = "02:00:00:00:01:09", "02:00:00:00:02:09"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime") / "r"))
        with vforward.Forwarder("api", buffers=2048) as router:
            router.lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
            router.wan = router.add_port("wan", MemoryPort(), ["10.0.2.1/24", "2001:db8::1/64"])
            router.set_firewall(FirewallSettings(default="permit"))
            router.build()
            router.serve()
            yield router, vforward.Client("api")


@pytest.fixture
def router(world):
    return world[0]


@pytest.fixture
def client(world):
    yield world[1]
    world[1].set_rules([])
    for row in world[1].routes().rows:
        if row["source"] == "configured":
            world[1].delete_route(row["prefix"], metric=row["metric"])


def passes(router, to, port=53):
    """Whether a packet from lan leaves by wan."""
    udp = pk.udp("10.0.1.9", to, 4000, port, b"x")
    packet = pk.ip4("10.0.1.9", to, 17, udp)
    router.lan.send([pk.eth(router.lan.mac, HOST, pk.ETH_IP4, packet)])
    router.run_until_idle()
    router.lan.received()
    return any(frame[:6] == pk.mac_bytes(NEXT) for frame in router.wan.received())


def test_a_route_and_a_neighbor(router, client):
    assert not passes(router, "10.9.0.1")
    client.add_neighbor("10.0.2.9", NEXT, "wan")
    client.add_route("10.9.0.0/16", via="10.0.2.9")
    (row,) = [r for r in client.routes().rows if r["prefix"] == "10.9.0.0/16"]
    assert (row["via"], row["port"], row["kind"]) == ("10.0.2.9", "wan", "via")
    (neighbor,) = [r for r in client.neighbors().rows if r["address"] == "10.0.2.9"]
    assert (neighbor["mac"], neighbor["state"], neighbor["age"]) == (NEXT, "static", None)
    assert passes(router, "10.9.0.1")
    client.add_route("10.9.0.0/16", type="blackhole")
    assert not passes(router, "10.9.0.1")
    client.delete_route("10.9.0.0/16")
    client.delete_neighbor("10.0.2.9", "wan")
    assert "10.0.2.9" not in [row["address"] for row in client.neighbors().rows]
    with pytest.raises(ApiError, match=r"10\.9\.0\.0/16") as caught:
        client.delete_route("10.9.0.0/16")
    assert caught.value.status == 404
    with pytest.raises(ApiError, match=r"neighbor 10\.0\.2\.9 of port wan") as caught:
        client.delete_neighbor("10.0.2.9", "wan")
    assert caught.value.status == 404


def test_several_next_hops(client):
    paths = [{"via": "10.0.2.8", "weight": 2}, {"via": "10.0.2.9"}]
    client.add_route("10.9.0.0/16", paths=paths, metric=7)
    (row,) = [r for r in client.routes().rows if r["prefix"] == "10.9.0.0/16"]
    assert (row["via"], row["metric"]) == ("10.0.2.8*2 10.0.2.9*1", 7)
    assert [path["weight"] for path in row["paths"]] == [2, 1]


@pytest.mark.parametrize(
    ("route", "what"),
    [
        ({}, "is missing, and so are via, port and paths"),
        ({"via": "10.0.9.9"}, "10.0.9.9"),
        ({"via": "10.0.2.300"}, "via: is not an IP address; allowed: a unicast address"),
        ({"port": "none"}, "none"),
        ({"type": "blackhole", "via": "10.0.2.9"}, "cannot stand beside"),
        ({"via": "10.0.2.9", "metric": 1 << 32}, "metric: is too large"),
        ({"via": "10.0.2.9", "weight": 1}, "weight: is not a key here"),
        ({"paths": [{"via": "10.0.2.9"}] * (PATHS_MAX + 1)}, "paths"),
        ({"via": "10.0.2.9", "vrf": "no such"}, "vrf"),
    ],
)
def test_wrong_routes_change_nothing(client, route, what):
    before = client.routes()
    with pytest.raises(ConfigError, match=what):
        client.add_route("10.9.0.0/16", **route)
    assert client.routes() == before


@pytest.mark.parametrize("prefix", ["10.9.0.1/16", "x", "127.0.0.0/8", "10.0.0.0/33", ""])
def test_wrong_prefixes(client, prefix):
    with pytest.raises(ConfigError):
        client.add_route(prefix, type="blackhole")


@pytest.mark.parametrize("name", ["", "a b", "x" * 33, "\ud800"])
def test_a_set_has_a_name_as_in_a_file(client, name):
    for sets in ("address_sets", "port_sets"):
        with pytest.raises(ConfigError, match="is not a name that can be used"):
            client.set_rules([], **{sets: {name: [7]}})


def test_a_rule_is_added_where_it_is_said(router, client):
    client.add_neighbor("10.0.2.9", NEXT, "wan")
    client.add_route("10.9.0.0/16", via="10.0.2.9")
    assert client.add_rule({"action": "deny", "protocol": "udp", "to_ports": 7, "name": "no"}) == 0
    assert client.add_rule({"action": "permit", "to": "10.9.0.2"}, before="no") == 0
    assert client.add_rule({"action": "deny", "to": ["10.9.0.3"]}, before=1) == 1
    assert [r["name"] for r in client.rules().rows] == ["", "", "no", "(default)"]
    assert not passes(router, "10.9.0.1", 7)
    assert passes(router, "10.9.0.2", 7)
    assert not passes(router, "10.9.0.3")
    assert passes(router, "10.9.0.1", 8)
    client.delete_rule("no")
    client.delete_rule(1)
    assert passes(router, "10.9.0.1", 7)
    (left, _) = client.rules().rows
    assert (left["match"], left["packets"]) == ("to 10.9.0.2", 1)
    for which in ("no", 1, 99, "-1", "\u0661", "0000000001234567890"):
        with pytest.raises(ApiError, match="no rule") as caught:
            client.delete_rule(which)
        assert caught.value.status == 404
    for before in ("x", "0000000001"):
        with pytest.raises(ApiError, match=f"no rule '{before}'"):
            client.add_rule({"action": "deny"}, before=before)
    client.delete_neighbor("10.0.2.9", "wan")


def test_all_rules_at_once_with_sets(client):
    rules = [{"action": "permit", "to": "@servers", "protocol": "tcp", "to_ports": "@web"}]
    sets = {
        "address_sets": {"servers": ["10.9.0.1", "10.9.1.0/24"]},
        "port_sets": {"web": [80, "443"]},
    }
    client.set_rules(rules, **sets)
    assert client.rules().rows[0]["match"] == "protocol tcp to @servers to_ports @web"
    client.set_rules([*rules, {"action": "deny"}])  # the sets stay
    assert client.rules().count == 2
    with pytest.raises(ConfigError, match="names a set that does not exist"):
        client.set_rules([{"action": "deny", "to": "@none"}])
    with pytest.raises(ConfigError, match=r"rules\[1\].action: is not one of the choices"):
        client.set_rules([*rules, {"action": "drop"}])
    assert client.rules().count == 2


def test_nat_and_policers(router, client):
    client.set_nat([{"type": "masquerade", "out": "wan", "name": "out"}])
    assert [(row["name"], row["type"]) for row in client.nat()] == [("out", "masquerade")]
    with pytest.raises(ConfigError):
        client.set_nat([{"type": "masquerade", "out": "none"}])
    with pytest.raises(ConfigError):
        client.set_nat([{"type": "nothing"}])
    client.set_nat([])
    assert client.nat() == []
    client.set_policer("gold", type="single-rate", rate="1M", burst=1500)
    assert router.firewall.wanted.policers["gold"] == Policer(rate=1_000_000, burst=1500)
    client.add_rule({"action": "permit", "police": "gold"})
    with pytest.raises(ConfigError, match="names a policer that does not exist"):
        client.delete_policer("gold")
    client.set_rules([])
    client.delete_policer("gold")
    assert client.policers() == []
    with pytest.raises(ApiError, match="policer gold"):
        client.delete_policer("gold")
    with pytest.raises(ConfigError, match="is not a name that can be used"):
        client.set_policer("a b", type="single-rate", rate="1M", burst=1500)


def test_what_is_changed_is_seen_at_once(router, client):
    for i in range(20):
        client.add_route(f"10.200.{i}.0/24", type="blackhole")
        assert f"10.200.{i}.0/24" in [row["prefix"] for row in client.routes().rows]


def test_changes_while_it_forwards(router, client):
    router.start()
    try:
        deadline = time.monotonic() + 30
        client.add_neighbor("10.0.2.9", NEXT, "wan")
        client.add_route("10.9.0.0/16", via="10.0.2.9")
        udp = pk.ip4("10.0.1.9", "10.9.0.1", 17, pk.udp("10.0.1.9", "10.9.0.1", 1, 2, b"x"))
        router.lan.send([pk.eth(router.lan.mac, HOST, pk.ETH_IP4, udp)])
        frames = []
        while not frames and time.monotonic() < deadline:
            frames = router.wan.received()
        assert frames[0][:6] == pk.mac_bytes(NEXT)
    finally:
        router.stop()
    client.delete_neighbor("10.0.2.9", "wan")


def test_bodies_that_are_none(router):
    path = router.arena.path / API_SOCKET
    for body in (b"", b"null", b"[]", b'"x"', b"{}", b'{"prefix": {}}', b'{"prefix": null}'):
        answer = call(path, "POST", "/routes", body, headers={"Content-Type": "application/json"})
        assert (answer.status, answer.kind) == (422, "application/problem+json"), body


def test_every_call_is_in_the_documents(router):
    document = call(router.arena.path / API_SOCKET, "GET", "/openapi.json").json
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    listed = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    assert len(document["paths"]) >= 20
    names = [one["operationId"] for calls in document["paths"].values() for one in calls.values()]
    assert len(set(names)) == len(names) > 25
    for path in document["paths"]:
        pattern = re.sub(r"\{\w+\}", "[A-Z]+", path) + r"[`?]"
        assert re.search(pattern, listed), path
