"""Staged routes: seen by nobody until they are in force, all at once, and undone without a trace."""

import gc
import weakref
from contextlib import suppress
from ipaddress import IPv4Interface, ip_address, ip_network

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import Heap
from vforward.control.route_table import key_of
from vforward.control.routes import Path, wide
from vforward.control.routing import Routing
from vforward.control.routing_stage import as_arrays, staged
from vforward.errors import ConfigError, VforwardError
from vforward.tables.adjacency import Way
from vforward.tables.ports import PORT

LAN, WAN = 1, 2
PREFIXES = ["10.9.0.0/16", "10.9.1.0/24", "10.9.1.128/25", "10.0.2.64/26", "0.0.0.0/0"]
ASKED = ["10.9.0.1", "10.9.1.1", "10.9.1.200", "10.0.2.70", "10.0.2.9", "8.8.8.8", "10.0.3.1"]
HOPS = ["10.0.1.9", "10.0.2.9", "10.0.2.70"]


def made():
    ports = np.zeros(6, PORT)
    ports["mac"][1:], ports["mtu"][1:] = 0x020000000001, 1500
    routing = Routing(Heap(), ports, {LAN: "lan", WAN: "wan"}.__getitem__, 128, 4096)
    routing.connect(LAN, IPv4Interface("10.0.1.1/24"))
    routing.connect(WAN, IPv4Interface("10.0.2.1/24"))
    for hop in HOPS[:2]:
        port = LAN if hop.startswith("10.0.1.") else WAN
        routing.neighbor_up(port, wide(ip_address(hop)), b"\x02\0\0\0\0\x19")
    return routing


def ways(routing):
    """Where packets to each address go: the edge, the port and the next hops, as workers see it."""
    found = []
    for address in ASKED:
        number = routing.fib4.lookup(int(ip_address(address)))
        record = routing.adjacencies[number]
        if record["edge"] == Way.MULTIPATH:
            group = routing._groups.get(number)
            buckets = routing._groups.buckets[group.first : group.first + len(group.owners)]
            found.append(sorted({tuple(routing.adjacencies[b]["next_hop"]) for b in buckets}))
        else:
            found.append((int(record["edge"]), int(record["tx_port"]), tuple(record["next_hop"])))
    return found


def resources(routing):
    routing.reclaim()
    return (
        routing._adjacencies.free,
        routing._groups.free,
        len(routing._targets),
        {k: dict(t.entries) for k, t in routing._tables.items()},
        {k: dict(t.hosts) for k, t in routing._tables.items()},
    )


changes = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            st.sampled_from(PREFIXES),
            st.lists(st.sampled_from(HOPS), min_size=1, max_size=3, unique=True)
            | st.sampled_from(["blackhole", "local"]),
            st.sampled_from([0, 5]),
        ),
        st.tuples(st.just("delete"), st.sampled_from(PREFIXES), st.none(), st.sampled_from([0, 5])),
        st.tuples(st.just("readdress"), st.none(), st.none(), st.none()),
    ),
    max_size=8,
)


def do(routing, stage, change):
    kind, prefix, to, metric = change
    if kind == "readdress":
        stage.connect(WAN, IPv4Interface("10.0.3.1/24"))
        stage.disconnect(WAN, IPv4Interface("10.0.2.1/24"))
    elif kind == "put":
        paths = [] if isinstance(to, str) else [Path(ip_address(hop)) for hop in to]
        stage.put(
            ip_network(prefix), paths=paths, kind=to if isinstance(to, str) else "", metric=metric
        )
    else:
        stage.delete(ip_network(prefix), metric)


def tell(routing, change):
    kind, prefix, to, metric = change
    if kind == "readdress":
        routing.connect(WAN, IPv4Interface("10.0.3.1/24"))
        routing.disconnect(WAN, IPv4Interface("10.0.2.1/24"))
    elif kind == "put":
        paths = [] if isinstance(to, str) else [Path(ip_address(hop)) for hop in to]
        routing.add(
            ip_network(prefix), paths=paths, kind=to if isinstance(to, str) else "", metric=metric
        )
    else:
        with suppress(KeyError):
            routing.delete(ip_network(prefix), metric=metric)


def possible(first, second):
    """Changes that no error stops: once re-addressed, next hops on the old prefix are none."""
    readdressed = 0
    for change in (*first, *second):
        if change[0] == "readdress":
            readdressed += 1
        elif readdressed and change[0] == "put" and not isinstance(change[2], str):
            return False
    return readdressed < 2


