# SPDX-License-Identifier: Apache-2.0
"""Routing against the oracle: any order of addresses, routes and neighbors, in VRFs, both families."""

import re
from ipaddress import ip_address, ip_interface, ip_network

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from nodes.network import Heap
from oracles.routing import World
from vforward.control.routes import Path, wide
from vforward.control.routing import Routing
from vforward.errors import ConfigError, VforwardError
from vforward.tables.adjacency import Way
from vforward.tables.ports import PORT

VRF_OF = {1: 0, 2: 0, 3: 5}
NAMES = {1: "one", 2: "two", 3: "three"}
INTERFACES = [ip_interface(i) for i in (
    "10.0.1.1/24", "10.0.1.2/24", "10.0.1.9/28", "10.0.2.1/31", "10.0.0.1/16", "10.9.9.9/32",
    "2001:db8:1::1/64", "2001:db8:1::2/64", "2001:db8:1::/127", "2001:db8::1/32", "fe80::1/64",
)]  # fmt: skip
NEXT_HOPS = [ip_address(a) for a in (
    "10.0.1.3", "10.0.1.4", "10.0.1.10", "10.0.2.0", "10.0.7.7",
    "2001:db8:1::3", "2001:db8:1::4", "2001:db8:7::7", "fe80::7",
)]  # fmt: skip
PREFIXES = [ip_network(n) for n in (
    "0.0.0.0/0", "10.0.0.0/8", "10.0.1.0/24", "10.0.1.3/32", "10.0.1.0/30", "20.0.0.0/8",
    "10.0.1.1/32", "::/0", "2001:db8:1::/64", "2001:db8:1::3/128", "2001:db8:7::/48", "fe80::/10",
)]  # fmt: skip
PROBES = sorted({str(a) for a in (
    *(i.ip for i in INTERFACES), *(i.network.broadcast_address for i in INTERFACES),
    *(i.network.network_address for i in INTERFACES), *NEXT_HOPS,
    *(p.network_address for p in PREFIXES), *(p.broadcast_address for p in PREFIXES),
    ip_address("224.0.0.1"), ip_address("ff02::1"), ip_address("30.0.0.1"), ip_address("3000::1"),
)})  # fmt: skip
MACS = [bytes([2, 0, 0, 0, 0, n]) for n in (1, 2)]

