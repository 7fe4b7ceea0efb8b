# SPDX-License-Identifier: Apache-2.0
"""Targets: paths to next hops, and who shares what."""

from ipaddress import ip_address, ip_interface

import numpy as np
import pytest

from nodes.network import Heap
from vforward.control.adjacencies import LOCAL, UNREACHABLE, UNREACHABLE6, Adjacencies
from vforward.control.multipath import PATHS_MAX, Groups
from vforward.control.route_table import CONFIGURED_RANK, RouteTable
from vforward.control.routes import Path, wide
from vforward.control.targets import Targets
from vforward.errors import ConfigError
from vforward.tables.fib import Fib4, Fib6
from vforward.tables.ports import PORT

ORDER = (CONFIGURED_RANK, 0, 0)


class Bench:
    def __init__(self):
        ports = np.zeros(4, PORT)
        ports["vrf"][3] = 1
        self.interfaces = {
            (1, ip_interface("10.0.0.1/16")): 0,
            (2, ip_interface("10.0.1.1/24")): 0,
            (2, ip_interface("10.7.0.1/32")): 0,
            (3, ip_interface("10.0.1.1/24")): 1,
            (1, ip_interface("2001:db8::1/64")): 0,
            (1, ip_interface("fe80::1/64")): 0,
        }
        self.adjacencies = Adjacencies(Heap(), ports, 100)
        self.groups = Groups(Heap(), self.adjacencies, 4096)
        self.targets = Targets(self.adjacencies, self.groups, ports, self.interfaces)
        four, six = Fib4(Heap()), Fib6(Heap())
        self.tables = {
            (vrf, bits): RouteTable(fib, vrf, self.adjacencies, self.adjacencies.quiet)
            for vrf in (0, 1)
            for bits, fib in ((32, four), (128, six))
        }

    def via(self, *paths, vrf=0, bits=32, old=None):
        made = [Path(ip_address(a), *rest) for a, *rest in paths]
        return self.targets.via(self.tables[vrf, bits], ORDER, made, "route x", old)


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize(
    ("vrf", "bits", "via", "port"),
    [
        (0, 32, "10.0.1.9", 2),
        (0, 32, "10.0.2.9", 1),
        (1, 32, "10.0.1.9", 3),
        (0, 128, "2001:db8::9", 1),
    ],
)
def test_a_next_hop_is_on_the_longest_connected_prefix(bench, vrf, bits, via, port):
    target = bench.via((via,), vrf=vrf, bits=bits)
    assert target.hops == (((port, wide(ip_address(via))), 1),)
    assert bench.adjacencies.table[target.number]["tx_port"] == port


@pytest.mark.parametrize(
    ("vrf", "bits", "via"),
    [(1, 32, "10.0.2.9"), (0, 32, "10.7.0.1"), (1, 128, "2001:db8::9"), (0, 128, "fe80::9")],
)
def test_a_next_hop_on_none_is_refused(bench, vrf, bits, via):
    with pytest.raises(ConfigError, match="route x: next hop without a route"):
        bench.via((via,), vrf=vrf, bits=bits)
    assert bench.via((via, 3), vrf=vrf, bits=bits).hops[0][0][0] == 3


def test_the_same_is_one_target(bench):
    free = bench.adjacencies.free
    one = bench.via(("10.0.1.9",))
    assert bench.via(("10.0.1.9", 2, 7)) is one  # a single next hop has all, whatever its weight
    assert bench.via(("10.0.1.9",), ("10.0.1.9",)) is one
    many = bench.via(("10.0.1.9",), ("10.0.1.8",))
    assert bench.via(("10.0.1.8",), ("10.0.1.9",)) is many
    assert bench.adjacencies.users(many.number) == 1
    bench.targets.use(many, 3)
    for target, n in ((one, 3), (many, 5)):
        for _ in range(n):
            assert len(bench.targets) > 0
            bench.targets.unuse(target)
    bench.adjacencies.quiet()
    assert (len(bench.targets), bench.adjacencies.free) == (0, free)


def test_twice_the_same_hop_adds_weights(bench):
    target = bench.via(("10.0.1.9", None, 2), ("10.0.1.8",), ("10.0.1.9",))
    assert sorted(weight for _, weight in target.hops) == [1, 3]


def test_a_group_changes_in_place_for_its_only_route(bench):
    one = bench.via(("10.0.1.7",), ("10.0.1.8",), ("10.0.1.9",))
    two = bench.via(("10.0.1.7",), ("10.0.1.8",), old=one)
    assert two.number == one.number
    assert two is not one
    bench.targets.unuse(one)
    bench.targets.use(two)
    three = bench.via(("10.0.1.7",), ("10.0.1.6",), old=two)  # which two routes have
    assert three.number != two.number


def test_kinds(bench):
    assert bench.targets.own(bench.tables[0, 32], 0, ORDER, "unreachable").number == UNREACHABLE
    assert bench.targets.own(bench.tables[0, 128], 0, ORDER, "unreachable").number == UNREACHABLE6
    assert bench.targets.own(bench.tables[0, 128], 1, ORDER, "local").number == LOCAL
    glean = bench.targets.own(bench.tables[0, 32], 1, ORDER, "connected")
    assert (glean.glean, glean.port) == (1, 1)
    with pytest.raises(ConfigError, match="no kind"):
        bench.targets.own(bench.tables[0, 32], 0, ORDER, "via")


def test_too_many_next_hops(bench):
    with pytest.raises(ConfigError, match=f"1 to {PATHS_MAX}"):
        bench.via(*[("10.0.1.9",)] * (PATHS_MAX + 1))
