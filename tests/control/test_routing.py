# SPDX-License-Identifier: Apache-2.0
"""Routing: precedence, host routes of neighbors, and that what workers may read is not changed."""

import threading
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import numpy as np
import pytest

from nodes.network import Heap
from vforward.control import routing as module
from vforward.control.routing import BLACKHOLE, LOCAL, PROHIBIT, Routing
from vforward.errors import ConfigError, VforwardError
from vforward.nodes.ip4.lookup import Edge
from vforward.tables import TableFull
from vforward.tables.fib4 import Fib4
from vforward.tables.ports import PORT

LAN, WAN = 1, 2
NAMES = {LAN: "lan", WAN: "wan"}
MAC, OTHER = b"\x02\0\0\0\0\x19", b"\x02\0\0\0\0\x2a"


def ip(text):
    return int(IPv4Address(text))


def net(text):
    return IPv4Network(text)


HOP = ip("10.0.1.9")


class Bench:
    def __init__(self, n=64):
        ports = np.zeros(4, PORT)
        ports["mac"][1:], ports["mtu"][1:] = 0x020000000001, 1500
        ports["vlan"][WAN] = 10
        self.routing = Routing(Heap(), ports, NAMES.__getitem__, n)
        self.quiet, self.waits = True, 0
        self.routing.quiesce = self.quiesce
        self.during = lambda: None
        self.routing.connect(LAN, IPv4Interface("10.0.1.1/24"))
        self.routing.connect(WAN, IPv4Interface("10.0.2.1/24"))

    def quiesce(self):
        self.waits += 1
        self.during()
        return self.quiet

    def at(self, address):
        return self.routing.fib.lookup(ip(address))

    def record(self, address):
        return self.routing.adjacencies[self.at(address)]

    def way(self, address):
        """Edge and, where it counts, destination MAC."""
        record = self.record(address)
        if record["edge"] != Edge.REWRITE:
            return Edge(int(record["edge"]))
        header = record["rewrite"].tobytes()[-int(record["rewrite_len"]) :]
        return header[:6]

    def free(self):
        return len(self.routing._free)


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.routing.fib.check()


@pytest.fixture
def small(monkeypatch):
    """A FIB whose blocks run out."""
    monkeypatch.setattr(module, "Fib4", lambda arena: Fib4(arena, max_blocks=7))
    return Bench()


def test_own_connected_and_broadcast(bench):
    assert bench.at("10.0.1.1") == LOCAL
    assert bench.way("10.0.1.9") == Edge.RESOLVE
    assert bench.record("10.0.1.9")["tx_port"] == LAN
    assert bench.at("10.0.1.255") == bench.at("255.255.255.255") == bench.at("224.1.1.1")
    assert bench.at("10.0.1.255") == BLACKHOLE
    assert bench.way("11.0.0.1") == Edge.ERROR


def test_a_route_shares_its_neighbors_adjacency(bench):
    bench.routing.add(net("20.0.0.0/8"), via=IPv4Address(HOP))
    assert bench.way("20.0.0.1") == Edge.RESOLVE
    assert bench.record("20.0.0.1")["next_hop"][1] & 0xFFFFFFFF == HOP
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert bench.way("20.0.0.1") == bench.way("10.0.1.9") == MAC
    bench.routing.neighbor_down(LAN, HOP)
    assert bench.way("20.0.0.1") == bench.way("10.0.1.9") == Edge.RESOLVE
    with pytest.raises(ConfigError, match="no port's prefix"):
        bench.routing.add(net("21.0.0.0/8"), via=IPv4Address("30.0.0.1"))


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
@pytest.mark.parametrize("how", [{"kind": "prohibit"}, {"via": IPv4Address("10.0.2.7")}])
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
    assert bench.way("10.0.1.9") == Edge.RESOLVE
    assert bench.free() == before


