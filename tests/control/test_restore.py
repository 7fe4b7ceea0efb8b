# SPDX-License-Identifier: Apache-2.0
"""The next forwarder of a name goes on from what the last one left, part by part."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from restore_worlds import (
    CLIENT,
    CLIENT_MAC,
    LAN,
    RULES,
    SERVER,
    SERVER_MAC,
    WAN,
    answer,
    die,
    router,
    udp,
)
from vforward.control import config
from vforward.control import restore as module
from vforward.control import rules as r
from vforward.control.observe import View
from vforward.control.run import from_config
from vforward.errors import VforwardError
from vforward.memory.arena import HEADER, Arena
from vforward.testing import packets


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


def names(path):
    return sorted(one.name for one in path.iterdir())


def view(made):
    return View(Arena.attach(made.name))


def routes(made):
    return {
        (row.prefix, row.metric): row.kind
        for row in made.routing.routes()
        if row.source == "configured"
    }


def station(made, port, address):
    """A frame from a station at a bridged port: its MAC is learned there."""
    getattr(made, port).send([packets.eth("02:00:00:00:99:99", address, 0x88B5, bytes(50))])
    made.run_until_idle()


def test_what_is_of_use_is_known_by_its_name():
    kept = [
        "sessions-0", "sessions-31", "session-kills-2", "mac", "domains", "adjacencies", "told", "stats",
        "stats-1", "counts-cleared", "counts-3-cleared", "drops", "drops-cleared", "policers",
        "rule-hits-1", "nat_pools-cleared", "stats.7", "stats-2.7-cleared", "numbers.json",
        "forwarder.json", "cleared.json", "control-2",
    ]  # fmt: skip
    left = [
        "data",
        "meta",
        "stack",
        "fib4.root",
        "lock",
        "api.sock",
        "routes.json",
        "sessions",
        "held",
        ".x.tmp",
    ]
    assert [name for name in kept + left if module.KEPT(name)] == kept


def test_nothing_left_nothing_said(caplog):
    caplog.set_level(logging.INFO)
    with router() as made:
        assert made.arena.previous is None
        assert not [record for record in caplog.records if "last process" in record.message]


def test_a_mapping_of_nat_stays_and_packets_go_on(runtime):
    with router() as made:
        mapping = udp(made, 5000)
        assert mapping[0] == "192.0.2.1"
        die(made)
    with router() as made:
        assert answer(made, mapping) == 5000  # before any packet from inside
        assert udp(made, 5000) == mapping
        (session,) = made.sessions()
        assert session["nat_from"] == f"{mapping[0]}:{mapping[1]}"
        for shard in made.firewall.shards:
            shard.check()
        assert names(runtime / "kept") == [
            name for name in names(runtime / "kept") if name != ".previous"
        ]
    assert list(runtime.iterdir()) == []


def test_a_source_that_comes_anew_gets_the_port_it_had():
    """Though its session is over: the secret by which ports are chosen is the same."""
    with router() as made:
        mapping = udp(made, 900)
        made.kill_sessions()
        made.run_until_idle()
        die(made)
    with router() as made:
        assert made.sessions() == []
        assert udp(made, 900) == mapping


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_other_numbers_of_workers(before, after):
    with router(workers=before) as made:
        mappings = {port: udp(made, port) for port in range(5000, 5040)}
        die(made)
    with router(workers=after) as made:
        assert len(made.sessions()) == 40
        for port, mapping in mappings.items():
            assert answer(made, mapping) == port
        for shard in made.firewall.shards:
            shard.check()
        assert sum(int(pool["allocated"].sum()) for pool in made.firewall.pools.tables) == 40


def test_other_ports_and_rules():
    with router() as made:
        mapping = udp(made, 5000)
        die(made)
    others = [r.Rule(action="permit", name="new", protocol="tcp", sessions=3), *reversed(RULES)]
    with router(ports=("third", "wan", "lan"), rules=others) as made:
        assert answer(made, mapping) == 5000
        (session,) = made.sessions()
        assert (session["in"], session["out"]) == ("lan", "wan")
        document = made.firewall.document()
        hits = {one["name"]: one["hits"] for one in document["rules"]}
        counted = made.firewall.hits[0]
        assert counted[2 * hits[""]] == 1
        assert counted[2 * hits["web"]] == counted[2 * hits["new"]] == 0
        for shard in made.firewall.shards:
            shard.check()
    with router(ports=("lan",)) as made:
        assert made.sessions() == []


def test_a_session_of_a_port_that_is_gone_is_left_out(caplog):
    caplog.set_level(logging.INFO)
    with router() as made:
        udp(made, 5000)
        die(made)
    with router(ports=("lan",)) as made:
        assert made.sessions() == []
        assert "0 sessions (1 of a port or VRF that is no more)" in caplog.text


def test_what_was_told_is_in_force():
    with router() as made:
        made.add_route("10.5.0.0/16", via=SERVER)
        made.add_route("10.6.0.0/16", kind="blackhole", metric=7, vrf="red")
        made.add_route("10.7.0.0/16", via=SERVER)
        made.delete_route("10.7.0.0/16")
        made.add_neighbor("192.0.2.77", bytes.fromhex("020000000077"), "wan")
        made.delete_neighbor(CLIENT, "lan")
        made.add_rule(r.Rule(action="reject", name="told", protocol="icmp"), before="web")
        made.set_nat([])
        made.add_policer("silver", r.Policer(rate=64, burst=64))
        die(made)
    for _ in range(2):  # and it is told to the one after that, too
        with router() as made:
            assert routes(made)["10.5.0.0/16", 0]
            assert routes(made)["10.6.0.0/16", 7] == "blackhole"
            assert ("10.7.0.0/16", 0) not in routes(made)
            known = {n["address"]: n["state"] for n in made.known_neighbors()}
            assert known["192.0.2.77"] == "static"
            assert CLIENT not in known
            wanted = made.firewall.wanted
            assert [rule.name for rule in wanted.rules] == ["told", "web", ""]
            assert wanted.nat == ()
            assert set(wanted.policers) == {"gold", "silver"}
            die(made)


def test_a_rule_at_a_port_of_run_time_costs_no_other_what_was_told(caplog):
    """After a kill the port is not there, and all else is."""
    deny = r.Rule(action="deny", name="unrelated", protocol="icmp")
    with router(ports=("lan", "wan", "vm1")) as made:
        made.add_rule(r.Rule(action="permit", name="vm", in_="vm1"))
        made.add_rule(deny, before=0)
        made.add_policer("silver", r.Policer(rate=64, burst=64))
        made.set_firewall(r.FirewallSettings(default="reject", sessions=1023))
        die(made)
    for _ in range(2):
        with router() as made:
            wanted = made.firewall.wanted
            assert wanted.rules == (deny, *RULES)
            assert set(wanted.policers) == {"gold", "silver"}
            assert wanted.settings.default == "reject"
            die(made)
    assert caplog.text.count("cannot be in force any more") == 1
    assert "rules[3] 'vm' at 'vm1' was told at run time" in caplog.text


def test_fresh_and_never_begin_with_nothing(runtime):
    def lived():
        with router() as made:
            udp(made, 5000)
            made.add_route("10.5.0.0/16", via=SERVER)
            die(made)

    for options in ({"fresh": True}, {"keep": "never"}):
        lived()
        with router(**options) as made:
            assert made.sessions() == []
            assert ("10.5.0.0/16", 0) not in routes(made)
            assert ("told" in names(runtime / "kept")) == ("fresh" in options)
        assert list(runtime.iterdir()) == []


def test_a_clean_end_leaves_nothing_unless_it_is_to(runtime):
    for keep, there in (("crash", 0), ("always", 1)):
        with router(keep=keep) as made:
            made.start()
            made.stop()
            udp(made, 5000)
        assert (runtime / "kept").exists() == bool(there)
        with router(keep=keep) as made:
            assert len(made.sessions()) == there
        if keep == "always":
            assert names(runtime / "kept") != []
            shutil.rmtree(runtime / "kept")


def test_who_begins_fresh_keeps_as_others_do(runtime):
    for fresh in (False, True):
        with router(keep="always", fresh=fresh) as made:
            made.start()
            made.stop()
            assert made.sessions() == []
            udp(made, 5000)
        with router(keep="always") as made:
            assert len(made.sessions()) == 1


def test_who_ends_by_an_error_is_as_if_killed(runtime):
    def ends_badly():
        with router() as made:
            made.start()
            made.stop()
            udp(made, 5000)
            raise VforwardError("a worker has ended by itself")

    with pytest.raises(VforwardError, match="ended by itself"):
        ends_badly()
    with router() as made:
        assert len(made.sessions()) == 1


def test_a_start_that_fails_costs_nothing(runtime, monkeypatch):
    with router() as made:
        mapping = udp(made, 5000)
        die(made)

    def fail(*_):
        raise VforwardError("no such interface")

    for target in ("take_over", "keep_up"):
        with monkeypatch.context() as patch:
            patch.setattr(module, target, fail)
            with pytest.raises(VforwardError, match="no such interface"), router():
                pass
        assert ".previous" in names(runtime / "kept")
    with router() as made:
        assert answer(made, mapping) == 5000


def learned(made):
    """Client and server ask for the router, so it knows them; whatever was sent is taken away."""
    for port, own, address, mac in (
        (made.lan, LAN, CLIENT, CLIENT_MAC), (made.wan, WAN, SERVER, SERVER_MAC),
    ):  # fmt: skip
        request = packets.arp_request(mac, address, own)
        port.send([packets.eth(b"\xff" * 6, mac, 0x0806, request)])
    made.run_until_idle()
    made.lan.received(), made.wan.received()


def neighbors(made):
    return {n["address"]: (n["state"], n["mac"]) for n in made.known_neighbors()}


def test_neighbors_are_of_use_at_once():
    """Learned by ARP: stale, and packets go there."""
    with router(neighbors=False) as made:
        learned(made)
        mapping = udp(made, 5000)
        assert mapping
        die(made)
    with router(neighbors=False) as made:
        assert neighbors(made) == {CLIENT: ("stale", CLIENT_MAC), SERVER: ("stale", SERVER_MAC)}
        assert udp(made, 5000) == mapping


def test_neighbors_are_asked_for_and_another_station_is_found_out():
    """Without a packet for them. Who was set for good is not asked for."""
    new = "02:00:00:00:00:aa"
    with router(neighbors=False) as made:
        learned(made)
        made.add_neighbor("192.0.2.77", bytes.fromhex("020000000077"), "wan")
        die(made)
    with router(neighbors=False) as made:
        made.run_until_idle()
        for port, own, address in ((made.lan, LAN, CLIENT), (made.wan, WAN, SERVER)):
            request = packets.arp_request(port.mac, own, address)
            assert port.received() == [packets.eth(b"\xff" * 6, port.mac, 0x0806, request)]
        reply = packets.arp_reply(new, SERVER, made.wan.mac, WAN)
        made.wan.send([packets.eth(made.wan.mac, new, 0x0806, reply)])
        made.run_until_idle()
        known = neighbors(made)
        assert known.pop("192.0.2.77") == ("static", "02:00:00:00:00:77")
        assert known == {CLIENT: ("stale", CLIENT_MAC), SERVER: ("reachable", new)}


def test_macs_are_known():
    with router() as made:
        station(made, "one", "02:00:00:00:00:aa")
        station(made, "two", "02:00:00:00:00:bb")
        station(made, "one", "02:00:00:00:00:bb")
        die(made)
    with router() as made:
        found = {
            (m.domain, m.mac, made.interfaces.name_of(m.port)) for m in made.bridging.entries()
        }
        assert found == {("b", 0x0200000000AA, "one"), ("b", 0x0200000000BB, "one")}
        assert made.bridging.counters()["b"] == (2, 1)
        made.bridging.check()


DAMAGE = {
    "sessions-0": "the sessions of worker 0 are lost",
    "mac": "MACs of the last process are lost",
    "adjacencies": "neighbors of the last process are lost",
    "counts": "counters of the last process are lost",
    "control": "counters of workers of the last process are lost",
    "rule-hits": "counters of rules of the last process are lost",
}


FIELDS = ["magic", "layout_hash", "size"] * 2


@pytest.mark.parametrize(("name", "field"), list(zip(DAMAGE, FIELDS, strict=True)))
def test_a_damaged_segment_costs_its_part_only(runtime, caplog, name, field):
    with router(workers=2) as made:
        for port in range(5000, 5040):
            udp(made, port)
        station(made, "one", "02:00:00:00:00:aa")
        made.add_route("10.5.0.0/16", via=SERVER)
        held = [int(shard.array[12]) for shard in made.firewall.shards]
        die(made)
    np.memmap(runtime / "kept" / name, HEADER, "r+", shape=1)[field] = 1
    with router(workers=2) as made:
        assert DAMAGE[name] in caplog.text
        assert len([record for record in caplog.records if "lost" in record.message]) == 1
        assert len(made.sessions()) == (held[1] if name == "sessions-0" else 40)
        assert made.bridging.count() == (0 if name == "mac" else 1)
        assert ("10.5.0.0/16", 0) in routes(made)


@pytest.mark.parametrize("text", ["", "null", '{"ports": 1}'])
@pytest.mark.parametrize("name", ["numbers", "forwarder", "cleared", "told"])
def test_damaged_documents_are_named(runtime, caplog, name, text):
    with router() as made:
        udp(made, 5000)
        view(made).clear()
        made.add_route("10.5.0.0/16", via=SERVER)
        die(made)
    file = runtime / "kept" / ("told" if name == "told" else f"{name}.json")
    file.write_text("vforward" * (name == "told") + text)
    with router() as made:
        assert caplog.records
        assert len(made.sessions()) == (name != "numbers")
        assert (("10.5.0.0/16", 0) in routes(made)) == (name != "told")


def test_random_damage_never_stops_it(runtime):
    """Bytes changed in all files at once."""
    rng = np.random.default_rng(5)
    for turn in range(8):
        with router(workers=1 + turn % 2) as made:
            for port in range(5000, 5010):
                udp(made, port)
            station(made, "one", "02:00:00:00:00:aa")
            made.add_route(f"10.{turn}.0.0/16", via=SERVER)
            die(made)
        for file in (runtime / "kept").iterdir():
            if module.KEPT(file.name) and rng.random() < 0.5:
                damage(file, rng)
    with router() as made:
        assert udp(made, 6000)
        for shard in made.firewall.shards:
            shard.check()


def damage(file: Path, rng):
    """Change some bytes; of a segment the first eight stay, lest it is somebody else's file."""
    raw = bytearray(file.read_bytes())
    for at in rng.integers(8, len(raw), 20):
        raw[int(at)] = int(rng.integers(256))
    file.write_bytes(raw)


