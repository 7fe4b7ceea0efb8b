# SPDX-License-Identifier: Apache-2.0
"""Routing: precedence, host routes of neighbors, and that what workers may read is not changed."""

import threading
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Interface,
    ip_address,
    ip_network,
)

import numpy as np
import pytest

from nodes.network import Heap
from vforward.control import routing as module
from vforward.control.adjacencies import BLACKHOLE, LOCAL, PROHIBIT, PROHIBIT6
from vforward.control.routes import Path, ShownPath, wide
from vforward.control.routing import Routing
from vforward.errors import ConfigError, VforwardError
from vforward.tables import TableFull
from vforward.tables.adjacency import Way
from vforward.tables.fib import Fib4
from vforward.tables.ports import PORT

LAN, WAN, BLUE, DMZ = 1, 2, 3, 4
NAMES = {LAN: "lan", WAN: "wan", BLUE: "blue", DMZ: "dmz"}
MAC, OTHER = b"\x02\0\0\0\0\x19", b"\x06\0\0\0\0\x2a"


def ip(text):
    """128 bits."""
    return wide(ip_address(text))


def net(text):
    return ip_network(text)


def via(*texts, port=None):
    """Paths: "address" or "address*weight"."""
    split = [text.split("*") for text in texts]
    return tuple(Path(ip_address(a), port, *(int(n) for n in rest)) for a, *rest in split)


HOP = ip("10.0.1.9")


class Bench:
    def __init__(self, n=64):
        ports = np.zeros(6, PORT)
        ports["mac"][1:], ports["mtu"][1:] = 0x020000000001, 1500
        ports[WAN]["tags"], ports[WAN]["tpid"], ports[WAN]["vlan"] = 1, 0x8100, 10
        ports[BLUE]["vrf"] = 7
        self.ports = ports
        self.routing = Routing(Heap(), ports, NAMES.__getitem__, n, 4096)
        self.quiet, self.waits = True, 0
        self.routing.quiesce = self.quiesce
        self.during = lambda: None
        self.routing.connect(LAN, IPv4Interface("10.0.1.1/24"))
        self.routing.connect(WAN, IPv4Interface("10.0.2.1/24"))
        self.routing.connect(LAN, IPv6Interface("2001:db8:1::1/64"))

    def quiesce(self):
        self.waits += 1
        self.during()
        return self.quiet

    def at(self, address, vrf=0):
        address = ip_address(address)
        fib = self.routing.fib4 if address.version == 4 else self.routing.fib6
        return fib.lookup(int(address), vrf=vrf)

    def record(self, address, vrf=0):
        return self.routing.adjacencies[self.at(address, vrf)]

    def way(self, address, vrf=0):
        """Edge and, where it counts, destination MAC."""
        record = self.record(address, vrf)
        if record["edge"] != Way.REWRITE:
            return Way(int(record["edge"]))
        return self.header(address, vrf)[:6]

    def header(self, address, vrf=0):
        record = self.record(address, vrf)
        return record["rewrite"].tobytes()[24 - int(record["rewrite_len"]) :]

    def hops(self, address, vrf=0):
        """The next hops of a multipath route: the low halves' last bytes, for each bucket."""
        record = self.record(address, vrf)
        assert record["edge"] == Way.MULTIPATH
        first, n = int(record["first"]), int(record["mask"]) + 1
        numbers = self.routing.tables["buckets"][first : first + n]
        return [int(hop[1]) & 0xFF for hop in self.routing.adjacencies[numbers]["next_hop"]]

    def free(self):
        """Adjacencies, when a quiet point has come if one does."""
        self.routing.reclaim()
        return self.routing._adjacencies.free

    def check(self):
        self.routing.fib4.check()
        self.routing.fib6.check()


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.check()


@pytest.fixture
def small(monkeypatch):
    """A FIB whose lines run out."""
    monkeypatch.setattr(module, "Fib4", lambda arena: Fib4(arena, max_lines=160))
    return Bench()


def test_own_connected_and_broadcast(bench):
    assert bench.at("10.0.1.1") == LOCAL
    assert bench.way("10.0.1.9") == Way.RESOLVE
    assert bench.record("10.0.1.9")["tx_port"] == LAN
    assert bench.at("10.0.1.255") == bench.at("255.255.255.255") == bench.at("224.1.1.1")
    assert bench.at("10.0.1.255") == BLACKHOLE
    assert bench.way("11.0.0.1") == Way.ERROR


