# SPDX-License-Identifier: Apache-2.0
"""A route table over a FIB that is a dict: what it is told, what it is told when there is no room."""

from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.network import Heap
from vforward.control.adjacencies import NO_ROUTE6, RESERVED, Adjacencies
from vforward.control.route_table import RouteTable, Target, key_of
from vforward.control.routes import key_of_prefix
from vforward.tables import TableFull
from vforward.tables.ports import PORT

KEYS = [key_of_prefix(ip_network(n)) for n in (
    "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "10.1.1.2/32",
)]  # fmt: skip
HOST = 10 << 24 | 1 << 16 | 1 << 8
ADDRESSES = [HOST | 1, HOST | 2, HOST | 3]
PORT_A, PORT_B = 1, 2
TARGETS = [
    *(Target((rank, metric, 0), "via", RESERVED + 1) for rank in (0, 1, 2) for metric in (0, 4)),
    Target((2, 0, 0), "connected", RESERVED + 2, glean=PORT_A),
    Target((2, 4, 0), "connected", RESERVED + 3, glean=PORT_B),
]


class FakeFib:
    def __init__(self, bits=32, room=1000):
        self.bits, self.room, self.routes = bits, room, {}

    def add(self, prefix, length, value, vrf=0):
        if (prefix, length) not in self.routes and len(self.routes) >= self.room:
            raise TableFull("full", 0)
        self.routes[prefix, length] = value

    def delete(self, prefix, length, vrf=0):
        if self.room == 0:
            raise TableFull("full", 0)
        del self.routes[prefix, length]

    def add_many(self, prefixes, lengths, values, vrf=0, between=lambda _: None):
        for done, (prefix, length, value) in enumerate(zip(prefixes, lengths, values)):
            try:
                self.add(int(prefix), int(length), int(value))
            except TableFull:
                raise TableFull("full", done) from None
        between(len(prefixes))


class Bench:
    def __init__(self, bits=32):
        self.fib, self.quiet = FakeFib(bits), False
        self.adjacencies = Adjacencies(Heap(), np.zeros(4, PORT), 100)
        for _ in range(3):
            self.adjacencies.take()
        self.table = RouteTable(self.fib, 0, self.adjacencies, lambda: self.quiet)
        self.hops = {
            (port, address): self.adjacencies.hop((port, address))
            for port in (PORT_A, PORT_B)
            for address in ADDRESSES
        }


def expected(routes, known, hops):
    """The FIB: all from the start."""
    best = {key: min(there.values(), key=lambda t: t.order) for key, there in routes.items()}
    fib = {(key >> 8, key & 0xFF): target.number for key, target in best.items()}
    for address in ADDRESSES:
        covering = [
            (key & 0xFF, target.glean)
            for key, target in best.items()
            if address >> 32 - (key & 0xFF) == key >> 8 + 32 - (key & 0xFF)
        ]
        port = max(covering, default=(0, 0))[1]
        if port and (port, address) in known:
            fib[address, 32] = hops[port, address]
    return fib


changes = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.sampled_from(TARGETS)),
    st.tuples(st.just("remove"), st.sampled_from(KEYS), st.sampled_from(TARGETS)),
    st.tuples(st.just("know"), st.sampled_from([PORT_A, PORT_B]), st.sampled_from(ADDRESSES)),
    st.tuples(st.just("forget"), st.sampled_from([PORT_A, PORT_B]), st.sampled_from(ADDRESSES)),
    st.tuples(st.just("many"), st.sets(st.sampled_from(KEYS)), st.sampled_from(TARGETS)),
)


