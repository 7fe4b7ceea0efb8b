"""neighbor-release: what is held goes out in order, in vectors of any size, by its outcome's edge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.layout import CHAINED
from vforward.nodes.neighbor import events as ev
from vforward.nodes.neighbor.release import NODE
from vforward.rings.spsc import Ring
from vforward.tables import held as table
from vforward.tables.addresses import halves, mapped_int
from vforward.testing import run_node
from vforward.testing.run_node import heap_pool

EDGES = {4: ("ip4", "unreachable4"), 6: ("ip6", "unreachable6")}
SCRATCH = {"unreachable4": 3 << 8 | 1, "unreachable6": 1 << 8 | 3}
HOPS = [(port, ip) for port in (1, 65535) for ip in (mapped_int(7), 7, 2**128 - 1)]


def family(ip):
    return 4 if ip >> 32 == 0xFFFF else 6


class Bench:
    def __init__(self):
        self.pool = heap_pool(1024)
        self.held = table.prepare(np.zeros(table.items_for(64), table.HELD), 512)
        self.ring = Ring.make(32, np.uint64)

    def hold(self, port, ip, n, version=None):
        rows = self.pool.take(n)
        self.pool.meta["l3"][rows] = 138
        self.pool.data[rows, 138] = (version or family(ip)) << 4 | 5
        self.pool.meta["off"][rows], self.pool.meta["end"][rows] = 138, 138 + 20
        self.pool.meta["flags"][rows], self.pool.meta["rest"][rows] = 0, 0
        hop = (port, *map(np.uint64, halves(ip)))
        for row in rows:
            slot = int(table.probe(self.held, *hop))
            table.append(self.held, self.pool.meta, slot, *hop, row)
        return rows.tolist()

    def release(self, port, ip, outcome):
        assert self.ring.push(ev.release_words(port, ip, outcome)) == 3

    def poll(self, vector):
        """[(row, edge)]; a packet that is unreachable says so to icmp4-error."""
        tables = {"held": self.held, "releases": self.ring.array}
        result = run_node(NODE, tables=tables, vector=vector, pool=self.pool)
        table.check(self.held)
        for record, edge in zip(result.meta, result.edges, strict=True):
            assert edge not in SCRATCH or record["scratch"] == SCRATCH[edge]
        assert result.counters["unreachable"] == sum(edge in SCRATCH for edge in result.edges)
        self.pool.check(held=[*table.held_rows(self.held), *result.rows])
        self.pool.put(result.rows)
        return list(zip(result.rows.tolist(), result.edges, strict=True))

    def poll_all(self, vector):
        out = []
        while got := self.poll(vector):
            out += got
        return out


queues = st.dictionaries(st.sampled_from(HOPS), st.integers(1, table.QUEUE))


@settings(max_examples=25, deadline=None)
@given(
    queues=queues,
    order=st.permutations(range(6)),
    outcomes=st.lists(st.integers(0, 1), min_size=6, max_size=6),
    vector=st.sampled_from([1, 2, 8, 256]),
)
def test_each_release_emits_its_queue_in_order(queues, order, outcomes, vector):
    bench, expected = Bench(), []
    rows = {key: bench.hold(*key, n) for key, n in queues.items()}
    for i in order:
        bench.release(*HOPS[i], outcomes[i])
        edge = EDGES[family(HOPS[i][1])][outcomes[i]]
        expected += [(row, edge) for row in rows.get(HOPS[i], ())]
    assert bench.poll_all(vector) == expected
    assert table.held_packets(bench.held) == 0
    assert bench.pool.free == bench.pool.size


@pytest.mark.parametrize("outcome", [0, 1])
@pytest.mark.parametrize("hop", HOPS)
def test_what_comes_during_a_release_waits_for_the_next(hop, outcome):
    bench, edges = Bench(), EDGES[family(hop[1])]
    first = bench.hold(*hop, 3)
    bench.release(*hop, outcome)
    assert bench.poll(1) == [(first[0], edges[outcome])]
    later = bench.hold(*hop, 2)
    assert bench.poll_all(1) == [(row, edges[outcome]) for row in first[1:]]
    assert sorted(table.held_rows(bench.held)) == sorted(later)
    bench.release(*hop, ev.FORWARD)
    assert bench.poll_all(1) == [(row, edges[0]) for row in later]


def test_the_family_is_the_packets_and_not_the_next_hops():
    """IPv4 packets may have an IPv6 next hop (RFC 8950)."""
    bench = Bench()
    row = bench.hold(1, 7, 1, version=4)[0]
    bench.release(1, 7, ev.UNREACHABLE)
    assert bench.poll(256) == [(row, "unreachable4")]


def test_a_release_of_nothing_is_nothing():
    bench = Bench()
    bench.release(1, 7, ev.FORWARD)
    assert bench.poll(1) == []
    assert bench.ring.used_slots() == 0


def test_chains_stay_whole():
    bench = Bench()
    row, following = bench.hold(1, 7, 1)[0], int(bench.pool.take(1)[0])
    meta = bench.pool.meta
    meta[row]["flags"] |= CHAINED
    meta[row]["next"], meta[row]["rest"] = following, 5
    meta[following]["flags"], meta[following]["off"], meta[following]["end"] = 0, 138, 143
    bench.held[0]["total"] += 1  # as if it had been a chain when it was held
    bench.release(1, 7, ev.FORWARD)
    assert bench.poll(256) == [(row, "ip6")]
    assert bench.pool.free == bench.pool.size