def test_a_route_shares_its_neighbors_adjacency(bench):
    bench.routing.add(net("20.0.0.0/8"), paths=via("10.0.1.9"))
    assert bench.way("20.0.0.1") == Way.RESOLVE
    assert bench.record("20.0.0.1")["next_hop"].tolist() == [0, HOP]
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert bench.way("20.0.0.1") == bench.way("10.0.1.9") == MAC
    bench.routing.neighbor_down(LAN, HOP)
    assert bench.way("20.0.0.1") == bench.way("10.0.1.9") == Way.RESOLVE
    with pytest.raises(ConfigError, match="without a route"):
        bench.routing.add(net("21.0.0.0/8"), paths=via("30.0.0.1"))


def test_local_and_connected_win_over_configured(bench):
    bench.routing.add(net("10.0.1.1/32"), kind="blackhole")
    bench.routing.add(net("10.0.1.0/24"), kind="prohibit")
    assert bench.at("10.0.1.1") == LOCAL
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert bench.way("10.0.1.9") == MAC
    kinds = {r.prefix: r.kind for r in bench.routing.routes()}
    assert kinds["10.0.1.1/32"] == "local"
    assert kinds["10.0.1.0/24"] == "connected"
    assert "10.0.1.9/32" not in kinds


@pytest.mark.parametrize("prefix", ["10.0.1.8/29", "10.0.1.9/32"])
@pytest.mark.parametrize("how", [{"kind": "prohibit"}, {"paths": via("10.0.2.7")}])
def test_a_neighbor_does_not_bypass_a_configured_route(bench, prefix, how):
    before = bench.free()
    bench.routing.add(net(prefix), **how)
    there = bench.at("10.0.1.9")
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert bench.at("10.0.1.9") == there  # it was there first
    bench.routing.delete(net(prefix))
    assert bench.way("10.0.1.9") == MAC  # it uncovers the host route
    bench.routing.add(net(prefix), **how)
    assert bench.record("10.0.1.9")["tx_port"] != LAN  # and covers it
    bench.routing.neighbor_down(LAN, HOP)
    bench.routing.delete(net(prefix))
    assert bench.way("10.0.1.9") == Way.RESOLVE
    assert bench.free() == before


def test_only_the_port_that_a_prefix_is_on_gets_host_routes(bench):
    bench.routing.neighbor_up(WAN, HOP, MAC)
    assert bench.way("10.0.1.9") == Way.RESOLVE
    bench.routing.neighbor_up(LAN, HOP, OTHER)
    assert bench.way("10.0.1.9") == OTHER
    bench.routing.add(net("10.0.1.9/32"), paths=(Path(port=WAN),))  # now it is on the other one
    assert bench.way("10.0.1.9") == MAC
    bench.routing.delete(net("10.0.1.9/32"))
    assert bench.way("10.0.1.9") == OTHER


def test_adjacencies_come_back(bench):
    before = bench.free()
    bench.routing.add(net("20.0.0.0/8"), paths=via("10.0.1.9"))
    bench.routing.add(net("21.0.0.0/8"), paths=via("10.0.1.9"))
    bench.routing.add(net("22.0.0.0/8"), paths=(Path(port=LAN),))
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert bench.free() == before - 1  # routes to a port share what its prefix has
    bench.routing.delete(net("20.0.0.0/8"))
    bench.routing.neighbor_down(LAN, HOP)
    assert bench.free() == before - 1
    bench.routing.add(net("21.0.0.0/8"), kind="blackhole")  # in place of the last user
    assert bench.free() == before
    bench.routing.delete(net("22.0.0.0/8"))
    assert bench.free() == before
    with pytest.raises(KeyError):
        bench.routing.delete(net("22.0.0.0/8"))
    with pytest.raises(KeyError):
        bench.routing.delete(net("10.0.1.0/24"))


def test_neighbors_come_and_go_in_few_adjacencies(bench):
    bench.routing.connect(LAN, IPv4Interface("10.64.0.1/16"))
    first, before = ip("10.64.1.0"), bench.free()
    for i in range(10_000):
        bench.routing.neighbor_up(LAN, first + i, MAC)
        if i >= 40:
            bench.routing.neighbor_down(LAN, first + i - 40)
    for i in range(9_960, 10_000):
        bench.routing.neighbor_down(LAN, first + i)
    assert bench.free() == before