@settings(deadline=None, max_examples=80)
@given(changes, changes)
def test_none_of_it_until_it_is_in_force_and_then_all(first, second):
    if not possible(first, second):
        return
    routing, other = made(), made()
    for change in first:
        tell(routing, change)
        tell(other, change)
    before = ways(routing)
    with staged(routing) as stage:
        for change in second:
            do(routing, stage, change)
            assert ways(routing) == before
        stage.put_in_force()
    for change in second:
        tell(other, change)
    assert ways(routing) == ways(other)
    assert resources(routing)[3].keys() == resources(other)[3].keys()
    assert routing.routes() == other.routes()
    assert resources(routing)[:3] == resources(other)[:3]
    routing.fib4.check()


@settings(deadline=None, max_examples=80)
@given(changes, changes, st.booleans())
def test_an_error_leaves_all_as_it_was(first, second, late):
    if not possible(first, second):
        return
    routing = made()
    for change in first:
        tell(routing, change)
    before, had, shown = ways(routing), resources(routing), routing.routes()

    def fail():
        with staged(routing) as stage:
            for change in second:
                do(routing, stage, change)
            if late:
                stage.put_in_force()
            raise ConfigError("no")

    with pytest.raises(ConfigError, match=r"^no$"):
        fail()
    assert ways(routing) == before
    assert routing.routes() == shown
    assert resources(routing) == had
    routing.fib4.check()


def keys_of(n, first=0):
    return [key_of(20 << 24 | (first + k) << 8, 24) for k in range(n)]


def put_many(stage, keys, hops):
    prefixes, lengths = as_arrays(keys, 32)
    which = [k % len(hops) for k in range(len(keys))]
    paths = [[Path(ip_address(hop))] for hop in hops]
    stage.put_many(prefixes, lengths, which, paths, keys, version=4, vrf=0)


@pytest.mark.parametrize("fails", [False, True])
def test_many_at_a_time(fails):
    routing = made()
    with staged(routing) as stage:
        put_many(stage, keys_of(6000), HOPS[:1])
        stage.put_in_force()
    assert routing.fib4.lookup(20 << 24 | 5999 << 8) == routing.fib4.lookup(20 << 24)
    had = resources(routing)
    try:
        with staged(routing) as stage:
            stage.delete_many(keys_of(5000), version=4, vrf=0)
            put_many(stage, keys_of(3000, 5000), HOPS)
            assert routing.fib4.lookup(20 << 24) != 0
            if fails:
                raise ConfigError("no")
            stage.put_in_force()
    except ConfigError:
        assert fails
    if fails:
        assert resources(routing) == had
    else:
        assert routing.fib4.lookup(20 << 24) == 0
        assert len(routing.routes()) == 3000 + made().count()
    routing.fib4.check()


def test_a_neighbor_that_goes_and_comes_back_keeps_its_adjacency():
    routing = made()
    ip = wide(ip_address(HOPS[0]))
    before, had = ways(routing), resources(routing)

    def fail():
        with staged(routing) as stage:
            stage.stand()
            stage.keep_neighbors()
            routing.neighbor_down(LAN, ip)
            routing.neighbor_up(LAN, ip, b"\x02\0\0\0\0\x19")
            raise ConfigError("no")

    with pytest.raises(ConfigError):
        fail()
    assert ways(routing) == before
    assert resources(routing) == had


def test_where_workers_do_not_answer_nothing_is_begun():
    routing = made()
    routing.add(ip_network("10.9.1.0/24"), kind="blackhole")
    routing.quiesce = lambda: False
    routing.add(ip_network("10.9.2.0/24"), kind="local")
    with pytest.raises(VforwardError, match=r"do not answer"), staged(routing):
        pass
    routing.quiesce = lambda: True
    with staged(routing) as stage:
        stage.put_in_force()


@pytest.mark.parametrize("in_force", [True, False])
def test_the_tries_aside_are_gone_when_it_is_over(in_force):
    """At once, 16 MiB of each family in a daemon, and not when Python next looks for cycles."""
    routing = made()
    gc.collect()
    gc.disable()
    try:
        with staged(routing) as stage:
            stage.put(ip_network(PREFIXES[0]), paths=[Path(ip_address(HOPS[0]))])
            asides = [weakref.ref(aside) for aside in stage.asides]
            if in_force:
                stage.put_in_force()
        del stage
        assert [aside() for aside in asides] == [None, None]
    finally:
        gc.enable()