def test_counters_never_go_back():
    with router() as made:
        for port in range(5000, 5010):
            udp(made, port)
        before = counted(made)
        assert before["packets", "lan-rx"] == 10
        die(made)
    with router() as made:
        again = counted(made)
        assert {key: n for key, n in again.items() if n < before.get(key, 0)} == {}
        assert again["packets", "lan-rx"] == 10
        udp(made, 5000)
        assert counted(made)["packets", "lan-rx"] == 11


def counted(made):
    """All that a view counts."""
    with View(Arena.attach(made.name), heeds_clear=False) as seen:
        runtime = seen.runtime()
        rows = {("packets", row.name): row.packets for row in runtime.nodes}
        rows |= {("edges", w.name, e.label): e.packets for w in seen.graph() for e in w.edges}
        rows |= {("errors", e.node, e.reason): e.count for e in seen.errors()}
        return rows | {("rounds",): runtime.rounds}


def test_it_says_what_it_took_over(caplog):
    caplog.set_level(logging.INFO)
    with router() as made:
        udp(made, 5000)
        made.add_route("10.5.0.0/16", via=SERVER)
        die(made)
    with router():
        (said,) = [
            r.message for r in caplog.records if "went on from the last process" in r.message
        ]
        assert "1 things told" in said
        assert "1 sessions" in said