def test_all_adjacencies_in_use(bench):
    n = bench.free()
    for i in range(n):
        bench.routing.neighbor_up(LAN, ip("10.0.1.2") + i, MAC)
    with pytest.raises(ConfigError, match="in use"):
        bench.routing.neighbor_up(LAN, ip("10.0.1.200"), MAC)
    with pytest.raises(ConfigError, match="in use"):
        bench.routing.add(net("20.0.0.0/8"), paths=via("10.0.2.9"))
    with pytest.raises(ConfigError, match="in use"):
        bench.routing.add(net("20.0.0.0/8"), paths=via("10.0.1.2", "10.0.1.3"))
    assert bench.way("10.0.1.200") == Way.RESOLVE
    assert bench.way("20.0.0.1") == Way.ERROR
    bench.routing.neighbor_down(LAN, ip("10.0.1.2"))
    bench.routing.neighbor_up(LAN, ip("10.0.1.200"), OTHER)
    assert bench.way("10.0.1.200") == OTHER


def test_nothing_is_freed_before_a_quiet_point(bench):
    before = bench.free()
    bench.routing.neighbor_up(LAN, HOP, MAC)
    bench.quiet = False
    bench.routing.neighbor_down(LAN, HOP)
    assert bench.free() == before - 1
    bench.routing.neighbor_up(LAN, HOP, OTHER)  # in another one: that one may be in use
    assert bench.free() == before - 2
    bench.quiet = True
    assert bench.free() == before - 1  # tries again


def test_a_group_that_a_route_has_just_left_does_not_change(bench):
    one, other = net("20.0.0.0/16"), net("20.1.0.0/16")
    for prefix in (one, other):
        bench.routing.add(prefix, paths=via("10.0.1.7", "10.0.1.8"))
    record = bench.record("20.1.0.1")
    where = slice(int(record["first"]), int(record["first"]) + int(record["mask"]) + 1)
    before = bench.routing.tables["buckets"][where].copy()
    bench.quiet = False
    bench.routing.delete(other)  # a packet of it may have found the group, but not yet the bucket
    bench.routing.add(one, paths=via("10.0.1.7", "10.0.1.8", "10.0.1.9"))
    assert set(bench.hops("20.0.0.1")) == {7, 8, 9}
    assert (bench.routing.tables["buckets"][where] == before).all()
    bench.quiet = True
    bench.routing.reclaim()
    number = bench.at("20.0.0.1")
    bench.routing.add(one, paths=via("10.0.1.7", "10.0.1.9"))
    assert bench.at("20.0.0.1") == number  # in place again


def test_a_mac_in_one_word_changes_at_once(bench):
    bench.routing.add(net("20.0.0.0/8"), paths=via("10.0.1.9"))
    bench.routing.neighbor_up(LAN, HOP, MAC)
    waits = bench.waits
    bench.routing.neighbor_up(LAN, HOP, OTHER)
    assert bench.way("20.0.0.1") == OTHER
    assert bench.waits == waits


def test_a_header_changes_only_at_a_quiet_point(bench):
    bench.ports[LAN]["tags"], bench.ports[LAN]["tpid"], bench.ports[LAN]["vlan"] = 1, 0x8100, 7
    bench.routing.add(net("20.0.0.0/8"), paths=via("10.0.1.9"))
    record = bench.record("20.0.0.1")
    seen = []
    bench.during = lambda: seen.append((int(record["edge"]), record["rewrite"].tobytes()))
    bench.routing.neighbor_up(LAN, HOP, MAC)
    old = record["rewrite"].tobytes()
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert seen == []
    bench.routing.neighbor_up(LAN, HOP, OTHER)
    assert seen == [(Way.RESOLVE, old)]
    old = record["rewrite"].tobytes()
    bench.quiet = False
    bench.routing.neighbor_down(LAN, HOP)
    seen.clear()
    bench.routing.neighbor_up(LAN, HOP, OTHER)  # the same bytes
    bench.routing.neighbor_down(LAN, HOP)
    with pytest.raises(VforwardError, match="old header"):
        bench.routing.neighbor_up(LAN, HOP, MAC)
    assert bench.way("10.0.1.9") == bench.way("20.0.0.1") == Way.RESOLVE
    assert record["rewrite"].tobytes() == old
    bench.quiet = True
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert (Way.RESOLVE, old) in seen
    bench.quiet = False
    with pytest.raises(VforwardError, match="old header"):
        bench.routing.neighbor_up(LAN, HOP, OTHER)
    assert bench.way("20.0.0.1") == MAC  # as it was