def test_only_the_port_that_a_prefix_is_on_gets_host_routes(bench):
    bench.routing.neighbor_up(WAN, HOP, MAC)
    assert bench.way("10.0.1.9") == Edge.RESOLVE
    bench.routing.neighbor_up(LAN, HOP, OTHER)
    assert bench.way("10.0.1.9") == OTHER
    bench.routing.add(net("10.0.1.9/32"), port=WAN)  # now it is on the other one
    assert bench.way("10.0.1.9") == MAC
    bench.routing.delete(net("10.0.1.9/32"))
    assert bench.way("10.0.1.9") == OTHER


def test_adjacencies_come_back(bench):
    before = bench.free()
    bench.routing.add(net("20.0.0.0/8"), via=IPv4Address(HOP))
    bench.routing.add(net("21.0.0.0/8"), via=IPv4Address(HOP))
    bench.routing.add(net("22.0.0.0/8"), port=LAN)
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert bench.free() == before - 2
    bench.routing.delete(net("20.0.0.0/8"))
    bench.routing.neighbor_down(LAN, HOP)
    assert bench.free() == before - 2
    bench.routing.add(net("21.0.0.0/8"), kind="blackhole")  # in place of the last user
    assert bench.free() == before - 1
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
        bench.routing.add(net("20.0.0.0/8"), port=LAN)
    assert bench.way("10.0.1.200") == Edge.RESOLVE
    assert bench.way("20.0.0.1") == Edge.ERROR
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
    bench.routing.add(net("20.0.0.0/8"), kind="blackhole")  # any change tries again
    assert bench.free() == before - 1


def test_a_header_changes_only_at_a_quiet_point(bench):
    bench.routing.add(net("20.0.0.0/8"), via=IPv4Address(HOP))
    record = bench.record("20.0.0.1")
    seen = []
    bench.during = lambda: seen.append((int(record["edge"]), record["rewrite"].tobytes()))
    bench.routing.neighbor_up(LAN, HOP, MAC)
    old = record["rewrite"].tobytes()
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert seen == []
    bench.routing.neighbor_up(LAN, HOP, OTHER)
    assert seen == [(Edge.RESOLVE, old)]
    old = record["rewrite"].tobytes()
    bench.quiet = False
    bench.routing.neighbor_down(LAN, HOP)
    seen.clear()
    bench.routing.neighbor_up(LAN, HOP, OTHER)  # the same bytes
    bench.routing.neighbor_down(LAN, HOP)
    with pytest.raises(VforwardError, match="old header"):
        bench.routing.neighbor_up(LAN, HOP, MAC)
    assert bench.way("10.0.1.9") == bench.way("20.0.0.1") == Edge.RESOLVE
    assert record["rewrite"].tobytes() == old
    bench.quiet = True
    bench.routing.neighbor_up(LAN, HOP, MAC)
    assert (Edge.RESOLVE, old) in seen
    bench.quiet = False
    with pytest.raises(VforwardError, match="old header"):
        bench.routing.neighbor_up(LAN, HOP, OTHER)
    assert bench.way("20.0.0.1") == MAC  # as it was


def test_a_full_fib_leaves_all_as_it_was(small):
    routing, free = small.routing, small.free()
    routing.add(net("30.1.1.1/32"), kind="blackhole")  # takes the last blocks
    with pytest.raises(TableFull):
        routing.add(net("31.1.1.1/32"), port=LAN)
    assert net("31.1.1.1/32") not in [net(r.prefix) for r in routing.routes()]
    routing.add(net("40.0.0.0/16"), port=LAN)
    with pytest.raises(TableFull):
        routing.neighbor_up(LAN, ip("40.0.0.5"), MAC)
    assert small.way("40.0.0.5") == Edge.RESOLVE
    assert small.free() == free - 1
    routing.fib.check()
    routing.delete(net("30.1.1.1/32"))
    routing.neighbor_up(LAN, ip("40.0.0.5"), MAC)
    assert small.way("40.0.0.5") == MAC
    routing.add(net("40.0.0.5/32"), kind="prohibit")
    assert small.at("40.0.0.5") == PROHIBIT
    routing.fib.check()


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
        bench.routing.add(prefix, via=IPv4Address(ip("10.64.0.2") + i % 5))
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
    assert bench.free() == before - 1
    bench.routing.fib.check()