ports = st.sampled_from(sorted(VRF_OF))
vrfs = st.sampled_from([0, 5])
metrics = st.sampled_from([0, 1, 7])
interfaces = st.sampled_from(INTERFACES)
prefixes = st.sampled_from(PREFIXES)
next_hops = st.sampled_from(NEXT_HOPS)
kinds = st.sampled_from(["local", "blackhole", "unreachable", "prohibit"])
paths = st.builds(Path, next_hops, st.none() | ports, st.integers(1, 3))
some_paths = st.lists(paths, min_size=1, max_size=4).map(tuple) | st.builds(
    lambda port: (Path(port=port),), ports
)


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        table = np.zeros(4, PORT)
        table["mac"], table["mtu"] = 0x020000000009, 1500
        for port, vrf in VRF_OF.items():
            table[port]["vrf"] = vrf
        self.world, self.quiet = World(VRF_OF), True
        self.routing = None
        self.ports = table

    @initialize(n=st.sampled_from([14, 20, 200]))
    def begin(self, n):
        self.routing = Routing(Heap(), self.ports, NAMES.__getitem__, n, 512)
        self.routing.quiesce = lambda: self.quiet
        self.routing.add_vrf(5)
        self.n = n

    def tried(self, call, *args, **kwargs):
        """Whether a change was made; only for want of adjacencies or buckets may it not be."""
        try:
            call(*args, **kwargs)
        except ConfigError as error:
            if not re.search("in use|buckets", str(error)) or (self.n >= 200 and self.quiet):
                raise
            return False
        return True

    @rule(quiet=st.booleans())
    def change_quiet(self, quiet):
        self.quiet = quiet

    @rule(port=ports, interface=interfaces)
    def connect(self, port, interface):
        if self.tried(self.routing.connect, port, interface):
            self.world.addresses.add((port, interface))

    @precondition(lambda self: self.world.addresses)
    @rule(data=st.data())
    def disconnect(self, data):
        which = data.draw(st.sampled_from(sorted(self.world.addresses, key=str)))
        self.routing.disconnect(*which)
        self.world.addresses.remove(which)

    @rule(prefix=prefixes, kind=kinds, metric=metrics, vrf=vrfs)
    def add_fixed(self, prefix, kind, metric, vrf):
        self.routing.add(prefix, kind=kind, metric=metric, vrf=vrf)
        self.world.routes[vrf, prefix, metric] = kind

    @rule(prefix=prefixes, given=some_paths, metric=metrics, vrf=vrfs, many=st.booleans())
    def add_paths(self, prefix, given, metric, vrf, many):
        what = self.understood(prefix, given, vrf)
        if many:
            halves = divmod(int(prefix.network_address), 1 << 64)
            one = [halves] if prefix.version == 6 else [int(prefix.network_address)]
            call, args = self.routing.add_many, (one, [prefix.prefixlen], [0], [given])
            extra = {"version": prefix.version, "metric": metric, "vrf": vrf}
        else:
            call, args = self.routing.add, (prefix,)
            extra = {"paths": given, "metric": metric, "vrf": vrf}
        if what is None:
            try:
                call(*args, **extra)
            except ConfigError:
                return
            raise AssertionError(f"{prefix} {given} was not refused")
        if self.tried(call, *args, **extra):
            self.world.routes[vrf, prefix, metric] = what

    def understood(self, prefix, given, vrf):
        """What the oracle says of paths; None: they are to be refused."""
        if given[0].via is None:
            return ("port", given[0].port) if VRF_OF[given[0].port] == vrf else None
        hops = {}
        for path in given:
            port = path.port
            if port is None and not path.via.is_link_local:
                port = self.world.port_towards(vrf, path.via)
            if path.via.version != prefix.version or port is None:
                return None
            hops[port, path.via] = hops.get((port, path.via), 0) + path.weight
        return hops

    @precondition(lambda self: self.world.routes)
    @rule(data=st.data(), lowest=st.booleans())
    def delete(self, data, lowest):
        vrf, prefix, metric = data.draw(st.sampled_from(sorted(self.world.routes, key=str)))
        if lowest:
            metric = min(m for v, p, m in self.world.routes if (v, p) == (vrf, prefix))
        self.routing.delete(prefix, metric=None if lowest else metric, vrf=vrf)
        del self.world.routes[vrf, prefix, metric]

    @rule(port=ports, address=next_hops, mac=st.sampled_from(MACS))
    def neighbor_up(self, port, address, mac):
        try:
            if self.tried(self.routing.neighbor_up, port, wide(address), mac):
                self.world.neighbors[port, address] = mac, False
        except VforwardError as error:
            if self.quiet or "old header" not in str(error):
                raise

    @rule(port=ports, address=next_hops)
    def neighbor_stale(self, port, address):
        self.routing.neighbor_stale(port, wide(address))
        if (port, address) in self.world.neighbors:
            self.world.neighbors[port, address] = self.world.neighbors[port, address][0], True

    @rule(port=ports, address=next_hops)
    def neighbor_down(self, port, address):
        self.routing.neighbor_down(port, wide(address))
        self.world.neighbors.pop((port, address), None)

    def fate(self, number):
        record = self.routing.adjacencies[number]
        way = Way(int(record["edge"]))
        port = int(record["tx_port"])
        if way == Way.ERROR:
            return "error", *divmod(int(record["icmp"]), 256)
        if way == Way.RESOLVE:
            high, low = (int(half) for half in record["next_hop"])
            return "resolve", port, high << 64 | low or None
        if way in (Way.REWRITE, Way.NOTIFY):
            header = record["rewrite"].tobytes()[24 - int(record["rewrite_len"]) :]
            assert len(header) == 14
            return way.name.lower(), port, header[:6]
        return (way.name.lower(),)

    @invariant()
    def every_probe_meets_its_fate(self):
        if self.routing is None:
            return
        for vrf in (0, 5):
            for probe in map(ip_address, PROBES):
                expected = self.world.fate(vrf, probe)
                fib = self.routing.fib4 if probe.version == 4 else self.routing.fib6
                number = fib.lookup(int(probe), vrf=vrf)
                where = f"{probe} in VRF {vrf}"
                if isinstance(expected, dict):
                    self.shares(number, expected, where)
                    continue
                if expected[0] == "resolve" and expected[2] is not None:
                    expected = *expected[:2], wide(expected[2])
                assert self.fate(number) == expected, where

    def shares(self, number, weights, where):
        record = self.routing.adjacencies[number]
        assert record["edge"] == Way.MULTIPATH, where
        first, n = int(record["first"]), int(record["mask"]) + 1
        led = self.routing.tables["buckets"][first : first + n].tolist()
        total = sum(weights.values())
        seen = 0
        for member in set(led):
            hop = self.routing.adjacencies[member]
            key = int(hop["tx_port"]), int(hop["next_hop"][0]) << 64 | int(hop["next_hop"][1])
            (port, address) = next(h for h in weights if (h[0], wide(h[1])) == key)
            expected = self.world.hop(port, address, final=False)
            assert self.fate(member)[0] == expected[0], where
            assert abs(led.count(member) - n * weights[port, address] / total) <= 4, where
            seen += 1
        assert seen == len(weights), where

    @invariant()
    def the_list_is_what_is_entered(self):
        if self.routing is None:
            return
        listed = self.routing.routes()
        assert len({(r.vrf, r.prefix) for r in listed}) == len(listed) == self.routing.count()
        for vrf in (0, 5):
            expected = {str(prefix) for prefix, _, _ in self.world.candidates(vrf)}
            assert {r.prefix for r in listed if r.vrf == vrf} == expected

    def teardown(self):
        """When all is taken back, everything is free."""
        if self.routing is None:
            return
        self.quiet = True
        for vrf, prefix, metric in list(self.world.routes):
            self.routing.delete(prefix, metric=metric, vrf=vrf)
        for port, address in list(self.world.neighbors):
            self.routing.neighbor_down(port, wide(address))
        for which in list(self.world.addresses):
            self.routing.disconnect(*which)
        self.routing.reclaim()
        assert self.routing._adjacencies.free == self.n - 8
        assert self.routing._groups.free == 512
        assert not self.routing._adjacencies._users
        assert {t.kind for t in self.routing._targets._targets.values()} == {"blackhole"}
        self.routing.fib4.check()
        self.routing.fib6.check()


Machine.TestCase.settings = settings(max_examples=25, stateful_step_count=30)
TestRouting = Machine.TestCase
TestRouting.pytestmark = [pytest.mark.slow]