def test_numbers_are_published_before_they_are_used(runtime):
    """A policy in force never names what the document does not have."""
    with router() as made:
        compiler, policy = made.firewall._compiler, made.firewall._policy
        compile_, put, compiled = compiler.parts, policy.put, []

        def remembered(*given):
            compiled.append(compile_(*given))
            return compiled[-1]

        def watched(bundle):
            document = json.loads((runtime / "kept" / "numbers.json").read_text())
            hits = {place for place, _ in document["rules"].values()}
            assert set(compiled[-1].actions["hits"].tolist()) <= hits | {0}
            put(bundle)

        compiler.parts, policy.put = remembered, watched
        for n in range(5):
            made.add_rule(r.Rule(action="deny", name=f"r{n}", protocol="icmp"))


FILE = """
[forwarder]
name = "kept"
buffers = 1024
[ports.lan]
type = "memory"
address = "10.0.1.1/24"
[[routes]]
prefix = "10.9.0.0/16"
via = "10.0.1.2"
"""
NEW_PORT = '[ports.new]\ntype = "memory"\naddress = "10.0.3.1/24"\n'


def test_what_was_told_and_what_is_applied(tmp_path, runtime):
    """What an applied configuration has replaced is not told again; ports that it brought have names."""

    def made(text=FILE):
        return config.parse(text, str(tmp_path / "kept.toml"))

    keys = [("routes", "default", f"10.{n}.0.0/16", "0") for n in (8, 9)]
    with from_config(made()) as forwarder:
        forwarder.build()
        forwarder.add_route("10.8.0.0/16", via="10.0.1.2")
        forwarder.delete_route("10.9.0.0/16")
        die(forwarder)
    with from_config(made()) as forwarder:
        forwarder.build()
        assert set(routes(forwarder)) == {("10.8.0.0/16", 0)}
        assert forwarder.told.keys() == keys
        forwarder.reload.apply(made())
        assert set(routes(forwarder)) == {("10.8.0.0/16", 0)}
        forwarder.reload.apply(made(FILE + NEW_PORT), exact=True)
        assert set(routes(forwarder)) == {("10.9.0.0/16", 0)}
        assert forwarder.told.keys() == []
        document = json.loads((runtime / "kept" / "numbers.json").read_text())
        assert document["ports"] == {"lan": 1, "new": 2}
        die(forwarder)
    with from_config(made()) as forwarder:
        forwarder.build()
        assert set(routes(forwarder)) == {("10.9.0.0/16", 0)}