def test_a_full_fib_leaves_all_as_it_was(small):
    routing = small.routing
    routing.add(net("10.0.0.0/8"), paths=(Path(port=LAN),))
    free, filled = small.free(), []
    refused = None
    while refused is None:
        prefix = net(f"{20 + len(filled)}.1.1.1/32")
        try:
            routing.add(prefix, kind="blackhole")
            filled.append(prefix)
        except TableFull:
            refused = prefix
    assert str(refused) not in [r.prefix for r in routing.routes()]
    with pytest.raises(TableFull):
        routing.add(net("31.1.1.1/32"), paths=via("10.0.2.9"))
    with pytest.raises(TableFull):
        routing.neighbor_up(LAN, ip("10.77.1.5"), MAC)
    with pytest.raises(TableFull):
        routing.connect(DMZ, IPv4Interface("88.1.0.1/24"))
    assert small.way("10.77.1.5") == small.way("10.0.1.200") == Way.RESOLVE
    assert small.way("88.1.0.1") == small.way("88.1.0.9") == Way.ERROR
    assert small.free() == free
    small.check()
    for prefix in filled:
        routing.delete(prefix)
    routing.neighbor_up(LAN, ip("10.77.1.5"), MAC)
    assert small.way("10.77.1.5") == MAC
    routing.add(net("10.77.1.5/32"), kind="prohibit")
    assert small.at("10.77.1.5") == PROHIBIT
    small.check()


