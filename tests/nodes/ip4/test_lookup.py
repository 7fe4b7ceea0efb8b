"""ip4-lookup against the oracle's routes and neighbors."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import NAME, Heap, routing, run_both
from oracles.lpm import Table
from strategies import INTERESTING, Ip4Spec, ip
from vforward.nodes.ip4.lookup import NODE
from vforward.tables import trie
from vforward.tables.adjacency import ADJACENCY, Way
from vforward.tables.fib import Fib4
from vforward.tables.ports import PORT

ICMP = {None: 3 << 8, "unreachable": 3 << 8 | 1, "prohibit": 3 << 8 | 13}


def compare(destinations):
    router = strategies.router()
    adjacencies = routing()[1]
    packets = [Ip4Spec(b"", src=ip("10.0.0.9"), dst=dst).build() for dst in destinations]
    result = run_both(NODE, packets, compare=("l3", "adjacency"))
    assert result.frames == packets
    for i, dst in enumerate(destinations):
        route = router.fib.lookup(dst)
        kind = route.kind if route else None
        record, to = result.meta[i], adjacencies[result.meta[i]["adjacency"]]
        if kind in ICMP:
            assert (result.edges[i], record["scratch"]) == ("error", ICMP[kind])
        elif kind == "blackhole":
            assert (result.edges[i], result.reason(i)) == ("drop", "blackhole")
        elif kind == "local":
            assert result.edges[i] == "local"
        else:
            hop = dst if kind == "glean" else route.next_hop
            known = (route.port, hop) in router.neighbors
            assert result.edges[i] == ("rewrite" if known else "resolve")
            assert NAME[int(to["tx_port"])] == route.port
            said = int(to["next_hop"][1]) & 0xFFFFFFFF
            assert said == hop or (kind == "glean" and said == 0)
    assert result.counted.get("blackhole", 0) == result.edges.count("drop")
    assert result.counted.get("unreachable", 0) == result.edges.count("error")


@settings(max_examples=60, deadline=None)
@given(st.lists(strategies.addresses(), min_size=1, max_size=40))
def test_against_the_oracle(destinations):
    compare(destinations)


def test_every_interesting_address_and_its_neighbors():
    compare([(a + step) & 0xFFFFFFFF for a in INTERESTING for step in (-1, 0, 1)])


def test_an_empty_table_leads_to_no_route():
    adjacencies = np.zeros(1, ADJACENCY)
    adjacencies["edge"], adjacencies["icmp"] = Way.ERROR, 3 << 8
    tables = {
        "fib4_root": np.zeros(65536, np.uint32),
        "fib4_nodes": np.zeros(16, np.uint32),
        "adjacencies": adjacencies,
    }
    packets = [Ip4Spec(b"", dst=dst).build() for dst in (0, 1, 0xFFFFFFFF)]
    result = run_both(NODE, packets, tables=tables)
    assert result.edges == ["error"] * 3
    assert result.counted == {"unreachable": 3}


WAYS = [*Way][: Way.MULTIPATH]
SEVERAL = len(WAYS) + 1
BUCKETS = np.array([99, 99, 1, 2, 3, 4, 5, 6, 1, 1], np.uint32)


def look_up(routes, sent, vrfs=(0,), more=0, port=lambda i: 1):
    """Run the node, port i + 1 in vrfs[i], with `more` routes of no interest; the result."""
    fib = Fib4(cast("Any", Heap()), n_vrfs=max(vrfs) + 1, max_lines=1 << 14)
    for i in range(more):
        fib.add(0xC0000000 | i << 12, 20, 1 + i % 2)
    for prefix, length, value, vrf in routes:
        fib.add(prefix, length, value, vrf)
    fib.reclaim()
    for vrf in vrfs:
        fib.use_vrf(vrf)
    assert int(fib.nodes[0]) > trie.LARGE or not more
    adjacencies, ports = np.zeros(SEVERAL + 1, ADJACENCY), np.zeros(len(vrfs) + 1, PORT)
    adjacencies["edge"] = [Way.ERROR, *WAYS, Way.MULTIPATH]
    adjacencies["first"][SEVERAL], adjacencies["mask"][SEVERAL] = 2, 7
    ports["vrf"][1:] = vrfs
    tables = fib.tables | {"adjacencies": adjacencies, "buckets": BUCKETS, "ports": ports}

    def prepare(record, i):
        record["rx_port"] = port(i)

    result = run_both(NODE, sent, tables=tables, meta=prepare, compare=("adjacency", "hash"))
    assert result.frames == sent
    return result


MANY = [0, 8000]
lengths = st.sampled_from([0, 8, 15, 16, 17, 23, 24, 25, 31, 32])
near = st.builds(lambda n: ip("10.1.1.1") ^ 1 << n, st.integers(0, 31)) | st.just(ip("10.1.1.1"))


@pytest.mark.parametrize("more", MANY)
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(near, lengths, st.integers(1, 6), st.integers(0, 2)), max_size=12),
    st.lists(st.tuples(st.integers(0, 2), near), min_size=1, max_size=30),
)
def test_few_and_many_routes_in_vrfs(more, routes, destinations):
    sent = [Ip4Spec(b"", dst=dst).build() for _, dst in destinations]
    result = look_up(routes, sent, (0, 2, 1), more, lambda i: 1 + destinations[i][0])
    oracles = {vrf: Table() for vrf in range(3)}
    for prefix, length, value, vrf in routes:
        oracles[vrf].add(prefix, length, value)
    wanted = [oracles[(0, 2, 1)[port]].lookup(dst) or 0 for port, dst in destinations]
    assert result.meta["adjacency"].tolist() == wanted
    names = [way.name.lower() for way in (Way.ERROR, *WAYS)]
    assert result.edges == [names[value] for value in wanted]


@pytest.mark.parametrize("more", MANY)
def test_a_flow_takes_one_of_several_next_hops(more):
    routes = [(ip("10.1.0.0"), 16, SEVERAL, 0), (ip("10.1.1.1"), 32, 1, 0)]
    sent = [Ip4Spec(b"", src=i, dst=ip("10.1.2.2")).build() for i in range(256)]
    result = look_up(routes, [*sent, Ip4Spec(b"", dst=ip("10.1.1.1")).build()], more=more)
    found, hashes = result.meta["adjacency"][:-1], result.meta["hash"].astype(np.int64)
    assert (found == BUCKETS[2 + (hashes[:-1] & 7)]).all()
    assert set(found.tolist()) == {1, 2, 3, 4, 5, 6}
    assert hashes[-1] == 0  # what has one next hop is not hashed
    assert result.counted == {
        "blackhole": result.edges.count("drop"),
        "unreachable": result.edges.count("error"),
    }
