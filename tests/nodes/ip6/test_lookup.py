"""ip6-lookup against the list of routes: few and many of them, VRFs, several next hops, refusals."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import Heap, run_both
from oracles.lpm import Table, mask
from vforward.nodes.ip6.lookup import NODE
from vforward.tables import trie
from vforward.tables.adjacency import ADJACENCY, Way
from vforward.tables.fib import Fib6
from vforward.tables.ports import PORT

WAYS = [*Way][: Way.MULTIPATH]
SEVERAL = len(WAYS) + 1
ICMP = 1 << 8 | 5
TOP = 1 << 125
NAMES = ["rewrite", "resolve", "local", "notify", "drop", "error"]


def packet(dst, src=TOP | 1, label=0):
    head = (6 << 28 | label).to_bytes(4, "big") + bytes([0, 0, 59, 64])
    return head + src.to_bytes(16, "big") + dst.to_bytes(16, "big")


def adjacencies():
    """0: no route; 1 to 6: one of each way; SEVERAL: the first eight buckets."""
    records = np.zeros(SEVERAL + 1, ADJACENCY)
    records["edge"] = [Way.ERROR, *WAYS, Way.MULTIPATH]
    records["icmp"] = ICMP + np.arange(len(records))
    records["first"][SEVERAL], records["mask"][SEVERAL] = 2, 7
    return records


BUCKETS = np.array([99, 99, 1, 2, 3, 4, 5, 6, 1, 1], np.uint32)


def look_up(routes, destinations, vrfs=(0,), more=0, labels=None):
    """Run the node, port i + 1 in vrfs[i], with `more` routes of no interest; the result."""
    fib = Fib6(cast("Any", Heap()), n_vrfs=max(vrfs) + 1, max_lines=1 << 14)
    for i in range(more):
        fib.add((0xFD00 << 112) | i << 94, 40, 1)
    for prefix, length, value, vrf in routes:
        fib.add(prefix, length, value, vrf)
    fib.reclaim()
    for vrf in vrfs:
        fib.use_vrf(vrf)
    assert int(fib.nodes[0]) > trie.LARGE or not more
    ports = np.zeros(len(vrfs) + 1, PORT)
    ports["vrf"][1:] = vrfs
    tables = fib.tables | {"adjacencies": adjacencies(), "buckets": BUCKETS, "ports": ports}
    sent = [
        packet(dst, label=labels[i] if labels else 0) for i, (_, dst) in enumerate(destinations)
    ]

    def prepare(record, i):
        record["rx_port"] = 1 + destinations[i][0]

    result = run_both(NODE, sent, tables=tables, meta=prepare, compare=("l3", "adjacency", "hash"))
    assert result.frames == sent
    return result


MANY = [0, 3000]
lengths = st.sampled_from([0, 8, 15, 16, 17, 24, 32, 40, 48, 64, 65, 127, 128])
addresses = st.builds(lambda n: TOP ^ (1 << n), st.integers(0, 127)) | st.just(TOP)


@pytest.mark.parametrize("more", MANY)
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(addresses, lengths, st.integers(1, 6), st.integers(0, 2)), max_size=12),
    st.lists(st.tuples(st.integers(0, 2), addresses), min_size=1, max_size=30),
)
def test_against_the_list_of_routes(more, routes, destinations):
    result = look_up(routes, destinations, vrfs=(0, 2, 1), more=more)
    oracles = {vrf: Table(128) for vrf in range(3)}
    for prefix, length, value, vrf in routes:
        oracles[vrf].add(prefix, length, value)
    for i, (port, dst) in enumerate(destinations):
        value = oracles[(0, 2, 1)[port]].lookup(dst) or 0
        assert result.meta[i]["adjacency"] == value
        assert result.edges[i] == (NAMES[WAYS[value - 1]] if value else "error")
        if result.edges[i] == "error":
            assert result.meta[i]["scratch"] == ICMP + value
        if result.edges[i] == "drop":
            assert result.reason(i) == "blackhole"
    assert result.counted.get("blackhole", 0) == result.edges.count("drop")
    assert result.counted.get("unreachable", 0) == result.edges.count("error")


@pytest.mark.parametrize("more", MANY)
def test_a_flow_takes_one_of_several_next_hops(more):
    n = 256
    route = [(TOP, 16, SEVERAL, 0), (TOP | 1, 128, 1, 0)]
    labels = list(range(n))
    result = look_up(route, [(0, TOP | 2 + i % 2) for i in range(n)], more=more, labels=labels)
    found = result.meta["adjacency"]
    hashes = result.meta["hash"].astype(np.int64)
    assert (found == BUCKETS[2 + (hashes & 7)]).all()
    assert set(found.tolist()) == {1, 2, 3, 4, 5, 6}
    assert result.edges == [NAMES[WAYS[value - 1]] for value in found.tolist()]
    assert result.counted == {
        "blackhole": result.edges.count("drop"),
        "unreachable": result.edges.count("error"),
    }
    alone = look_up(route, [(0, TOP | 1)], more=more)
    assert alone.meta["hash"].tolist() == [0]  # what has one next hop is not hashed


@pytest.mark.parametrize("length", range(0, 129, 4))
def test_each_length_in_many_routes(length):
    address = TOP | 0x123456789ABCDEF << 60 | 0xFEDCBA987654321
    route = [(address & mask(length, 128), length, 2, 0)]
    outside = address ^ 1 << 128 - length if length else address
    result = look_up(route, [(0, address), (0, outside)], more=3000)
    assert result.edges == ["resolve", "error" if length else "resolve"]