def test_two_threads(bench):
    before, faults = bench.free(), []
    bench.routing.connect(LAN, IPv4Interface("10.64.0.1/16"))

    def run(work):
        try:
            for i in range(1500):
                work(i)
        except Exception as fault:
            faults.append(fault)

    def routes(i):
        prefix = net(f"10.64.{i % 200}.0/{24 + i % 9}")
        bench.routing.add(prefix, paths=via(str(IPv4Address("10.64.0.2") + i % 5)))
        bench.routing.routes()
        bench.routing.delete(prefix)

    def neighbors(i):
        bench.routing.neighbor_up(LAN, ip("10.64.0.0") + i % 1000, OTHER if i & 1 else MAC)
        bench.routing.neighbor_down(LAN, ip("10.64.0.0") + (i * 7) % 1000)
        if i % 40 == 39:
            for j in range(1000):
                bench.routing.neighbor_down(LAN, ip("10.64.0.0") + j)

    threads = [threading.Thread(target=run, args=(work,)) for work in (routes, neighbors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    for j in range(1000):
        bench.routing.neighbor_down(LAN, ip("10.64.0.0") + j)
    assert bench.free() == before
    bench.check()


def test_ip6_own_connected_and_errors(bench):
    for own in ("2001:db8:1::1", "2001:db8:1::"):  # the latter: subnet-router anycast
        assert bench.at(own) == LOCAL
    assert bench.record("2001:db8:1::9")["tx_port"] == LAN
    assert bench.at("ff02::1") == BLACKHOLE
    bench.routing.add(net("2001:db8:2::/48"), kind="unreachable")
    bench.routing.add(net("2001:db8:3::/48"), kind="prohibit")
    bench.routing.add(net("20.0.0.0/8"), kind="unreachable")
    bench.routing.add(net("21.0.0.0/8"), kind="prohibit")
    errors = {
        a: divmod(int(bench.record(a)["icmp"]), 256)
        for a in (
            "2001:db8:9::1",
            "2001:db8:2::1",
            "2001:db8:3::1",
            "9.0.0.1",
            "20.0.0.1",
            "21.0.0.1",
        )
    }
    assert errors == {
        "2001:db8:9::1": (1, 0), "2001:db8:2::1": (1, 3), "2001:db8:3::1": (1, 1),
        "9.0.0.1": (3, 0), "20.0.0.1": (3, 1), "21.0.0.1": (3, 13),
    }  # fmt: skip
    bench.routing.add(net("::/0"), kind="blackhole")
    assert bench.way("2001:db8:9::1") == Way.DROP
    bench.routing.delete(net("::/0"))
    assert bench.way("2001:db8:9::1") == Way.ERROR


def test_link_local_addresses_are_in_no_fib(bench):
    bench.routing.connect(LAN, IPv6Interface("fe80::1/64"))
    assert bench.way("fe80::1") == bench.way("fe80::2") == Way.ERROR
    bench.routing.add(net("2001:db8:5::/48"), paths=via("fe80::9", port=WAN))
    assert bench.record("2001:db8:5::1")["tx_port"] == WAN
    bench.routing.neighbor_up(WAN, ip("fe80::9"), MAC)
    assert bench.way("2001:db8:5::1") == MAC
    bench.routing.add(net("::/0"), paths=(Path(port=WAN),))
    bench.routing.neighbor_up(WAN, ip("fe80::8"), MAC)
    assert bench.way("fe80::8") == bench.way("fe80::9") == Way.RESOLVE
    with pytest.raises(ConfigError, match="without a route"):
        bench.routing.add(net("2001:db8:6::/48"), paths=via("fe80::9"))
    bench.routing.neighbor_down(WAN, ip("fe80::8"))
    bench.routing.disconnect(LAN, IPv6Interface("fe80::1/64"))


@pytest.mark.parametrize(
    ("tags", "tpid", "vlan", "inner", "between"),
    [
        (0, 0, 0, 0, b""),
        (1, 0x8100, 10, 0, b"\x81\x00\x00\x0a"),
        (2, 0x88A8, 10, 4000, b"\x88\xa8\x00\x0a\x81\x00\x0f\xa0"),
        (2, 0x8100, 1, 2, b"\x81\x00\x00\x01\x81\x00\x00\x02"),
    ],
)
def test_headers_carry_tags_and_the_familys_type(bench, tags, tpid, vlan, inner, between):
    port = bench.ports[LAN]
    port["tags"], port["tpid"], port["vlan"], port["inner"] = tags, tpid, vlan, inner
    start = MAC + b"\x02\0\0\0\0\x01" + between
    for address, kind in (("10.0.1.9", b"\x08\x00"), ("2001:db8:1::9", b"\x86\xdd")):
        bench.routing.neighbor_up(LAN, ip(address), MAC)
        assert bench.header(address) == start + kind
        assert bench.record(address)["mtu"] == 1500


def test_a_stale_neighbor_is_used_and_told(bench):
    bench.ports[LAN]["tags"], bench.ports[LAN]["tpid"], bench.ports[LAN]["vlan"] = 1, 0x8100, 7
    bench.routing.neighbor_stale(LAN, HOP)  # unknown: nothing happens
    bench.routing.neighbor_up(LAN, HOP, MAC)
    waits = bench.waits
    bench.routing.neighbor_stale(LAN, HOP)
    assert bench.record("10.0.1.9")["edge"] == Way.NOTIFY
    assert bench.header("10.0.1.9")[:6] == MAC
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert bench.way("10.0.1.9") == MAC
    assert bench.waits == waits
    bench.routing.neighbor_stale(LAN, HOP)
    seen = []
    bench.during = lambda: seen.append(int(bench.record("10.0.1.9")["edge"]))
    bench.routing.neighbor_up(LAN, HOP, OTHER)
    assert Way.RESOLVE in seen
    assert Way.NOTIFY not in seen
    assert bench.way("10.0.1.9") == OTHER


def test_vrfs_are_apart(bench):
    bench.routing.connect(BLUE, IPv4Interface("10.0.1.1/24"))
    bench.routing.connect(BLUE, IPv6Interface("2001:db8:1::2/64"))
    assert bench.record("10.0.1.9", vrf=7)["tx_port"] == BLUE
    assert bench.record("2001:db8:1::9", vrf=7)["tx_port"] == BLUE
    assert bench.at("2001:db8:1::1", vrf=7) != LOCAL
    assert bench.at("224.0.0.5", vrf=7) == bench.at("ff02::5", vrf=7) == BLACKHOLE
    bench.routing.neighbor_up(BLUE, HOP, OTHER)
    assert bench.way("10.0.1.9", vrf=7) == OTHER
    assert bench.way("10.0.1.9") == Way.RESOLVE
    bench.routing.add(net("20.0.0.0/8"), paths=via("10.0.1.9"), vrf=7)
    assert bench.way("20.0.0.1", vrf=7) == OTHER
    assert bench.way("20.0.0.1") == Way.ERROR
    with pytest.raises(KeyError):
        bench.routing.delete(net("20.0.0.0/8"))
    assert {r.vrf for r in bench.routing.routes(vrf=7)} == {7}
    assert bench.routing.count() == bench.routing.count(0) + bench.routing.count(7)
    with pytest.raises(ConfigError, match="own VRF"):
        bench.routing.add(net("21.0.0.0/8"), paths=(Path(port=BLUE),))
    bench.routing.add(net("21.0.0.0/8"), paths=via("10.0.1.9", port=BLUE))  # a leak, asked for
    assert bench.way("21.0.0.1") == OTHER
    with pytest.raises(ConfigError, match="VRF 64"):
        bench.routing.add(net("21.0.0.0/8"), kind="blackhole", vrf=64)
    with pytest.raises(ConfigError, match="of VRF 3: next hop without a route"):
        bench.routing.add(net("21.0.0.0/8"), paths=via("10.0.1.9"), vrf=3)


def test_metrics(bench):
    prefix = net("20.0.0.0/8")
    bench.routing.add(prefix, kind="prohibit", metric=10)
    bench.routing.add(prefix, paths=via("10.0.1.9"), metric=5)
    bench.routing.add(prefix, kind="blackhole", metric=20)
    assert bench.way("20.0.0.1") == Way.RESOLVE
    assert [r.metric for r in bench.routing.routes() if r.prefix == str(prefix)] == [5]
    bench.routing.delete(prefix, metric=10)
    bench.routing.delete(prefix)
    assert bench.way("20.0.0.1") == Way.DROP
    with pytest.raises(KeyError):
        bench.routing.delete(prefix, metric=5)
    bench.routing.delete(prefix, metric=20)
    assert bench.way("20.0.0.1") == Way.ERROR


def test_disconnect(bench):
    before = bench.free()
    bench.routing.connect(DMZ, IPv4Interface("10.9.0.1/24"))
    bench.routing.connect(DMZ, IPv4Interface("10.9.0.2/24"))
    bench.routing.connect(DMZ, IPv6Interface("2001:db8:9::1/64"))
    bench.routing.neighbor_up(DMZ, ip("10.9.0.9"), MAC)
    bench.routing.disconnect(DMZ, IPv4Interface("10.9.0.1/24"))
    assert bench.way("10.9.0.1") == Way.RESOLVE  # no longer ours, but on the link
    assert bench.at("10.9.0.2") == LOCAL
    assert bench.way("10.9.0.9") == MAC
    bench.routing.disconnect(DMZ, IPv4Interface("10.9.0.2/24"))
    bench.routing.disconnect(DMZ, IPv6Interface("2001:db8:9::1/64"))
    for address in ("10.9.0.2", "10.9.0.9", "10.9.0.255", "2001:db8:9::1", "2001:db8:9::"):
        assert bench.way(address) == Way.ERROR
    bench.routing.neighbor_down(DMZ, ip("10.9.0.9"))
    assert bench.free() == before
    with pytest.raises(KeyError):
        bench.routing.disconnect(DMZ, IPv4Interface("10.9.0.2/24"))


@pytest.mark.parametrize(
    ("prefix", "given", "match"),
    [
        ("20.0.0.0/8", {"paths": via("2001:db8:1::9")}, "another family"),
        ("2001:db8:2::/48", {"paths": via("10.0.1.9")}, "another family"),
        ("2001:db8:2::/48", {"paths": via("::ffff:10.0.1.9")}, "another family"),
        ("20.0.0.0/8", {"paths": via("10.0.1.9*0")}, "weight 0"),
        ("20.0.0.0/8", {"paths": via("10.0.1.9*257")}, "weight 257"),
        ("20.0.0.0/8", {"paths": (Path(port=LAN), Path(port=WAN))}, "stands alone"),
        ("20.0.0.0/8", {"paths": (Path(),)}, "next hop, or a port"),
        ("20.0.0.0/8", {}, "or a kind"),
        ("20.0.0.0/8", {"kind": "green"}, "no kind"),
    ],
)
def test_what_is_no_route_is_refused(bench, prefix, given, match):
    before = bench.free(), bench.routing.routes()
    with pytest.raises(ConfigError, match=match):
        bench.routing.add(net(prefix), **given)
    assert (bench.free(), bench.routing.routes()) == before


def test_multipath_flows_stay_when_another_hop_leaves_or_comes(bench):
    before, prefix = bench.free(), net("20.0.0.0/8")
    other = net("21.0.0.0/8")
    for each in (prefix, other):
        bench.routing.add(each, paths=via("10.0.1.1", "10.0.1.2*2", "10.0.1.3"))
    assert bench.at("20.0.0.1") == bench.at("21.0.0.1")  # one group
    assert bench.free() == before - 4
    first = bench.hops("20.0.0.1")
    assert [first.count(hop) for hop in (1, 2, 3)] == [16, 32, 16]
    bench.routing.add(prefix, paths=via("10.0.1.1", "10.0.1.2*2"))
    then = bench.hops("20.0.0.1")
    assert all(now == was for now, was in zip(then, first) if was != 3)
    assert bench.hops("21.0.0.1") == first
    bench.routing.add(other, paths=via("10.0.1.1", "10.0.1.2*2"))
    assert bench.at("20.0.0.1") == bench.at("21.0.0.1")  # they meet again
    bench.routing.delete(other)
    number = bench.at("20.0.0.1")
    bench.routing.add(prefix, paths=via("10.0.1.1", "10.0.1.2*2", "10.0.2.4"))
    assert bench.at("20.0.0.1") == number  # its own group changes in place
    last = bench.hops("20.0.0.1")
    assert all(now == was for now, was in zip(last, then) if now != 4)
    assert last.count(4) == 16
    shown = next(r for r in bench.routing.routes() if r.prefix == str(prefix))
    assert (shown.via, shown.port) == ("10.0.1.1*1 10.0.1.2*2 10.0.2.4*1", "")
    assert shown.paths == (
        ShownPath("10.0.1.1", "lan", 1),
        ShownPath("10.0.1.2", "lan", 2),
        ShownPath("10.0.2.4", "wan", 1),
    )
    bench.routing.add(prefix, paths=via("10.0.1.1"))
    assert bench.record("20.0.0.1")["edge"] == Way.RESOLVE
    bench.routing.add(prefix, paths=via("10.0.1.1", "10.0.1.2"))
    assert bench.hops("20.0.0.1").count(1) == 32
    bench.routing.delete(prefix)
    assert bench.free() == before
    assert bench.routing._groups.free == 4096


def test_a_failed_hop_has_no_flows_until_it_may_be_tried(bench):
    bench.routing.add(net("20.0.0.0/8"), paths=via("10.0.1.1", "10.0.1.2"))
    first = bench.hops("20.0.0.1")
    bench.routing.neighbor_up(LAN, ip("10.0.1.1"), MAC)
    bench.routing.neighbor_failed(LAN, ip("10.0.1.1"))
    assert set(bench.hops("20.0.0.1")) == {2}
    bench.routing.neighbor_failed(LAN, ip("10.0.1.2"))
    assert set(bench.hops("20.0.0.1")) == {1, 2}  # with none that works all are tried
    bench.routing.neighbor_up(LAN, ip("10.0.1.2"), MAC)
    assert set(bench.hops("20.0.0.1")) == {2}
    bench.routing.neighbor_down(LAN, ip("10.0.1.1"))
    assert sorted(bench.hops("20.0.0.1")) == sorted(first)


def test_many_routes_at_once(bench):
    bench.routing.add(net("20.1.0.0/16"), kind="prohibit")
    bench.routing.add(net("20.2.0.0/16"), paths=via("10.0.1.1"), metric=3)
    bench.routing.neighbor_up(LAN, HOP, MAC)
    before, done = bench.free(), []
    prefixes = [ip(f"20.{i}.0.0") & 0xFFFFFFFF for i in (3, 2, 1, 0, 3)] + [HOP & 0xFFFFFFFF]
    ways = [via("10.0.1.1"), "blackhole", via("10.0.1.1", "10.0.2.2")]
    bench.routing.add_many(
        prefixes,
        [16] * 5 + [32],
        [0, 0, 1, 2, 1, 1],
        ways,
        version=4,
        metric=3,
        progress=done.append,
    )
    assert done
    assert bench.way("20.3.0.1") == Way.DROP  # the last one counts
    assert bench.way("20.2.0.1") == Way.RESOLVE
    assert bench.at("20.1.0.1") == PROHIBIT  # its metric is lower
    assert set(bench.hops("20.0.0.1")) == {1, 2}
    assert bench.way("10.0.1.9") == Way.DROP  # no host route hides it
    bench.routing.delete(net("20.1.0.0/16"), metric=0)
    assert bench.way("20.1.0.1") == Way.DROP
    bench.routing.delete(net("10.0.1.9/32"))
    assert bench.way("10.0.1.9") == MAC
    for i in range(4):
        bench.routing.delete(net(f"20.{i}.0.0/16"))
    assert bench.free() == before + 1  # 10.0.1.1 had a route before
    high = [[0x20010DB8_00050000, i << 48] for i in range(3)]
    bench.routing.add_many(high, [80, 80, 79], [0, 0, 0], ["prohibit"], version=6)
    assert bench.at("2001:db8:5:0:1::1") == bench.at("2001:db8:5:0:3::1") == PROHIBIT6
    for bad in ({"lengths": [7]}, {"lengths": [33]}, {"ways": ["green"]}):
        with pytest.raises(ConfigError):
            bench.routing.add_many(
                [1 << 24], bad.get("lengths", [8]), [0], bad.get("ways", ["local"]), version=4
            )


def test_many_routes_in_too_little_room(small):
    free = small.free()
    prefixes = [(20 + i % 200) << 24 | i << 12 for i in range(1000)]
    with pytest.raises(TableFull) as caught:
        small.routing.add_many(prefixes, [32] * 1000, [0] * 1000, [via("10.0.1.9")], version=4)
    there = sorted(prefixes)[: caught.value.done]
    assert 0 < len(there) < 1000
    listed = [r.prefix for r in small.routing.routes() if r.kind == "via"]
    assert listed == [f"{IPv4Address(p)}/32" for p in there]
    small.check()
    for prefix in there:
        small.routing.delete(net(str(IPv4Address(prefix))))
    assert small.free() == free


@pytest.mark.parametrize("prefix", ["127.1.0.0/16", "0.0.0.0/8", "224.0.0.5/32", "ff02::/16"])
def test_what_is_never_routed_cannot_be(bench, prefix):
    with pytest.raises(ConfigError, match=f"route {prefix}: .* is not routed"):
        bench.routing.add(net(prefix), kind="blackhole")


def test_routes_are_listed_by_vrf_family_and_prefix(bench):
    listed = bench.routing.routes()
    assert [r.prefix for r in listed if ":" not in r.prefix] == [
        "0.0.0.0/8", "10.0.1.0/24", "10.0.1.1/32", "10.0.1.255/32",
        "10.0.2.0/24", "10.0.2.1/32", "10.0.2.255/32", "127.0.0.0/8",
        "224.0.0.0/4", "255.255.255.255/32",
    ]  # fmt: skip
    assert len(listed) == bench.routing.count()
    assert bench.routing.routes(limit=10) == listed[:10]
    assert bench.routing.routes(limit=3) == listed[:3]
    before = bench.routing.changes()
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert (bench.routing.changes(), bench.routing.routes()) == (before, listed)
    bench.routing.add(net("10.0.1.9/32"), paths=via("10.0.2.9"))
    shown = next(r for r in bench.routing.routes() if r.prefix == "10.0.1.9/32")
    assert (shown.via, shown.port, shown.source) == ("10.0.2.9", "wan", "configured")
    assert bench.routing.changes() != before


def test_who_has_failed_is_told_where_packets_go_other_ways(bench):
    hop = LAN, ip("10.0.1.1")
    assert not bench.routing.neighbor_failed(*hop)
    bench.routing.add(net("10.5.0.0/16"), paths=via("10.0.1.1", "10.0.1.2"))
    assert bench.routing.neighbor_failed(*hop)
    assert bench.routing.neighbor_failed(*hop)
    bench.routing.delete(net("10.5.0.0/16"))
    assert not bench.routing.neighbor_failed(*hop)
    bench.routing.neighbor_down(*hop)