@given(st.lists(changes, max_size=40))
def test_the_fib_says_the_best_route_and_the_host_routes(steps):
    bench = Bench()
    table, routes, known = bench.table, {}, set()
    for what, one, two in steps:
        if what == "put":
            replaced = table.put(one, two)
            assert replaced is routes.get(one, {}).get(two.order)
            routes.setdefault(one, {})[two.order] = two
        elif what == "remove":
            if two.order in routes.get(one, {}):
                assert table.remove(one, two.order) is routes[one].pop(two.order)
                routes = {key: there for key, there in routes.items() if there}
            else:
                with pytest.raises(KeyError):
                    table.remove(one, two.order)
        elif what == "know":
            table.know(one, two, bench.hops[one, two])
            known.add((one, two))
        elif what == "forget" and (one, two) in known:
            table.forget(one, two)
            known.remove((one, two))
        elif what == "many":
            which = np.zeros(len(one), np.int64)
            single = table.difficult(one, which, [two])
            assert single >= {k for k in one if len(routes.get(k, {two.order: two})) > 1}
            new = sorted(one - single)
            which = which[: len(new)]
            before = [t for key in new for t in routes.get(key, {}).values()]
            prefixes = np.array([key >> 8 for key in new])
            counts, error = table.put_many(prefixes, new, which, [two], lambda _: None)
            assert error is None
            for target in TARGETS:
                wanted = len(new) * (target is two) - before.count(target)
                assert counts.get(target, 0) == wanted
            routes |= {key: {two.order: two} for key in new}
        assert bench.fib.routes == expected(routes, known, bench.hops)
        assert len(table) == len(routes)
        assert [key for key, _ in table.in_force()] == sorted(routes)
        assert list(table.in_force(2)) == list(table.in_force())[:2]
    hosts = sum(bench.adjacencies.users(n) - 1 for n in bench.hops.values())
    assert hosts == len(table.hosts)


def test_ip6_says_no_route_itself():
    bench = Bench(bits=128)
    assert bench.fib.routes == {(0, 0): NO_ROUTE6}
    assert len(bench.table) == 0
    bench.table.put(key_of(0, 0), TARGETS[0])
    assert bench.fib.routes == {(0, 0): RESERVED + 1}
    bench.table.remove(key_of(0, 0), TARGETS[0].order)
    assert bench.fib.routes == {(0, 0): NO_ROUTE6}


def test_without_room_nothing_is_changed():
    bench = Bench()
    table, glean = bench.table, TARGETS[-2]
    table.put(KEYS[1], glean)
    bench.fib.room = 1
    with pytest.raises(TableFull):
        table.put(KEYS[2], glean)
    with pytest.raises(TableFull):
        table.know(PORT_A, ADDRESSES[0], bench.hops[PORT_A, ADDRESSES[0]])
    table.forget(PORT_A, ADDRESSES[0])
    assert bench.fib.routes == {(KEYS[1] >> 8, 8): glean.number}
    assert (len(table), table.hosts) == (1, {})
    table.put(KEYS[1], TARGETS[0])  # there is room for a better one of the same prefix
    which = np.zeros(3, np.int64)
    bench.fib.room = 3
    keys = KEYS[2:5]
    counts, error = table.put_many([k >> 8 for k in keys], keys, which, [glean], lambda _: None)
    assert error.done == 2
    assert counts == {glean: 2}
    assert [key for key, _ in table.in_force()] == KEYS[1:4]


def test_a_host_route_that_cannot_go_keeps_its_adjacency_until_it_can():
    bench = Bench()
    table, address = bench.table, ADDRESSES[0]
    number = bench.hops[PORT_A, address]
    table.put(KEYS[1], TARGETS[-2])
    table.know(PORT_A, address, number)
    bench.fib.room = 0
    table.forget(PORT_A, address)
    assert bench.fib.routes[address, 32] == number
    assert bench.adjacencies.users(number) == 2
    bench.fib.room = 10
    table.put(KEYS[5], TARGETS[0])  # any change tries again
    assert (address, 32) not in bench.fib.routes
    assert bench.adjacencies.users(number) == 1


def test_a_full_fib_is_tried_again_after_a_quiet_point():
    bench = Bench()
    bench.fib.room = 0

    def quiet():
        bench.fib.room = 5
        return True

    bench.table._quiet = quiet
    bench.table.put(KEYS[1], TARGETS[0])
    assert bench.fib.routes == {(KEYS[1] >> 8, 8): RESERVED + 1}
