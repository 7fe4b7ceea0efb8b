"""ip4-lookup against the oracle's routes and neighbors."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import NAME, routing, run_both
from strategies import INTERESTING, Ip4Spec, ip
from vforward.nodes.ip4.lookup import NODE
from vforward.tables.adjacency import ADJACENCY, Way

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