def test_a_port_of_run_time_comes_back_when_the_file_has_it(tmp_path, caplog):
    """And what was told of it. To write it into the file of a running forwarder touches nothing."""

    def made(text=FILE):
        return config.parse(text, str(tmp_path / "kept.toml"))

    def tell(forwarder):
        model = config.MemoryPort(type="memory", address=("10.0.3.1/24",))
        forwarder.reload.add_port("new", model)
        forwarder.add_route("10.8.0.0/16", via="10.0.3.9")
        forwarder.reload.touch(("routes", "default", "10.8.0.0/16", "0"))  # as the API does

    with from_config(made()) as forwarder:
        forwarder.build()
        tell(forwarder)
        die(forwarder)
    with from_config(made()) as forwarder:
        forwarder.build()
        assert [interface.name for interface in forwarder.interfaces] == ["lan"]
        assert set(routes(forwarder)) == {("10.9.0.0/16", 0)}
        assert "10.8.0.0/16 0 was told at run time, and cannot be in force any more" in caplog.text
        assert "damaged" not in caplog.text
        tell(forwarder)
        port = forwarder.interfaces.find("new").port
        assert forwarder.reload.apply(made(FILE + NEW_PORT)).lines == []
        assert forwarder.interfaces.find("new").port is port
        die(forwarder)
    with from_config(made(FILE + NEW_PORT)) as forwarder:
        forwarder.build()
        assert [interface.name for interface in forwarder.interfaces] == ["lan", "new"]
        assert set(routes(forwarder)) == {("10.9.0.0/16", 0), ("10.8.0.0/16", 0)}
        die(forwarder)
    with from_config(made()) as forwarder:  # what was applied is in another file
        forwarder.build()
        assert [interface.name for interface in forwarder.interfaces] == ["lan"]
